// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package debian

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTellingLine(t *testing.T) {
	tests := []struct {
		name string
		in   []string
		want string
	}{
		{"nothing", nil, ""},
		{"last line", []string{"one", "two  words"}, "two words"},
		{"first error of apt", []string{
			"Reading package lists...",
			"E: Failed to fetch http://a/Packages.xz  File has unexpected size (1 != 2). Mirror sync in progress?",
			"   Hashes of expected file:",
			"E: Some index files failed to download.",
		}, "Failed to fetch http://a/Packages.xz File has unexpected size (1 != 2). Mirror sync in progress?"},
		{"dpkg-deb", []string{
			"dpkg-deb: error: 'x.deb' is not a Debian format archive", "tar: Exiting",
		}, "'x.deb' is not a Debian format archive"},
		{"address with its reason", []string{
			"Err:3 http://a bookworm InRelease", "  Could not resolve 'a'", "Fetched 0 B",
		}, "3 http://a bookworm InRelease: Could not resolve 'a'"},
		{"address without a reason", []string{"Err:3 http://a bookworm InRelease"}, "3 http://a bookworm InRelease"},
		{"apt before dpkg", []string{"dpkg-deb: error: b", "E: a"}, "a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tellingLine(tt.in)); diff != "" {
				t.Errorf("telling line (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBlame(t *testing.T) {
	names := []string{"bash", "libc6", "libc6-dev", "libstdc++6"}
	tests := []struct{ line, want string }{
		{"Unable to locate package libc6-dev:i386", "libc6-dev"},
		{"Unable to locate package libc6", "libc6"},
		{"Failed to fetch http://h/pool/main/g/glibc/libc6-dev_2.36-9_i386.deb 404 Not Found", "libc6-dev"},
		{"Can't find a source to download version '1' of 'libstdc++6:i386'", "libstdc++6"},
		{"Temporary failure resolving 'deb.debian.org'", ""},
		{"", ""},
		{"rebash bashful", ""},
	}
	for _, tt := range tests {
		if got := blame(tt.line, names); got != tt.want {
			t.Errorf("blame(%q) = %q, want %q", tt.line, got, tt.want)
		}
	}
}

func TestParseControl(t *testing.T) {
	tests := []struct {
		name, in string
		want     map[string]string
	}{
		{"fields", "Package: bash\nVersion: 5.2-1\n", map[string]string{"Package": "bash", "Version": "5.2-1"}},
		{"first paragraph only", "\nPackage: a\n\nPackage: b\n", map[string]string{"Package": "a"}},
		{"continuation", "Description: short\n long\n .\n", map[string]string{"Description": "short\nlong\n."}},
		{"colon in value", "Homepage: http://a:1\n", map[string]string{"Homepage": "http://a:1"}},
		{"empty", "", nil},
		{"no field", "Package\n", nil},
		{"no name", ": x\n", nil},
		{"twice", "A: 1\nA: 2\n", nil},
		{"continuation first", " x\nA: 1\n", nil},
		{"endless line", "A: " + strings.Repeat("x", 2<<20), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseControl([]byte(tt.in))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
			if (err == nil) != (tt.want != nil) || (err != nil && !errors.Is(err, errControl)) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func FuzzParseControl(f *testing.F) {
	for _, seed := range []string{"Package: bash\nVersion: 1\n", "A: b\n c\n\nD: e\n"} {
		if _, err := parseControl([]byte(seed)); err != nil {
			f.Fatalf("seed %q: %v", seed, err)
		}
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fields, err := parseControl(data)
		if (err == nil) != (len(fields) > 0) {
			t.Errorf("%d fields with error %v", len(fields), err)
		}
		for name := range fields {
			if name == "" || strings.ContainsAny(name, ":\n") {
				t.Errorf("field name %q", name)
			}
		}
	})
}

func TestMatchingDependency(t *testing.T) {
	tests := []struct{ depends, want string }{
		{"linux-image-6.1.0-50-686 (= 6.1.176-1)", "linux-image-6.1.0-50-686"},
		{"foo, linux-image-6.1.0-1-amd64:amd64 (= 1) | bar", "linux-image-6.1.0-1-amd64"},
		{"linux-image-6.1.0-1-686, linux-image-6.1.0-1-686 (>= 2)", "linux-image-6.1.0-1-686"},
		{"linux-image-6.1.0-1-686, linux-image-6.1.0-2-686", ""},
		{"linux-image-686", ""},
		{"", ""},
	}
	for _, tt := range tests {
		got, err := matchingDependency(tt.depends, kernelPackage)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("matchingDependency(%q) = %q, %v; want %q", tt.depends, got, err, tt.want)
		}
	}
}

func TestWorthShowing(t *testing.T) {
	for line, want := range map[string]bool{
		"Get:1 http://deb.debian.org/debian bookworm InRelease [151 kB]": true,
		"Err:6 http://deb.debian.org/debian-security x":                  true,
		"   - SHA256:a5e6":           false,
		"E: Some index files":        false,
		"Reading package lists...":   false,
		"W: Download is unsandboxed": true,
	} {
		if got := worthShowing(line); got != want {
			t.Errorf("worthShowing(%q) = %v", line, got)
		}
	}
}
