/* SPDX-FileCopyrightText: 2026 The Kindling authors */
/* SPDX-License-Identifier: GPL-3.0-or-later */

/*
 * payload-import - copy the files of an LBPAYLD1 disk into a directory
 *
 * usage: payload-import [--count N] [--skip N] [--bytes N] [--id SHA256]
 *                       [--device DEV] [--list | --verify] DEST
 *
 *   --count N    take N files only (SHA256SUMS is never counted; 0 is none)
 *   --skip N     pass over the first N files
 *   --bytes N    what those files take together: with it, too little space is
 *                found out before the first file and not before the one that
 *                does not fit
 *   --id SHA256  the payload must be this one: sha256 of its SHA256SUMS
 *   --device DEV read this disk, partition or file; without it all disks that
 *                the kernel knows are looked at
 *   --list       print size and name of each file and copy nothing
 *   --verify     read everything, check every sha256 and copy nothing
 *
 * DEST may be left out with --list and --verify; it is not touched then.
 *
 * Exit status: 0 when all is well, 1 for everything else, with one line on
 * standard error that says what is wrong with which file, at which offset of
 * the disk, and what to do.
 *
 * Where this runs. live-bootstrap's tcc 0.9.27 compiles it against meslibc and
 * Fiwix runs it, right after the jump to that kernel; the same file is compiled
 * by gcc and tcc against glibc on Linux, for tests and where there is no agent.
 * Hence C89 only, 64-bit numbers as two halves, no printf, fixed tables, and
 * system calls made by hand where meslibc has none. The container is read
 * strictly forward: under Fiwix seeking ends at 2 GiB.
 *
 * The format, its limits and the rules of importing are those of the Go package
 * internal/payload; docs/payload.md describes them. One table of cases is run
 * against both.
 */

#define _DEFAULT_SOURCE 1
#define _FILE_OFFSET_BITS 64

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#ifdef __MES_STDIO_H	/* the guard of meslibc's stdio.h */
#define MESLIBC 1
#include <linux/syscall.h>
#else
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#endif

/* 32 bits on every machine this is for; the array below makes sure. */
typedef unsigned int u32;
typedef char u32_has_32_bits[sizeof(u32) == 4 ? 1 : -1];

/* A number of 64 bits, which C89 has no type for. */
struct num {
	u32 hi;
	u32 lo;
};

/* The limits of internal/payload. */
#define MAX_NAME	1024		/* bytes in one name */
#define MAX_FILES	16384		/* files, SHA256SUMS included */
#define MAX_NAMES	1048576		/* bytes in all names together */
#define MAX_SIZE	0x7fffffffU	/* bytes in one file */
#define MAX_SUMS	(MAX_FILES * 67 + MAX_NAMES)

#define MAGIC		"LBPAYLD1"
#define SUMS_NAME	"SHA256SUMS"
#define TEMP_NAME	".payload-import.tmp"

#define DIGEST		32		/* bytes of a sha256 */
#define MAX_LINE	(2 * DIGEST + 2 + MAX_NAME + 1)
#define BUFFER		1048576		/* what is read in one call, at most */
#define CHUNK		65536		/* and at least, but for the ends */
#define ALIGN		4096		/* reads are multiples of this */
#define TELL_EACH	64		/* MiB between lines in a large file */
#define FS_NAME		255		/* bytes in a name on any file system */

#define MAX_DISKS	128
#define DISK_NAME	32
#define OWN_DIR		"payload-import.own"

#define NOT_FOUND	2		/* ENOENT and others, everywhere alike */
#define IS_THERE	17
#define TOO_LARGE	75
#define REFUSED		22
#define NO_SUCH_CALL	38

#define KERNEL_TEXT	65		/* bytes in a field of uname */

/* Modes are taken apart by hand: meslibc has not all of the macros. */
#define KIND_MASK	0170000
#define KIND_DIR	0040000
#define KIND_BLOCK	0060000
#define KIND_FILE	0100000

#ifndef O_LARGEFILE
#define O_LARGEFILE	0100000		/* unknown to Fiwix, which ignores it */
#endif

/* What the command line asks for. */
struct options {
	int list;
	int verify;
	int counted;			/* --count was given */
	u32 count;
	u32 skip;
	struct num bytes;
	char *id;
	char *device;
	char *dest;
};

/* The container that is being read. */
struct container {
	int fd;				/* -1: none */
	char *where;			/* its device, for people */
	struct num offset;		/* of buffer[start] in the container */
	u32 start, end;			/* what of buffer has not been used */
	int ended;			/* the device has no more */
	int begun;			/* something has been read */
	int wide;			/* numbers are u64 */
	u32 files;			/* in the container */
	u32 next;			/* number of the next header */
	int listed;			/* it begins with SHA256SUMS */
	char id[2 * DIGEST + 1];
	int pending;			/* the first header has been read ahead */
	char name[MAX_NAME + 1];	/* the current file */
	u32 size;
	struct num data;		/* where its data begins */
};

/* A disk or partition that the kernel knows. */
struct disk {
	char name[DISK_NAME];
	char path[DISK_NAME + 8];
	u32 major, minor;
	int parent;			/* index of the whole disk, or -1 */
	int payload;			/* the magic is there */
	char *why;			/* what speaks against it, or NULL */
	char id[2 * DIGEST + 1];
};

/* State of a sha256. */
struct sha {
	u32 h[8];
	struct num bits;
	u32 used;
	unsigned char block[64];
};

static struct container in;
static unsigned char buffer[BUFFER];
static unsigned char check_buffer[CHUNK];

/* The names seen so far, and for those from SHA256SUMS their sums. */
static char names[MAX_NAMES + MAX_FILES];
static u32 names_used;			/* bytes of names, NULs not counted */
static u32 name_at[MAX_FILES];
static int name_count;
static int chain[MAX_FILES];
static int bucket[4096];
static unsigned char sums[MAX_FILES][DIGEST];

static struct disk disks[MAX_DISKS];
static int disk_count;

static char failure[4096];		/* the line for standard error */
static u32 failure_used;

/* Fiwix reads from the start again at 4 GiB, without an error. */
static struct num reach = { 1, 0 };
static int reach_is_limited;

/* ---- 64-bit numbers ---- */

static void num_set(struct num *n, u32 lo)
{
	n->hi = 0;
	n->lo = lo;
}

static void num_add(struct num *n, u32 more)
{
	n->lo += more;
	if(n->lo < more) {
		n->hi++;
	}
}

static void num_add_num(struct num *n, struct num *more)
{
	num_add(n, more->lo);
	n->hi += more->hi;
}

/* n = n - less, for a less that is not above n */
static void num_sub_num(struct num *n, struct num *less)
{
	n->hi -= less->hi + (n->lo < less->lo);
	n->lo -= less->lo;
}

static int num_less(struct num *a, struct num *b)
{
	return a->hi < b->hi || (a->hi == b->hi && a->lo < b->lo);
}

/* n = n * factor + more, for factors below 65,536; 0 when it does not fit */
static int num_scale(struct num *n, u32 factor, u32 more)
{
	u32 part[4], carry;
	int i;

	part[0] = n->lo & 0xffff;
	part[1] = n->lo >> 16;
	part[2] = n->hi & 0xffff;
	part[3] = n->hi >> 16;
	carry = more;
	for(i = 0; i < 4; i++) {
		carry += part[i] * factor;
		part[i] = carry & 0xffff;
		carry >>= 16;
	}
	n->lo = part[0] | part[1] << 16;
	n->hi = part[2] | part[3] << 16;
	return carry == 0;
}

