// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"

	"kindling/host/programs"
)

// What the filesystem of a disk is made with, whatever the host's mke2fs.conf says. Linux 4.14 and Fiwix-era tools know
// all of it. Sizes are in bytes.
const (
	blockSize   = 4096
	inodeSize   = 256
	inodeRatio  = 16384 // one inode for so many bytes
	journalSize = 64 << 20
	features    = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,sparse_super,large_file"
	// oneTime stands for every time in the filesystem, in seconds since 1970. Zero would mean "now" to mke2fs.
	oneTime = 1
)

// ErrRoom says that something does not fit on a disk.
var ErrRoom = errors.New("does not fit")

// checkRoom reports a disk that is certainly too small, or too large for its partition table, before anything is written.
func checkRoom(m *Medium) error {
	if m.Size > maxMBR {
		return fmt.Errorf("%s: %w: a disk of %d MiB has more sectors than its partition table, an MBR, can count: give a --target-size "+
			"of less than 2048G (2 TiB)", m.File, ErrRoom, m.Size>>20)
	}
	room := m.Size - m.offset
	room -= room/inodeRatio*inodeSize + journalSize
	need, files := int64(0), int64(16)
	for i := range m.Entries {
		need += (m.Entries[i].Size + blockSize - 1) / blockSize * blockSize
		if m.Entries[i].Dir {
			need += blockSize
		}
		files++
	}
	if need <= room && files <= (m.Size-m.offset)/inodeRatio {
		return nil
	}
	return fmt.Errorf("%s: %w: %d files with %d bytes on a disk of %d bytes, which has room for %d: give a larger --target-size",
		m.File, ErrRoom, files, need, m.Size, max(room, 0))
}

// writeExt3 makes a disk with a partition table and one ext3 filesystem, in the file image, which is there and empty.
func (w *writer) writeExt3(ctx context.Context, m *Medium, image string) (err error) {
	size := m.Size / sector * sector
	if err := os.Truncate(image, size); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(w.dir, ".kindling-"+m.Name+"-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// mke2fs reads verified copies: a link to a file of the host could be changed until it has read it.
	if err := w.fillFolder(ctx, m, dir); err != nil {
		return err
	}
	if err := makeFilesystem(ctx, m, image, dir, size); err != nil {
		return err
	}
	return finishDisk(m, image, size)
}

// makeFilesystem runs mke2fs.
func makeFilesystem(ctx context.Context, m *Medium, image, dir string, size int64) error {
	id := diskID(m.Name)
	args := []string{
		"-q", "-F", "-t", "ext3", "-O", features, "-b", strconv.Itoa(blockSize), "-I", strconv.Itoa(inodeSize),
		"-i", strconv.Itoa(inodeRatio), "-J", "size=" + strconv.Itoa(journalSize>>20), "-m", "1", "-L", "", "-M", "",
		"-U", uuid(id), "-e", "continue", "-o", "Linux",
		"-E", fmt.Sprintf("offset=%d,hash_seed=%s,root_owner=0:0", m.offset, uuid(sha256.Sum256(id[:]))),
		"-d", dir, image, strconv.FormatInt((size-m.offset)/blockSize, 10),
	}
	program, err := programs.Find("mke2fs")
	if err != nil {
		return fmt.Errorf("make the filesystem of %s: %w: install e2fsprogs", m.File, err)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = toolEnv()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("make the filesystem of %s: mke2fs: %w: %s", m.File, err, lastLine(out))
	}
	return nil
}

// toolEnv is the environment of e2fsprogs: nothing of the host but where programs are, and one time for everything.
func toolEnv() []string {
	now := strconv.Itoa(oneTime)
	return []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "LC_ALL=C", "TZ=UTC", "MKE2FS_CONFIG=/dev/null",
		"E2FSPROGS_FAKE_TIME=" + now, "SOURCE_DATE_EPOCH=" + now, "MKE2FS_SYNC=0", "MKE2FS_SKIP_CHECK_MSG=1"}
}

// finishDisk makes the filesystem the same on every host, and writes the partition table.
func finishDisk(m *Medium, image string, size int64) error {
	id := diskID(m.Name)
	table, err := partitionTable(size, m.offset, binary.LittleEndian.Uint32(id[:]))
	if err != nil {
		return err
	}
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(table, 0)
	if err == nil {
		err = normalizeInodes(f, m.offset)
	}
	return errors.Join(err, f.Close())
}

// diskID is what stands for chance in the identities of a disk: the same for each disk of that name.
func diskID(name string) [sha256.Size]byte { return sha256.Sum256([]byte("kindling disk " + name)) }

// uuid writes the front of a digest as a UUID of version 8 (RFC 9562, 5.8: made in a way of one's own).
func uuid(digest [sha256.Size]byte) string {
	b := digest[:16]
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// lastLine is the last line of a program's output that says something.
func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

// counter adds up what all workers have copied.
type counter = atomic.Int64
