/* SPDX-FileCopyrightText: 2026 The Kindling authors
 *
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * tinder FILE...: the CRC-32 (IEEE 802.3, as in gzip) and the size of each file, one line a file.
 */
#include <stdio.h>

static unsigned long table[256];

static void make_table(void)
{
	unsigned long c;
	int n, k;

	for (n = 0; n < 256; n++) {
		c = (unsigned long)n;
		for (k = 0; k < 8; k++)
			c = c & 1 ? 0xedb88320UL ^ (c >> 1) : c >> 1;
		table[n] = c;
	}
}

static int sum(const char *name)
{
	unsigned char buf[4096];
	unsigned long crc = 0xffffffffUL, size = 0;
	size_t got, i;
	FILE *in = fopen(name, "rb");

	if (in == NULL) {
		perror(name);
		return 1;
	}
	while ((got = fread(buf, 1, sizeof buf, in)) > 0) {
		for (i = 0; i < got; i++)
			crc = table[(crc ^ buf[i]) & 0xff] ^ (crc >> 8);
		size += got;
	}
	if (ferror(in)) {
		perror(name);
		fclose(in);
		return 1;
	}
	fclose(in);
	printf("%08lx %lu %s\n", (crc ^ 0xffffffffUL) & 0xffffffffUL, size, name);
	return 0;
}

int main(int argc, char **argv)
{
	int i, bad = 0;

	make_table();
	for (i = 1; i < argc; i++)
		bad |= sum(argv[i]);
	return bad;
}