static void num_multiply(struct num *n, u32 a, u32 b)
{
	struct num low;

	num_set(n, a);
	num_scale(n, b >> 16, 0);
	num_scale(n, 32768, 0);
	num_scale(n, 2, 0);
	num_set(&low, a);
	num_scale(&low, b & 0xffff, 0);
	num_add_num(n, &low);
}

/* n = n / by, for divisors below 65,536; returns the remainder */
static u32 num_divide(struct num *n, u32 by)
{
	u32 part[4], rest;
	int i;

	part[0] = n->hi >> 16;
	part[1] = n->hi & 0xffff;
	part[2] = n->lo >> 16;
	part[3] = n->lo & 0xffff;
	rest = 0;
	for(i = 0; i < 4; i++) {
		rest = rest << 16 | part[i];
		part[i] = rest / by;
		rest %= by;
	}
	n->hi = part[0] << 16 | part[1];
	n->lo = part[2] << 16 | part[3];
	return rest;
}

/* the decimal digits of n at the end of text, which has 24 bytes */
static char *num_text(struct num *n, char *text)
{
	struct num left;
	char *p;

	left = *n;
	p = text + 23;
	*p = 0;
	do {
		*--p = '0' + num_divide(&left, 10);
	} while(left.hi || left.lo);
	return p;
}

/* ---- lines for people ---- */

/* one line is put together here and written by one call */
static char line[MAX_NAME + 256];
static u32 line_used;

static void say_bytes(char *text, u32 len)
{
	while(len-- > 0 && line_used < sizeof(line) - 1) {
		line[line_used++] = *text++;
	}
}

static void say(char *text)
{
	say_bytes(text, strlen(text));
}

static void say_num(struct num *n)
{
	char text[24];

	say(num_text(n, text));
}

static void say_u32(u32 n)
{
	struct num wide;

	num_set(&wide, n);
	say_num(&wide);
}

static int write_all(int fd, char *text, u32 len)
{
	int n;

	while(len > 0) {
		n = write(fd, text, len);
		if(n <= 0) {
			return -1;
		}
		text += n;
		len -= n;
	}
	return 0;
}

/* ends the line and writes it; a console that is gone stops nothing */
static int said(void)
{
	int result;

	line[line_used++] = '\n';
	result = write_all(1, line, line_used);
	line_used = 0;
	return result;
}

static void why_bytes(char *text, u32 len)
{
	while(len-- > 0 && failure_used < sizeof(failure) - 2) {
		failure[failure_used++] = *text++;
	}
	failure[failure_used] = 0;
}

static void why(char *text)
{
	why_bytes(text, strlen(text));
}

static void why_num(struct num *n)
{
	char text[24];

	why(num_text(n, text));
}

static void why_u32(u32 n)
{
	struct num wide;

	num_set(&wide, n);
	why_num(&wide);
}

/* a name from a disk: nothing of it may steer a terminal */
static void why_name(char *name)
{
	char c;
	u32 i;

	for(i = 0; name[i] && i < 120; i++) {
		c = name[i];
		if(c < ' ' || c > '~') {
			c = '?';
		}
		why_bytes(&c, 1);
	}
	if(name[i]) {
		why("...");
	}
}

static void why_errno(int number)
{
	static struct {
		int number;
		char *text;
	} known[] = {
		{ 1, "not permitted" },
		{ 2, "it does not exist" },
		{ 5, "input/output error" },
		{ 6, "there is no such device" },
		{ 12, "out of memory" },
		{ 13, "permission denied" },
		{ 16, "it is busy" },
		{ 17, "it exists already" },
		{ 19, "there is no such device" },
		{ 20, "not a directory" },
		{ 21, "it is a directory" },
		{ 22, "the kernel refuses that" },
		{ 24, "too many open files" },
		{ 27, "the file is too large" },
		{ 28, "the file system is full" },
		{ 30, "the file system is read-only" },
		{ 36, "the name is too long" },
		{ 38, "the kernel cannot do that" },
		{ 75, "it is too large" },
		{ 123, "there is no medium" },
		{ 0, NULL }
	};
	int i;

	for(i = 0; known[i].text; i++) {
		if(known[i].number == number) {
			why(known[i].text);
			return;
		}
	}
	why("error ");
	why_u32(number);
}

/*
 * A failure is one line: FILE: offset N: what is wrong (what to do). fail_at()
 * begins it, why() and its like say the rest, and -1 is handed up to main.
 */
static void fail_at(char *file, struct num *offset)
{
	failure_used = 0;
	if(file && *file) {
		why_name(file);
		why(": ");
	}
	if(offset) {
		why("offset ");
		why_num(offset);
		why(": ");
	}
}

static int fail(char *what)
{
	failure_used = 0;
	why(what);
	return -1;
}

/* something is wrong with the container where it is being read */
static int fail_in(char *what)
{
	struct num at;

	at = in.offset;
	fail_at(in.name, &at);
	why(what);
	return -1;
}

static int fail_errno(char *file, char *doing)
{
	int number;

	number = errno;
	fail_at(file, NULL);
	why(doing);
	why(": ");
	why_errno(number);
	return -1;
}

/* ---- what the C library does not offer everywhere ---- */

#ifdef MESLIBC

#define CALL_MOUNT	21
#define CALL_UMOUNT	22
#define CALL_STATFS	99
#define CALL_UNAME	122

/* meslibc has calls of up to four arguments, mount has five */
static int mount_proc(char *dir)
{
	long result;

	__asm__("int $0x80"
		: "=a" (result)
		: "a" (CALL_MOUNT), "b" ("proc"), "c" (dir), "d" ("proc"),
		  "S" (0), "D" (0));
	return result < 0 ? -1 : 0;
}

static int unmount(char *dir)
{
	return _sys_call1(CALL_UMOUNT, (long)dir) < 0 ? -1 : 0;
}

/* blocks that are free here, and their size */
static int free_blocks(u32 *blocks, u32 *size)
{
	u32 fs[64];

	memset(fs, 0, sizeof(fs));
	if(_sys_call2(CALL_STATFS, (long)".", (long)fs) < 0) {
		return -1;
	}
	*size = fs[1];
	*blocks = fs[4];
	return 0;
}

/* name and release of the kernel */
static int kernel(char *name, char *release)
{
	char text[6 * KERNEL_TEXT];

	memset(text, 0, sizeof(text));
	if(_sys_call1(CALL_UNAME, (long)text) < 0) {
		return -1;
	}
	strcpy(name, text);
	strcpy(release, text + 2 * KERNEL_TEXT);
	return 0;
}

static u32 device_number(u32 major_number, u32 minor_number)
{
	return (minor_number & 0xff) | (major_number & 0xfff) << 8 |
		(minor_number & 0xfff00) << 12;
}

#else

static int mount_proc(char *dir)
{
	return mount("proc", dir, "proc", 0, NULL);
}

static int unmount(char *dir)
{
	return umount(dir);
}

static int free_blocks(u32 *blocks, u32 *size)
{
	struct statfs fs;

	if(statfs(".", &fs) != 0) {
		return -1;
	}
	*size = (u32)fs.f_bsize;
	*blocks = fs.f_bavail > 0xffffffffU ? 0xffffffffU : (u32)fs.f_bavail;
	return 0;
}

static int kernel(char *name, char *release)
{
	struct utsname text;

	if(uname(&text) < 0) {
		return -1;
	}
	strcpy(name, text.sysname);
	strcpy(release, text.release);
	return 0;
}

static dev_t device_number(u32 major_number, u32 minor_number)
{
	return makedev(major_number, minor_number);
}

#endif

/* live-bootstrap has Fiwix call itself "Linux", but release 1.5.0 stays */
static int kernel_is_linux(void)
{
	char name[KERNEL_TEXT], release[KERNEL_TEXT];

	if(kernel(name, release) != 0 || strcmp(name, "Linux") != 0) {
		return 0;
	}
	return strncmp(release, "0.", 2) != 0 && strncmp(release, "1.", 2) != 0;
}

