// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package payload

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// noise returns n bytes that depend on the seed only.
func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{seed})
	if _, err := r.Read(b); err != nil {
		panic(err) // it never fails, by its documentation
	}
	return b
}

func testEntries() []Entry {
	return []Entry{
		BytesEntry("agent", noise(700_000, 1)), BytesEntry("empty", nil), BytesEntry("größe.tar.gz", noise(5000, 2)),
	}
}

func mustWrite(t testing.TB, entries []Entry) (Summary, []byte) {
	t.Helper()
	var b bytes.Buffer
	s, err := Write(context.Background(), &b, entries)
	if err != nil {
		t.Fatal(err)
	}
	return s, b.Bytes()
}

// TestWriteGolden holds Write to the bytes of docs/payload.md.
func TestWriteGolden(t *testing.T) {
	summary, got := mustWrite(t, []Entry{BytesEntry("a", []byte("hi\n"))})
	want := "LBPAYLD1" + "\x02\x00\x00\x00\x00\x00\x00\x00" +
		"\x0a\x00\x00\x00\x00\x00\x00\x00" + "\x44\x00\x00\x00\x00\x00\x00\x00" + "SHA256SUMS" +
		"98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4  a\n" +
		"\x01\x00\x00\x00\x00\x00\x00\x00" + "\x03\x00\x00\x00\x00\x00\x00\x00" + "a" + "hi\n"
	want += strings.Repeat("\x00", Align-len(want))
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("Write (-want +got):\n%s", diff)
	}
	sums := "98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4  a\n"
	wantSummary := Summary{ID: sumOf(t, []byte(sums)), Files: 1, Size: Align}
	if diff := cmp.Diff(wantSummary, summary); diff != "" {
		t.Errorf("Summary (-want +got):\n%s", diff)
	}
}

func sumOf(t testing.TB, data []byte) string {
	t.Helper()
	return BytesEntry("x", data).SHA256
}

func TestWriteIsDeterministicAndAligned(t *testing.T) {
	s1, b1 := mustWrite(t, testEntries())
	s2, b2 := mustWrite(t, testEntries())
	if s1 != s2 || !bytes.Equal(b1, b2) {
		t.Error("two containers of the same entries differ")
	}
	if len(b1)%Align != 0 || int64(len(b1)) != s1.Size {
		t.Errorf("%d bytes, the summary says %d", len(b1), s1.Size)
	}
	_, headers, err := Layout(testEntries())
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range testEntries() {
		h := headers[i+1]
		r, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Name != e.Name || !bytes.Equal(b1[h.Offset:h.Offset+h.Size], data) {
			t.Errorf("layout of %s is wrong: %+v", e.Name, h)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	good := BytesEntry("good", []byte("good"))
	with := func(change func(*Entry)) Entry {
		e := good
		change(&e)
		return e
	}
	errOpen := errors.New("cannot open")
	tests := []struct {
		name  string
		entry Entry
		want  error
	}{
		{"duplicate", good, ErrDuplicate},
		{"bad name", with(func(e *Entry) { e.Name = "a/b" }), ErrName},
		{"sums", with(func(e *Entry) { e.Name = SumsName }), ErrName},
		{"negative size", with(func(e *Entry) { e.Name, e.Size = "e", -1 }), ErrLimit},
		{"too large", with(func(e *Entry) { e.Name, e.Size = "e", MaxSize+1 }), ErrLimit},
		{"no digest", with(func(e *Entry) { e.Name, e.SHA256 = "e", "12" }), ErrSource},
		{"capital digest", with(func(e *Entry) { e.Name, e.SHA256 = "e", strings.ToUpper(e.SHA256) }), ErrSource},
		{"longer", with(func(e *Entry) { e.Name, e.Size = "e", 3 }), ErrSource},
		{"shorter", with(func(e *Entry) { e.Name, e.Size = "e", 5 }), ErrSource},
		{"other content", with(func(e *Entry) { e.Name, e.SHA256 = "e", strings.Repeat("0", 64) }), ErrSource},
		{"open", with(func(e *Entry) {
			e.Name, e.Open = "e", func() (io.ReadCloser, error) { return nil, errOpen }
		}), errOpen},
		{"read", with(func(e *Entry) {
			e.Name, e.Open = "e", func() (io.ReadCloser, error) { return io.NopCloser(iotest.ErrReader(errOpen)), nil }
		}), errOpen},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Write(t.Context(), io.Discard, []Entry{good, tt.entry})
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if !strings.Contains(err.Error(), tt.entry.Name) {
				t.Errorf("%q does not name the file %q", err, tt.entry.Name)
			}
		})
	}
}

