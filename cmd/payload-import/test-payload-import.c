/* SPDX-FileCopyrightText: 2026 The Kindling authors */
/* SPDX-License-Identifier: GPL-3.0-or-later */

/*
 * Tests of payload-import.c from the inside, and many runs of it in one
 * process. internal/payload/conformance compiles this and drives it.
 *
 * usage: test-payload-import unit
 *        test-payload-import jobs ROOT < JOBS
 *
 * "unit" tests the arithmetic, sha256 and disk names; its exit status tells.
 *
 * "jobs" reads one job a line, fields parted by tabs: a fault, then the
 * arguments of payload-import. Each job runs in a process of its own, forked
 * from this one, and gives one line: exit status, how often the faulty call was
 * made, and what was written to standard error, with newlines as the byte 1.
 *
 * A fault is CALL:N:ERRNO (the Nth call of that name fails), free:BYTES (what
 * statfs reports), reach:BYTES (a kernel like Fiwix, that can read so much of a
 * disk) or "-".
 *
 * ROOT holds a make-believe machine: paths below /proc, /dev and the directory
 * that payload-import makes for itself are taken there. ROOT/disks/MAJOR:MINOR
 * are the disks, ROOT/partitions is what procfs will say when it is mounted,
 * and a node is a file that contains the numbers of its disk.
 */

#define _DEFAULT_SOURCE 1
#define _FILE_OFFSET_BITS 64

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char *world = "";	/* ROOT */
static char fault_call[32];
static int fault_at, fault_errno, fault_count;
static long fault_free = -1, fault_reach = -1;

/* 1 when this call is the one that must fail */
static int faulty(char *call)
{
	if(strcmp(call, fault_call) != 0) {
		return 0;
	}
	if(++fault_count != fault_at) {
		return 0;
	}
	errno = fault_errno;
	return 1;
}

/* where path is in the make-believe machine */
static char *mapped(char *path)
{
	static char text[2][4096];
	static int turn;

	if(strncmp(path, "/dev/shm", 8) == 0 ||	/* where tests write */
	   (strncmp(path, "/proc/", 6) != 0 && strncmp(path, "/dev/", 5) != 0 &&
	   strncmp(path, "/payload-import.own", 19) != 0)) {
		return path;
	}
	turn = !turn;
	sprintf(text[turn], "%.2000s%.2000s", world, path);
	return text[turn];
}

/* a node's numbers; 0 when path is no node */
static int node(char *path, unsigned *major_number, unsigned *minor_number)
{
	FILE *f;
	int n;

	if(mapped(path) == path || strstr(path, "partitions")) {
		return 0;
	}
	f = fopen(mapped(path), "r");
	if(!f) {
		return 0;
	}
	n = fscanf(f, "%u:%u", major_number, minor_number);
	fclose(f);
	return n == 2;
}

static int test_open(char *path, int flags, int mode)
{
	char disk[4096];
	unsigned major_number, minor_number;
	int fd;

	if(faulty("open")) {
		return -1;
	}
	if(!node(path, &major_number, &minor_number)) {
		return open(mapped(path), flags, mode);
	}
	sprintf(disk, "%.2000s/disks/%u:%u", world, major_number, minor_number);
	fd = open(disk, O_RDONLY);
	if(fd < 0) {
		errno = ENXIO;
	}
	return fd;
}

static int test_stat(char *path, struct stat *st)
{
	unsigned major_number, minor_number;

	if(faulty("stat")) {
		return -1;
	}
	if(stat(mapped(path), st) != 0) {
		return -1;
	}
	if(node(path, &major_number, &minor_number)) {
		st->st_mode = S_IFBLK | 0600;
		st->st_rdev = makedev(major_number, minor_number);
	}
	return 0;
}

static int test_lstat(char *path, struct stat *st)
{
	return faulty("lstat") ? -1 : lstat(mapped(path), st);
}

static int test_mknod(char *path, int mode, dev_t device)
{
	FILE *f;

	if(faulty("mknod") || (mode & S_IFMT) != S_IFBLK) {
		return -1;
	}
	f = fopen(mapped(path), "w");
	if(!f) {
		return -1;
	}
	fprintf(f, "%u:%u", major(device), minor(device));
	return fclose(f);
}