/* ---- sha256 (FIPS 180-4) ---- */

static u32 sha_k[64] = {
	0x428a2f98U, 0x71374491U, 0xb5c0fbcfU, 0xe9b5dba5U,
	0x3956c25bU, 0x59f111f1U, 0x923f82a4U, 0xab1c5ed5U,
	0xd807aa98U, 0x12835b01U, 0x243185beU, 0x550c7dc3U,
	0x72be5d74U, 0x80deb1feU, 0x9bdc06a7U, 0xc19bf174U,
	0xe49b69c1U, 0xefbe4786U, 0x0fc19dc6U, 0x240ca1ccU,
	0x2de92c6fU, 0x4a7484aaU, 0x5cb0a9dcU, 0x76f988daU,
	0x983e5152U, 0xa831c66dU, 0xb00327c8U, 0xbf597fc7U,
	0xc6e00bf3U, 0xd5a79147U, 0x06ca6351U, 0x14292967U,
	0x27b70a85U, 0x2e1b2138U, 0x4d2c6dfcU, 0x53380d13U,
	0x650a7354U, 0x766a0abbU, 0x81c2c92eU, 0x92722c85U,
	0xa2bfe8a1U, 0xa81a664bU, 0xc24b8b70U, 0xc76c51a3U,
	0xd192e819U, 0xd6990624U, 0xf40e3585U, 0x106aa070U,
	0x19a4c116U, 0x1e376c08U, 0x2748774cU, 0x34b0bcb5U,
	0x391c0cb3U, 0x4ed8aa4aU, 0x5b9cca4fU, 0x682e6ff3U,
	0x748f82eeU, 0x78a5636fU, 0x84c87814U, 0x8cc70208U,
	0x90befffaU, 0xa4506cebU, 0xbef9a3f7U, 0xc67178f2U
};

#define ROTR(x, n)	((x) >> (n) | (x) << (32 - (n)))

/* One round with the variables already in their places, so that none has to be
 * moved: tcc keeps every variable in memory. */
#define ROUND(a, b, c, d, e, f, g, h, i) \
	h += (ROTR(e, 6) ^ ROTR(e, 11) ^ ROTR(e, 25)) + \
		(g ^ (e & (f ^ g))) + sha_k[i] + w[i]; \
	d += h; \
	h += (ROTR(a, 2) ^ ROTR(a, 13) ^ ROTR(a, 22)) + \
		((a & b) | (c & (a | b)))

static void sha_block(struct sha *s, unsigned char *p)
{
	u32 w[64];
	u32 a, b, c, d, e, f, g, h, x, y;
	int i;

	for(i = 0; i < 16; i++, p += 4) {
		w[i] = (u32)p[0] << 24 | (u32)p[1] << 16 |
			(u32)p[2] << 8 | (u32)p[3];
	}
	for(; i < 64; i++) {
		x = w[i - 15];
		y = w[i - 2];
		w[i] = w[i - 16] + (ROTR(x, 7) ^ ROTR(x, 18) ^ (x >> 3)) +
			w[i - 7] + (ROTR(y, 17) ^ ROTR(y, 19) ^ (y >> 10));
	}
	a = s->h[0];
	b = s->h[1];
	c = s->h[2];
	d = s->h[3];
	e = s->h[4];
	f = s->h[5];
	g = s->h[6];
	h = s->h[7];
	for(i = 0; i < 64; i += 8) {
		ROUND(a, b, c, d, e, f, g, h, i);
		ROUND(h, a, b, c, d, e, f, g, i + 1);
		ROUND(g, h, a, b, c, d, e, f, i + 2);
		ROUND(f, g, h, a, b, c, d, e, i + 3);
		ROUND(e, f, g, h, a, b, c, d, i + 4);
		ROUND(d, e, f, g, h, a, b, c, i + 5);
		ROUND(c, d, e, f, g, h, a, b, i + 6);
		ROUND(b, c, d, e, f, g, h, a, i + 7);
	}
	s->h[0] += a;
	s->h[1] += b;
	s->h[2] += c;
	s->h[3] += d;
	s->h[4] += e;
	s->h[5] += f;
	s->h[6] += g;
	s->h[7] += h;
}

static void sha_begin(struct sha *s)
{
	static u32 first[8] = {
		0x6a09e667U, 0xbb67ae85U, 0x3c6ef372U, 0xa54ff53aU,
		0x510e527fU, 0x9b05688cU, 0x1f83d9abU, 0x5be0cd19U
	};

	memcpy(s->h, first, sizeof(first));
	num_set(&s->bits, 0);
	s->used = 0;
}

static void sha_add(struct sha *s, unsigned char *p, u32 len)
{
	u32 n;

	num_add(&s->bits, len << 3);
	s->bits.hi += len >> 29;
	while(len > 0) {
		if(s->used == 0 && len >= 64) {
			sha_block(s, p);
			p += 64;
			len -= 64;
			continue;
		}
		n = 64 - s->used;
		if(n > len) {
			n = len;
		}
		memcpy(s->block + s->used, p, n);
		s->used += n;
		p += n;
		len -= n;
		if(s->used == 64) {
			sha_block(s, s->block);
			s->used = 0;
		}
	}
}

static void sha_end(struct sha *s, unsigned char *digest)
{
	struct num bits;
	int i;

	bits = s->bits;
	s->block[s->used++] = 0x80;
	if(s->used > 56) {
		memset(s->block + s->used, 0, 64 - s->used);
		sha_block(s, s->block);
		s->used = 0;
	}
	memset(s->block + s->used, 0, 56 - s->used);
	for(i = 0; i < 4; i++) {
		s->block[56 + i] = bits.hi >> (24 - 8 * i) & 0xff;
		s->block[60 + i] = bits.lo >> (24 - 8 * i) & 0xff;
	}
	sha_block(s, s->block);
	for(i = 0; i < DIGEST; i++) {
		digest[i] = s->h[i / 4] >> (24 - 8 * (i % 4)) & 0xff;
	}
}

/* ---- hexadecimal ---- */

static void hex(unsigned char *digest, char *text)
{
	static char digits[] = "0123456789abcdef";
	int i;

	for(i = 0; i < DIGEST; i++) {
		text[2 * i] = digits[digest[i] >> 4];
		text[2 * i + 1] = digits[digest[i] & 15];
	}
	text[2 * DIGEST] = 0;
}

static int hex_digit(int c)
{
	if(c >= '0' && c <= '9') {
		return c - '0';
	}
	if(c >= 'a' && c <= 'f') {
		return c - 'a' + 10;
	}
	if(c >= 'A' && c <= 'F') {
		return c - 'A' + 10;
	}
	return -1;
}

/* 64 digits of either case; 0 when they are not */
static int unhex(unsigned char *text, unsigned char *digest)
{
	int i, high, low;

	for(i = 0; i < DIGEST; i++) {
		high = hex_digit(text[2 * i]);
		low = hex_digit(text[2 * i + 1]);
		if(high < 0 || low < 0) {
			return 0;
		}
		digest[i] = high << 4 | low;
	}
	return 1;
}

/* ---- names ---- */

