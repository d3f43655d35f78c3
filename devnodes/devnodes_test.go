// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package devnodes

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// wantChroot and wantMachine are written out, one node a line, so that a slip in the tables shows.
const wantChroot = `
dev/null c 666 1:3
dev/zero c 666 1:5
dev/random c 444 1:8
dev/urandom c 444 1:9
dev/ptmx c 666 5:2
dev/tty c 666 5:0
dev/stdout -> /proc/self/fd/1
`

const wantMachine = wantChroot + `dev/tty1 c 666 4:1
dev/tty2 c 666 4:2
dev/console c 666 5:1
dev/sda b 600 8:0
dev/sda1 b 600 8:1
dev/sda2 b 600 8:2
dev/sda3 b 600 8:3
dev/sdb b 600 8:16
dev/sdb1 b 600 8:17
dev/sdb2 b 600 8:18
dev/sdb3 b 600 8:19
dev/sdc b 600 8:32
dev/sdc1 b 600 8:33
dev/sdc2 b 600 8:34
dev/sdc3 b 600 8:35
`

func render(nodes []Node) string {
	var b strings.Builder
	b.WriteByte('\n')
	for _, n := range nodes {
		switch n.Type {
		case Symlink:
			fmt.Fprintf(&b, "%s -> %s\n", n.Name, n.Target)
		case Char:
			fmt.Fprintf(&b, "%s c %o %d:%d\n", n.Name, n.Mode, n.Major, n.Minor)
		case Block:
			fmt.Fprintf(&b, "%s b %o %d:%d\n", n.Name, n.Mode, n.Major, n.Minor)
		}
	}
	return b.String()
}

