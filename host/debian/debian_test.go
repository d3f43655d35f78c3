// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package debian

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The limits that keep an initramfs with this userland quick to load and to unpack in an emulated machine.
const (
	maxUserlandBytes = 35 << 20
	maxModuleBytes   = 4 << 20
)

// TestDebian fetches the real userland and the real i386 kernel with the host's apt, then uses them: i386 programs run
// on an amd64 kernel with IA32 emulation, in a chroot (root, or a user namespace). KINDLING_TEST_CACHE may name a cache
// folder to share with other tests; without it everything is fetched anew.
func TestDebian(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: needs Debian's mirrors; -short is set")
	}
	dir := os.Getenv("KINDLING_TEST_CACHE")
	if dir == "" {
		dir = filepath.Join(t.TempDir(), "cache")
	}
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := c.Userland(t.Context(), func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	t.Run("userland", func(t *testing.T) { checkUserland(t, tree) })
	t.Run("run", func(t *testing.T) { runUserland(t, tree) })
	t.Run("kernel", func(t *testing.T) { checkKernel(t, c) })
}

func checkUserland(t *testing.T, tree Tree) {
	t.Logf("%d files, %d bytes", tree.Files, tree.Size)
	if tree.Size > maxUserlandBytes {
		t.Errorf("userland has %d bytes, %d allowed", tree.Size, maxUserlandBytes)
	}
	if len(tree.Packages) != len(userlandRecipe().Packages) {
		t.Errorf("%d packages", len(tree.Packages))
	}
	root, err := os.OpenRoot(tree.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink == 0 || name == "etc/mtab" {
			return err
		}
		target, err := root.Readlink(name)
		if err != nil {
			return err
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(name), target)
		}
		if _, err := root.Stat(strings.TrimPrefix(target, "/")); err != nil {
			t.Errorf("symbolic link %s: %v", name, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range kernelHeaders() {
		if _, err := root.Stat("usr/include/linux/" + name); err != nil {
			t.Error(err)
		}
	}
}

// guestScript does, in small, what a run does with the userland; any failing command ends it.
const guestScript = `set -e
for f in /usr/bin/* /usr/sbin/*; do
	case $(head -c 4 "$f" | od -An -c) in *E*L*F*) ;; *) continue ;; esac
	if LD_TRACE_LOADED_OBJECTS=1 /lib/ld-linux.so.2 "$f" | grep 'not found'; then echo "$f lacks a library"; exit 1; fi
done
cd /tmp
cat > h.c <<'END'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <dirent.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <netinet/in.h>
#include <linux/fs.h>
int main(int argc, char **argv)
{
	unsigned long long n = strtoull(argv[1], NULL, 10);

	printf("%llu %.3f %lu\n", n / 7, sqrt(argc), (unsigned long)BLKGETSIZE);
	return 0;
}
END
tcc -o h h.c -lm
./h 12345678901234
truncate -s 16M img
mkfs.ext4 -q img
fsck.ext4 -fn img | tail -n 1 | cut -d: -f1
printf abc | sha256sum
mkdir d
echo one > d/f
tar cjf d.tar.bz2 d
tar czf d.tar.gz d
rm -r d
tar xjf d.tar.bz2
tar xzf d.tar.gz
cp d/f d/g
echo two >> d/g
diff -u d/f d/g > p || test $? = 1
patch -s d/f p
cmp d/f d/g
printf 'all:\n\t@echo made\n' > Makefile
make
find d -type f | sort | xargs sed -n '$p' | awk '{ print "awk " $1 }'
sh -c 'echo x | grep -P "^x$"'
`

const guestOutput = `1763668414462 1.414 4704
img
ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  -
made
awk two
x
`

func runUserland(t *testing.T, tree Tree) {
	root := filepath.Join(t.TempDir(), "root")
	if err := os.CopyFS(root, os.DirFS(tree.Dir)); err != nil {
		t.Fatal(err)
	}
	pkgFiles{"tmp/script": guestScript, "dev/null": "", "proc/self/mounts": ""}.write(t, root)
	cmd := exec.CommandContext(t.Context(), "/usr/bin/bash", "/tmp/script")
	cmd.Env = []string{"PATH=/usr/bin:/usr/sbin", "HOME=/tmp", "LC_ALL=C"}
	cmd.Dir = "/"
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Run(); err != nil {
		t.Errorf("script in the userland: %v\n%s", err, stderr.String())
	}
	if diff := cmp.Diff(guestOutput, stdout.String()); diff != "" {
		t.Errorf("script in the userland (-want +got):\n%s", diff)
	}
}

func checkKernel(t *testing.T, c *Cache) {
	k, err := c.Kernel(t.Context(), "i386", func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(k.Release, "-686") || len(k.Packages) != 1 {
		t.Errorf("kernel %s of %v", k.Release, k.Packages)
	}
	set, err := k.Modules(DefaultModules())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d modules, %d bytes", len(set.Modules), set.Size)
	if set.Size > maxModuleBytes {
		t.Errorf("modules have %d bytes, %d allowed", set.Size, maxModuleBytes)
	}
	place := make(map[string]int)
	for i, m := range set.Modules {
		place[m.Name] = i + 1
	}
	for _, name := range DefaultModules() {
		if place[name] == 0 {
			t.Errorf("%s is not in the set", name)
		}
	}
	if place["crc32c_generic"] > place["ext4"] || place["libata"] > place["ata_piix"] {
		t.Errorf("load order:\n%s", set.Load)
	}
	if _, err := k.Modules(StorageModules()); err != nil {
		t.Error(err)
	}
	again, err := c.Kernel(t.Context(), "i386", func(line string) { t.Errorf("second use: %s", line) })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(k, again); diff != "" {
		t.Errorf("second use (-first +second):\n%s", diff)
	}
}
