// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package conformance

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/internal/payload"
)

// smallContainers are one of each kind, small enough to be cut at every byte.
func smallContainers() map[string][]byte {
	files := []file{{name: "one", data: "first file"}, {name: "zwei-ä", data: ""}, {name: "three", data: noise(40, 5)}}
	return map[string][]byte{
		"u64 with sums":    container(true, withSums(files...)...),
		"u32 with sums":    container(false, withSums(files...)...),
		"u64 without sums": container(true, files...),
		"u32 without sums": container(false, files...),
	}
}

// drivers returns a builder of the test driver for each compiler.
func forEachDriver(t *testing.T, test func(t *testing.T, driver string)) {
	t.Helper()
	for _, cc := range compilers() {
		t.Run(cc.name, func(t *testing.T) { test(t, cc.build(t, "test-payload-import.c")) })
	}
}

// TestUnits runs the C program's tests of its own arithmetic, sha256 and disk names.
func TestUnits(t *testing.T) {
	forEachDriver(t, func(t *testing.T, driver string) {
		if out, err := command(t, driver, "unit").CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

var offsetInLine = regexp.MustCompile(`offset (\d+): `)

// TestCutEverywhere cuts small containers at every byte. Both importers must refuse each, and say where it ends.
func TestCutEverywhere(t *testing.T) {
	forEachDriver(t, func(t *testing.T, driver string) {
		for name, whole := range smallContainers() {
			t.Run(name, func(t *testing.T) { cutEverywhere(t, driver, whole) })
		}
	})
}

func cutEverywhere(t *testing.T, driver string, whole []byte) {
	dir := scratch(t)
	var jobs []job
	for n := range whole {
		image := filepath.Join(dir, strconv.Itoa(n))
		if err := os.WriteFile(image, whole[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, job{fault: "-", args: []string{"--device", image, filepath.Join(dir, "c", strconv.Itoa(n))}})
	}
	for n, v := range runJobs(t, driver, dir, jobs) {
		goDst := filepath.Join(dir, "go", strconv.Itoa(n))
		_, err := payload.Import(t.Context(), bytes.NewReader(whole[:n]), goDst, payload.ImportOptions{NoSync: true})
		if v.accepted(t) || err == nil {
			t.Fatalf("cut at %d: accepted (go: %v, c: %q)", n, err, v.stderr)
		}
		if n >= len(payload.Magic) {
			at := offsetInLine.FindStringSubmatch(v.stderr)
			if at == nil || at[1] != strconv.Itoa(n) {
				t.Errorf("cut at %d: the C program says %q", n, v.stderr)
			}
			var located *payload.Error
			if !errors.Is(err, payload.ErrTruncated) || !errors.As(err, &located) || located.Offset != int64(n) {
				t.Errorf("cut at %d: Import says %v", n, err)
			}
		}
		if diff := cmp.Diff(maybeTree(t, goDst), maybeTree(t, jobs[n].args[2])); diff != "" {
			t.Errorf("cut at %d: directories differ (-go +c):\n%s", n, diff)
		}
	}
}

// maybeTree is snapshot for a directory that need not be there.
func maybeTree(t *testing.T, dir string) tree {
	t.Helper()
	if _, err := os.Stat(dir); err != nil {
		return nil
	}
	return snapshot(t, dir)
}

// mutate returns a copy of image with one to three faults.
func mutate(r *rand.Rand, image []byte) []byte {
	image = bytes.Clone(image)
	for range 1 + r.IntN(3) {
		if len(image) == 0 {
			return image
		}
		at := r.IntN(len(image))
		if r.IntN(2) == 0 {
			at = r.IntN(min(len(image), 64)) // the head is where the structure is
		}
		n := min(1+r.IntN(24), len(image)-at)
		switch r.IntN(8) {
		case 0:
			image[at] ^= 1 << r.IntN(8)
		case 1:
			image[at] = []byte{0, 1, 0x7f, 0x80, 0xff, '\n', '/', ' '}[r.IntN(8)]
		case 2:
			image = append(image[:at:at], image[at+n:]...)
		case 3:
			image = append(image[:at:at], append([]byte(noise(n, r.Uint64())), image[at:]...)...)
		case 4:
			image = append(image[:at+n:at+n], image[at:]...)
		case 5:
			image = image[:at]
		case 6:
			if at+4 <= len(image) {
				binary.LittleEndian.PutUint32(image[at:], interesting(r, len(image)))
			}
		case 7:
			if at = at / 8 * 8; at+8 <= len(image) {
				binary.LittleEndian.PutUint64(image[at:], uint64(interesting(r, len(image)))<<(8*r.IntN(5)))
			}
		}
	}
	return image
}

// interesting returns a number that is at the edge of something.
func interesting(r *rand.Rand, size int) uint32 {
	edges := []uint32{
		0, 1, 2, 255, 256, payload.MaxName, payload.MaxName + 1, payload.MaxFiles, payload.MaxFiles + 1, uint32(size), uint32(size) + 1,
		1 << 31, 1<<31 - 1, 1<<32 - 1, 1<<32 - 16,
	}
	return edges[r.IntN(len(edges))]
}

// mutant is one mutated container and what the two importers make of it.
type mutant struct {
	image, goDst, cDst string
	data               []byte
}

// TestMutants runs mutated containers against both importers, which must agree on verdict and directory. The seed is
// fixed: the same mutants every time.
func TestMutants(t *testing.T) {
	const perContainer = 400 // of four containers
	r := rand.New(rand.NewPCG(1, 2))
	var images [][]byte
	for _, name := range []string{"u64 with sums", "u32 with sums", "u64 without sums", "u32 without sums"} {
		for range perContainer {
			images = append(images, mutate(r, smallContainers()[name]))
		}
	}
	forEachDriver(t, func(t *testing.T, driver string) {
		dir := scratch(t)
		mutants := make([]mutant, len(images))
		var jobs []job
		for i, data := range images {
			m := mutant{data: data}
			m.image = filepath.Join(dir, fmt.Sprintf("%d.img", i))
			m.goDst, m.cDst = filepath.Join(dir, fmt.Sprintf("%d.go", i)), filepath.Join(dir, fmt.Sprintf("%d.c", i))
			if err := os.WriteFile(m.image, data, 0o644); err != nil {
				t.Fatal(err)
			}
			mutants[i] = m
			jobs = append(jobs,
				job{fault: "-", args: []string{"--device", m.image, m.cDst}},
				job{fault: "-", args: []string{"--device", m.image, "--verify"}},
				job{fault: "-", args: []string{"--device", m.image, "--list"}})
		}
		verdicts := runJobs(t, driver, dir, jobs)
		accepted := 0
		for i, m := range mutants {
			if m.agree(t, verdicts[3*i:3*i+3]) {
				accepted++
			}
		}
		if accepted == 0 || accepted > len(mutants)/2 {
			t.Errorf("%d of %d mutants accepted: these mutations test little", accepted, len(mutants))
		}
		t.Logf("%d mutants, %d accepted", len(mutants), accepted)
	})
}

// agree compares the verdicts of import, verify and list.
func (m mutant) agree(t *testing.T, v []verdict) bool {
	t.Helper()
	_, importErr := payload.Import(t.Context(), bytes.NewReader(m.data), m.goDst, payload.ImportOptions{NoSync: true})
	_, verifyErr := payload.Verify(t.Context(), bytes.NewReader(m.data), payload.VerifyOptions{})
	_, _, listErr := payload.List(bytes.NewReader(m.data))
	for i, err := range []error{importErr, verifyErr, listErr} {
		if v[i].accepted(t) != (err == nil) {
			t.Errorf("%s of %q: go says %v, c says %q", []string{"import", "verify", "list"}[i], m.data, err, v[i].stderr)
		}
	}
	if diff := cmp.Diff(maybeTree(t, m.goDst), maybeTree(t, m.cDst)); diff != "" {
		t.Errorf("directories of %q differ (-go +c):\n%s", m.data, diff)
	}
	return importErr == nil
}
