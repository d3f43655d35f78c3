// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/term"

	"kindling/host/blockdev"
	"kindling/host/report"
	"kindling/host/transfer"
	"kindling/internal/shell"
)

// writeCmd is "kindling write": it writes an image to a real disk, after it has shown what that disk is.
type writeCmd struct {
	Image    string `arg:"" help:"The image to write."`
	Device   string `arg:"" help:"The disk, as in /dev/sdX; everything on it is lost."`
	YesErase string `help:"Erase this disk without asking; needed without a terminal." placeholder:"NAME"`
	JSON     bool   `help:"Write the result as JSON with stable field names."                             name:"json"`
}

// Help implements kong.HelpProvider.
func (writeCmd) Help() string {
	return examples(
		"sudo kindling write media/init.img /dev/sdX", "show what the disk is, ask, write, read back",
		"sudo kindling write media/init.img /dev/sdX --yes-erase /dev/sdX", "the same in a script",
	)
}

// written is the result as JSON.
type written struct {
	Image     string `json:"image"`
	Disk      string `json:"disk"`
	Model     string `json:"model"`
	Serial    string `json:"serial"`
	Transport string `json:"transport"`
	DiskSize  int64  `json:"disk_size"`
	Bytes     int64  `json:"bytes"`
	SHA256    string `json:"sha256"`
	Zeroed    int64  `json:"zeroed"`
	Tail      int64  `json:"tail"`
	Verified  bool   `json:"verified"`
}

// Run implements the verb. The description of the disk and the question go to standard error, the result to standard
// output.
func (c *writeCmd) Run(ctx context.Context, s streams) error {
	image, err := blockdev.OpenImage(c.Image)
	if err != nil {
		return inputError(fmt.Errorf("image: %w", err))
	}
	defer image.Close()
	host := blockdev.System()
	disk, err := host.Inspect(c.Device)
	if err != nil {
		return inputError(err)
	}
	if err := describe(s.notes(), disk, c.Image, image); err != nil {
		return err
	}
	if refusals := disk.Refusals(image.Size()); len(refusals) > 0 {
		return refusalError(disk, refusals)
	}
	target, err := host.OpenExclusive(disk)
	if err != nil {
		return c.openError(err, os.Geteuid() == 0)
	}
	if err := c.confirm(ctx, s, os.Stdin, disk.Name); err != nil {
		return errors.Join(err, target.Close())
	}
	display := transfer.For(s.err, os.Getenv("TERM"))
	result, err := blockdev.Copy(ctx, image, target, disk.Size, func(p blockdev.Progress) {
		display.Row(disk.Name, string(p.Phase), p.Done, p.Total)
	})
	display.Close()
	err = errors.Join(err, target.Close())
	if err != nil && ctx.Err() != nil {
		return &exitError{report.ResultInterrupted.ExitStatus(), interruptedLine(disk.Name, err)}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", disk.Name, err)
	}
	return c.print(s.text(), disk, result)
}

// openError is why a disk cannot be opened, with the command that can where root can.
func (c *writeCmd) openError(err error, root bool) error {
	if errors.Is(err, fs.ErrPermission) && !root {
		return usageError("%s; nothing was written: write as root: %s", err,
			shell.Line([]string{"sudo", "kindling", "write", c.Image, c.Device}))
	}
	return inputError(fmt.Errorf("%w; nothing was written", err))
}

// interruptedLine says what an interruption has left.
func interruptedLine(name string, err error) string {
	if errors.Is(err, blockdev.ErrHalfWritten) {
		return fmt.Sprintf("interrupted: %s: %s", name, blockdev.ErrHalfWritten)
	}
	return fmt.Sprintf("interrupted: %s: the image was written, but not compared", name)
}