// failingWriter fails after n bytes.
type failingWriter struct{ n int }

var errFull = errors.New("disk full")

func (w *failingWriter) Write(b []byte) (int, error) {
	if len(b) > w.n {
		return w.n, errFull
	}
	w.n -= len(b)
	return len(b), nil
}

func TestWriteErrorsAndCancel(t *testing.T) {
	for _, n := range []int{0, 1000, BufferSize, 2 * BufferSize} {
		if _, err := Write(t.Context(), &failingWriter{n}, testEntries()); !errors.Is(err, errFull) {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Write(ctx, io.Discard, testEntries()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestLimits(t *testing.T) {
	empty := BytesEntry("", nil)
	var entries []Entry
	for i := range MaxFiles - 1 {
		empty.Name = fmt.Sprintf("%05d", i)
		entries = append(entries, empty)
	}
	_, image := mustWrite(t, entries)
	info, err := Verify(t.Context(), bytes.NewReader(image), VerifyOptions{})
	if err != nil || info.Files != MaxFiles-1 {
		t.Errorf("as many files as allowed: %d, %v", info.Files, err)
	}
	empty.Name = "one too many"
	if _, _, err := Layout(append(entries, empty)); !errors.Is(err, ErrLimit) {
		t.Errorf("one too many: %v", err)
	}
	var long []Entry
	for i := range MaxNames / MaxName {
		empty.Name = fmt.Sprintf("%0*d", MaxName, i)
		long = append(long, empty)
	}
	if _, _, err := Layout(long); !errors.Is(err, ErrLimit) {
		t.Errorf("names that are too long together: %v", err)
	}
	_, image = mustWrite(t, long[1:])
	if _, err := Verify(t.Context(), bytes.NewReader(image), VerifyOptions{}); err != nil {
		t.Errorf("names just short enough together: %v", err)
	}
}

func TestProbe(t *testing.T) {
	s, image := mustWrite(t, testEntries())
	got, err := Probe(bytes.NewReader(image[:500]))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Info{ID: s.ID, Files: 3, Wide: true}, got); diff != "" {
		t.Errorf("Probe (-want +got):\n%s", diff)
	}
	for _, other := range [][]byte{nil, []byte("LBPAYLD"), make([]byte, 512), []byte("lbpayld1........")} {
		if _, err := Probe(bytes.NewReader(other)); !errors.Is(err, ErrNotPayload) {
			t.Errorf("Probe(%.20q): %v", other, err)
		}
	}
	if _, err := Probe(iotest.ErrReader(errFull)); !errors.Is(err, errFull) || errors.Is(err, ErrNotPayload) {
		t.Errorf("a disk that cannot be read: %v", err)
	}
	if _, err := Probe(bytes.NewReader(image[:60])); !errors.Is(err, ErrTruncated) {
		t.Errorf("a cut payload: %v", err)
	}
}

// unseekable hides everything but Read.
type unseekable struct{ io.Reader }

func TestListSeeksAndReadsAlike(t *testing.T) {
	big := append(testEntries(), BytesEntry("big", noise(3*BufferSize+5, 3)), BytesEntry("last", []byte("x")))
	s, image := mustWrite(t, big)
	info, seeking, err := List(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	_, reading, err := List(unseekable{bytes.NewReader(image)})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(reading, seeking); diff != "" {
		t.Errorf("List (-reading +seeking):\n%s", diff)
	}
	if info.ID != s.ID || len(seeking) != len(big) {
		t.Fatalf("List: %+v, %d files", info, len(seeking))
	}
	for i, f := range seeking {
		if f.Name != big[i].Name || f.SHA256 != big[i].SHA256 || f.Size != big[i].Size {
			t.Errorf("file %d: %+v", i, f)
		}
	}
	at := seeking[3].Offset + seeking[3].Size
	for _, r := range []io.Reader{bytes.NewReader(image[:at-1]), unseekable{bytes.NewReader(image[:at-1])}} {
		var located *Error
		if _, _, err := List(r); !errors.Is(err, ErrTruncated) || !errors.As(err, &located) || located.File != "big" {
			t.Errorf("cut in the last byte of a file: %v", err)
		}
	}
}

func TestVerify(t *testing.T) {
	s, image := mustWrite(t, testEntries())
	var last Progress
	calls := 0
	opt := VerifyOptions{ID: s.ID, Progress: func(p Progress) { last = p; calls++ }}
	// one byte at a time in the head, halves later: whatever the reader gives
	if _, err := Verify(t.Context(), iotest.HalfReader(bytes.NewReader(image)), opt); err != nil {
		t.Fatal(err)
	}
	want := Progress{File: 3, Files: 3, Name: "größe.tar.gz", FileBytes: 5000, FileSize: 5000, Bytes: 705_000}
	if diff := cmp.Diff(want, last); diff != "" || calls != 5 {
		t.Errorf("progress, %d calls (-want +got):\n%s", calls, diff)
	}
	_, files, err := List(bytes.NewReader(image))
	if err != nil {
		t.Fatal(err)
	}
	image[files[2].Offset] ^= 1
	var located *Error
	_, err = Verify(t.Context(), bytes.NewReader(image), opt)
	if !errors.Is(err, ErrChecksum) || !errors.As(err, &located) || located.Offset != files[2].Offset {
		t.Errorf("a flipped bit: %v", err)
	}
	opt.ID = strings.Repeat("0", 64)
	if _, err := Verify(t.Context(), bytes.NewReader(image), opt); !errors.Is(err, ErrWrongID) {
		t.Errorf("wrong ID: %v", err)
	}
}

func TestReaderStaysBroken(t *testing.T) {
	_, image := mustWrite(t, testEntries())
	r, err := NewReader(bytes.NewReader(image[:1000]))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = r.Next()
	}
	if !errors.Is(err, ErrTruncated) {
		t.Fatalf("cut container: %v", err)
	}
	if _, again := r.Next(); !errors.Is(again, ErrTruncated) {
		t.Errorf("Next after an error: %v", again)
	}
	if _, again := r.Read(make([]byte, 1)); !errors.Is(again, ErrTruncated) {
		t.Errorf("Read after an error: %v", again)
	}
}

func TestParseSums(t *testing.T) {
	sums := []Sum{{SHA256: sumOf(t, []byte("x")), Name: "x"}, {SHA256: sumOf(t, []byte("y")), Name: "a b"}}
	got, err := ParseSums(FormatSums(sums))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sums, got); diff != "" {
		t.Errorf("ParseSums(FormatSums) (-want +got):\n%s", diff)
	}
	twice := append(FormatSums(sums), FormatSums(sums[:1])...)
	if _, err := ParseSums(twice); !errors.Is(err, ErrSums) || !errors.Is(err, ErrDuplicate) ||
		!strings.Contains(err.Error(), "line 3") {
		t.Errorf("a duplicate: %v", err)
	}
	if _, err := ParseSums(make([]byte, maxSums+1)); !errors.Is(err, ErrLimit) {
		t.Errorf("too long: %v", err)
	}
}

func TestErrorIsOneLine(t *testing.T) {
	err := &Error{File: "a\n\x1b[2J" + strings.Repeat("x", 500), Offset: 7, Err: ErrName}
	if got := err.Error(); strings.ContainsAny(got, "\n\x1b") || len(got) > 300 || !strings.Contains(got, "offset 7") {
		t.Errorf("%q", got)
	}
}

func TestImportProgressResultAndSums(t *testing.T) {
	s, image := mustWrite(t, testEntries())
	dst := filepath.Join(t.TempDir(), "a", "b")
	var last Progress
	opt := ImportOptions{KeepSums: true, Bytes: 705_000, Progress: func(p Progress) { last = p }}
	got, err := Import(t.Context(), bytes.NewReader(image), dst, opt)
	if err != nil {
		t.Fatal(err)
	}
	info := Info{ID: s.ID, Files: 3, Wide: true}
	if diff := cmp.Diff(Result{Info: info, Copied: 3, CopiedBytes: 705_000}, got); diff != "" {
		t.Errorf("Result (-want +got):\n%s", diff)
	}
	if last.Bytes != 705_000 || last.Total != 705_000 || last.File != 3 || last.Kept {
		t.Errorf("progress: %+v", last)
	}
	data, err := os.ReadFile(filepath.Join(dst, SumsName))
	if err != nil || sumOf(t, data) != s.ID {
		t.Errorf("SHA256SUMS in the destination: %v", err)
	}
	got, err = Import(t.Context(), bytes.NewReader(image), dst, opt)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Result{Info: info, Kept: 3}, got); diff != "" || !last.Kept {
		t.Errorf("second Result (-want +got):\n%s", diff)
	}
}

// TestImportStopsAnywhere ends an import at every call of progress; the next one must finish the work.
func TestImportStopsAnywhere(t *testing.T) {
	_, image := mustWrite(t, testEntries())
	dst := t.TempDir()
	for stop := 1; ; stop++ {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		_, err := Import(ctx, bytes.NewReader(image), dst, ImportOptions{Progress: func(Progress) {
			if calls++; calls == stop {
				cancel()
			}
		}})
		done := ctx.Err() == nil
		cancel()
		if done {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatalf("stopped at call %d: %v", stop, err)
		}
		if _, err := os.Lstat(filepath.Join(dst, TempName)); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("stopped at call %d: temporary file: %v", stop, err)
		}
	}
	for _, e := range testEntries() {
		data, err := os.ReadFile(filepath.Join(dst, e.Name))
		if got := sha256.Sum256(data); err != nil || hex.EncodeToString(got[:]) != e.SHA256 {
			t.Errorf("%s: %v", e.Name, err)
		}
	}
}