/* the length of the UTF-8 sequence at p, 0 when it is none */
static u32 utf8_length(unsigned char *p, u32 len)
{
	u32 n, i;
	unsigned char low, high;

	if(p[0] < 0x80) {
		return 1;
	}
	low = 0x80;
	high = 0xbf;
	if(p[0] >= 0xc2 && p[0] <= 0xdf) {
		n = 2;
	} else if(p[0] >= 0xe0 && p[0] <= 0xef) {
		n = 3;
		low = p[0] == 0xe0 ? 0xa0 : low;	/* no longer than needed */
		high = p[0] == 0xed ? 0x9f : high;	/* no surrogates */
	} else if(p[0] >= 0xf0 && p[0] <= 0xf4) {
		n = 4;
		low = p[0] == 0xf0 ? 0x90 : low;
		high = p[0] == 0xf4 ? 0x8f : high;	/* up to U+10FFFF */
	} else {
		return 0;
	}
	if(n > len || p[1] < low || p[1] > high) {
		return 0;
	}
	for(i = 2; i < n; i++) {
		if(p[i] < 0x80 || p[i] > 0xbf) {
			return 0;
		}
	}
	return n;
}

/* NULL when the len bytes at p may be a file's name, else what is wrong */
static char *name_fault(unsigned char *p, u32 len)
{
	u32 i, n;

	if(len == 0 || len > MAX_NAME) {
		return "bad file name: it must have 1 to 1024 bytes";
	}
	if((len == 1 && p[0] == '.') ||
	   (len == 2 && p[0] == '.' && p[1] == '.') ||
	   (len == strlen(TEMP_NAME) && memcmp(p, TEMP_NAME, len) == 0)) {
		return "bad file name: it is reserved";
	}
	for(i = 0; i < len; i += n) {
		n = utf8_length(p + i, len - i);
		if(n == 0) {
			return "bad file name: not UTF-8";
		}
		if(p[i] < ' ' || p[i] == 0x7f || p[i] == '/' || p[i] == '\\') {
			return "bad file name: a byte that is not allowed";
		}
	}
	return NULL;
}

static void names_clear(void)
{
	int i;

	for(i = 0; i < (int)(sizeof(bucket) / sizeof(bucket[0])); i++) {
		bucket[i] = -1;
	}
	names_used = 0;
	name_count = 0;
}

/* enters a name; NULL when that is all right, else what is wrong */
static char *name_add(unsigned char *p, u32 len)
{
	u32 h, i;
	int k;
	char *name;

	h = 2166136261U;
	for(i = 0; i < len; i++) {
		h = (h ^ p[i]) * 16777619U;
	}
	h = (h ^ h >> 16) % (sizeof(bucket) / sizeof(bucket[0]));
	for(k = bucket[h]; k >= 0; k = chain[k]) {
		name = names + name_at[k];
		if(strlen(name) == len && memcmp(name, p, len) == 0) {
			return "duplicate file name";
		}
	}
	if(name_count == MAX_FILES || names_used + len > MAX_NAMES) {
		return "beyond the limits: too many names";
	}
	name = names + names_used + name_count;
	memcpy(name, p, len);
	name[len] = 0;
	name_at[name_count] = name - names;
	chain[name_count] = bucket[h];
	bucket[h] = name_count++;
	names_used += len;
	return NULL;
}

/* ---- reading forward ---- */

static int fail_cut(void)
{
	struct num at;

	at = in.offset;
	num_add(&at, in.end - in.start);
	fail_at(in.name, &at);
	why("the container is cut short (write the whole image to the disk)");
	return -1;
}

static int fail_unreadable(int number)
{
	struct num at;

	at = in.offset;
	num_add(&at, in.end - in.start);
	fail_at(in.name, &at);
	why_name(in.where);
	why(" cannot be read: ");
	why_errno(number);
	why(" (try another disk or cable, and write the image again)");
	return -1;
}

/* how much of want can be read before the kernel would wrap */
static u32 within_reach(u32 want)
{
	struct num at, left;

	at = in.offset;
	num_add(&at, in.end - in.start);
	if(!reach_is_limited) {
		return want;
	}
	if(!num_less(&at, &reach)) {
		return 0;
	}
	left = reach;
	num_sub_num(&left, &at);
	return left.hi == 0 && left.lo < want ? left.lo : want;
}

/* makes at least want bytes, not above CHUNK, stand in the buffer */
static int need(u32 want)
{
	u32 room;
	int n;

	if(in.end - in.start >= want) {
		return 0;
	}
	memmove(buffer, buffer + in.start, in.end - in.start);
	in.end -= in.start;
	in.start = 0;
	while(in.end < want) {
		room = (BUFFER - in.end) / ALIGN * ALIGN;
		if(!in.begun) {
			room = CHUNK;	/* most disks are no payload */
		}
		room = within_reach(room);
		if(room == 0) {
			fail_in("this kernel cannot read beyond 4 GiB of a disk"
				" (use --count, or import the rest on Linux)");
			return -1;
		}
		n = in.ended ? 0 : read(in.fd, (char *)buffer + in.end, room);
		if(n < 0 && errno == EINTR) {
			continue;
		}
		if(n < 0) {
			return fail_unreadable(errno);
		}
		if(n == 0) {
			in.ended = 1;
			return fail_cut();
		}
		in.begun = 1;
		in.end += n;
	}
	return 0;
}

static void use(u32 n)
{
	in.start += n;
	num_add(&in.offset, n);
}

static u32 get32(unsigned char *p)
{
	return (u32)p[0] | (u32)p[1] << 8 | (u32)p[2] << 16 | (u32)p[3] << 24;
}

static void reset(int fd, char *where)
{
	memset(&in, 0, sizeof(in));
	in.fd = fd;
	in.where = where;
	names_clear();
}

/* magic and number of files; 0 in *magic when it is no payload at all */
static int read_preamble(int *magic)
{
	u32 files;
	int result;

	*magic = 0;
	result = need(16);
	if(in.end - in.start < strlen(MAGIC) ||
	   memcmp(buffer + in.start, MAGIC, strlen(MAGIC)) != 0) {
		if(result != 0 && !in.ended) {
			return result;
		}
		fail_at(in.where, NULL);
		why("not an LBPAYLD1 payload (write the payload image to it)");
		return -1;
	}
	*magic = 1;
	if(result != 0) {
		return result;
	}
	files = get32(buffer + in.start + 8);
	in.wide = get32(buffer + in.start + 12) == 0;
	if(files > MAX_FILES) {
		use(8);
		return fail_in("beyond the limits: more than 16384 files"
			" (make the payload image anew)");
	}
	in.files = files;
	use(in.wide ? 16 : 12);
	return 0;
}

/* the next file's name and size */
static int read_header(void)
{
	u32 name_len, size, high;
	char *fault;

	in.name[0] = 0;
	high = 0;
	if(need(in.wide ? 16 : 8) != 0) {
		return -1;
	}
	name_len = get32(buffer + in.start);
	size = get32(buffer + in.start + 4);
	if(in.wide) {
		name_len = get32(buffer + in.start + 4) ? 0 : name_len;
		size = get32(buffer + in.start + 8);
		high = get32(buffer + in.start + 12);
	}
	use(in.wide ? 16 : 8);
	if(name_len == 0 || name_len > MAX_NAME) {
		return fail_in("bad file name: it must have 1 to 1024 bytes"
			" (write the payload image anew)");
	}
	if(need(name_len) != 0) {
		return -1;
	}
	memcpy(in.name, buffer + in.start, name_len);
	in.name[name_len] = 0;
	fault = name_fault(buffer + in.start, name_len);
	if(!fault && (high || size > MAX_SIZE)) {
		fault = "beyond the limits: more than 2 GiB in one file";
	}
	if(!fault && !in.listed) {
		fault = name_add(buffer + in.start, name_len);
	}
	if(fault) {
		fail_in(fault);
		why(" (make the payload image anew)");
		return -1;
	}
	use(name_len);
	in.size = size;
	in.data = in.offset;
	in.next++;
	return 0;
}

/* goes over left bytes without looking at them */
static int pass_over(u32 left)
{
	u32 n;

	while(left > 0) {
		if(need(left < CHUNK ? left : CHUNK) != 0) {
			return -1;
		}
		n = in.end - in.start;
		n = n < left ? n : left;
		use(n);
		left -= n;
	}
	return 0;
}

