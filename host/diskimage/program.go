// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package diskimage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"kindling/host/programs"
	"kindling/internal/event"
)

// device is the image as e2fsprogs name a filesystem inside a file. The path goes through a link, because theirs must
// not hold a "?".
func (i *Image) device() (string, error) {
	abs, err := filepath.Abs(i.path())
	if err != nil {
		return "", err
	}
	link := filepath.Join(i.temp, "link")
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	if err := os.Symlink(abs, link); err != nil {
		return "", err
	}
	if i.Partition.Offset == 0 {
		return link, nil
	}
	return link + "?offset=" + strconv.FormatInt(i.Partition.Offset, 10), nil
}

// output runs a program of a Debian package and gives what it prints to both its outputs, at most 1 MiB. Its last words
// stand in the error.
func output(ctx context.Context, name, pkg string, stdin io.Reader, args ...string) (string, error) {
	path, err := programs.Find(name)
	if err != nil {
		return "", fmt.Errorf("%w: %s: install it with 'apt-get install %s'", ErrProgram, name, pkg)
	}
	said := &limited{limit: 1 << 20}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, said, said
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	err = cmd.Run()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		lines := strings.Split(strings.TrimSpace(said.String()), "\n")
		return said.String(), fmt.Errorf("%s: %w: %s", name, err, event.Clean(lines[len(lines)-1]))
	}
	return said.String(), nil
}

// limited keeps the first bytes that it is given.
type limited struct {
	bytes.Buffer
	limit int
}

// Write implements io.Writer.
func (l *limited) Write(b []byte) (int, error) {
	l.Buffer.Write(b[:min(len(b), max(0, l.limit-l.Len()))])
	return len(b), nil
}
