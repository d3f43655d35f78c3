// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package netcfg

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"
)

// Paths below the root directory. The head file is dhcpcd's convention: what stands in it comes before whatever DHCP
// brings. The bootstrap's own steps write it.
const (
	ResolvConfPath = "etc/resolv.conf"
	HeadPath       = "etc/resolv.conf.head"
)

// MaxNameservers is how many nameserver lines a resolver reads (MAXNS of glibc and of musl); a fourth is never asked.
const MaxNameservers = 3

// maxHead bounds the head file, in bytes.
const maxHead = 16 << 10

// maxOptions bounds the resolver options that are kept.
const maxOptions = 16

// ResolvConf is the content of a resolver configuration; see resolv.conf(5).
type ResolvConf struct {
	Nameservers []netip.Addr
	Search      []string // domain names
	Options     []string // such as "timeout:2"
}

// Merge puts the parts of a resolver configuration in their order: the preferred nameservers, then those of the head
// file, then those of each lease, without duplicates and cut to MaxNameservers; search domains and options likewise.
func Merge(preferred []netip.Addr, head ResolvConf, leases ...Settings) ResolvConf {
	var c ResolvConf
	servers := slices.DeleteFunc(slices.Concat(preferred, head.Nameservers), func(a netip.Addr) bool {
		return !a.IsValid()
	})
	search := slices.Clone(head.Search)
	for _, l := range leases {
		servers = append(servers, l.DNS...)
		search = append(search, l.Search...)
	}
	c.Nameservers = firstOf(servers, MaxNameservers)
	c.Search = firstOf(search, MaxSearch)
	c.Options = firstOf(head.Options, maxOptions)
	return c
}

// keep makes c what an older text has without the nameservers that are gone. It reports whether there were such; if not, c
// is left as it is.
func (c *ResolvConf) keep(text []byte, gone []netip.Addr) bool {
	old, err := ParseResolvConf(bytes.NewReader(text))
	isGone := func(a netip.Addr) bool { return slices.Contains(gone, a) }
	if err != nil || !slices.ContainsFunc(old.Nameservers, isGone) {
		return false
	}
	old.Nameservers = slices.DeleteFunc(old.Nameservers, isGone)
	*c = old
	return true
}

// firstOf returns the first n different elements of list, nil when there are none.
func firstOf[T comparable](list []T, n int) []T {
	var out []T
	for _, v := range list {
		if len(out) == n {
			break
		}
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// Bytes renders c as the text of resolv.conf. The same c gives the same bytes.
func (c ResolvConf) Bytes() []byte {
	var b bytes.Buffer
	if len(c.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(c.Search, " "))
	}
	if len(c.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(c.Options, " "))
	}
	for _, ns := range c.Nameservers {
		fmt.Fprintf(&b, "nameserver %s\n", ns)
	}
	return b.Bytes()
}

// ParseResolvConf reads the nameserver, search, domain and options lines of a resolver configuration, at most 16 KiB
// of it. As resolvers do, it passes over comments, other lines and anything that is not an address or a name.
func ParseResolvConf(r io.Reader) (ResolvConf, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxHead+1))
	if err != nil {
		return ResolvConf{}, err
	}
	if len(text) > maxHead {
		return ResolvConf{}, fmt.Errorf("longer than %d bytes", maxHead)
	}
	var c ResolvConf
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxHead+1)
	for lines.Scan() {
		c.addLine(strings.Fields(lines.Text()))
	}
	return c, lines.Err()
}

func (c *ResolvConf) addLine(words []string) {
	if len(words) < 2 {
		return
	}
	switch words[0] {
	case "nameserver":
		if a, err := netip.ParseAddr(words[1]); err == nil && len(c.Nameservers) < MaxNameservers {
			c.Nameservers = append(c.Nameservers, a)
		}
	case "search", "domain": // the last such line counts
		c.Search = nil
		for _, w := range words[1:] {
			if name, ok := cleanDomain(w); ok && len(c.Search) < MaxSearch {
				c.Search = append(c.Search, name)
			}
		}
	case "options":
		for _, w := range words[1:] {
			if isOption(w) && len(c.Options) < maxOptions {
				c.Options = append(c.Options, w)
			}
		}
	}
}

// isOption tells whether word has the form of a resolver option: "rotate", "timeout:2", "edns0".
func isOption(word string) bool {
	return len(word) <= 32 && strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789-:") == ""
}

// readHead reads the head file below root; one that is missing is empty.
func readHead(root *os.Root) (ResolvConf, error) {
	text, err := readBounded(root, HeadPath)
	if err != nil {
		return ResolvConf{}, err
	}
	c, err := ParseResolvConf(bytes.NewReader(text))
	if err != nil {
		return ResolvConf{}, fmt.Errorf("read %s: %w", HeadPath, err)
	}
	return c, nil
}

// readResolvConf reads the start of resolv.conf below root, as much as a head file may have; a missing one is empty.
func readResolvConf(root *os.Root) ([]byte, error) { return readBounded(root, ResolvConfPath) }

// readBounded reads a regular file, one byte more than maxHead at most; a missing one is empty.
func readBounded(root *os.Root, name string) ([]byte, error) {
	info, err := root.Stat(name) // not opened before it is known to be a file: a named pipe would block
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: not a regular file", name)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxHead+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return text, nil
}

// writeResolvConf makes text the content of resolv.conf below root: under a temporary name, then renamed, so that a
// reader sees the old text or the new. A file that has it already is left alone, so the call can be repeated; a
// symbolic link in its place is replaced, not followed.
func writeResolvConf(root *os.Root, text []byte) error {
	if info, err := root.Lstat(ResolvConfPath); err == nil && info.Mode().IsRegular() {
		if old, err := root.ReadFile(ResolvConfPath); err == nil && bytes.Equal(old, text) {
			return nil
		}
	}
	if err := root.MkdirAll(path.Dir(ResolvConfPath), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", ResolvConfPath, err)
	}
	const tmp = ResolvConfPath + ".kindling"
	if err := writeSynced(root, tmp, text); err != nil {
		_ = root.Remove(tmp)
		return fmt.Errorf("write %s: %w", tmp, err)
	}
	if err := root.Rename(tmp, ResolvConfPath); err != nil {
		_ = root.Remove(tmp)
		return fmt.Errorf("write %s: %w", ResolvConfPath, err)
	}
	return nil
}

func writeSynced(root *os.Root, name string, text []byte) error {
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
}
