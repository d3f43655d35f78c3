// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, adr(s))
	}
	return out
}

func TestMerge(t *testing.T) {
	lease := func(search []string, dns ...string) Settings { return Settings{DNS: addrs(dns...), Search: search} }
	tests := []struct {
		name      string
		preferred []netip.Addr
		head      ResolvConf
		leases    []Settings
		want      string
	}{
		{"nothing", nil, ResolvConf{}, nil, ""},
		{"only dhcp", nil, ResolvConf{}, []Settings{lease([]string{"lan"}, "10.0.2.3")},
			"search lan\nnameserver 10.0.2.3\n"},
		{"preferred first", addrs("1.1.1.1"), ResolvConf{}, []Settings{lease(nil, "10.0.2.3")},
			"nameserver 1.1.1.1\nnameserver 10.0.2.3\n"},
		{"head first", nil, ResolvConf{Nameservers: addrs("1.1.1.1")}, []Settings{lease(nil, "10.0.2.3")},
			"nameserver 1.1.1.1\nnameserver 10.0.2.3\n"},
		{"preferred before head before dhcp, three in all", addrs("9.9.9.9"), ResolvConf{Nameservers: addrs("1.1.1.1")},
			[]Settings{lease(nil, "10.0.2.3", "10.0.2.4")},
			"nameserver 9.9.9.9\nnameserver 1.1.1.1\nnameserver 10.0.2.3\n"},
		{"no duplicates", addrs("1.1.1.1", "1.1.1.1"), ResolvConf{Nameservers: addrs("1.1.1.1")},
			[]Settings{lease(nil, "1.1.1.1", "10.0.2.3"), lease(nil, "10.0.2.3", "10.9.9.9")},
			"nameserver 1.1.1.1\nnameserver 10.0.2.3\nnameserver 10.9.9.9\n"},
		{"preferred alone fill it", addrs("1.1.1.1", "1.0.0.1", "9.9.9.9", "8.8.8.8"), ResolvConf{},
			[]Settings{lease(nil, "10.0.2.3")}, "nameserver 1.1.1.1\nnameserver 1.0.0.1\nnameserver 9.9.9.9\n"},
		{"zero address left out", []netip.Addr{{}, adr("1.1.1.1")}, ResolvConf{}, nil, "nameserver 1.1.1.1\n"},
		{"search and options", nil, ResolvConf{Search: []string{"mine"}, Options: []string{"timeout:2", "rotate"}},
			[]Settings{lease([]string{"lan", "mine"}, "10.0.2.3")},
			"search mine lan\noptions timeout:2 rotate\nnameserver 10.0.2.3\n"},
		{"ipv6", addrs("2606:4700:4700::1111"), ResolvConf{}, nil, "nameserver 2606:4700:4700::1111\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := string(Merge(tt.preferred, tt.head, tt.leases...).Bytes())
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("resolv.conf (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseResolvConf(t *testing.T) {
	tests := []struct {
		name, text string
		want       ResolvConf
	}{
		{"empty", "", ResolvConf{}},
		{"as the tree writes it", "nameserver 1.1.1.1\n", ResolvConf{Nameservers: addrs("1.1.1.1")}},
		{"no final line end", "nameserver 1.1.1.1", ResolvConf{Nameservers: addrs("1.1.1.1")}},
		{"everything", "# c\n; c\nnameserver  ::1 # c\nsearch a B.\noptions timeout:2 e\x1bvil rotate\n\nsortlist x\n",
			ResolvConf{Nameservers: addrs("::1"), Search: []string{"a", "b"}, Options: []string{"timeout:2", "rotate"}}},
		{"the last search line counts", "search a b\ndomain c\n", ResolvConf{Search: []string{"c"}}},
		{"what is not an address", "nameserver one.one.one.one\nnameserver\nnameserver 1.1.1\n", ResolvConf{}},
		{"too many", strings.Repeat("nameserver 1.1.1.1\n", 50) + "search " + strings.Repeat("a ", 50),
			ResolvConf{Nameservers: addrs("1.1.1.1", "1.1.1.1", "1.1.1.1"), Search: strings.Fields("a a a a a a")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseResolvConf(strings.NewReader(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, compareAddrs); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if _, err := ParseResolvConf(strings.NewReader(strings.Repeat("#", maxHead+1))); err == nil {
		t.Error("too long: no error")
	}
}

func FuzzParseResolvConf(f *testing.F) {
	f.Add("search a b\noptions rotate\nnameserver 1.1.1.1\nnameserver fe80::1%eth0\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseResolvConf(strings.NewReader(text))
		if err != nil {
			if len(text) <= maxHead {
				t.Fatalf("error %v", err)
			}
			return
		}
		again, err := ParseResolvConf(strings.NewReader(string(c.Bytes())))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c, again, compareAddrs); diff != "" {
			t.Errorf("reads back as something else (-want +got):\n%s", diff)
		}
	})
}

// TestWriteResolvConf runs over what can stand in the file's place.
func TestWriteResolvConf(t *testing.T) {
	const text = "nameserver 1.1.1.1\n"
	outside := filepath.Join(t.TempDir(), "outside")
	writeFile(t, outside, "stays")
	tests := []struct {
		name    string
		prepare func(dir string) error
	}{
		{"no etc", func(string) error { return nil }},
		{"other content", func(dir string) error {
			return os.MkdirAll(filepath.Join(dir, "etc"), 0o755)
		}},
		{"link to elsewhere", func(dir string) error {
			return os.Symlink(outside, mkEtc(t, dir)+"/resolv.conf")
		}},
		{"dangling link", func(dir string) error {
			return os.Symlink("../run/x", mkEtc(t, dir)+"/resolv.conf")
		}},
		{"left-over of a call that was cut short", func(dir string) error {
			return os.WriteFile(mkEtc(t, dir)+"/resolv.conf.kindling", []byte("half"), 0o600)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := tt.prepare(dir); err != nil {
				t.Fatal(err)
			}
			root := openRoot(t, dir)
			if err := writeResolvConf(root, []byte(text)); err != nil {
				t.Fatal(err)
			}
			info, err := os.Lstat(filepath.Join(dir, ResolvConfPath))
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode() != 0o644 {
				t.Errorf("mode %v, want a regular file of mode 0644", info.Mode())
			}
			checkFile(t, filepath.Join(dir, ResolvConfPath), text)
			checkFile(t, outside, "stays")
			checkEntries(t, filepath.Join(dir, "etc"), "resolv.conf")
			// Again: the very same file stays.
			if err := writeResolvConf(root, []byte(text)); err != nil {
				t.Fatal(err)
			}
			again, err := os.Lstat(filepath.Join(dir, ResolvConfPath))
			if err != nil || !os.SameFile(info, again) || !info.ModTime().Equal(again.ModTime()) {
				t.Errorf("the second call wrote the file anew (%v)", err)
			}
		})
	}
}

func TestWriteResolvConfFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, ResolvConfPath, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	err := writeResolvConf(openRoot(t, dir), []byte("nameserver 1.1.1.1\n"))
	if err == nil || !strings.Contains(err.Error(), ResolvConfPath) {
		t.Errorf("got error %v, want one that names %s", err, ResolvConfPath)
	}
	checkEntries(t, filepath.Join(dir, "etc"), "resolv.conf")
}

func TestReadHead(t *testing.T) {
	dir := t.TempDir()
	root := openRoot(t, dir)
	if c, err := readHead(root); err != nil || c.Nameservers != nil {
		t.Errorf("missing: %+v (%v), want it empty", c, err)
	}
	head := filepath.Join(mkEtc(t, dir), "resolv.conf.head")
	writeFile(t, head, "nameserver 1.1.1.1\n")
	c, err := readHead(root)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ResolvConf{Nameservers: addrs("1.1.1.1")}, c, compareAddrs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	writeFile(t, head, strings.Repeat("#\n", maxHead))
	if _, err := readHead(root); err == nil || !strings.Contains(err.Error(), HeadPath) {
		t.Errorf("too long: got error %v, want one that names %s", err, HeadPath)
	}
	if err := os.Remove(head); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(head, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readHead(root); err == nil { // would block if it were opened
		t.Error("named pipe: no error")
	}
}

func openRoot(t *testing.T, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root
}

func mkEtc(t *testing.T, dir string) string {
	t.Helper()
	etc := filepath.Join(dir, "etc")
	if err := os.MkdirAll(etc, 0o755); err != nil {
		t.Fatal(err)
	}
	return etc
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), fs.FileMode(0o644)); err != nil {
		t.Fatal(err)
	}
}

func checkFile(t *testing.T, name, want string) {
	t.Helper()
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func checkEntries(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files in %s (-want +got):\n%s", dir, diff)
	}
}
