/* SPDX-FileCopyrightText: 2026 The Kindling authors */
/* SPDX-License-Identifier: GPL-3.0-or-later */

/*
 * What the userland of the tests lacks, for a 32-bit x86 Linux and without a C
 * library, so that it costs nothing to start:
 *
 *	mount TYPE DIR OPTIONS
 *	umount DIR
 *	insmod FILE
 *	mkswap FILE
 *	swapon FILE
 *
 * The first letters of its own name say which.
 */

__asm__(".globl _start\n_start:\n\tmovl %esp, %eax\n\tpushl %eax\n"
	"\tcall begin\n");

void begin(char **stack);

static long call(long number, const void *a, const void *b, const void *c,
	long d, const void *e)
{
	long result;

	__asm__ volatile("int $0x80" : "=a"(result)
		: "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
		: "memory");
	return result;
}

/* The header of a swap area, as mkswap(8) writes it. */
static long mkswap(const char *path)
{
	static char page[4096];
	long fd, size, i;

	fd = call(5, path, (char *)2, 0, 0, 0);
	if (fd < 0)
		return fd;
	size = call(19, (char *)0 + fd, 0, (char *)2, 0, 0);
	*(int *)(page + 1024) = 1;
	*(int *)(page + 1028) = size / 4096 - 1;
	for (i = 0; i < 10; i++)
		page[4086 + i] = "SWAPSPACE2"[i];
	if (size < 40960 || call(19, (char *)0 + fd, 0, 0, 0, 0) != 0)
		return -1;
	return call(4, (char *)0 + fd, page, (char *)4096, 0, 0) - 4096;
}

void begin(char **stack)
{
	char **argv, *name;
	long result;

	argv = stack + 1;
	for (name = argv[0]; name[1]; name++)
		if (*name == '/')
			argv[0] = name + 1;
	name = argv[0];
	if (name[0] == 'm' && name[1] == 'k')
		result = mkswap(argv[1]);
	else if (name[0] == 's')
		result = call(87, argv[1], 0, 0, 0, 0);
	else if (name[0] == 'm')
		result = call(21, argv[1], argv[2], argv[1], 0, argv[3]);
	else if (name[0] == 'u')
		result = call(22, argv[1], 0, 0, 0, 0);
	else {
		result = call(5, argv[1], 0, 0, 0, 0);
		if (result >= 0)
			result = call(350, (char *)0 + result, "", 0, 0, 0);
	}
	for (;;)
		call(1, result ? (void *)1 : 0, 0, 0, 0, 0);
}
