// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package assemble

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"kindling/host/initramfs"
	"kindling/host/programs"
	"kindling/host/tree"
)

// Progress is how far Write has got, in bytes of content.
type Progress struct {
	Medium string // what is being written
	Done   int64
	Total  int64
}

// Image is a medium that was written.
type Image struct {
	Name string
	Path string
	Size int64 // of the file in bytes; of a folder what its files take together
}

// Result is what Write made.
type Result struct {
	Dir    string
	Images []Image
}

// progressTick is how often progress is reported.
const progressTick = 100 * time.Millisecond

// maxWorkers bounds how many files are copied at a time. More than a few only compete for the disk, and each has its
// buffers.
const maxWorkers = 4

// writer is one Write.
type writer struct {
	dir     string
	workers int
	count   counter
}

// Write writes all media into the folder dir, which is made if it is not there. Each gets its name when it is complete
// and right; one that was there under that name stays until then. report may be nil; it is called from one other
// goroutine and once at the end of each medium.
func (a *Assembly) Write(ctx context.Context, dir string, report func(Progress)) (Result, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return Result{}, fmt.Errorf("target folder: %w", err)
	}
	if err := a.prepare(ctx, abs); err != nil {
		return Result{}, fmt.Errorf("target folder: %w", err)
	}
	w := &writer{dir: abs, workers: min(max(runtime.GOMAXPROCS(0), 1), maxWorkers)}
	media, cleanup, err := w.unpackPreseed(ctx, a)
	if err != nil {
		return Result{}, err
	}
	defer cleanup()
	result := Result{Dir: abs}
	for i := range media {
		m := &media[i]
		stop := w.watch(m, media, report)
		image, err := w.medium(ctx, m)
		stop()
		if err != nil {
			return result, fmt.Errorf("assemble %s: %w", m.name(), err)
		}
		result.Images = append(result.Images, image)
	}
	return result, nil
}

// prepare makes the target folder, with a tmpfs on it if that is asked for.
func (a *Assembly) prepare(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	o := &a.Options.Boot
	if !o.Tmpfs {
		return nil
	}
	args := []string{"mount", "-t", "tmpfs", "-o", "size=" + o.TmpfsSize, "tmpfs", dir}
	if os.Geteuid() != 0 {
		args = append([]string{"sudo"}, args...)
	}
	program, err := programs.Find(args[0])
	if err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	cmd := exec.CommandContext(ctx, program, args[1:]...)
	cmd.Stdin = os.Stdin // sudo may ask
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mount a tmpfs: %w: %s", err, lastLine(out))
	}
	return nil
}

// unpackPreseed unpacks a preseed into a folder of its own and gives media whose entries name files there.
func (w *writer) unpackPreseed(ctx context.Context, a *Assembly) ([]Medium, func(), error) {
	none := func() {}
	if a.preseed == nil {
		return a.Media, none, nil
	}
	where, err := os.MkdirTemp(filepath.Dir(w.dir), ".kindling-preseed-*")
	if err != nil {
		return nil, none, err
	}
	opened, err := tree.OpenFolder(where)
	if err != nil {
		return nil, none, errors.Join(err, os.Remove(where))
	}
	cleanup := func() { _ = errors.Join(opened.Close(), os.RemoveAll(where)) }
	sources, err := a.preseed.unpack(ctx, where, opened)
	if err != nil {
		cleanup()
		return nil, none, err
	}
	media := append([]Medium(nil), a.Media...)
	for i := range media {
		m := &media[i]
		m.Entries = append([]Entry(nil), m.Entries...)
		byPath := map[string]*Entry{}
		for j := range m.Entries {
			e := &m.Entries[j]
			byPath[e.Path] = e
			if e.Archive != "" {
				e.Source = sources[e.Archive]
			}
		}
		m.boot.pieces = append([]piece(nil), m.boot.pieces...)
		for j := range m.boot.pieces {
			if p := &m.boot.pieces[j]; p.entry != nil {
				p.entry = byPath[p.entry.Path]
			}
		}
	}
	return media, cleanup, nil
}

// watch reports progress until stop is called.
func (w *writer) watch(m *Medium, media []Medium, report func(Progress)) (stop func()) {
	if report == nil {
		return func() {}
	}
	total := int64(0)
	for i := range media {
		total += media[i].Bytes
	}
	done, ended := make(chan struct{}), make(chan struct{})
	tell := func() { report(Progress{Medium: m.name(), Done: w.count.Load(), Total: total}) }
	go func() {
		defer close(ended)
		tick := time.NewTicker(progressTick)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				tell()
			}
		}
	}()
	return func() { close(done); <-ended; tell() }
}

// name is what a medium is called for people.
func (m *Medium) name() string {
	if m.File == "" {
		return "root folder"
	}
	return m.File
}

// medium writes one medium.
func (w *writer) medium(ctx context.Context, m *Medium) (Image, error) {
	image := Image{Name: m.Name, Path: filepath.Join(w.dir, m.File), Size: m.Size}
	switch m.Format {
	case FormatFolder:
		image.Size = m.Bytes
		return image, w.writeFolder(ctx, m)
	case FormatInitramfs:
		sum, err := initramfs.Create(ctx, image.Path, initramfs.Files(initramfsFiles(ctx, m)...))
		image.Size = sum.Size
		return image, err
	case FormatExt3:
		return image, w.complete(m, func(f *os.File) error { return w.writeExt3(ctx, m, f.Name()) })
	case FormatPayload:
		return image, w.complete(m, func(f *os.File) error { return w.writePieces(ctx, f, m.frames, m.Size) })
	}
	return image, w.complete(m, func(f *os.File) error { return w.writePieces(ctx, f, m.boot.pieces, m.Size) })
}

// complete gives write a new file that gets the medium's name only if all goes well. It is not synced: whoever loses
// power at that moment assembles again, and everybody else would wait for the disk.
func (w *writer) complete(m *Medium, write func(*os.File) error) (err error) {
	f, err := os.CreateTemp(w.dir, "."+m.File+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := errors.Join(write(f), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(w.dir, m.File))
}

// writePieces writes the pieces of an image; what is behind them is a hole.
func (w *writer) writePieces(ctx context.Context, f *os.File, pieces []piece, size int64) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	return fill(ctx, f, pieces, w.workers, &w.count)
}

func initramfsFiles(ctx context.Context, m *Medium) []initramfs.File {
	files := make([]initramfs.File, 0, len(m.Entries))
	for i := range m.Entries {
		e := &m.Entries[i]
		switch {
		case e.Dir:
			files = append(files, initramfs.Directory(e.Path, 0o755))
		case e.Link != "":
			files = append(files, initramfs.Symlink(e.Path, e.Link))
		case e.Source != nil:
			open := func() (initramfs.Content, error) { return openVerified(ctx, e) }
			files = append(files, initramfs.Opened(e.Path, e.mode(), e.Size, open))
		default:
			files = append(files, initramfs.Regular(e.Path, e.mode(), e.Data))
		}
	}
	return files
}

// openVerified opens a file of the host after its sha256 was checked.
func openVerified(ctx context.Context, e *Entry) (initramfs.Content, error) {
	f, err := e.Source.Open()
	if err != nil || e.SHA256 == "" {
		return f, err
	}
	var uncounted counter
	if err := newCopier(ctx, &uncounted).stream(io.Discard, io.NewSectionReader(f, 0, e.Size+1), e); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
