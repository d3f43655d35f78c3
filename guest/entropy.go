// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// entropyPatience bounds the wait for the kernel's random pool.
const entropyPatience = 40 * time.Second

// seedFile is where an initramfs of the host has a seed for the random pool; package initramfs has the same.
const seedFile = "/kindling/seed"

// takeSeed gives the seed of the initramfs, or else that of the command line. A seed is used once: its file goes away
// before the root is copied anywhere.
func takeSeed(file string, cmdline []byte) []byte {
	f, err := os.Open(file)
	if err != nil {
		return cmdline
	}
	defer f.Close()
	seed, err := io.ReadAll(io.LimitReader(f, maxSeed))
	if err = errors.Join(err, os.Remove(file)); err != nil || len(seed) == 0 {
		return cmdline
	}
	return seed
}

// addEntropy hands seed to the kernel's pool and credits it, so that getrandom never blocks: on a machine without a
// hardware source the DHCP client would otherwise wait for ever. The format is struct rand_pool_info of random(4).
func addEntropy(seed []byte) error {
	if len(seed) == 0 {
		return nil
	}
	f, err := os.OpenFile("/dev/random", os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("add entropy: %w", err)
	}
	defer f.Close()
	info := make([]byte, 8, 8+len(seed)+3)
	binary.NativeEndian.PutUint32(info, uint32(8*len(seed)))
	binary.NativeEndian.PutUint32(info[4:], uint32(len(seed)))
	info = append(info, seed...)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&info[0]))); errno != 0 {
		return fmt.Errorf("add entropy: %w", errno)
	}
	return nil
}

// waitEntropy waits until getrandom would not block, with an end.
func waitEntropy(ctx context.Context, say func(string, ...any)) error {
	var b [1]byte
	if _, err := unix.Getrandom(b[:], unix.GRND_NONBLOCK); err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, entropyPatience)
	defer cancel()
	if f, err := os.Open("/dev/urandom"); err == nil {
		// A read makes Linux 5.19 and later gather timing jitter at once; asking without blocking does not.
		_, _ = f.Read(b[:])
		_ = f.Close()
	}
	for said := false; ; said = true {
		_, err := unix.Getrandom(b[:], unix.GRND_NONBLOCK)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("getrandom: %w", err)
		}
		if !said {
			say("waiting up to %s for the kernel's random pool", entropyPatience)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the kernel's random pool is still empty after %s: give %s=HEX on the kernel command line",
				entropyPatience, paramSeed)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