/* one line of SHA256SUMS, len bytes with its newline; NULL or what is wrong */
static char *sums_line(unsigned char *p, u32 len)
{
	char *fault;

	if(len < 2 * DIGEST + 4 || p[2 * DIGEST] != ' ' ||
	   (p[2 * DIGEST + 1] != ' ' && p[2 * DIGEST + 1] != '*') ||
	   !unhex(p, sums[name_count < MAX_FILES ? name_count : 0])) {
		return "bad SHA256SUMS: a line that is no sum";
	}
	p += 2 * DIGEST + 2;
	len -= 2 * DIGEST + 3;
	fault = name_fault(p, len);
	return fault ? fault : name_add(p, len);
}

/* SHA256SUMS, whose header has been read: its names and sums go into tables */
static int read_sums(void)
{
	struct sha sha;
	unsigned char digest[DIGEST];
	unsigned char *p;
	u32 left, len, most;
	char *fault;

	fault = in.size > MAX_SUMS ? "bad SHA256SUMS: it is too long" : NULL;
	sha_begin(&sha);
	for(left = in.size; left > 0 && !fault; left -= len) {
		most = left < MAX_LINE ? left : MAX_LINE;
		if(need(most) != 0) {
			return -1;
		}
		p = buffer + in.start;
		for(len = 0; len < most && p[len] != '\n'; len++) {
		}
		if(len == most) {
			fault = "bad SHA256SUMS: a line without an end";
			break;
		}
		len++;
		fault = sums_line(p, len);
		if(!fault) {
			sha_add(&sha, p, len);
			use(len);
		}
	}
	/* its own name is in the table too, as the first */
	if(!fault && (u32)name_count != in.files) {
		fault = "bad SHA256SUMS: not as many lines as files";
	}
	if(fault) {
		fail_in(fault);
		why(" (make the payload image anew)");
		return -1;
	}
	sha_end(&sha, digest);
	hex(digest, in.id);
	in.listed = 1;
	return 0;
}

/* everything before the first file: magic, number, SHA256SUMS if it is there */
static int read_head(int *magic)
{
	if(read_preamble(magic) != 0) {
		return -1;
	}
	if(in.files == 0) {
		return 0;
	}
	if(read_header() != 0) {
		return -1;
	}
	if(strcmp(in.name, SUMS_NAME) == 0) {
		return read_sums();
	}
	in.pending = 1;
	return 0;
}

/* files without SHA256SUMS */
static u32 file_count(void)
{
	return in.listed ? in.files - 1 : in.files;
}

/* the next file; SHA256SUMS, when it is there, must have it in this place */
static int next_file(void)
{
	if(in.pending) {
		in.pending = 0;
		return 0;
	}
	if(read_header() != 0) {
		return -1;
	}
	if(in.listed && strcmp(in.name, names + name_at[in.next - 1]) != 0) {
		fail_in("SHA256SUMS has another file in its place: ");
		why_name(names + name_at[in.next - 1]);
		why(" (make the payload image anew)");
		return -1;
	}
	return 0;
}

/* ---- one file ---- */

static struct {
	u32 number, wanted;		/* of the files asked for */
	u32 copied, kept;
	struct num bytes;		/* done, those kept included */
	struct num since;		/* bytes since the last line */
	long began;
} done;

static void progress(u32 n)
{
	num_add(&done.bytes, n);
	num_add(&done.since, n);
	if(done.since.lo >= (u32)TELL_EACH << 20) {
		struct num mib;

		num_set(&done.since, 0);
		mib = done.bytes;
		num_divide(&mib, 1024);
		num_divide(&mib, 1024);
		say("payload-import: ");
		say_num(&mib);
		say(" MiB");
		said();
	}
}

static void tell_file(char *how)
{
	say("payload-import: ");
	say_u32(done.number);
	say("/");
	say_u32(done.wanted);
	say(" ");
	say(in.name);
	say(" ");
	say_u32(in.size);
	say(how);
	said();
}

/* moves the current file's data to fd (-1: nowhere) and checks its sum */
static int copy_data(int fd)
{
	struct sha sha;
	unsigned char digest[DIGEST];
	u32 left, n;

	sha_begin(&sha);
	for(left = in.size; left > 0; left -= n) {
		if(need(left < CHUNK ? left : CHUNK) != 0) {
			return -1;
		}
		n = in.end - in.start;
		n = n < left ? n : left;
		if(in.listed) {
			sha_add(&sha, buffer + in.start, n);
		}
		if(fd >= 0 && write_all(fd, (char *)buffer + in.start, n) != 0) {
			int number;

			number = errno;
			fail_in("cannot be written: ");
			why_errno(number);
			return -1;
		}
		use(n);
		progress(n);
	}
	if(in.listed) {
		sha_end(&sha, digest);
		if(memcmp(digest, sums[in.next - 1], DIGEST) != 0) {
			fail_at(in.name, &in.data);
			why("wrong sha256, its data is damaged"
				" (write the payload image to the disk again)");
			return -1;
		}
	}
	return 0;
}

/* is this file of the destination what it should be? 1 yes, 0 no */
static int has_sum(char *name, unsigned char *want)
{
	struct sha sha;
	unsigned char digest[DIGEST];
	int fd, n;

	fd = open(name, O_RDONLY);
	if(fd < 0) {
		return 0;
	}
	sha_begin(&sha);
	while((n = read(fd, (char *)check_buffer, CHUNK)) > 0) {
		sha_add(&sha, check_buffer, n);
	}
	sha_end(&sha, digest);
	if(close(fd) != 0 || n < 0) {
		return 0;
	}
	return memcmp(digest, want, DIGEST) == 0;
}

/*
 * 1: the file is there and right. 0: it is to be written; what was in its place
 * and is known to be wrong has been removed, to make room. -1: neither can be.
 */
static int is_right(void)
{
	struct stat st;

	if(strlen(in.name) > FS_NAME) {
		return fail_in("the name is too long for a file system"
			" (rename the file and make the payload image anew)");
	}
	if(lstat(in.name, &st) != 0) {
		if(errno == NOT_FOUND) {
			return 0;
		}
		return fail_errno(in.name, "cannot be looked at");
	}
	if((st.st_mode & KIND_MASK) == KIND_DIR) {
		return fail_in("a directory of that name is in the destination"
			" (remove it)");
	}
	if(!in.listed) {
		return 0;
	}
	if((st.st_mode & KIND_MASK) == KIND_FILE &&
	   (u32)st.st_size == in.size && st.st_size >= 0 &&
	   has_sum(in.name, sums[in.next - 1])) {
		return 1;
	}
	if(unlink(in.name) != 0) {
		return fail_errno(in.name, "is wrong and cannot be removed");
	}
	return 0;
}

/* bytes that are free in the destination, and the size of its blocks */
static int free_space(struct num *space, u32 *block)
{
	u32 blocks;

	if(free_blocks(&blocks, block) != 0) {
		if(errno != TOO_LARGE && errno != NO_SUCH_CALL) {
			return fail_errno(NULL, "cannot ask for free space");
		}
		blocks = 0xffffffffU;	/* too much to count, or unknown */
		*block = 4096;
	}
	if(*block == 0) {
		*block = 1;
	}
	num_multiply(space, blocks, *block);
	return 0;
}

static int check_space(void)
{
	struct num space, want;
	u32 block;

	if(free_space(&space, &block) != 0) {
		return -1;
	}
	num_set(&want, in.size);
	if(in.size % block) {
		num_add(&want, block - in.size % block);
	}
	if(!num_less(&space, &want)) {
		return 0;
	}
	fail_at(in.name, &in.data);
	why("not enough space: it needs ");
	why_num(&want);
	why(" bytes, ");
	why_num(&space);
	why(" are free (give the destination more room)");
	return -1;
}

