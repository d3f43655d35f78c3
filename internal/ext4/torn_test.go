// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package ext4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// transaction is where in an image a transaction's blocks are, in bytes.
type transaction struct{ descriptor, data, commit int64 }

// layout finds the first and the last transaction in the journal.
func layout(t testing.TB, data []byte) (first, last transaction) {
	t.Helper()
	fsys, err := Open(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	l, err := fsys.openLog()
	if err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, 1024)
	var now transaction
	for at, sequence := l.start, l.sequence; ; at++ {
		kind, _, err := l.record(raw, at, sequence)
		if err != nil {
			t.Fatal(err)
		}
		switch kind {
		case 0:
			return first, last
		case blockDescriptor:
			now.descriptor, now.data = int64(l.where[at])*1024, int64(l.where[at+1])*1024
			at++
		case blockCommit:
			now.commit = int64(l.where[at]) * 1024
			if first.commit == 0 {
				first = now
			}
			last = now
			sequence++
		}
	}
}

// torn makes an image whose journal has new blocks of the files "a" and "b" and of the superblock, each in a transaction
// of its own, that of "b" last. The superblock there has more incompatible features than the image.
func torn(t testing.TB, more uint32) []byte {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("old "+name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	path := image(t, dir, "4M", "-t", "ext4", "-b", "1024", "-N", "16", "-O", "metadata_csum,64bit")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sb := bytes.Clone(before[superOffset : superOffset+superSize])
	binary.LittleEndian.PutUint32(sb[0x60:], le32(sb, 0x60)|more)
	sb[0x88] = 'x' // where it was last mounted
	sum, _ := superSum(sb)
	binary.LittleEndian.PutUint32(sb[superSumAt:], sum)
	staged := map[string][]byte{"a": []byte("new a"), "super": sb, "b": []byte("new b")}
	commands := []string{"jo -c -v 3"}
	for _, name := range []string{"a", "super", "b"} {
		block := make([]byte, 1024)
		copy(block, staged[name])
		file := filepath.Join(dir, name+".block")
		if err := os.WriteFile(file, block, 0o644); err != nil {
			t.Fatal(err)
		}
		number := "1"
		if name != "super" {
			fields := strings.Fields(debugfs(t, path, "bmap /"+name+" 0"))
			number = fields[len(fields)-1]
		}
		commands = append(commands, "jw -b "+number+" "+file)
	}
	debugfs(t, path, append(commands, "jc")...)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// tears are what sectors of 512 bytes, or bad luck, do to the image of torn.
var tears = map[string]struct {
	tear    func(data []byte, first, last transaction)
	b       string // what the file has then
	what    string // of what is mended
	refused bool   // by every Linux; otherwise by old ones only
	err     error
}{
	"nothing": {tear: func([]byte, transaction, transaction) {}, b: "new b"},
	"the end of the last commit block": {
		tear: func(data []byte, _, last transaction) { data[last.commit+600]++ },
		b:    "new b", what: "the end of transaction 3 in the journal",
	},
	"the beginning of the last commit block": {
		tear:    func(data []byte, _, last transaction) { data[last.commit+0x37]++ }, // its time
		refused: true, err: ErrCorrupt,
	},
	"the end of the last commit block, and a block before it": {
		tear:    func(data []byte, _, last transaction) { data[last.commit+600]++; data[last.data+500]++ },
		refused: true, err: ErrCorrupt,
	},
	"the end of the last commit block, and a descriptor before it": {
		tear:    func(data []byte, _, last transaction) { data[last.commit+600]++; data[last.descriptor+600]++ },
		refused: true, err: ErrCorrupt,
	},
	"a descriptor before a commit block": {
		tear: func(data []byte, _, last transaction) {
			data[last.descriptor+600]++
			clear(data[last.commit : last.commit+1024])
		},
		b: "old b", what: "the unfinished transaction 3 in the journal",
	},
	"a block before a commit block": {
		tear: func(data []byte, _, last transaction) { data[last.data]++; clear(data[last.commit : last.commit+1024]) },
		b:    "old b",
	},
	"the superblock": {
		tear: func(data []byte, _, _ transaction) { data[superOffset+0x89]++ },
		b:    "new b", what: "the superblock", refused: true,
	},
	"the superblock and the last commit block": {
		tear: func(data []byte, _, last transaction) { data[superOffset+0x89]++; data[last.commit+600]++ },
		b:    "new b", what: "the end of transaction 3 in the journal, the superblock", refused: true,
	},
	"a commit block in the middle": {
		tear: func(data []byte, first, _ transaction) { data[first.commit+600]++ },
		err:  ErrCorrupt,
	},
	"the beginning of a commit block in the middle": {
		tear:    func(data []byte, first, _ transaction) { data[first.commit+0x37]++ },
		refused: true, err: ErrCorrupt,
	},
	"a descriptor in the middle": {
		tear:    func(data []byte, first, _ transaction) { data[first.descriptor+600]++ },
		refused: true, err: ErrCorrupt,
	},
	"the descriptor of a whole transaction": {
		tear:    func(data []byte, _, last transaction) { data[last.descriptor+600]++ },
		refused: true, err: ErrCorrupt,
	},
	"a block of a whole transaction": {
		tear:    func(data []byte, _, last transaction) { data[last.data]++ },
		refused: true, err: ErrCorrupt,
	},
}

// What a power cut can tear is mended so that Linux replays what is complete; nothing else is touched, and what no power
// cut does is left alone.
func TestMend(t *testing.T) {
	whole := torn(t, featureRecover)
	first, last := layout(t, whole)
	for name, tt := range tears {
		t.Run(name, func(t *testing.T) {
			data := bytes.Clone(whole)
			tt.tear(data, first, last)
			before := bytes.Clone(data)
			fsys, err := Open(bytes.NewReader(data))
			if err == nil {
				fsys, err = fsys.Recovered(t.Context())
			}
			if !errors.Is(err, tt.err) {
				t.Fatalf("got %v, want %v", err, tt.err)
			}
			path := filepath.Join(t.TempDir(), "fs.img")
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
			if got, err := linux(t, path); err == nil && tt.refused {
				t.Errorf("Linux mounts it as it is: %q", got)
			}
			if tt.err != nil {
				return
			}
			if got, err := fsys.ReadFile("b", 5); err != nil || string(got) != tt.b || fsys.Torn() != tt.what {
				t.Errorf("read: %q, %v, torn %q", got, err, fsys.Torn())
			}
			if err := fsys.Mend(memory(data)); err != nil {
				t.Fatal(err)
			}
			if tt.what == "" && !bytes.Equal(before, data) {
				t.Error("there was nothing to mend, and something was written")
			}
			checkMended(t, data, tt.b)
		})
	}
}

// Without its mark for recovery a superblock makes Linux throw the journal away: such a one is not put in place.
func TestMendKeepsJournal(t *testing.T) {
	data := torn(t, 0)
	data[superOffset+0x89]++
	if fsys := recovered(t, data); fsys.Torn() != "" {
		t.Errorf("torn %q", fsys.Torn())
	}
}

// checkMended lets this package, e2fsck and Linux read a mended image.
func checkMended(t *testing.T, data []byte, b string) {
	t.Helper()
	fsys := recovered(t, data)
	if got, err := fsys.ReadFile("b", 5); err != nil || string(got) != b || fsys.Torn() != "" {
		t.Errorf("mended: %q, %v, torn %q", got, err, fsys.Torn())
	}
	path := filepath.Join(t.TempDir(), "fs.img")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := linux(t, path); err != nil || got != "new a"+b {
		t.Errorf("mended: Linux reads %q, %v", got, err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	// 1: it has replayed the journal; that is what it had to do.
	out, err := exec.Command("/sbin/e2fsck", "-f", "-y", path).CombinedOutput()
	if code, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || code.ExitCode() != 1) {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
	if got := debugfs(t, path, "cat /b"); !strings.Contains(got, b) {
		t.Errorf("e2fsck has made %q of it", got)
	}
}

// linux mounts a copy of an image and gives what is in "a" and "b". It needs root, as CI has it.
func linux(t *testing.T, path string) (string, error) {
	t.Helper()
	if os.Getuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("mounting needs root")
		}
		t.Skip("mounting needs root")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	own, at := filepath.Join(dir, "own.img"), filepath.Join(dir, "at")
	if err := errors.Join(os.WriteFile(own, data, 0o644), os.Mkdir(at, 0o755)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "ext4", "-o", "loop", own, at).CombinedOutput(); err != nil {
		t.Logf("%s", bytes.TrimSpace(out))
		return "", err
	}
	a, errA := os.ReadFile(filepath.Join(at, "a"))
	b, errB := os.ReadFile(filepath.Join(at, "b"))
	if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
		t.Fatalf("umount: %v\n%s", err, out)
	}
	return strings.TrimRight(string(a), "\x00") + strings.TrimRight(string(b), "\x00"), errors.Join(errA, errB)
}
