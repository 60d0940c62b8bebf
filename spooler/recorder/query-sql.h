/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * query-sql - what a row of `guests` or `hosts` means, as SQL: one place for the subcommands, the
 * API and the metrics. Internal to query and api.
 *
 * A guest is g, the host where it is h (GUEST_JOINS). Few guests have a second host: that is looked up
 * only where there is one.
 */
#pragma once

/* Its host was booted since, and has said nothing of it. */
#define GUEST_UNKNOWN_HERE                                                                         \
	"(h.boot_id IS NOT NULL AND g.place_id < h.boot_id AND g.place <> 'stopped')"
/* A second host has it, and that one has not been booted since. */
#define GUEST_THERE                                                                                \
	"(g.other_host IS NOT NULL AND NOT EXISTS (SELECT 1 FROM hosts o WHERE o.no = "            \
	"g.other_host AND g.other_id < o.boot_id))"
#define GUEST_OTHER_HOST "(SELECT o.name FROM hosts o WHERE o.no = g.other_host)"
/* Only the second host knows of it. */
#define GUEST_MOVED GUEST_THERE " AND " GUEST_UNKNOWN_HERE
#define GUEST_RUNS(place) place " IN ('running', 'paused', 'crashed')"
/* It stopped by a crash. A start that failed is "failed" as well, and is not a crash. */
#define GUEST_CRASHED                                                                               \
	"(g.place = 'stopped' AND (g.reason IN ('crashed', 'panicked') OR g.reason = 'failed' AND " \
	"(SELECT p.kind FROM operations p WHERE p.guest = g.uuid ORDER BY p.id DESC LIMIT 1) = "    \
	"'stop'))"
#define GUEST_STATE                                                                                \
	"CASE WHEN " GUEST_UNKNOWN_HERE " THEN CASE WHEN " GUEST_THERE                             \
	" THEN g.other_place ELSE 'unknown' END WHEN " GUEST_CRASHED                               \
	" THEN 'crashed' ELSE g.place END"
#define GUEST_HOST "CASE WHEN " GUEST_MOVED " THEN " GUEST_OTHER_HOST " ELSE h.name END"
#define GUEST_SINCE "CASE WHEN " GUEST_MOVED " THEN g.other_since ELSE g.since END"
#define GUEST_ALSO_ON                                                                              \
	"CASE WHEN " GUEST_THERE " AND NOT " GUEST_UNKNOWN_HERE " AND " GUEST_RUNS(                \
		"g.place") " AND " GUEST_RUNS("g.other_place") " THEN " GUEST_OTHER_HOST " END"
/* Where it goes, while it migrates. */
#define GUEST_GOING_TO                                                                             \
	"CASE WHEN g.migration_outcome = 'running' THEN (SELECT t.name FROM hosts t WHERE t.no = " \
	"g.migration_to) END"
#define GUEST_JOINS "guests g LEFT JOIN hosts h ON h.no = g.host"

/* Its last report; silent if the broker reported in its place (its will has no time). */
#define HOST_STATE                                                                                 \
	"CASE WHEN h.online IS NULL THEN 'unknown' WHEN h.online = 1 THEN 'online' WHEN "          \
	"coalesce(h.status_time, 0) = 0 THEN 'silent' ELSE 'offline' END"
