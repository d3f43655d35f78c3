/* SPDX-FileCopyrightText: 2026 The Kindling authors */
/* SPDX-License-Identifier: GPL-3.0-or-later */

/*
 * What the userland of the tests lacks, for a 32-bit x86 Linux and without a C
 * library, so that it costs nothing to start:
 *
 *	mount TYPE DIR OPTIONS
 *	umount DIR
 *	insmod FILE
 *
 * The last letters of its own name say which.
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

void begin(char **stack)
{
	char **argv, *name;
	long result;

	argv = stack + 1;
	for (name = argv[0]; name[1]; name++)
		if (*name == '/')
			argv[0] = name + 1;
	name = argv[0];
	if (name[0] == 'm')
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