static int test_mount(char *source, char *dir, char *type)
{
	char from[4096], to[4096];

	(void)source;
	if(faulty("mount") || strcmp(type, "proc") != 0) {
		return -1;
	}
	sprintf(from, "%.2000s/partitions", world);
	sprintf(to, "%.2000s/partitions", mapped(dir));
	return link(from, to);
}

static int test_umount(char *dir)
{
	char path[4096];

	sprintf(path, "%.2000s/partitions", mapped(dir));
	return faulty("umount") ? -1 : unlink(path);
}

static int test_statfs(char *path, struct statfs *fs)
{
	if(faulty("statfs") || statfs(path, fs) != 0) {
		return -1;
	}
	if(fault_free >= 0) {
		fs->f_bsize = 1024;
		fs->f_bavail = fault_free / 1024;
	}
	return 0;
}

static int test_uname(struct utsname *text)
{
	if(uname(text) < 0) {
		return -1;
	}
	if(fault_reach >= 0) {
		strcpy(text->release, "1.5.0");
	}
	return 0;
}

static int test_read(int fd, char *to, size_t len)
{
	return faulty("read") ? -1 : (int)read(fd, to, len);
}

/* what people read is not the matter of these tests */
static int test_write(int fd, char *from, size_t len)
{
	if(fd > 2 && faulty("write")) {
		return -1;
	}
	return (int)write(fd, from, len);
}

static int test_close(int fd)
{
	int failed;

	failed = faulty("close");
	return close(fd) != 0 || failed ? -1 : 0;
}

static int test_fsync(int fd)
{
	return faulty("fsync") ? -1 : fsync(fd);
}

static int test_rename(char *from, char *to)
{
	return faulty("rename") ? -1 : rename(from, to);
}

static int test_unlink(char *path)
{
	return faulty("unlink") ? -1 : unlink(mapped(path));
}

static int test_mkdir(char *path, int mode)
{
	return faulty("mkdir") ? -1 : mkdir(mapped(path), mode);
}

static int test_rmdir(char *path)
{
	return faulty("rmdir") ? -1 : rmdir(mapped(path));
}

static int test_chdir(char *path)
{
	return faulty("chdir") ? -1 : chdir(path);
}

#define open		test_open_varying
#define stat(p, s)	test_stat(p, s)
#define lstat(p, s)	test_lstat(p, s)
#define mknod(p, m, d)	test_mknod(p, m, d)
#define mount(s, d, t, f, x)	test_mount(s, d, t)
#define umount(d)	test_umount(d)
#define statfs(p, s)	test_statfs(p, s)
#define uname(u)	test_uname(u)
#define read(f, t, n)	test_read(f, t, n)
#define write(f, t, n)	test_write(f, t, n)
#define close(f)	test_close(f)
#define fsync(f)	test_fsync(f)
#define rename(f, t)	test_rename(f, t)
#define unlink(p)	test_unlink(p)
#define mkdir(p, m)	test_mkdir(p, m)
#define rmdir(p)	test_rmdir(p)
#define chdir(p)	test_chdir(p)
#define main		payload_import_main

/* C89 has no macros with a varying number of arguments; all modes are 0644 */
static int test_open_varying(char *path, int flags, ...)
{
	return test_open(path, flags, 0644);
}

#include "payload-import.c"

#undef open
#undef stat
#undef lstat
#undef mknod
#undef mount
#undef umount
#undef statfs
#undef uname
#undef read
#undef write
#undef close
#undef fsync
#undef rename
#undef unlink
#undef mkdir
#undef rmdir
#undef chdir
#undef main

/* ---- unit tests ---- */

static int bad;

static void check(int good, char *what)
{
	if(!good) {
		printf("FAIL: %s\n", what);
		bad = 1;
	}
}

