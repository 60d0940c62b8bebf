/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* nothing - a hook that does nothing: what starting a program costs. */
int main(void)
{
	return 0;
}
