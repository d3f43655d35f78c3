// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package payload

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// narrow renders a container of the older draft, with u32 numbers.
func narrow(files map[string]string, order ...string) []byte {
	b := binary.LittleEndian.AppendUint32([]byte(Magic), uint32(len(order)))
	for _, name := range order {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(name)))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(files[name])))
		b = append(append(b, name...), files[name]...)
	}
	return b
}

// containerSeeds are containers that Verify accepts.
func containerSeeds(t testing.TB) [][]byte {
	t.Helper()
	_, wide := mustWrite(t, []Entry{BytesEntry("a", []byte("one")), BytesEntry("ä", nil), BytesEntry("b", noise(100, 6))})
	_, empty := mustWrite(t, nil)
	return [][]byte{
		wide[:1000], empty[:100],
		narrow(map[string]string{"a": "one", "b": ""}, "a", "b"),
		narrow(map[string]string{SumsName: string(FormatSums([]Sum{{sumOf(t, []byte("x")), "a"}})), "a": "x"}, SumsName, "a"),
		[]byte(Magic + "\x00\x00\x00\x00\x00\x00\x00\x00"),
	}
}

func TestContainerSeedsParse(t *testing.T) {
	for i, seed := range containerSeeds(t) {
		if _, err := Verify(t.Context(), bytes.NewReader(seed), VerifyOptions{}); err != nil {
			t.Errorf("seed %d: %v", i, err)
		}
	}
}

// FuzzContainer holds every reader of this package to the same judgement, whatever the bytes are.
func FuzzContainer(f *testing.F) {
	for _, seed := range containerSeeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		ctx := context.Background()
		info, verifyErr := Verify(ctx, bytes.NewReader(data), VerifyOptions{})
		listInfo, files, listErr := List(bytes.NewReader(data))
		if verifyErr == nil && (listErr != nil || listInfo != info) {
			t.Fatalf("Verify accepts, List says %v", listErr)
		}
		if _, err := Verify(ctx, unseekable{bytes.NewReader(data)}, VerifyOptions{}); (err == nil) != (verifyErr == nil) {
			t.Fatalf("Verify: seeking %v, reading %v", verifyErr, err)
		}
		for _, h := range files {
			if err := CheckName(h.Name); err != nil || h.Offset+h.Size > int64(len(data)) {
				t.Fatalf("List accepts %+v: %v", h, err)
			}
		}
		if verifyErr != nil {
			var located *Error
			if !errors.As(verifyErr, &located) || located.Offset < 0 || located.Offset > int64(len(data)) {
				t.Fatalf("error without a place: %v", verifyErr)
			}
		}
		readRaw(t, data)
	})
}

// readRaw reads all files through Reader and compares them with the container's bytes.
func readRaw(t *testing.T, data []byte) {
	t.Helper()
	r, err := NewReader(bytes.NewReader(data))
	if err != nil {
		return
	}
	for {
		h, err := r.Next()
		if err != nil {
			return
		}
		got, err := io.ReadAll(r)
		if err == nil && !bytes.Equal(got, data[h.Offset:h.Offset+h.Size]) {
			t.Fatalf("%+v: other bytes", h)
		}
	}
}

func sumsSeeds() [][]byte {
	digest := "0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF"
	return [][]byte{
		nil, []byte(digest + "  a\n"), []byte(digest + " *a b\n" + digest + "  ü\n"),
	}
}

// FuzzSums: what ParseSums accepts it gives back as it was, but for capitals and marks.
func FuzzSums(f *testing.F) {
	for _, seed := range sumsSeeds() {
		if _, err := ParseSums(seed); err != nil {
			f.Fatalf("seed %q: %v", seed, err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		sums, err := ParseSums(data)
		if err != nil {
			if !errors.Is(err, ErrSums) {
				t.Fatalf("not an ErrSums: %v", err)
			}
			return
		}
		text := FormatSums(sums)
		if len(text) != len(data) {
			t.Fatalf("%q becomes %q", data, text)
		}
		again, err := ParseSums(text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(sums, again); diff != "" {
			t.Fatalf("second reading differs:\n%s", diff)
		}
	})
}

// benchEntries are 64 MiB in 16 files.
func benchEntries() []Entry {
	var entries []Entry
	data := noise(4<<20, 7)
	for i := range 16 {
		entries = append(entries, BytesEntry(string(rune('a'+i)), data))
	}
	return entries
}

func BenchmarkWrite(b *testing.B) {
	entries := benchEntries()
	b.SetBytes(64 << 20)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Write(b.Context(), io.Discard, entries); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkImport(b *testing.B) {
	_, image := mustWrite(b, benchEntries())
	b.SetBytes(64 << 20)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Import(b.Context(), bytes.NewReader(image), b.TempDir(), ImportOptions{NoSync: true}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkImportAgain(b *testing.B) {
	_, image := mustWrite(b, benchEntries())
	dst := b.TempDir()
	b.SetBytes(64 << 20)
	for b.Loop() {
		if _, err := Import(b.Context(), bytes.NewReader(image), dst, ImportOptions{NoSync: true}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	_, image := mustWrite(b, benchEntries())
	b.SetBytes(64 << 20)
	for b.Loop() {
		if _, err := Verify(b.Context(), bytes.NewReader(image), VerifyOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
