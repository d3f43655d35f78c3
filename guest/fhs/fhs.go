// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

// Package fhs makes the folders and files that programs expect of a system (Filesystem Hierarchy Standard): what the
// tree's `improve: finalize_fhs` does, except for the mounts, which the agent has made by then.
//
// It can be repeated at every boot: what is there stays, files get their name only when they are whole, and the preferred
// nameserver is put first again. Package guest calls it in that step, and at every later boot.
package fhs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"kindling/netcfg"
)

// Paths below the root.
const (
	passwdPath = "etc/passwd"
	groupPath  = "etc/group"
	mtabPath   = "etc/mtab"
	mtabTarget = "/proc/mounts"

	// suffix is that of temporary names.
	suffix = ".kindling"
)

// preferred is the nameserver of a system that has none yet. It stands in the head file, and so stays first whatever
// DHCP brings.
const preferred = "nameserver 1.1.1.1\n"

func folders() []string {
	return []string{"etc", "run", "var/log", "var/lock", "var/spool", "var/tmp", "var/cache"}
}

// Finalize does it below root.
func Finalize(root string) error {
	for _, dir := range folders() {
		if err := makeDir(filepath.Join(root, dir)); err != nil {
			return err
		}
	}
	if err := link(mtabTarget, filepath.Join(root, mtabPath)); err != nil {
		return err
	}
	if err := nameservers(filepath.Join(root, netcfg.HeadPath), filepath.Join(root, netcfg.ResolvConfPath)); err != nil {
		return err
	}
	return errors.Join(createOnce(filepath.Join(root, passwdPath), passwd()), createOnce(filepath.Join(root, groupPath), group()))
}

// makeDir makes a folder and those above it. An empty file in its place is what builder-hex0 leaves of an empty folder.
func makeDir(path string) error {
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && info.Size() == 0 {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return os.MkdirAll(path, 0o755)
}

// link makes a symbolic link, in the place of whatever file has its name.
func link(target, path string) error {
	if now, err := os.Readlink(path); err == nil && now == target {
		return nil
	}
	tmp := path + suffix
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// nameservers makes resolv.conf and its head file, and puts the head's nameserver first where it is not.
func nameservers(headPath, path string) error {
	if err := createOnce(headPath, []byte(preferred)); err != nil {
		return err
	}
	head, err := readResolvConf(headPath)
	if err != nil {
		return err
	}
	now, err := readResolvConf(path)
	if errors.Is(err, fs.ErrNotExist) {
		return replace(path, netcfg.Merge(nil, head).Bytes())
	}
	if err != nil {
		return err
	}
	if len(head.Nameservers) == 0 || len(now.Nameservers) > 0 && now.Nameservers[0] == head.Nameservers[0] {
		return nil
	}
	head.Options = append(head.Options, now.Options...)
	merged := netcfg.Merge(nil, head, netcfg.Settings{DNS: now.Nameservers, Search: now.Search})
	return replace(path, merged.Bytes())
}

func readResolvConf(path string) (netcfg.ResolvConf, error) {
	info, err := os.Stat(path)
	if err != nil {
		return netcfg.ResolvConf{}, err
	}
	if !info.Mode().IsRegular() { // a named pipe would wait for a writer
		return netcfg.ResolvConf{}, fmt.Errorf("%s is no regular file", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return netcfg.ResolvConf{}, err
	}
	c, err := netcfg.ParseResolvConf(bytes.NewReader(data))
	if err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// createOnce makes a file that is not there yet.
func createOnce(path string, data []byte) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return replace(path, data)
}

// replace gives a file its content under a temporary name, and then its own.
func replace(path string, data []byte) error {
	tmp := path + suffix
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(tmp))
	}
	return os.Rename(tmp, path)
}

// passwd lists the users of Linux From Scratch in the format of passwd(5).
func passwd() []byte {
	var out strings.Builder
	for _, u := range []struct {
		name, comment, home, shell string
		id                         int
	}{
		{name: "root", id: 0, comment: "root", home: "/root", shell: "/bin/bash"},
		{name: "bin", id: 1, comment: "bin"},
		{name: "daemon", id: 6, comment: "Daemon User"},
		{name: "messagebus", id: 18, comment: "D-Bus Message Daemon User", home: "/run/dbus"},
		{name: "uuidd", id: 80, comment: "UUID Generation Daemon User"},
		{name: "nobody", id: 65534, comment: "Unprivileged User"},
	} {
		home, shell := u.home, u.shell
		if home == "" {
			home = "/dev/null"
		}
		if shell == "" {
			shell = "/usr/bin/false"
		}
		fmt.Fprintf(&out, "%s:x:%d:%d:%s:%s:%s\n", u.name, u.id, u.id, u.comment, home, shell)
	}
	return []byte(out.String())
}

// group lists the groups of Linux From Scratch in the format of group(5).
func group() []byte {
	var out strings.Builder
	for _, g := range []struct {
		name, members string
		id            int
	}{
		{"root", "", 0}, {"bin", "daemon", 1}, {"sys", "", 2}, {"kmem", "", 3}, {"tape", "", 4}, {"tty", "", 5}, {"daemon", "", 6},
		{"floppy", "", 7}, {"disk", "", 8}, {"lp", "", 9}, {"dialout", "", 10}, {"audio", "", 11}, {"video", "", 12}, {"utmp", "", 13},
		{"usb", "", 14}, {"cdrom", "", 15}, {"adm", "", 16}, {"messagebus", "", 18}, {"input", "", 24}, {"mail", "", 34},
		{"kvm", "", 61}, {"uuidd", "", 80}, {"wheel", "", 97}, {"users", "", 999}, {"nogroup", "", 65534},
	} {
		fmt.Fprintf(&out, "%s:x:%d:%s\n", g.name, g.id, g.members)
	}
	return []byte(out.String())
}
