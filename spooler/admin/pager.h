/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * pager - long output on a terminal goes through a pager, as git's and journalctl's does.
 *
 * $VIRTSPOOL_PAGER, else $PAGER, else less with the options FRSXMK: it ends at once if the output
 * fits on the screen. "" and cat mean none; without less the output goes to the terminal directly.
 *
 * A pager can run commands and write files. So for root less runs in its secure mode, and where
 * root is not who logged in (sudo, pkexec) the environment does not choose the pager.
 */
#pragma once

/* To be called before the first output. 1: stdout is the pager's input; 0: it is as before. */
int pager_open(void);
/* Waits until the pager has ended, if there is one. command_finish() does it. */
void pager_close(void);
