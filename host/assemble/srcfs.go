// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The parts of a builder-hex0 image, in bytes.
const (
	sector   = 512
	mebibyte = 1 << 20
	// maxHex0Name is the longest name that builder-hex0 can hold, without its NUL (builder-hex0's README, "names under
	// 1 KiB").
	maxHex0Name = 1023
)

// ErrSrcfs says that a file cannot stand in a srcfs.
var ErrSrcfs = errors.New("not possible in a srcfs")

// srcfsRoot stands before each path of a srcfs.
const srcfsRoot = "./"

// commands are what builder-hex0 does behind the files: it makes the folders of the seeds, compiles hex0 itself and the
// smallest kaem from hex0, and starts the first script of stage0-posix. made are the files that come into being by that.
const commands = "src 0 /bootstrap-seeds\n" +
	"src 0 /bootstrap-seeds/POSIX\n" +
	"src 0 /bootstrap-seeds/POSIX/x86\n" +
	"hex0 /x86/hex0_x86.hex0 /bootstrap-seeds/POSIX/x86/hex0-seed\n" +
	"hex0 /x86/kaem-minimal.hex0 /bootstrap-seeds/POSIX/x86/kaem-optional-seed\n" +
	"hex0 /x86/kaem-minimal.hex0 /init\n" +
	"/bootstrap-seeds/POSIX/x86/kaem-optional-seed /kaem.x86\n"

// piece is a stretch of an image: head, then the content of an entry.
type piece struct {
	at    int64  // offset in the image
	head  []byte // what stands before the content
	entry *Entry // nil: only the head
}

func (p piece) size() int64 {
	n := int64(len(p.head))
	if p.entry != nil {
		n += p.entry.Size
	}
	return n
}

// bootImage is where everything of a builder-hex0 image stands.
type bootImage struct {
	pieces []piece // without gaps, in order
	size   int64   // of the file; what is behind the pieces is zero
}

// layoutBoot lays a builder-hex0 image out:
//
//	image   = stage1 stage2 zeros-to-a-sector srcfs commands zeros-to-a-MiB [zeros-to-the-target-size]
//	stage1  = the boot sector, compiled from hex0
//	stage2  = the source text of stage2, which stage1 compiles
//	srcfs   = { record }
//	record  = "src " size " " path "\n" data
//
// Folders and empty files are both records of size 0. An image that ends at a full MiB gets one more, as rootfs.py has
// it. target is the least size of the image in bytes. pieces point into entries.
func layoutBoot(stage1, stage2 []byte, entries []Entry, target int64) (bootImage, error) {
	var img bootImage
	at := int64(0)
	add := func(head []byte, e *Entry) {
		p := piece{at: at, head: head, entry: e}
		img.pieces = append(img.pieces, p)
		at += p.size()
	}
	head := append(append([]byte(nil), stage1...), stage2...)
	if rest := len(head) % sector; rest != 0 {
		head = append(head, make([]byte, sector-rest)...)
	}
	add(head, nil)
	add([]byte("src 0 .\n"), nil)
	for i := range entries {
		e := &entries[i]
		if err := checkRecord(e); err != nil {
			return bootImage{}, err
		}
		record := []byte("src " + strconv.FormatInt(e.Size, 10) + " " + srcfsRoot + e.Path + "\n")
		if e.Dir || e.Size == 0 {
			e = nil
		}
		add(record, e)
	}
	add([]byte(commands), nil)
	img.size = max((at/mebibyte+1)*mebibyte, target)
	return img, nil
}

// leftOut reports whether rootfs.py, and so Kindling, leaves a path out of a srcfs: if it has ".git" in it anywhere.
func leftOut(name string) bool { return strings.Contains(name, ".git") }

// checkRecord reports what builder-hex0 would misread.
func checkRecord(e *Entry) error {
	switch {
	case e.Link != "":
		return fmt.Errorf("%w: %s is a symbolic link", ErrSrcfs, e.Path)
	case len(srcfsRoot)+len(e.Path) > maxHex0Name:
		return fmt.Errorf("%w: the name of %.60s... has %d bytes, %d are possible", ErrSrcfs, e.Path,
			len(srcfsRoot)+len(e.Path), maxHex0Name)
	case strings.ContainsAny(e.Path, "\n\r\x00"):
		return fmt.Errorf("%w: %q has a line break in its name", ErrSrcfs, e.Path)
	}
	return nil
}