static void unit_num(void)
{
	struct num n, m;
	char text[24];

	check(parse_num("18446744073709551615", &n), "largest number");
	check(n.hi == 0xffffffffU && n.lo == 0xffffffffU, "its halves");
	check(strcmp(num_text(&n, text), "18446744073709551615") == 0, "text");
	check(!parse_num("18446744073709551616", &n), "one too many");
	check(!parse_num("", &n) && !parse_num("1x", &n), "no number");
	check(!parse_num("-1", &n) && !parse_num(" 1", &n), "signs, spaces");
	num_set(&n, 0xffffffffU);
	num_add(&n, 1);
	check(n.hi == 1 && n.lo == 0, "carry");
	num_set(&m, 1);
	num_sub_num(&n, &m);
	check(n.hi == 0 && n.lo == 0xffffffffU, "borrow");
	check(num_less(&m, &n) && !num_less(&n, &m) && !num_less(&n, &n),
		"order");
	num_multiply(&n, 0xffffffffU, 0xffffffffU);
	check(n.hi == 0xfffffffeU && n.lo == 1, "product");
	num_multiply(&n, 345600, 4096);
	check(strcmp(num_text(&n, text), "1415577600") == 0, "a ramdisk");
	parse_num("10000000000", &n);
	check(num_divide(&n, 1024) == 0 && n.hi == 0 && n.lo == 9765625,
		"quotient");
	check(num_divide(&n, 1000) == 625, "remainder");
	check(!parse_u32("2147483648", &n.lo) && parse_u32("0", &n.lo),
		"32 bits");
}

static void unit_sha_one(char *data, u32 len, u32 step, char *want)
{
	struct sha s;
	unsigned char digest[DIGEST];
	char text[2 * DIGEST + 1];
	u32 at, n;

	sha_begin(&s);
	for(at = 0; at < len; at += n) {
		n = len - at < step ? len - at : step;
		sha_add(&s, (unsigned char *)data + at, n);
	}
	sha_end(&s, digest);
	hex(digest, text);
	check(strcmp(text, want) == 0, want);
}

static void unit_sha(void)
{
	static char million[1000000];
	static char two[] =
		"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
	u32 step;

	memset(million, 'a', sizeof(million));
	for(step = 1; step <= 130; step++) {
		unit_sha_one("", 0, step, "e3b0c44298fc1c149afbf4c8996fb924"
			"27ae41e4649b934ca495991b7852b855");
		unit_sha_one("abc", 3, step, "ba7816bf8f01cfea414140de5dae2223"
			"b00361a396177a9cb410ff61f20015ad");
		unit_sha_one(two, 56, step, "248d6a61d20638b8e5c026930c3e6039"
			"a33ce45964ff2167f6ecedd419db06c1");
	}
	unit_sha_one(million, 1000000, 65536, "cdc76e5c9914fb9281a1c7e284d73e67"
		"f1809a48a497200e046d39ccc7112cd0");
}

static void unit_disk_one(char *text, char *name, u32 major_n, u32 minor_n)
{
	char copy[128];
	struct disk *d;

	disk_count = 0;
	strcpy(copy, text);
	take_disk(copy);
	check(disk_count == 1, text);
	d = &disks[0];
	check(strcmp(d->name, name) == 0 && d->major == major_n &&
		d->minor == minor_n, text);
}

static void unit_disks(void)
{
	static char *listed[] = {
		"8 0 1 sda", "8 1 1 sda1", "259 0 1 nvme0n1", "259 1 1 nvme0n1p1",
		"259 2 1 nvme0n12", "179 0 1 mmcblk0", "179 1 1 mmcblk0p15",
		"65 160 1 sdaa", "65 161 1 sdaa1", "253 0 1 dm-0", "253 1 1 dm-01"
	};
	static int parents[] = { -1, 0, -1, 2, -1, -1, 5, -1, 7, -1, -1 };
	char copy[128];
	int i;

	unit_disk_one("   3     0     16384 hda", "hda", 3, 0);
	unit_disk_one("   3     0     16384 hdb", "hdb", 3, 64);
	unit_disk_one("   3     1     16384 hdb1", "hdb1", 3, 65);
	unit_disk_one("  22     0     16384 hdc", "hdc", 22, 0);
	unit_disk_one("  22     0     16384 hdd", "hdd", 22, 64);
	unit_disk_one(" 259     300  16384 nvme0n1", "nvme0n1", 259, 300);
	disk_count = 0;
	take_disk(strcpy(copy, "major minor  #blocks  name"));
	take_disk(strcpy(copy, ""));
	take_disk(strcpy(copy, "   1     0       4096 ram0"));
	take_disk(strcpy(copy, "   2     0          4 fd0"));
	take_disk(strcpy(copy, "   8     0          4 ../sda"));
	take_disk(strcpy(copy, "   8     0          4 a-name-that-is-far-too-"
		"long-for-any-disk"));
	check(disk_count == 0, "lines that are no disk");
	for(i = 0; i < 11; i++) {
		take_disk(strcpy(copy, listed[i]));
	}
	for(i = 0; i < 11; i++) {
		check(parent_of(i) == parents[i], listed[i]);
	}
}

