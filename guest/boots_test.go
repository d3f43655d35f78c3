// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"kindling/guest/journal"
	"kindling/internal/event"
	"kindling/steps"
)

// realShape is a manifest with the jumps and improvements of a real one, in its order.
const realShape = `define: BUILD_FIWIX = ( KERNEL_BOOTSTRAP == True || BUILD_KERNELS == True )
build: tcc-0.9.27
build: fiwix-1.5 ( BUILD_FIWIX == True )
jump: fiwix ( KERNEL_BOOTSTRAP == True )
build: bash-2.05b
improve: setup_repo
build: linux-4.14
jump: break ( INTERNAL_CI == pass1 )
improve: populate_device_nodes
jump: linux ( CHROOT == False )
jump: move_disk ( KERNEL_BOOTSTRAP == True )
improve: finalize_job_count
improve: finalize_fhs
improve: swap ( SWAP_SIZE != 0 )
build: curl-8
improve: get_network ( CHROOT == False )
build: bash-5
build: linux-6
jump: linux ( SECOND_JUMP == True )
build: grub-2
improve: make_bootable ( CHROOT == False )
improve: after
`

func shaped(t *testing.T, variables ...string) []steps.Step {
	t.Helper()
	cfg := &steps.Config{}
	for _, v := range append(variables, "CHROOT=False") {
		name, value, _ := strings.Cut(v, "=")
		cfg.Set(name, value)
	}
	p, err := steps.NewPlan(fstest.MapFS{"steps/manifest": {Data: []byte(realShape)}}, steps.MainRoot, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p.Steps
}

// Every way in which the agent of a real tree can come to life, and where it goes on there.
func TestBoots(t *testing.T) {
	fiwix := shaped(t, "KERNEL_BOOTSTRAP=True", "SWAP_SIZE=0")
	ownKernel := shaped(t, "KERNEL_BOOTSTRAP=False", "SWAP_SIZE=4")
	kernels := shaped(t, "KERNEL_BOOTSTRAP=False", "BUILD_KERNELS=True", "SWAP_SIZE=0")
	second := shaped(t, "KERNEL_BOOTSTRAP=False", "SWAP_SIZE=0", "SECOND_JUMP=True")
	doneTo := func(plan []steps.Step, name string) map[string]bool { // from the first step on Linux to the last of that name
		done := map[string]bool{}
		last := -1
		for i, s := range plan {
			if s.String() == name {
				last = i
			}
		}
		for i := steps.FirstOnLinux(plan); i <= last; i++ {
			done[plan[i].ID()] = true
		}
		return done
	}
	stepID := func(plan []steps.Step, name string) (id string) {
		for _, s := range plan {
			if s.String() == name {
				id = s.ID()
			}
		}
		return id
	}
	for _, tt := range []struct {
		name  string
		plan  []steps.Step
		state journal.State
		place place
		next  string // "" for none
	}{
		{"initramfs behind the jump from Fiwix", fiwix, journal.State{}, placeAfterJump, "jump: move_disk"},
		{"on disk, behind the move", fiwix, journal.State{Done: doneTo(fiwix, "jump: move_disk")}, placeResume, "improve: finalize_job_count"},
		{"the move was cut short, the initramfs booted again", fiwix, journal.State{}, placeAfterJump, "jump: move_disk"},
		{"own kernel, behind the jump from Linux to Linux", ownKernel, journal.State{}, placeAfterJump, "improve: finalize_job_count"},
		{"own kernel with kernels to build: the same jump", kernels, journal.State{}, placeAfterJump, "improve: finalize_job_count"},
		{"own kernel, booted again by the first kernel", ownKernel,
			journal.State{Done: doneTo(ownKernel, "improve: swap"), Started: stepID(ownKernel, "build: curl-8")}, placeResume, "build: curl-8"},
		{"behind a jump that the agent has made itself", second, journal.State{Done: doneTo(second, "jump: linux")}, placeResume, "build: grub-2"},
		{"such a jump was cut short before the kernel was left", second,
			journal.State{Done: doneTo(second, "build: linux-6"), Started: stepID(second, "jump: linux")}, placeResume, "jump: linux"},
		{"booted by GRUB in the middle of a run", fiwix, journal.State{Done: doneTo(fiwix, "improve: make_bootable"), Started: stepID(fiwix, "improve: after")},
			placeResume, "improve: after"},
		{"make_bootable was cut short", fiwix, journal.State{Done: doneTo(fiwix, "build: grub-2"), Started: stepID(fiwix, "improve: make_bootable")},
			placeResume, "improve: make_bootable"},
		{"failed", fiwix, journal.State{Done: doneTo(fiwix, "improve: finalize_fhs"), Failed: stepID(fiwix, "build: curl-8"), Result: event.StatusFailed},
			placeResume, "build: curl-8"},
		{"cut short between the last step and the last word", fiwix, journal.State{Done: doneTo(fiwix, "improve: after")}, placeEnded, ""},
		{"a finished system", fiwix, journal.State{Done: doneTo(fiwix, "improve: after"), Result: event.StatusOK}, placeFinished, ""},
		{"a finished system that began with an own kernel", ownKernel, journal.State{Done: doneTo(ownKernel, "improve: after"), Result: event.StatusOK},
			placeFinished, ""},
	} {
		d, err := where(situation{plan: tt.plan, state: tt.state})
		next := ""
		if err == nil && d.next < len(tt.plan) {
			next = tt.plan[d.next].String()
		}
		if err != nil || d.place != tt.place || next != tt.next {
			t.Errorf("%s: got place %d, %q, %v; want %d, %q", tt.name, d.place, next, err, tt.place, tt.next)
		}
	}
}

// A kernel is loaded, and not jumped to; and what a jump from the tree's kernel makes is there already.
func TestKexec(t *testing.T) {
	got := runWith(t, kexecFunctions, `mkdir "${dir}"
kexec -l "/boot/vmlinuz" --append="root=/dev/sda1 rootwait"
kexec -e
kexec --load k -e
echo "${PAYLOAD_REST_COUNT}"
`)
	want := "kexec [-l] [/boot/vmlinuz] [--append=root=/dev/sda1 rootwait]\nkexec [--load] [k]\n0\n"
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestShellTerminals(t *testing.T) {
	for _, tt := range []struct {
		console string
		want    []string
	}{
		{"/dev/tty1", []string{firstVT}}, {"/dev/ttyS0", []string{firstVT, "/dev/ttyS0"}}, {"/dev/ttyS1", []string{firstVT}},
		{"/dev/hvc0", []string{firstVT, "/dev/hvc0"}},
	} {
		if d := cmp.Diff(tt.want, shellTerminals(tt.console, "ttyS1")); d != "" {
			t.Errorf("%s (-want +got)\n%s", tt.console, d)
		}
	}
}
