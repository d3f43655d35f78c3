// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package shell

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLine(t *testing.T) {
	got := Line([]string{"qemu", "-append", "a b", "it's", "", "x,y=z", "$HOME"})
	want := `qemu -append 'a b' 'it'\''s' '' x,y=z '$HOME'`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
