// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package httpget

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// ErrChecksum is what the error of an address wraps that sent other bytes than the wanted ones.
var ErrChecksum = errors.New("wrong sha256")

// ErrFinal is for DownloadOptions.Secure.
var ErrFinal = errors.New("for good")

// partSuffix is what the name of an unfinished download ends in.
const partSuffix = ".part"

// tries is how often one address is asked in a row as long as each answer brings at least one more byte.
const tries = 4

// DownloadOptions are the bounds of a download and who hears of it.
type DownloadOptions struct {
	Options
	// Progress, if not nil, is called now and then with the bytes that are there and the size of the file (-1 when the
	// server does not say), and once more when the file is complete.
	Progress func(rawURL string, done, total int64)
	// Secure, if not nil, gets what needs https: it writes the whole file at rawURL into the file at path, which is
	// there and empty. Its result is checked as any other, its error wraps ErrFinal when asking again will not help.
	// Without it such an address fails with ErrNeedsTLS.
	Secure func(ctx context.Context, rawURL, path string) error
}

// DownloadError says why no address gave the file, with each address's own cause, in the order in which they were
// tried. errors.Is and errors.As look into each cause.
type DownloadError struct {
	Name   string // of the file
	Causes []error
}

// Error is one line.
func (e *DownloadError) Error() string {
	text := make([]string, len(e.Causes))
	for i, err := range e.Causes {
		text[i] = err.Error()
	}
	if len(text) == 0 {
		text = []string{"no address to get it from"}
	}
	return fmt.Sprintf("download %s: %s", e.Name, strings.Join(text, "; "))
}

// Unwrap makes the causes visible to errors.Is and errors.As.
func (e *DownloadError) Unwrap() []error { return e.Causes }

// MayPass tells whether what was wrong may pass with time, as an outage does: whether at least one address was not
// reached, or broke off, or has a server that is in trouble. A refusal, wrong bytes and a full disk do not pass.
func MayPass(err error) bool {
	failed, ok := errors.AsType[*DownloadError](err)
	return ok && slices.ContainsFunc(failed.Causes, passes)
}

func passes(err error) bool {
	for _, final := range []error{ErrNeedsTLS, ErrAddress, ErrProtocol, ErrRedirects, ErrTooLarge, ErrChecksum, ErrFinal,
		context.Canceled} {
		if errors.Is(err, final) {
			return false
		}
	}
	if status, ok := errors.AsType[*StatusError](err); ok {
		return status.Code >= 500 || status.Code == 408 || status.Code == 429
	}
	dns, ok := errors.AsType[*net.DNSError](err)
	return !ok || !dns.IsNotFound
}

// Download makes dst the file whose sha256 is sum (64 hexadecimal digits), trying each address in turn. When dst has
// the right content already, nothing is fetched; when it has another content, it is removed first.
//
// The bytes go into dst + ".part", from which a later call, or the next address, goes on; it gets its final name only
// with the right sum, synced to disk. A complete file with a wrong sum is deleted. An address that fails, sends wrong
// bytes or stalls does not stop the others; the end of ctx does. On failure the error is a *DownloadError, or one of
// the file system. Two downloads to the same dst at a time are not supported.
func Download(ctx context.Context, urls []string, dst, sum string, opt DownloadOptions) error {
	opt.Options = opt.withDefaults()
	name := filepath.Base(dst)
	want, err := hex.DecodeString(sum)
	if err != nil || len(want) != sha256.Size {
		return fmt.Errorf("download %s: sha256 %.80q: want %d hexadecimal digits", name, sum, 2*sha256.Size)
	}
	d := &download{dst: dst, want: hex.EncodeToString(want), opt: opt}
	done, err := d.present()
	if err != nil {
		return fmt.Errorf("download %s: %w", name, err)
	}
	if done {
		return nil
	}
	if err := d.open(); err != nil {
		return fmt.Errorf("download %s: %w", name, err)
	}
	defer d.close()
	return d.fromAny(ctx, urls)
}

// download is the state of one call of Download.
type download struct {
	dst, want string
	opt       DownloadOptions

	part *os.File
	size int64     // of part
	sum  hash.Hash // of part's content

	// mixed says that the part began with an earlier call or another address.
	mixed bool
}

// localError is a failure on this side, such as a full disk, which no other address can make good.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// fromAny tries the addresses in turn, after a look at what is there already.
func (d *download) fromAny(ctx context.Context, urls []string) error {
	failed := &DownloadError{Name: filepath.Base(d.dst)}
	done, err := d.finishIfRight()
	for _, u := range urls {
		if done || err != nil || ctx.Err() != nil {
			break
		}
		var local *localError
		if done, err = d.from(ctx, u); err != nil && !errors.As(err, &local) {
			failed.Causes = append(failed.Causes, err)
			err = nil
		}
	}
	switch {
	case done:
		return nil
	case err != nil:
		return fmt.Errorf("download %s: %w", failed.Name, err)
	case len(failed.Causes) == 0 && ctx.Err() != nil:
		failed.Causes = []error{context.Cause(ctx)}
	}
	return failed
}

// close closes the part file and removes it if there is nothing in it to go on from.
func (d *download) close() {
	_ = d.part.Close() // what counts was synced
	if d.size == 0 {
		_ = os.Remove(d.part.Name()) // gone already if it has its final name
	}
}

