// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package budget

import "fmt"

// Machine is a machine's memory.
type Machine struct {
	// Low is the end of the memory below 4 GiB, in bytes: early kernels see no other. 0: not known.
	Low int64
	// Source says where that comes from.
	Source string
}

// QEMU is the memory of a machine of QEMU with ram bytes. Machines of the type "q35" leave room for PCI Express: from
// 2,816 MiB on they have only 2 GiB below 4 GiB (hw/i386/pc_q35.c), those of the type "pc" 3 GiB from 3,584 MiB on
// (hw/i386/pc_piix.c).
func QEMU(machine string, ram int64) Machine {
	if ram <= 0 {
		return Machine{}
	}
	from, low := int64(0xE000_0000), int64(0xC000_0000)
	if machine == "q35" {
		from, low = 0xB000_0000, 0x8000_0000
	}
	if ram < from {
		low = ram
	}
	return Machine{Low: low, Source: fmt.Sprintf("QEMU machine %s with %d MiB", machine, ram>>20)}
}