func TestTable(t *testing.T) {
	if diff := cmp.Diff(wantChroot, render(Table(true))); diff != "" {
		t.Errorf("chroot (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantMachine, render(Table(false))); diff != "" {
		t.Errorf("machine (-want +got):\n%s", diff)
	}
}

// TestTableIsFresh makes sure that a caller who changes its table changes no one else's.
func TestTableIsFresh(t *testing.T) {
	Table(false)[0].Minor = 99
	if got := Table(false)[0].Minor; got != 3 {
		t.Errorf("minor of the first node: got %d, want 3", got)
	}
}

func TestDecide(t *testing.T) {
	null := Node{Name: "dev/null", Type: Char, Mode: 0o666, Major: 1, Minor: 3}
	disk := Node{Name: "dev/sda", Type: Block, Mode: 0o600, Major: 8, Minor: 0}
	link := Node{Name: "dev/stdout", Type: Symlink, Target: "/proc/self/fd/1"}
	char, block := fs.ModeDevice|fs.ModeCharDevice, fs.ModeDevice
	tests := []struct {
		name  string
		node  Node
		state State
		want  Action
	}{
		{"nothing there", null, State{}, Make},
		{"right", null, State{Exists: true, Mode: char | 0o666, Major: 1, Minor: 3}, Keep},
		{"right, other permissions", null, State{Exists: true, Mode: char | 0o600, Major: 1, Minor: 3}, Keep},
		{"regular file", null, State{Exists: true, Mode: 0o644, Size: 12}, Replace},
		{"other minor", null, State{Exists: true, Mode: char, Major: 1, Minor: 5}, Replace},
		{"other major", null, State{Exists: true, Mode: char, Major: 2, Minor: 3}, Replace},
		{"block for char", null, State{Exists: true, Mode: block, Major: 1, Minor: 3}, Replace},
		{"symlink for char", null, State{Exists: true, Mode: fs.ModeSymlink}, Replace},
		{"named pipe", null, State{Exists: true, Mode: fs.ModeNamedPipe}, Replace},
		{"directory", null, State{Exists: true, Mode: fs.ModeDir}, Refuse},
		{"disk right", disk, State{Exists: true, Mode: block | 0o600, Major: 8}, Keep},
		{"char for disk", disk, State{Exists: true, Mode: char, Major: 8}, Replace},
		{"disk of another number", disk, State{Exists: true, Mode: block, Major: 8, Minor: 16}, Replace},
		{"link right", link, State{Exists: true, Mode: fs.ModeSymlink}, Keep},
		{"file for link", link, State{Exists: true, Mode: 0o644}, Replace},
		{"directory for link", link, State{Exists: true, Mode: fs.ModeDir}, Refuse},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Decide(tt.node, tt.state); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// recorder is an FS in memory that notes the calls that change something.
type recorder struct {
	states map[string]State
	calls  []string
	fail   string // a call that is to fail
}

var errInjected = errors.New("injected")

func (r *recorder) do(format string, args ...any) error {
	call := fmt.Sprintf(format, args...)
	r.calls = append(r.calls, call)
	if call == r.fail {
		return errInjected
	}
	return nil
}

func (r *recorder) State(name string) (State, error) { return r.states[name], nil }

func (r *recorder) Mkdir(name string) error {
	r.states[name] = State{Exists: true, Mode: fs.ModeDir}
	return r.do("mkdir %s", name)
}

func (r *recorder) Remove(name string) error {
	delete(r.states, name)
	return r.do("remove %s", name)
}

func (r *recorder) Mknod(name string, n Node) error {
	if err := r.do("mknod %s %s %o %d:%d", name, n.Type, n.Mode, n.Major, n.Minor); err != nil {
		return err
	}
	mode := fs.ModeDevice
	if n.Type == Char {
		mode |= fs.ModeCharDevice
	}
	r.states[name] = State{Exists: true, Mode: mode, Major: n.Major, Minor: n.Minor}
	return nil
}

func (r *recorder) Symlink(target, name string) error {
	r.states[name] = State{Exists: true, Mode: fs.ModeSymlink}
	return r.do("symlink %s %s", target, name)
}

func (r *recorder) Rename(from, to string) error {
	if err := r.do("rename %s %s", from, to); err != nil {
		return err
	}
	r.states[to] = r.states[from]
	delete(r.states, from)
	return nil
}

func TestCreateCalls(t *testing.T) {
	null := Node{Name: "dev/null", Type: Char, Mode: 0o666, Major: 1, Minor: 3}
	link := Node{Name: "dev/stdout", Type: Symlink, Target: "/proc/self/fd/1"}
	dir := State{Exists: true, Mode: fs.ModeDir}
	file := State{Exists: true, Mode: 0o644, Size: 1}
	tests := []struct {
		name   string
		states map[string]State
		node   Node
		want   []string
	}{
		{"empty root", map[string]State{}, null,
			[]string{"mkdir dev", "mknod dev/null character device 666 1:3"}},
		{"empty file for the directory", map[string]State{"dev": {Exists: true}}, null,
			[]string{"remove dev", "mkdir dev", "mknod dev/null character device 666 1:3"}},
		{"wrong file", map[string]State{"dev": dir, "dev/null": file}, null,
			[]string{"mknod dev/.kindling-null character device 666 1:3", "rename dev/.kindling-null dev/null"}},
		{"wrong file, and a left-over", map[string]State{"dev": dir, "dev/null": file, "dev/.kindling-null": file}, null,
			[]string{"remove dev/.kindling-null", "mknod dev/.kindling-null character device 666 1:3",
				"rename dev/.kindling-null dev/null"}},
		{"link", map[string]State{"dev": dir}, link, []string{"symlink /proc/self/fd/1 dev/stdout"}},
		{"wrong link", map[string]State{"dev": dir, "dev/stdout": file}, link,
			[]string{"symlink /proc/self/fd/1 dev/.kindling-stdout", "rename dev/.kindling-stdout dev/stdout"}},
		{"right link", map[string]State{"dev": dir, "dev/stdout": {Exists: true, Mode: fs.ModeSymlink}}, link, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &recorder{states: tt.states}
			if _, err := Create(r, []Node{tt.node}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, r.calls); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCreateIsIdempotent(t *testing.T) {
	r := &recorder{states: map[string]State{}}
	first, err := Create(r, Table(false))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range first {
		if d.Action != Make {
			t.Errorf("first time, %s: got %s, want %s", d.Node.Name, d.Action, Make)
		}
	}
	r.calls = nil
	second, err := Create(r, Table(false))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range second {
		if d.Action != Keep {
			t.Errorf("second time, %s: got %s, want %s", d.Node.Name, d.Action, Keep)
		}
	}
	if len(r.calls) > 0 {
		t.Errorf("second time: calls %q, want none", r.calls)
	}
	if len(first) != len(Table(false)) || len(second) != len(first) {
		t.Errorf("reported %d and %d nodes, want %d", len(first), len(second), len(Table(false)))
	}
}

func TestCreateFails(t *testing.T) {
	null := Table(true)[:1]
	dir := State{Exists: true, Mode: fs.ModeDir}
	tests := []struct {
		name   string
		states map[string]State
		fail   string
		table  []Node
		want   error  // wrapped
		text   string // in the message
		calls  []string
	}{
		{"directory in the way", map[string]State{"dev": dir, "dev/null": dir}, "", null, ErrInTheWay, "dev/null", nil},
		{"file with data for the directory", map[string]State{"dev": {Exists: true, Size: 1}}, "", null,
			ErrInTheWay, "directory dev", nil},
		{"link for the directory", map[string]State{"dev": {Exists: true, Mode: fs.ModeSymlink}}, "", null,
			ErrInTheWay, "directory dev", nil},
		{"mknod fails", map[string]State{"dev": dir}, "mknod dev/null character device 666 1:3", null,
			errInjected, "create character device dev/null", []string{"mknod dev/null character device 666 1:3"}},
		{"rename fails, the temporary node goes", map[string]State{"dev": dir, "dev/null": {Exists: true}},
			"rename dev/.kindling-null dev/null", null, errInjected, "dev/null",
			[]string{"mknod dev/.kindling-null character device 666 1:3", "rename dev/.kindling-null dev/null",
				"remove dev/.kindling-null"}},
		{"path out of the root", map[string]State{}, "", []Node{{Name: "../null", Type: Char}}, nil, "../null", nil},
		{"no type", map[string]State{"dev": dir}, "", []Node{{Name: "dev/x"}}, nil, "no such type", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &recorder{states: tt.states, fail: tt.fail}
			done, err := Create(r, tt.table)
			if err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Fatalf("got error %v, want one with %q", err, tt.text)
			}
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got error %v, want %v", err, tt.want)
			}
			if len(done) != 0 {
				t.Errorf("reported as done: %v", done)
			}
			if diff := cmp.Diff(tt.calls, r.calls); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}