/* the same for all files together, when the caller has said what they take */
static int check_total(struct num *want, u32 from, u32 to)
{
	struct num space;
	struct stat st;
	u32 block, i;

	if(want->hi == 0 && want->lo == 0) {
		return 0;
	}
	if(free_space(&space, &block) != 0) {
		return -1;
	}
	/* what is there already is kept or makes room */
	for(i = from; in.listed && i < to; i++) {
		if(lstat(names + name_at[i + 1], &st) == 0 &&
		   (st.st_mode & KIND_MASK) == KIND_FILE) {
			num_add(&space, (u32)st.st_size);
		}
	}
	if(!num_less(&space, want)) {
		return 0;
	}
	fail("not enough space: ");
	why_u32(to - from);
	why(" files need ");
	why_num(want);
	why(" bytes, ");
	why_num(&space);
	why(" are free (give the destination more room)");
	return -1;
}

/* writes the current file under TEMP_NAME */
static int write_temp(void)
{
	int fd, result;

	fd = open(TEMP_NAME, O_WRONLY | O_CREAT | O_EXCL, 0644);
	if(fd < 0) {
		return fail_errno(in.name, "no temporary file can be made");
	}
	result = copy_data(fd);
	/* under Fiwix everything is in memory, and fsync slow */
	if(result == 0 && !reach_is_limited && fsync(fd) != 0) {
		result = fail_errno(in.name, "cannot be brought to the disk");
	}
	if(close(fd) != 0 && result == 0) {
		result = fail_errno(in.name, "cannot be closed");
	}
	return result;
}

/* brings the current file to its name in the destination */
static int place(void)
{
	int right;

	right = is_right();
	if(right < 0) {
		return -1;
	}
	if(right) {
		if(pass_over(in.size) != 0) {
			return -1;
		}
		done.kept++;
		progress(in.size);
		tell_file(" bytes, right already");
		return 0;
	}
	if(check_space() != 0) {
		return -1;
	}
	if(write_temp() != 0) {
		unlink(TEMP_NAME);
		return -1;
	}
	if(rename(TEMP_NAME, in.name) != 0) {
		fail_errno(in.name, "cannot be given its name");
		unlink(TEMP_NAME);
		return -1;
	}
	done.copied++;
	tell_file(" bytes");
	return 0;
}

/* ---- the destination ---- */

static int is_dir(char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && (st.st_mode & KIND_MASK) == KIND_DIR;
}

/* one directory; builder-hex0 leaves an empty file where an empty one was */
static int make_one_dir(char *path)
{
	struct stat st;

	if(is_dir(path)) {
		return 0;
	}
	if(lstat(path, &st) == 0 && (st.st_mode & KIND_MASK) == KIND_FILE &&
	   st.st_size == 0 && unlink(path) != 0) {
		return fail_errno(path, "is an empty file and cannot be removed");
	}
	if(mkdir(path, 0755) != 0) {
		return fail_errno(path, "cannot be made a directory");
	}
	return 0;
}

/* the directory with all its parents, which then is the current one */
static int enter_dir(char *dest)
{
	static char path[4096];
	u32 i;

	if(strlen(dest) >= sizeof(path)) {
		return fail("the name of the destination is too long");
	}
	for(i = 0; dest[i]; i++) {
		if(dest[i] == '/' && i > 0 && dest[i - 1] != '/') {
			path[i] = 0;
			if(make_one_dir(path) != 0) {
				return -1;
			}
		}
		path[i] = dest[i];
	}
	path[i] = 0;
	if(make_one_dir(path) != 0) {
		return -1;
	}
	if(chdir(path) != 0) {
		return fail_errno(path, "cannot be entered");
	}
	if(unlink(TEMP_NAME) != 0 && errno != NOT_FOUND) {
		return fail_errno(TEMP_NAME, "is left over and cannot be removed");
	}
	return 0;
}

/* makes the names last that the files have been given */
static int sync_names(void)
{
	int fd, result;

	if(reach_is_limited) {
		return 0;
	}
	fd = open(".", O_RDONLY);
	if(fd < 0) {
		return fail_errno(NULL, "the destination cannot be opened");
	}
	result = 0;
	/* not every file system can do that for a directory */
	if(fsync(fd) != 0 && errno != REFUSED) {
		result = fail_errno(NULL, "the destination cannot be synced");
	}
	if(close(fd) != 0 && result == 0) {
		result = fail_errno(NULL, "the destination cannot be closed");
	}
	return result;
}

/* ---- the three things this can do ---- */

static void tell_total(char *what)
{
	struct num tenths, rate;
	u32 seconds, rest;
	long now;

	tenths = done.bytes;
	num_scale(&tenths, 10, 0);
	num_divide(&tenths, 1024);
	num_divide(&tenths, 1024);
	now = (long)time(NULL);		/* a clock that was set is no clock */
	seconds = now > done.began && now - done.began < 65536 ?
		(u32)(now - done.began) : 0;
	rate = tenths;
	if(seconds > 0) {
		num_divide(&rate, seconds);
	}
	say("payload-import: ");
	say_u32(done.number);
	say(what);
	rest = num_divide(&tenths, 10);
	say_num(&tenths);
	say(".");
	say_u32(rest);
	say(" MiB in ");
	say_u32(seconds);
	say(" s, ");
	rest = num_divide(&rate, 10);
	say_num(&rate);
	say(".");
	say_u32(rest);
	say(" MiB/s");
	if(done.copied || done.kept) {
		say(", ");
		say_u32(done.copied);
		say(" copied, ");
		say_u32(done.kept);
		say(" right already");
	}
	said();
}

static int list_one(void)
{
	say_u32(in.size);
	say(" ");
	say(in.name);
	if(said() != 0) {
		return fail("standard output cannot be written to");
	}
	return pass_over(in.size);
}

static int verify_one(void)
{
	if(copy_data(-1) != 0) {
		return -1;
	}
	tell_file(in.listed ? " bytes, right" : " bytes, no sum to check");
	return 0;
}

/* a wanted file must end where this kernel can still read it */
static int check_reach(void)
{
	struct num end;

	end = in.data;
	num_add(&end, in.size);
	if(!reach_is_limited || !num_less(&reach, &end)) {
		return 0;
	}
	fail_at(in.name, &in.data);
	why("it ends beyond 4 GiB, where this kernel cannot read a disk"
		" (use --count, or import the rest on Linux)");
	return -1;
}

static int each_file(struct options *opt, u32 from, u32 to)
{
	u32 i;
	int result;

	for(i = 0; i < to; i++) {
		if(next_file() != 0) {
			return -1;
		}
		if(i < from) {
			if(pass_over(in.size) != 0) {
				return -1;
			}
			continue;
		}
		done.number++;
		if(check_reach() != 0) {
			return -1;
		}
		if(opt->list) {
			result = list_one();
		} else if(opt->verify) {
			result = verify_one();
		} else {
			result = place();
		}
		if(result != 0) {
			return -1;
		}
	}
	return 0;
}

/* the container's head has been read; does what the options say */
static int work(struct options *opt)
{
	u32 from, to;

	from = opt->skip;
	to = file_count();
	if(from > to || (opt->counted && opt->count > to - from)) {
		fail_in("fewer files than asked for: there are ");
		why_u32(to);
		why(" (check --skip and --count)");
		return -1;
	}
	if(opt->counted) {
		to = from + opt->count;
	}
	done.wanted = to - from;
	done.began = (long)time(NULL);
	if(opt->list) {
		return each_file(opt, from, to);
	}
	say("payload-import: ");
	say(in.where);
	say(": ");
	say_u32(file_count());
	say(" files, ID ");
	say(in.listed ? in.id : "none (no SHA256SUMS, nothing is checked)");
	said();
	if(!opt->verify && (enter_dir(opt->dest) != 0 ||
	   check_total(&opt->bytes, from, to) != 0)) {
		return -1;
	}
	if(each_file(opt, from, to) != 0) {
		return -1;
	}
	if(!opt->verify && sync_names() != 0) {
		return -1;
	}
	tell_total(opt->verify ? " files read, " : " files, ");
	return 0;
}

