/* SPDX-FileCopyrightText: 2026 The Kindling authors
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * ember: the number of lines, words and bytes on standard input.
 */
#include <ctype.h>
#include <stdio.h>

int main(void)
{
	unsigned long lines = 0, words = 0, bytes = 0;
	int c, inside = 0;

	while ((c = getchar()) != EOF) {
		bytes++;
		if (c == '\n')
			lines++;
		if (isspace(c))
			inside = 0;
		else if (!inside) {
			inside = 1;
			words++;
		}
	}
	if (ferror(stdin)) {
		perror("standard input");
		return 1;
	}
	printf("%lu lines, %lu words, %lu bytes\n", lines, words, bytes);
	return 0;
}