func TestImportSpace(t *testing.T) {
	_, image := mustWrite(t, testEntries())
	errStat := errors.New("cannot say")
	free := func(n int64, err error) FreeFunc {
		return func(string) (int64, int64, error) { return n, 4096, err }
	}
	tests := []struct {
		name string
		opt  ImportOptions
		want error
	}{
		{"plenty", ImportOptions{Free: free(1<<40, nil)}, nil},
		{"nothing", ImportOptions{Free: free(0, nil)}, ErrNoSpace},
		{"a block short", ImportOptions{Free: free(700_416-1, nil)}, ErrNoSpace},
		{"just right for the largest", ImportOptions{Free: free(700_416, nil)}, nil},
		{"too little for all", ImportOptions{Free: free(704_999, nil), Bytes: 705_000}, ErrNoSpace},
		{"just right for all", ImportOptions{Free: free(705_000, nil), Bytes: 705_000}, nil},
		{"not known", ImportOptions{Free: free(0, errStat)}, errStat},
		{"not known for all", ImportOptions{Free: free(0, errStat), Bytes: 1}, errStat},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dst := t.TempDir()
			_, err := Import(t.Context(), bytes.NewReader(image), dst, tt.opt)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			left, globErr := filepath.Glob(filepath.Join(dst, "*"))
			if globErr != nil || (tt.want != nil && len(left) > 0) {
				t.Errorf("left behind: %v %v", left, globErr)
			}
		})
	}
	if free, block, err := freeSpace(t.TempDir()); err != nil || free <= 0 || block <= 0 {
		t.Errorf("freeSpace: %d, %d, %v", free, block, err)
	}
}

// TestCanceledKeepsRight: a file that could not be read to its end is not wrong because of that.
func TestCanceledKeepsRight(t *testing.T) {
	_, image := mustWrite(t, []Entry{BytesEntry("a", []byte("right"))})
	dst := t.TempDir()
	if err := os.WriteFile(filepath.Join(dst, "a"), []byte("right"), 0o644); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dst)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	c, err := openContents(bytes.NewReader(image), "")
	if err != nil {
		t.Fatal(err)
	}
	h, sum, err := c.next()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	im := &importer{c: c, root: root, dst: dst, pump: newPump(ctx, c, nil)}
	if right, err := im.isRight(h, sum); right || !errors.Is(err, context.Canceled) {
		t.Errorf("right %v, error %v", right, err)
	}
	if _, err := root.Lstat("a"); err != nil {
		t.Errorf("it was removed: %v", err)
	}
}
