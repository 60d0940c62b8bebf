/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * table - rows for people: on a terminal they fit its width, elsewhere nothing is cut off.
 *
 *	static const struct table_column columns[] = {
 *		{"HOST", TABLE_TEXT, 14, 40}, {"SINCE", TABLE_TIME, 0, 0}, {"REASON", TABLE_REST, 0, 0}};
 *	struct table t = {.columns = columns, .n = ELEMENTSOF(columns)};
 *
 *	table_text(&t, host);		each cell of a row, in the order of the columns
 *	table_time(&t, since);
 *	table_end(&t, reason);		the rest of the line, and its end
 *
 * The heading comes before the first row. On a terminal times are local with the offset from UTC in
 * the heading, texts are cut off (~) at their column's width, and a rest that has no room follows on
 * lines of its own. A narrow terminal has shorter times, and at last fewer columns.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum table_kind {
	TABLE_TEXT,
	TABLE_NUMBER,
	TABLE_TIME,    /* to the second */
	TABLE_TIME_MS, /* to the millisecond, where there is room */
	TABLE_REST,    /* the last column, if there is one: of any width */
};

struct table_column {
	const char *heading;
	enum table_kind kind;
	unsigned width; /* of texts and numbers; a terminal of 80 columns has room for it */
	unsigned most;	/* a text's, where the terminal is wider; 0: no more than `width` */
};

#define TABLE_COLUMNS_MAX 8

struct table {
	const struct table_column *columns;
	size_t n;
	struct lines *lines; /* where rows go that are not for a terminal; NULL: to stdout */

	/* table.c's; zero at first */
	bool begun;
	unsigned terminal;		    /* columns of it; 0: stdout is none */
	unsigned widths[TABLE_COLUMNS_MAX]; /* 0: there is no room for it */
	unsigned before_rest;
	char offset[8]; /* of local time, as in the heading */
	size_t at;	/* the column of the next cell */
	unsigned gap;	/* blanks before it */
	/* Cells are short, and there are many: to print each by itself takes longer. */
	char line[512];
	size_t used;
};

void table_text(struct table *t, const char *text);
void table_number(struct table *t, int64_t n);
void table_time(struct table *t, int64_t usec); /* 0: "-" */
/* The last cell of a row, if there is a TABLE_REST; NULL: nothing is there. */
void table_end(struct table *t, const char *rest);

/* Text on lines of its own, as wide as the terminal. */
void table_paragraph(const char *text);
/* A cell without a table, and the blank after it. */
void table_label(const char *text, unsigned width);