static int unit(void)
{
	unit_num();
	unit_sha();
	unit_disks();
	return bad;
}

/* ---- jobs ---- */

static void set_fault(char *text)
{
	if(strncmp(text, "free:", 5) == 0) {
		fault_free = atol(text + 5);
	} else if(strncmp(text, "reach:", 6) == 0) {
		fault_reach = atol(text + 6);
		num_set(&reach, (u32)fault_reach);
	} else if(strcmp(text, "-") != 0 &&
	   sscanf(text, "%31[a-z]:%d:%d", fault_call, &fault_at,
	   &fault_errno) != 3) {
		exit(98);
	}
}

/* the child: status and number of calls go to fd as two bytes, at the end */
static void job_run(int argc, char **argv, int fd)
{
	unsigned char result[2];
	int null;

	null = open("/dev/null", O_WRONLY);
	if(null < 0 || dup2(null, 1) < 0) {
		exit(97);
	}
	set_fault(argv[0]);
	result[0] = payload_import_main(argc, argv);
	result[1] = fault_count < 255 ? fault_count : 255;
	if(write(fd, (char *)result, 2) != 2) {
		exit(96);
	}
	exit(0);
}

/* one job in a process of its own */
static int job(int argc, char **argv)
{
	static char text[65536];
	unsigned char result[2];
	int err[2], res[2], status;
	ssize_t n;
	size_t used, i;
	pid_t child;

	if(pipe(err) != 0 || pipe(res) != 0) {
		return -1;
	}
	fflush(stdout);
	child = fork();
	if(child == 0) {
		dup2(err[1], 2);
		close(err[0]);
		close(err[1]);
		close(res[0]);
		job_run(argc, argv, res[1]);
	}
	close(err[1]);
	close(res[1]);
	used = 0;
	while((n = read(err[0], text + used, sizeof(text) - 1 - used)) > 0) {
		used += n;
	}
	text[used] = 0;
	for(i = 0; i < used; i++) {
		text[i] = text[i] == '\n' ? 1 : text[i];
	}
	memset(result, 0, sizeof(result));
	n = read(res[0], (char *)result, 2);
	close(err[0]);
	close(res[0]);
	if(child < 0 || waitpid(child, &status, 0) != child) {
		return -1;
	}
	if(n != 2 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		result[0] = 99;		/* a sanitizer, or a crash */
	}
	printf("%d\t%d\t%s\n", result[0], result[1], text);
	return 0;
}

static int jobs(void)
{
	static char text[16384];
	char *argv[64];
	char *p;
	int argc;

	while(fgets(text, sizeof(text), stdin)) {
		text[strcspn(text, "\n")] = 0;
		argc = 0;
		p = text;
		while(p && argc < 63) {
			argv[argc++] = p;
			p = strchr(p, '\t');
			if(p) {
				*p++ = 0;
			}
		}
		argv[argc] = NULL;
		if(job(argc, argv) != 0) {
			return 1;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	if(argc == 2 && strcmp(argv[1], "unit") == 0) {
		return unit();
	}
	if(argc == 3 && strcmp(argv[1], "jobs") == 0) {
		world = argv[2];
		return jobs();
	}
	fprintf(stderr, "usage: test-payload-import unit | jobs ROOT\n");
	return 2;
}
