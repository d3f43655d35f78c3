// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package resume

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"kindling/host/programs"
	"kindling/internal/event"
)

// A medium is a disk that a BIOS boots: GRUB's boot.img in the first sector, its core image behind it, and from 1 MiB on
// one partition whose content is a tar archive with kernel and initramfs, which GRUB reads as a filesystem. So the same
// files give the same bytes, and nothing but GRUB's own tool has to make it.
const (
	mediumSector = 512
	mediumStart  = 1 << 20 // of the partition, in bytes
	mediumAlign  = 1 << 20

	grubFolder   = "/usr/lib/grub/i386-pc"
	grubPackages = "grub-common grub-pc-bin"
)

// ErrGRUB is a GRUB that is not there, or not as expected.
var ErrGRUB = errors.New("GRUB for a BIOS")

// Medium is what goes onto one.
type Medium struct {
	Kernel    string // file of the host
	Initramfs string // file of the host
	Cmdline   string // of the kernel
}

// Write writes the medium to the file out, which appears when it is complete, and gives its size in bytes.
func (m Medium) Write(ctx context.Context, out string) (size int64, err error) {
	boot, core, err := m.grub(ctx)
	if err != nil {
		return 0, err
	}
	f, err := renameio.NewPendingFile(out, renameio.WithTempDir(filepath.Dir(out)), renameio.WithStaticPermissions(0o644))
	if err != nil {
		return 0, fmt.Errorf("medium %s: %w", out, err)
	}
	size, err = m.writeTo(ctx, f.File, boot, core)
	if err == nil {
		err = f.CloseAtomicallyReplace()
	}
	if err != nil {
		return 0, errors.Join(fmt.Errorf("medium %s: %w", out, err), f.Cleanup())
	}
	return size, nil
}

// grub gives GRUB's two parts: the first sector, and the core with its modules and what it is to do.
func (m Medium) grub(ctx context.Context) (boot, core []byte, err error) {
	if strings.ContainsAny(m.Cmdline, "\n\r'") {
		return nil, nil, fmt.Errorf("%w: the kernel's command line has a quote or a newline: %q", ErrGRUB, m.Cmdline)
	}
	program, err := programs.Find("grub-mkimage")
	if err == nil {
		boot, err = os.ReadFile(filepath.Join(grubFolder, "boot.img"))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w: install it with 'apt-get install %s'", ErrGRUB, err, grubPackages)
	}
	if len(boot) != mediumSector || boot[510] != 0x55 || boot[511] != 0xaa {
		return nil, nil, fmt.Errorf("%w: %s/boot.img is no boot sector", ErrGRUB, grubFolder)
	}
	dir, err := os.MkdirTemp("", "kindling-grub-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	config, image := filepath.Join(dir, "grub.cfg"), filepath.Join(dir, "core.img")
	if err := os.WriteFile(config, []byte(m.config()), 0o644); err != nil {
		return nil, nil, err
	}
	cmd := exec.CommandContext(ctx, program, "-O", "i386-pc", "-d", grubFolder, "-p", "(,msdos1)/", "-c", config, "-o", image,
		"biosdisk", "part_msdos", "tar", "linux", "boot", "serial", "terminal", "echo")
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("%w: grub-mkimage: %w: %s", ErrGRUB, err, event.Clean(string(bytes.TrimSpace(said))))
	}
	core, err = os.ReadFile(image)
	if err == nil && len(core) > mediumStart-mediumSector {
		err = fmt.Errorf("%w: a core of %d bytes does not fit before the partition", ErrGRUB, len(core))
	}
	return boot, core, err
}

// config is what GRUB does. Its words go to the first serial port as well.
func (m Medium) config() string {
	return `serial --unit=0 --speed=115200
terminal_output console serial
echo 'Kindling: going on with the run on a disk of this machine'
linux /vmlinuz '` + strings.ReplaceAll(m.Cmdline, " ", "' '") + `'
initrd /initramfs.cpio
boot
`
}

// writeTo writes the medium's bytes.
func (m Medium) writeTo(ctx context.Context, f *os.File, boot, core []byte) (int64, error) {
	if _, err := f.WriteAt(core, mediumSector); err != nil {
		return 0, err
	}
	sum := sha256.New()
	w := io.NewOffsetWriter(f, mediumStart)
	archive := tar.NewWriter(io.MultiWriter(w, sum))
	for _, file := range []struct{ name, path string }{{"vmlinuz", m.Kernel}, {"initramfs.cpio", m.Initramfs}} {
		if err := errors.Join(ctx.Err(), addFile(archive, file.name, file.path)); err != nil {
			return 0, err
		}
	}
	if err := archive.Close(); err != nil {
		return 0, err
	}
	end, err := w.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	length := (end + mediumAlign - 1) / mediumAlign * mediumAlign
	if _, err := f.WriteAt(withTable(boot, length, binary.LittleEndian.Uint32(sum.Sum(nil))), 0); err != nil {
		return 0, err
	}
	return mediumStart + length, errors.Join(f.Truncate(mediumStart+length), f.Sync())
}

// addFile adds a file of the host, of any time and owner.
func addFile(archive *tar.Writer, name, path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: info.Size(), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	if _, err := io.Copy(archive, in); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// withTable is a boot sector with one partition of that many bytes and the disk's number, which tells it apart from the
// disk that holds the run.
func withTable(boot []byte, length int64, id uint32) []byte {
	sector := bytes.Clone(boot)
	binary.LittleEndian.PutUint32(sector[440:], id)
	clear(sector[446:510]) // boot.img has code for floppy disks there, and GRUB takes no table with that in it
	entry := sector[446:462]
	copy(entry, []byte{0x80, 0xfe, 0xff, 0xff, 0xda, 0xfe, 0xff, 0xff}) // active; 0xda: data without a filesystem
	binary.LittleEndian.PutUint32(entry[8:], mediumStart/mediumSector)
	binary.LittleEndian.PutUint32(entry[12:], uint32(length/mediumSector))
	return sector
}
