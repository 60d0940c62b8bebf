/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* process - questions about other processes. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Does this process run, and does its name begin with `name`? False if the pid now belongs to
   another program. True if it runs and /proc hides its name. */
bool process_is(uint64_t pid, const char *name);
