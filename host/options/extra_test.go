// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package options_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kindling/host/options"
	"kindling/steps"
)

func TestExtra(t *testing.T) {
	for _, tt := range []struct {
		name   string
		extra  options.Extra
		want   map[string]string
		config string
		unused []string
		err    string
	}{
		{"nothing", options.Extra{}, map[string]string{}, "", nil, ""},
		{"guix", options.Extra{BuildGuixAlso: true}, map[string]string{}, "BUILD_GUIX_ALSO=True\nEXTRA_BUILD=guix\n", nil, ""},
		{"guix twice", options.Extra{ExtraBuild: []string{"guix", "lfs"}, BuildGuixAlso: true}, map[string]string{},
			"BUILD_GUIX_ALSO=True\nEXTRA_BUILD=guix,lfs\n", nil, ""},
		{"guix last", options.Extra{ExtraBuild: []string{"lfs"}, BuildGuixAlso: true}, map[string]string{},
			"BUILD_GUIX_ALSO=True\nEXTRA_BUILD=lfs,guix\n", nil, ""},
		{"folders", options.Extra{ExtraRoot: []string{"/a/steps-lfs", "/b/gentoo/", "guix=/c/x=y"}, ExtraBuild: []string{"lfs"}},
			map[string]string{"lfs": "/a/steps-lfs", "gentoo": "/b/gentoo/", "guix": "/c/x=y"}, "EXTRA_BUILD=lfs\n",
			[]string{"gentoo", "guix"}, ""},
		{"path with =", options.Extra{ExtraRoot: []string{"/a=b/lfs"}}, map[string]string{"lfs": "/a=b/lfs"}, "", []string{"lfs"}, ""},
		{"two of a name", options.Extra{ExtraRoot: []string{"/a/lfs", "/b/steps-lfs"}}, nil, "", nil, "/a/lfs is the extra root lfs already"},
		{"no name", options.Extra{ExtraRoot: []string{"/a/LFS"}}, nil, "", nil, "give it one with NAME=DIR"},
		{"empty name", options.Extra{ExtraRoot: []string{"=/a"}}, nil, "", nil, "a letter first"},
		{"no folder", options.Extra{ExtraRoot: []string{"lfs="}}, nil, "", nil, "no folder behind"},
		{"asked for twice", options.Extra{ExtraBuild: []string{"a", "a"}}, nil, "", nil, "--extra-build: extra root \"a\": is asked for twice"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.extra.Check(); (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			if tt.err != "" {
				return
			}
			got, err := tt.extra.Folders()
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Errorf("folders: %v (-want +got)\n%s", err, diff)
			}
			for i, w := range tt.extra.Warnings() {
				if i >= len(tt.unused) || !strings.Contains(w, "--extra-root "+tt.unused[i]+":") {
					t.Errorf("warning %q, want those for %q", w, tt.unused)
				}
			}
			if n := len(tt.extra.Warnings()); n != len(tt.unused) {
				t.Errorf("%d warnings, want %d", n, len(tt.unused))
			}
			c := &steps.Config{}
			if err := tt.extra.Config(c); err != nil || string(c.Bytes()) != tt.config {
				t.Errorf("config: %q, %v; want %q", c.Bytes(), err, tt.config)
			}
		})
	}
}