/* ---- a directory of our own, for a mount or a node ---- */

static char own_dir[DISK_NAME];
static char own_path[DISK_NAME + 16];

static char *in_own_dir(char *name)
{
	strcpy(own_path, own_dir);
	strcat(own_path, "/");
	strcat(own_path, name);
	return own_path;
}

/* makes it, after taking away what a crash may have left in its place */
static int own_dir_make(void)
{
	static char *places[] = {
		"/" OWN_DIR, "/dev/" OWN_DIR, "/tmp/" OWN_DIR, NULL
	};
	int i;

	for(i = 0; places[i]; i++) {
		strcpy(own_dir, places[i]);
		if(mkdir(own_dir, 0700) == 0) {
			return 0;
		}
		if(errno != IS_THERE) {
			continue;
		}
		unmount(own_dir);
		unlink(in_own_dir("disk"));
		if(rmdir(own_dir) == 0 && mkdir(own_dir, 0700) == 0) {
			return 0;
		}
	}
	return fail("no directory can be made for a mount or a node"
		" (make / writable, or give --device)");
}

static int own_dir_remove(void)
{
	if(rmdir(own_dir) != 0) {
		return fail_errno(own_dir, "cannot be removed");
	}
	return 0;
}

/* ---- the disks that the kernel knows ---- */

static int is_digit(int c)
{
	return c >= '0' && c <= '9';
}

/* IDE disks are numbered by name: Fiwix prints 0 for the minor of hdb */
static void fix_ide_number(struct disk *d)
{
	static u32 majors[] = { 3, 22, 33, 34 };
	u32 drive, part;
	char *p;

	if(d->name[0] != 'h' || d->name[1] != 'd' ||
	   d->name[2] < 'a' || d->name[2] > 'h') {
		return;
	}
	drive = d->name[2] - 'a';
	part = 0;
	for(p = d->name + 3; is_digit(*p) && part < 64; p++) {
		part = part * 10 + (*p - '0');
	}
	if(*p || part >= 64) {
		return;
	}
	d->major = majors[drive / 2];
	d->minor = drive % 2 * 64 + part;
}

/*
 * The whole disk that disk i is a partition of, or -1: another one whose name
 * is the same but for digits at the end, after a "p" when it ends in a digit
 * itself (sda1, nvme0n1p1). That needs no list of drivers.
 */
static int parent_of(int i)
{
	char *name, *rest;
	u32 len;
	int k;

	name = disks[i].name;
	for(k = 0; k < disk_count; k++) {
		len = strlen(disks[k].name);
		if(k == i || strncmp(name, disks[k].name, len) != 0) {
			continue;
		}
		rest = name + len;
		if(is_digit(disks[k].name[len - 1]) && *rest++ != 'p') {
			continue;
		}
		if(!is_digit(*rest)) {
			continue;
		}
		while(is_digit(*rest)) {
			rest++;
		}
		if(*rest == 0) {
			return k;
		}
	}
	return -1;
}

/* memory and floppies are not asked: a floppy drive alone takes a minute */
static int is_worth_a_look(char *name)
{
	return strncmp(name, "ram", 3) != 0 && strncmp(name, "zram", 4) != 0 &&
		!(name[0] == 'f' && name[1] == 'd' && is_digit(name[2]));
}

/* one line of /proc/partitions: major minor blocks name */
static void take_disk(char *text)
{
	struct disk *d;
	u32 field[3];
	u32 len;
	int i;

	for(i = 0; i < 3; i++) {
		while(*text == ' ' || *text == '\t') {
			text++;
		}
		if(!is_digit(*text)) {
			return;		/* the heading, or an empty line */
		}
		for(field[i] = 0; is_digit(*text); text++) {
			field[i] = field[i] * 10 + (*text - '0');
		}
	}
	while(*text == ' ' || *text == '\t') {
		text++;
	}
	len = strlen(text);
	if(len == 0 || len >= DISK_NAME || disk_count == MAX_DISKS ||
	   strchr(text, '/') || text[0] == '.' || !is_worth_a_look(text)) {
		return;
	}
	d = &disks[disk_count++];
	memset(d, 0, sizeof(*d));
	strcpy(d->name, text);
	strcpy(d->path, "/dev/");
	strcat(d->path, text);
	d->major = field[0];
	d->minor = field[1];
	fix_ide_number(d);
}

static int read_partitions(char *path)
{
	char *text, *end;
	u32 used;
	int fd, n;

	fd = open(path, O_RDONLY);
	if(fd < 0) {
		return fail_errno(path, "cannot be opened");
	}
	text = (char *)buffer;
	used = 0;
	while((n = read(fd, text + used, CHUNK - used)) > 0) {
		used += n;
	}
	if(close(fd) != 0 || n < 0) {
		return fail_errno(path, "cannot be read");
	}
	text[used] = 0;
	disk_count = 0;
	while((end = strchr(text, '\n')) != NULL) {
		*end = 0;
		take_disk(text);
		text = end + 1;
	}
	for(n = 0; n < disk_count; n++) {
		disks[n].parent = parent_of(n);
	}
	return 0;
}

/* with procfs where it usually is, or mounted for a moment */
static int find_disks(void)
{
	int result;

	if(read_partitions("/proc/partitions") == 0) {
		return 0;
	}
	if(own_dir_make() != 0) {
		return -1;
	}
	if(mount_proc(own_dir) != 0) {
		own_dir_remove();
		return fail("the disks cannot be listed: procfs cannot be"
			" mounted (run as root, or give --device)");
	}
	result = read_partitions(in_own_dir("partitions"));
	if(unmount(own_dir) != 0 && result == 0) {
		result = fail_errno(own_dir, "cannot be unmounted");
	}
	if(own_dir_remove() != 0) {
		result = -1;
	}
	return result;
}

/* opens a disk by a node of our own, which is gone again when this returns */
static int open_by_number(struct disk *d)
{
	int fd, number;

	if(own_dir_make() != 0) {
		errno = NOT_FOUND;
		return -1;
	}
	fd = -1;
	if(mknod(in_own_dir("disk"), KIND_BLOCK | 0600,
	   device_number(d->major, d->minor)) == 0) {
		fd = open(in_own_dir("disk"), O_RDONLY | O_LARGEFILE);
	}
	number = errno;
	unlink(in_own_dir("disk"));
	rmdir(own_dir);
	errno = number;
	return fd;
}

/* opens a disk: by its node if there is a right one, else by one of our own */
static int open_disk(struct disk *d)
{
	struct stat st;

	if(stat(d->path, &st) == 0 &&
	   (st.st_mode & KIND_MASK) == KIND_BLOCK &&
	   st.st_rdev == device_number(d->major, d->minor)) {
		return open(d->path, O_RDONLY | O_LARGEFILE);
	}
	return open_by_number(d);
}

static int close_container(void)
{
	int fd;

	fd = in.fd;
	in.fd = -1;
	if(fd >= 0 && close(fd) != 0) {
		return fail_errno(in.where, "cannot be closed");
	}
	return 0;
}

