/*
 * SPDX-FileCopyrightText: 2026 The Kindling authors
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 */

#include <stdio.h>

#ifndef PASS /* each pass names itself */
#define PASS "none"
#endif

int main(void)
{
	puts("a spark of pass " PASS);
	return 0;
}