// present tells whether dst is there with the right content. Any other regular file of that name is removed.
func (d *download) present() (bool, error) {
	info, err := os.Lstat(d.dst)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, fmt.Errorf("%s: not a regular file stands in its place", d.dst)
	}
	f, err := os.Open(d.dst)
	if err != nil {
		return false, err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	if err := errors.Join(err, f.Close()); err != nil {
		return false, err
	}
	if hex.EncodeToString(h.Sum(nil)) == d.want {
		return true, nil
	}
	return false, os.Remove(d.dst)
}

// open opens the part file, and sums up what an earlier call left in it.
func (d *download) open() error {
	// O_NOFOLLOW: a symbolic link is not ours. O_NONBLOCK: opening a named pipe would wait for a writer.
	const flags = os.O_RDWR | os.O_CREATE | syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	f, err := os.OpenFile(d.dst+partSuffix, flags, 0o644)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", f.Name())
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	d.part, d.sum = f, sha256.New()
	if info.Size() > d.opt.MaxSize {
		return d.restart()
	}
	if d.size, err = io.Copy(d.sum, f); err != nil {
		return errors.Join(err, f.Close())
	}
	return nil
}

// restart empties the part file.
func (d *download) restart() error {
	d.size, d.mixed = 0, false
	d.sum.Reset()
	if err := d.part.Truncate(0); err != nil {
		return &localError{err}
	}
	return nil
}

// from tries one address, again while it brings new bytes. When an older part and what this address added to it come
// out wrong, the older part may have been wrong: then the address gets one more chance, from the start. A server that
// does not give the rest of a file is asked for the whole file, once.
func (d *download) from(ctx context.Context, rawURL string) (done bool, err error) {
	d.mixed = d.size > 0
	whole := false
	for left := tries; left > 0; left-- {
		before, mixed := d.size, d.mixed
		again := false
		switch err = d.fetch(ctx, rawURL); {
		case err == nil:
			if done, err = d.finishIfRight(); done || err != nil {
				return done, err
			}
			err = d.wrongContent(rawURL)
			again = d.mixed
			if lerr := d.restart(); lerr != nil {
				return false, lerr
			}
		case refusesRange(err) && before > 0 && !whole:
			whole, again = true, true
			left++ // what was refused is not a try
			if lerr := d.restart(); lerr != nil {
				return false, lerr
			}
		case errors.Is(err, ErrTooLarge) && d.size > before:
			again = mixed
			if lerr := d.restart(); lerr != nil {
				return false, lerr
			}
		default:
			var local *localError
			again = d.size > before && ctx.Err() == nil && !errors.As(err, &local)
		}
		if !again {
			return false, err
		}
	}
	return false, err
}

// refusesRange reports an answer that a server may give because only the rest of a file was asked for: it has nothing
// there (416), does not know ranges (400, 501), or sends another one.
func refusesRange(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Code == 416 || status.Code == 400 || status.Code == 501
	}
	return errors.Is(err, errRange)
}

func (d *download) wrongContent(rawURL string) error {
	return fmt.Errorf("get %.200q: %w: %x of %d bytes, want %s", rawURL, ErrChecksum, d.sum.Sum(nil), d.size, d.want)
}

// fetch makes one request and appends what comes to the part. It returns nil when the server has sent all it has.
func (d *download) fetch(ctx context.Context, rawURL string) error {
	r, err := Get(ctx, rawURL, d.size, d.opt.Options)
	if errors.Is(err, ErrNeedsTLS) && d.opt.Secure != nil {
		return d.secure(ctx, rawURL)
	}
	if err != nil {
		return err
	}
	defer func() { _ = r.Body.Close() }()
	if r.Offset != d.size { // the server does not resume
		if err := d.restart(); err != nil {
			return err
		}
	}
	total := int64(-1)
	if r.Length >= 0 {
		total = r.Offset + r.Length
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Body.Read(buf)
		if werr := d.add(buf[:n]); werr != nil {
			return werr
		}
		if n > 0 && d.opt.Progress != nil {
			d.opt.Progress(rawURL, d.size, total)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("get %.200q: after %d bytes: %w", rawURL, d.size, err)
		}
	}
}

// secure has the caller fetch the whole file, and sums up what has come.
func (d *download) secure(ctx context.Context, rawURL string) error {
	if err := d.restart(); err != nil {
		return err
	}
	if err := d.opt.Secure(ctx, rawURL, d.part.Name()); err != nil {
		return errors.Join(fmt.Errorf("get %.200q: %w", rawURL, err), d.restart())
	}
	info, err := d.part.Stat()
	if err == nil && info.Size() > d.opt.MaxSize {
		return errors.Join(fmt.Errorf("get %.200q: %w: %d bytes", rawURL, ErrTooLarge, info.Size()), d.restart())
	}
	if err == nil {
		d.size, err = io.Copy(d.sum, io.NewSectionReader(d.part, 0, d.opt.MaxSize))
	}
	if err != nil {
		return &localError{err}
	}
	return nil
}

// add appends data to the part.
func (d *download) add(data []byte) error {
	if _, err := d.part.WriteAt(data, d.size); err != nil {
		return &localError{err}
	}
	_, _ = d.sum.Write(data) // a hash never fails
	d.size += int64(len(data))
	return nil
}

// finishIfRight gives the part its final name if its content is what is wanted.
func (d *download) finishIfRight() (bool, error) {
	if hex.EncodeToString(d.sum.Sum(nil)) != d.want {
		return false, nil
	}
	err := d.part.Sync()
	if err == nil {
		err = os.Rename(d.part.Name(), d.dst)
	}
	if err == nil {
		err = syncDir(filepath.Dir(d.dst))
	}
	if err != nil {
		return false, &localError{err}
	}
	return true, nil
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