func (c *writeCmd) print(out io.Writer, d *blockdev.Disk, r blockdev.Result) error {
	if c.JSON {
		return writeJSON(out, written{
			Image: c.Image, Disk: d.Name, Model: d.Model, Serial: d.Serial, Transport: d.Transport, DiskSize: d.Size,
			Bytes: r.Size, SHA256: r.SHA256, Zeroed: r.Zeroed, Tail: r.Tail, Verified: true,
		})
	}
	_, err := fmt.Fprintf(out, "%s: %s written, read back and the same, sha256 %s\n",
		d.Name, transfer.Size(r.Size), r.SHA256)
	return err
}

// refusalError is all reasons in one line.
func refusalError(d *blockdev.Disk, refusals []blockdev.Refusal) error {
	var texts []string
	for _, r := range refusals {
		texts = append(texts, r.Text)
	}
	return usageError("%s is not written to: %s", d.Name, strings.Join(texts, "; "))
}

// describe shows what would be erased, and by what.
func describe(out io.Writer, d *blockdev.Disk, name string, image *blockdev.ImageFile) error {
	p := &printer{out: out}
	words := []string{d.Name + ":", d.Model, transfer.Size(d.Size)}
	if d.Model == "" {
		words[1] = "(no model name)"
	}
	if d.Serial != "" {
		words = append(words, "serial "+d.Serial)
	}
	if d.Transport != "" {
		words = append(words, d.Transport)
	}
	if d.Removable {
		words = append(words, "removable")
	}
	p.printf("%s\n", strings.Join(words, " "))
	sizes := map[string]int64{}
	for _, part := range d.Parts {
		sizes[part.Name] = part.Size
	}
	for _, content := range d.Contents {
		size := ""
		if n, isPart := sizes[content.Device]; isPart {
			size = transfer.Size(n)
		}
		p.printf("  %-12s %10s  %s\n", content.Device, size, signatureText(content.Signatures))
	}
	for _, use := range d.Uses {
		p.printf("  %s\n", use)
	}
	p.printf("image: %s %s, %s\n", name, transfer.Size(image.Size()), signatureText(image.Signatures()))
	return p.err
}

// signatureText is "MBR partition table, ext4 filesystem "root"".
func signatureText(signatures []blockdev.Signature) string {
	var texts []string
	for _, s := range signatures {
		text := s.Name
		if s.Label != "" {
			text += fmt.Sprintf(" %q", s.Label)
		}
		texts = append(texts, text)
	}
	if len(texts) == 0 {
		return "nothing that is known here"
	}
	return strings.Join(texts, ", ")
}

// confirm makes sure that the user means this disk: by --yes-erase, or by typing its name.
func (c *writeCmd) confirm(ctx context.Context, s streams, in *os.File, name string) error {
	switch {
	case c.YesErase == name:
		return nil
	case c.YesErase != "":
		return usageError("--yes-erase %s: the disk's name is %s; nothing was written", c.YesErase, name)
	case !term.IsTerminal(int(in.Fd())):
		return usageError("there is no terminal to ask on: give --yes-erase %s if everything on it may be lost", name)
	}
	if _, err := fmt.Fprintf(s.notes(), "Everything on %s will be lost. Type its name to go on: ", name); err != nil {
		return err
	}
	answer, err := readLine(ctx, in)
	switch {
	case ctx.Err() != nil:
		return &exitError{report.ResultInterrupted.ExitStatus(), "interrupted; nothing was written"}
	case err != nil:
		return usageError("no answer: %s; nothing was written", err)
	case answer != name:
		return usageError("that is not %s; nothing was written", name)
	}
	return nil
}

// readLine reads one line, but not longer than ctx lasts. The reading itself cannot be ended; the program soon is.
func readLine(ctx context.Context, in io.Reader) (string, error) {
	type answer struct {
		line string
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		line, err := bufio.NewReader(io.LimitReader(in, 1024)).ReadString('\n')
		answers <- answer{strings.TrimSpace(line), err}
	}()
	select {
	case a := <-answers:
		return a.line, a.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