/* 1: disk d holds the payload with that ID and has been opened at its files */
static int look_at(struct disk *d, char *id)
{
	int magic, fd;

	fd = open_disk(d);
	if(fd < 0) {
		d->why = errno == NOT_FOUND ? "no node can be made for it" :
			"cannot be opened";
		return 0;
	}
	reset(fd, d->path);
	magic = 0;
	if(read_head(&magic) == 0) {
		d->payload = 1;
		strcpy(d->id, in.id);
		if(id && strcmp(id, in.id) == 0) {
			return 1;
		}
		d->why = in.listed ? "" : "a payload without SHA256SUMS";
	} else if(magic) {
		d->payload = 1;
		d->why = "a damaged payload";
	} else {
		d->why = in.ended || in.begun ? "no payload" : "cannot be read";
	}
	close_container();
	return 0;
}

/* the end of a failure: every disk, and what speaks against it */
static void why_disks(int payloads_only)
{
	int i, said_one;

	said_one = 0;
	for(i = 0; i < disk_count; i++) {
		if(!disks[i].why || (payloads_only && !disks[i].payload)) {
			continue;
		}
		why(said_one ? ", " : " ");
		said_one = 1;
		why_name(disks[i].name);
		why(" (");
		if(*disks[i].why) {
			why(disks[i].why);
		} else {
			why("payload ");
			why(disks[i].id);
		}
		why(")");
	}
	if(!said_one) {
		why(" none");
	}
}

/* looks at whole disks, then at partitions of those that are no payload */
static struct disk *search(char *id)
{
	struct disk *found;
	int pass, i, payloads;

	found = NULL;
	payloads = 0;
	for(pass = 0; pass < 2; pass++) {
		for(i = 0; i < disk_count; i++) {
			if((disks[i].parent >= 0) != pass) {
				continue;
			}
			if(pass && disks[disks[i].parent].payload) {
				continue;
			}
			if(look_at(&disks[i], id)) {
				return &disks[i];
			}
			if(disks[i].payload) {
				found = &disks[i];
				payloads++;
			}
		}
	}
	if(id) {
		fail("no payload disk with the ID ");
		why(id);
		why(" (attach the payload image); disks looked at:");
		why_disks(0);
		return NULL;
	}
	if(payloads == 1) {
		return found;
	}
	fail(payloads ? "several payload disks (give --id or --device):" :
		"no payload disk (attach the payload image); disks looked at:");
	why_disks(payloads);
	return NULL;
}

/* finds the disk among those the kernel knows, and reads its head */
static int open_found(char *id)
{
	struct disk *d;
	int fd, magic;

	if(find_disks() != 0) {
		return -1;
	}
	d = search(id);
	if(!d) {
		return -1;
	}
	if(in.fd >= 0) {
		return 0;		/* left open at its files */
	}
	fd = open_disk(d);
	if(fd < 0) {
		return fail_errno(d->path, "cannot be opened again");
	}
	reset(fd, d->path);
	return read_head(&magic);
}

/* the device that the command line names; its node may be missing */
static int open_named(char *device, char *id)
{
	int fd, i, number, magic;

	fd = open(device, O_RDONLY | O_LARGEFILE);
	number = errno;
	if(fd < 0 && number == NOT_FOUND &&
	   strncmp(device, "/dev/", 5) == 0 && find_disks() == 0) {
		for(i = 0; i < disk_count && fd < 0; i++) {
			if(strcmp(disks[i].path, device) == 0) {
				fd = open_disk(&disks[i]);
				number = errno;
			}
		}
	}
	if(fd < 0) {
		fail_at(device, NULL);
		why("cannot be opened: ");
		why_errno(number);
		return -1;
	}
	reset(fd, device);
	if(read_head(&magic) != 0) {
		return -1;
	}
	if(id && strcmp(in.id, id) != 0) {
		fail_at(device, NULL);
		why("the wrong payload: its ID is ");
		why(in.listed ? in.id : "unknown, it has no SHA256SUMS");
		why(", wanted is ");
		why(id);
		why(" (attach the payload that was made with this medium)");
		return -1;
	}
	return 0;
}

/* ---- the command line ---- */

static int usage(char *what, char *which)
{
	fail(what);
	why(" ");
	why_name(which);
	why(" (usage: payload-import [--count N] [--skip N] [--bytes N]"
		" [--id SHA256] [--device DEV] [--list | --verify] DEST)");
	return -1;
}

/* a number in decimal; 0 when it is none, or not below the limit */
static int parse_num(char *text, struct num *n)
{
	num_set(n, 0);
	if(!*text) {
		return 0;
	}
	for(; *text; text++) {
		if(!is_digit(*text) || !num_scale(n, 10, *text - '0')) {
			return 0;
		}
	}
	return 1;
}

static int parse_u32(char *text, u32 *n)
{
	struct num wide;

	if(!parse_num(text, &wide) || wide.hi || wide.lo > MAX_SIZE) {
		return 0;
	}
	*n = wide.lo;
	return 1;
}

/* an ID is compared as text, so its digits are made small */
static int parse_id(char *text)
{
	unsigned char digest[DIGEST];

	if(strlen(text) != 2 * DIGEST ||
	   !unhex((unsigned char *)text, digest)) {
		return 0;
	}
	hex(digest, text);
	return 1;
}

/* an option with a value: 1 taken, 0 no such option, -1 a bad value */
static int parse_valued(struct options *opt, char *name, char *value)
{
	int good;

	good = 1;
	if(strcmp(name, "--count") == 0) {
		opt->counted = 1;
		good = value && parse_u32(value, &opt->count);
	} else if(strcmp(name, "--skip") == 0) {
		good = value && parse_u32(value, &opt->skip);
	} else if(strcmp(name, "--bytes") == 0) {
		good = value && parse_num(value, &opt->bytes);
	} else if(strcmp(name, "--id") == 0) {
		opt->id = value;
		good = value && parse_id(value);
	} else if(strcmp(name, "--device") == 0) {
		opt->device = value;
		good = value && *value;
	} else {
		return 0;
	}
	return good ? 1 : usage("a bad or missing value for", name);
}

static int parse_options(int argc, char **argv, struct options *opt)
{
	int i, valued;

	memset(opt, 0, sizeof(*opt));
	for(i = 1; i < argc; i++) {
		valued = parse_valued(opt, argv[i], argv[i + 1]);
		if(valued < 0) {
			return -1;
		}
		if(valued) {
			i++;
		} else if(strcmp(argv[i], "--list") == 0) {
			opt->list = 1;
		} else if(strcmp(argv[i], "--verify") == 0) {
			opt->verify = 1;
		} else if(argv[i][0] == '-' || opt->dest) {
			return usage("unexpected argument", argv[i]);
		} else {
			opt->dest = argv[i];
		}
	}
	if(opt->list && opt->verify) {
		return usage("one at a time:", "--list and --verify");
	}
	if(!opt->list && !opt->verify && (!opt->dest || !*opt->dest)) {
		return usage("missing argument", "DEST");
	}
	return 0;
}

static int run(int argc, char **argv)
{
	struct options opt;
	int result;

	in.fd = -1;
	if(parse_options(argc, argv, &opt) != 0) {
		return -1;
	}
	reach_is_limited = !kernel_is_linux();
	if(opt.device) {
		result = open_named(opt.device, opt.id);
	} else {
		result = open_found(opt.id);
	}
	if(result == 0) {
		result = work(&opt);
	}
	if(result == 0) {
		return close_container();
	}
	if(in.fd >= 0) {
		close(in.fd);	/* the failure to be told is another one */
	}
	return result;
}

int main(int argc, char **argv)
{
	int status;

	status = 0;
	if(run(argc, argv) != 0) {
		static char head[] = "payload-import: ";

		failure[failure_used++] = '\n';
		write_all(2, head, strlen(head));
		write_all(2, failure, failure_used);
		status = 1;
	}
	return status;
}
