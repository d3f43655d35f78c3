// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
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

// checkRoom reports a disk that is certainly too small, before anything is written.
func checkRoom(m *Medium) error {
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

// staged is a folder of the host that holds what shall be in a filesystem.
type staged struct {
	dir    string
	hash   []int           // entries whose sha256 is still to be checked
	linked map[fileID]bool // files of the host that are in it already
}

// fileID is what makes a file of the host the same as another.
type fileID struct {
	dev, ino uint64
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
	s, err := w.stage(ctx, m, dir)
	if err != nil {
		return err
	}
	group, both := errgroup.WithContext(ctx)
	group.Go(func() error { return makeFilesystem(both, m, image, s.dir, size) })
	group.Go(func() error { return w.verifyStaged(both, m, s) })
	if err := group.Wait(); err != nil {
		return err
	}
	return finishDisk(m, image, size)
}

// stage builds the folder that mke2fs reads: links to the files of the host, or copies where links are not possible.
func (w *writer) stage(ctx context.Context, m *Medium, dir string) (staged, error) {
	s := staged{dir: dir, linked: map[fileID]bool{}}
	c := newCopier(ctx, &w.count)
	for i := range m.Entries {
		e := &m.Entries[i]
		name := filepath.Join(dir, filepath.FromSlash(e.Path))
		var err error
		switch {
		case e.Dir:
			err = os.Mkdir(name, 0o755)
		case e.Link != "":
			err = os.Symlink(e.Link, name)
		default:
			err = s.stageFile(c, e, name, i)
		}
		if err == nil {
			err = check(e, name)
		}
		if err != nil {
			return staged{}, err
		}
	}
	return s, ctx.Err()
}

// stageFile links a file of the host, or copies it: what is not the host's, what is there under another name already
// (mke2fs would make one file with two names of it, and a change to one would be a change to the other), and what cannot
// be linked.
func (s *staged) stageFile(c *copier, e *Entry, name string, index int) error {
	if e.File != "" && s.link(e.File, name) {
		s.hash = append(s.hash, index)
		return nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, e.mode())
	if err != nil {
		return err
	}
	return errors.Join(c.copy(f, e), f.Close())
}

func (s *staged) link(file, name string) bool {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return false // copying it will say why
	}
	id := fileID{uint64(st.Dev), st.Ino} //nolint:unconvert // Dev has other types elsewhere
	if s.linked[id] || unix.Linkat(unix.AT_FDCWD, file, unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW) != nil {
		return false
	}
	s.linked[id] = true
	return true
}

// check reports a file that is not what it was when everything was decided.
func check(e *Entry, name string) error {
	info, err := os.Lstat(name)
	if err != nil {
		return err
	}
	if e.Dir || e.Link != "" || info.Mode().IsRegular() && info.Size() == e.Size {
		return nil
	}
	return fmt.Errorf("%s: %w: it has changed", e.File, ErrSource)
}

// verifyStaged checks the sha256 of what was linked, while mke2fs copies it.
func (w *writer) verifyStaged(ctx context.Context, m *Medium, s staged) error {
	c := newCopier(ctx, &w.count)
	for _, i := range s.hash {
		e := m.Entries[i]
		if e.SHA256 == "" {
			w.count.Add(e.Size)
			continue
		}
		source := e.File
		e.File = filepath.Join(s.dir, filepath.FromSlash(e.Path))
		if err := c.copy(io.Discard, &e); err != nil {
			return fmt.Errorf("%s: %w", source, err)
		}
	}
	return nil
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
	cmd := exec.CommandContext(ctx, "mke2fs", args...)
	cmd.Env = toolEnv()
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("make the filesystem of %s: %w: install e2fsprogs", m.File, err)
	}
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
