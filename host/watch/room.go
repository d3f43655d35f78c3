// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package watch

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// minRoom is how many bytes must be free where the run folder is: below, a write of QEMU's may find no room. Then
	// QEMU stops the machine (werror=enospc, its default), and from here that looks like a hang.
	minRoom = 4 << 20
	// fullPatience is the longest silence of a machine, not scaled, while there is no room.
	fullPatience = 2 * time.Minute
	// roomEvery is how often the room is asked for.
	roomEvery = 2 * time.Second
)

// Room takes how many bytes are free for what the machine writes. No room is told at once. It is held against the run
// when nothing has come from the guest since: a machine that QEMU has stopped stays so, even when there is room again.
func (j *Judge) Room(now time.Time, free uint64) {
	j.now = now
	switch full := free < minRoom; {
	case full && j.fullAt.IsZero():
		j.fullAt = now
		j.note(fmt.Sprintf("the disk of the run folder is full (%d KiB free): the machine stops when it has to write", free>>10))
	case !full && j.lastSign.After(j.fullAt):
		j.fullAt = time.Time{}
	}
}

// noRoom reports that the disk got full and the guest went silent.
func (j *Judge) noRoom() bool { return !j.fullAt.IsZero() && j.now.Sub(j.lastSign) > fullPatience }

// freeBytes is the room on the filesystem of a folder, for this user.
func freeBytes(path string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, fmt.Errorf("room for %s: %w", path, err)
	}
	blocks := st.Bavail
	if unix.Geteuid() == 0 {
		blocks = st.Bfree
	}
	return blocks * uint64(st.Bsize), nil
}
