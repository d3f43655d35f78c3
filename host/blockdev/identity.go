// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package blockdev

import (
	"path/filepath"
	"strings"
)

// transports are found by a part of the path of a disk's folder in sysfs. The first match counts: a USB disk is a SCSI
// disk as well.
var transports = []struct{ part, name string }{
	{"/virtual/", "virtual"}, {"/usb", "usb"}, {"/nvme", "nvme"}, {"/mmc_host/", "mmc"}, {"/ata", "sata"},
	{"/virtio", "virtio"}, {"/host", "scsi"},
}

// maxClimb is how far up the serial number of a USB device is looked for.
const maxClimb = 8

// identity is what a disk, whose folder in sysfs is dir, says that it is.
func identity(sys, dir string) (model, serial, transport string) {
	below := strings.TrimPrefix(dir, filepath.Clean(sys))
	for _, t := range transports {
		if strings.Contains(below, t.part) {
			transport = t.name
			break
		}
	}
	for _, name := range []string{"device/model", "device/name"} {
		if model = attribute(dir, name); model != "" {
			break
		}
	}
	if vendor := clean(attribute(dir, "device/vendor")); !strings.HasPrefix(vendor, "0x") && vendor != "ATA" {
		model = vendor + " " + model // virtio has a PCI number there, SATA always the same word
	}
	for _, name := range []string{"serial", "device/serial"} {
		if serial = attribute(dir, name); serial != "" {
			break
		}
	}
	if page := attribute(dir, "device/vpd_pg80"); serial == "" && len(page) > 4 {
		serial = page[4:] // SCSI, "unit serial number" page: four bytes of header, then the number
	}
	if serial == "" && transport == "usb" {
		serial = usbSerial(dir)
	}
	return clean(model), clean(serial), transport
}

// usbSerial is the serial number of the USB device that the disk in folder dir is in.
func usbSerial(dir string) string {
	for range maxClimb {
		dir = filepath.Dir(dir)
		if attribute(dir, "idVendor") != "" {
			return attribute(dir, "serial")
		}
	}
	return ""
}
