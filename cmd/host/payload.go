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
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/renameio/v2"

	"kindling/host/options"
	"kindling/host/report"
	"kindling/host/transfer"
	"kindling/host/tree"
	"kindling/internal/event"
	"kindling/internal/payload"
	"kindling/steps"
)

// payloadCmd is "kindling payload": what can be done with payload images (LBPAYLD1) on the host.
type payloadCmd struct {
	Create  payloadCreateCmd  `cmd:"" help:"Make a payload image of files, or of what a tree needs."`
	List    payloadListCmd    `cmd:"" help:"List what is in a payload image."`
	Verify  payloadVerifyCmd  `cmd:"" help:"Hold every file of a payload image against its SHA256SUMS."`
	Extract payloadExtractCmd `cmd:"" help:"Copy files out of a payload image into a folder, verified."`
}

// firstWrap is where Fiwix begins to read a disk from its start again: what it has to read ends before.
const firstWrap = 4 << 30

// payloadCreateCmd is "kindling payload create".
type payloadCreateCmd struct {
	Plan planned `embed:""`

	Image     string   `arg:"" help:"The image to write; one of that name is replaced when it is complete."`
	Sources   []string `arg:"" help:"Files, and folders whose files are taken in the order of their names." optional:""`
	Tree      string   `help:"A live-bootstrap checkout; its files follow those that are named." placeholder:"DIR"`
	Distfiles string   `help:"The folder that --tree's files are in." placeholder:"DIR"`
	JSON      bool     `help:"Write the result as JSON with stable field names." name:"json"`
}

// Help implements kong.HelpProvider.
func (payloadCreateCmd) Help() string {
	return examples(
		"kindling payload create payload.img --tree ~/live-bootstrap --distfiles ~/distfiles --external-sources --qemu",
		"what the plan of a tree puts into its payload",
		"kindling payload create payload.img a.tar b.tar", "files of your own",
	)
}

// created is the result as JSON.
type created struct {
	Image      string `json:"image"`
	ID         string `json:"id"`
	Files      int    `json:"files"`
	EarlyFiles int    `json:"early_files"`
	Bytes      int64  `json:"bytes"`
}

// Run implements the verb.
func (c *payloadCreateCmd) Run(ctx context.Context, s streams) error {
	entries, early, err := c.entries(ctx)
	if err == nil {
		err = checkOutput(c.Image)
	}
	if err != nil {
		return orInterrupted(ctx, inputError(err))
	}
	summary, err := writePayload(ctx, c.Image, entries)
	switch {
	case errors.Is(err, payload.ErrSource):
		return orInterrupted(ctx, inputError(err))
	case err != nil:
		return orInterrupted(ctx, err)
	}
	if c.JSON {
		return writeJSON(s.out, created{c.Image, summary.ID, summary.Files, early, summary.Size})
	}
	p := &printer{out: s.text()}
	p.printf("%s: %d files, %s\nPAYLOAD_ID=%s\nPAYLOAD_EARLY_COUNT=%d\n", c.Image, summary.Files,
		transfer.Size(summary.Size), summary.ID, early)
	return p.err
}

// entries are what goes into the image, and how many of them are needed before Linux.
func (c *payloadCreateCmd) entries(ctx context.Context) ([]payload.Entry, int, error) {
	if (c.Tree == "") != (c.Distfiles == "") {
		return nil, 0, errors.New("--tree and --distfiles belong together: give both or none")
	}
	if c.Tree == "" && len(c.Sources) == 0 {
		return nil, 0, errors.New("nothing to put into the image: name files, or give --tree and --distfiles")
	}
	sources, err := expandSources(c.Sources)
	if err != nil {
		return nil, 0, err
	}
	var entries []payload.Entry
	for _, source := range sources {
		sum, err := source.SHA256(ctx)
		if err != nil {
			return nil, 0, err
		}
		entries = append(entries, sourceEntry(filepath.Base(source.Path), sum, source))
	}
	early := 0
	if c.Tree != "" {
		planned, n, err := c.planned()
		if err != nil {
			return nil, 0, err
		}
		early = len(entries) + n
		entries = append(entries, planned...)
	}
	return entries, early, checkLayout(entries, early)
}

// planned are the files that the plan puts into the payload, the early ones first.
func (c *payloadCreateCmd) planned() ([]payload.Entry, int, error) {
	files, err := c.Plan.distfiles(c.Tree, options.ModeQemu)
	if err != nil {
		return nil, 0, err
	}
	folder, err := tree.OpenFolder(c.Distfiles)
	if err != nil {
		return nil, 0, err
	}
	var early, late []payload.Entry
	for _, f := range files {
		if f.Medium != steps.MediumPayloadEarly && f.Medium != steps.MediumPayload && f.Again != steps.MediumPayload {
			continue
		}
		source, err := tree.Find(folder, f.Name, filepath.Join(c.Distfiles, f.Name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, 0, fmt.Errorf("%s: is missing: get it with 'kindling fetch'", filepath.Join(c.Distfiles, f.Name))
		case err != nil:
			return nil, 0, err
		}
		entry := sourceEntry(f.Name, f.SHA256, source)
		if f.Medium == steps.MediumPayloadEarly {
			early = append(early, entry)
		} else {
			late = append(late, entry)
		}
	}
	if len(early)+len(late) == 0 {
		return nil, 0, fmt.Errorf("tree %s: with these options its plan puts nothing into a payload", c.Tree)
	}
	return append(early, late...), len(early), nil
}

// checkLayout reports entries that cannot stand in one image, and an early part that Fiwix cannot read.
func checkLayout(entries []payload.Entry, early int) error {
	_, headers, err := payload.Layout(entries)
	if err != nil {
		return err
	}
	if last := headers[early]; last.Offset+last.Size > firstWrap { // headers[0] is SHA256SUMS
		return fmt.Errorf("the early part ends at byte %d: Fiwix reads disks up to 4 GiB only", last.Offset+last.Size)
	}
	return nil
}

// sourceEntry is a file of the host as an entry of a payload.
func sourceEntry(name, sum string, source *tree.Source) payload.Entry {
	return payload.Entry{Name: name, Size: source.Size, SHA256: sum, Open: func() (io.ReadCloser, error) { return source.Open() }}
}

// expandSources finds the files, and those of the folders, which stay open until the program ends. A link that the user
// has named may lead anywhere, one in a folder only to a file of that folder.
func expandSources(names []string) ([]*tree.Source, error) {
	var sources []*tree.Source
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			source, _, err := tree.FindFile(name)
			if err != nil {
				return nil, err
			}
			sources = append(sources, source)
			continue
		}
		folder, err := tree.OpenFolder(name)
		if err != nil {
			return nil, err
		}
		entries, err := fs.ReadDir(folder, ".")
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			source, err := tree.Find(folder, e.Name(), filepath.Join(name, e.Name()))
			if err != nil {
				return nil, fmt.Errorf("%w: a payload has regular files only", err)
			}
			sources = append(sources, source)
		}
	}
	return sources, nil
}

// checkOutput reports a name under which no image can be put.
func checkOutput(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: is no regular file: write an image first, then 'kindling write' it to a disk", path)
	}
	return err
}

// writePayload writes an image, which gets its name when it is complete.
func writePayload(ctx context.Context, path string, entries []payload.Entry) (payload.Summary, error) {
	out, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
	if err != nil {
		return payload.Summary{}, fmt.Errorf("write %s: %w", path, err)
	}
	defer func() { _ = out.Cleanup() }() // nothing to do once it has its name
	summary, err := payload.Write(ctx, out, entries)
	if err != nil {
		return payload.Summary{}, err
	}
	if err := out.CloseAtomicallyReplace(); err != nil {
		return payload.Summary{}, fmt.Errorf("write %s: %w", path, err)
	}
	return summary, nil
}

// payloadListCmd is "kindling payload list".
type payloadListCmd struct {
	Image string `arg:"" help:"The image: a file or a disk."`
	JSON  bool   `help:"Write JSON with stable field names." name:"json"`
}

// Help implements kong.HelpProvider.
func (payloadListCmd) Help() string {
	return examples(
		"kindling payload list payload.img", "names, sizes and sha256",
		"kindling payload list /dev/sdb --json", "the same of a disk, for a program",
	)
}

// listed is a payload as JSON.
type listed struct {
	Image string       `json:"image"`
	ID    string       `json:"id"` // "" without SHA256SUMS
	Wide  bool         `json:"wide"`
	Files []listedFile `json:"files"`
	Bytes int64        `json:"bytes"`
}

type listedFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	Offset int64  `json:"offset"`
	SHA256 string `json:"sha256"` // "" without SHA256SUMS
}

// Run implements the verb. It reads the whole container's form, but not its data.
func (c *payloadListCmd) Run(s streams) error {
	f, err := openPayload(c.Image)
	if err != nil {
		return inputError(err)
	}
	defer f.Close()
	info, files, err := payload.List(f)
	if err != nil {
		return payloadError(c.Image, err)
	}
	doc := listed{Image: c.Image, ID: info.ID, Wide: info.Wide, Files: []listedFile{}}
	for _, file := range files {
		doc.Files = append(doc.Files, listedFile{file.Name, file.Size, file.Offset, file.SHA256})
		doc.Bytes += file.Size
	}
	if c.JSON {
		return writeJSON(s.out, doc)
	}
	return doc.print(s.text())
}

// print writes a table; names are cleaned, but not cut.
func (l *listed) print(out io.Writer) error {
	buffered := bufio.NewWriter(out)
	p := &printer{out: buffered}
	p.printf("%-64s  %12s  %12s  %s\n", "sha256", "offset", "size", "name")
	for _, f := range l.Files {
		sum := f.SHA256
		if sum == "" {
			sum = "-"
		}
		p.printf("%-64s  %12d  %12d  %s\n", sum, f.Offset, f.Size, event.Clean(f.Name))
	}
	p.printf("%d files, %s", len(l.Files), transfer.Size(l.Bytes))
	if l.ID == "" {
		p.printf("; no %s", payload.SumsName)
	} else {
		p.printf("; ID %s", l.ID)
	}
	if !l.Wide {
		p.printf("; old form with 32-bit numbers")
	}
	p.printf("\n")
	return errors.Join(p.err, buffered.Flush())
}

// payloadVerifyCmd is "kindling payload verify".
type payloadVerifyCmd struct {
	Image string `arg:"" help:"The image: a file or a disk."`
	ID    string `help:"The ID that it must have (PAYLOAD_ID)." placeholder:"HEX" name:"id"`
	JSON  bool   `help:"Write the result as JSON with stable field names." name:"json"`
}

// Help implements kong.HelpProvider.
func (payloadVerifyCmd) Help() string {
	return examples(
		"kindling payload verify payload.img", "read all of it, and hold it against its SHA256SUMS",
	)
}

// verified is the result as JSON; Error is "" when the payload is right.
type verified struct {
	Image string `json:"image"`
	ID    string `json:"id"`
	Files int    `json:"files"`
	Error string `json:"error"`
}

// Run implements the verb. A container without SHA256SUMS cannot be verified, and is bad therefore.
func (c *payloadVerifyCmd) Run(ctx context.Context, s streams) error {
	if err := checkID(c.ID); err != nil {
		return inputError(err)
	}
	f, err := openPayload(c.Image)
	if err != nil {
		return inputError(err)
	}
	defer f.Close()
	display := transfer.For(s.err, os.Getenv("TERM"))
	info, err := payload.Verify(ctx, f, payload.VerifyOptions{ID: c.ID, Progress: showPayload(display)})
	display.Close()
	if err == nil && info.ID == "" {
		err = fmt.Errorf("payload: %w: its form is right, what is in its files cannot be known", payload.ErrNoSums)
	}
	result := verified{Image: c.Image, ID: info.ID, Files: info.Files}
	if err != nil {
		bad := orInterrupted(ctx, payloadError(c.Image, err))
		result.Error = oneLine(bad)
		if c.JSON {
			return errors.Join(bad, writeJSON(s.out, result))
		}
		return bad
	}
	if c.JSON {
		return writeJSON(s.out, result)
	}
	_, err = fmt.Fprintf(s.text(), "%s: %d files are right, ID %s\n", c.Image, info.Files, info.ID)
	return err
}

// payloadExtractCmd is "kindling payload extract".
type payloadExtractCmd struct {
	Image  string `arg:"" help:"The image: a file or a disk."`
	Folder string `arg:"" help:"Where the files go; made if it is missing."`
	ID     string `help:"The ID that the image must have (PAYLOAD_ID)."                     placeholder:"HEX" name:"id"`
	Skip   int    `help:"Files to pass over, SHA256SUMS not counted."                       default:"0"`
	Count  int    `help:"Files to copy after those; 0 is all."                              default:"0"`
	Sums   bool   `help:"Leave SHA256SUMS in the folder, to check it with sha256sum."`
	JSON   bool   `help:"Write the result as JSON with stable field names."                 name:"json"`
}

// Help implements kong.HelpProvider.
func (payloadExtractCmd) Help() string {
	return examples(
		"kindling payload extract payload.img distfiles", "copy its files into a folder, verified",
		"kindling payload extract payload.img distfiles --skip 8 --count 2",
		"two of them, behind the first eight",
	)
}

// extracted is the result as JSON.
type extracted struct {
	Image  string `json:"image"`
	Folder string `json:"folder"`
	ID     string `json:"id"`
	Copied int    `json:"copied"`
	Kept   int    `json:"kept"` // were right already
	Bytes  int64  `json:"bytes"`
}

// Run implements the verb. What has been copied before an error stays: it is right.
func (c *payloadExtractCmd) Run(ctx context.Context, s streams) error {
	if c.Skip < 0 || c.Count < 0 {
		return usageError("--skip %d --count %d: must not be negative", c.Skip, c.Count)
	}
	if err := checkID(c.ID); err != nil {
		return inputError(err)
	}
	f, err := openPayload(c.Image)
	if err != nil {
		return inputError(err)
	}
	defer f.Close()
	display := transfer.For(s.err, os.Getenv("TERM"))
	result, err := payload.Import(ctx, f, c.Folder, payload.ImportOptions{
		ID: c.ID, Skip: c.Skip, Count: c.Count, KeepSums: c.Sums, Progress: showPayload(display),
	})
	display.Close()
	if err != nil {
		return orInterrupted(ctx, payloadError(c.Image, err))
	}
	if c.JSON {
		return writeJSON(s.out, extracted{c.Image, c.Folder, result.ID, result.Copied, result.Kept, result.CopiedBytes})
	}
	p := &printer{out: s.text()}
	p.printf("%s: %d files copied (%s), %d were there and right\n", c.Folder, result.Copied,
		transfer.Size(result.CopiedBytes), result.Kept)
	if result.ID == "" {
		p.printf("the image has no %s: what is in the files was not checked\n", payload.SumsName)
	}
	return p.err
}

// showPayload shows the progress of one image as one row.
func showPayload(display transfer.Display) func(payload.Progress) {
	return func(p payload.Progress) {
		doing := fmt.Sprintf("file %d of %d, %s", p.File, p.Files, p.Name)
		display.Row("payload", doing, p.FileBytes, p.FileSize)
	}
}

// openPayload opens a file or a disk.
func openPayload(path string) (*os.File, error) {
	// O_NONBLOCK keeps a named pipe from waiting for a writer.
	f, err := os.OpenFile(filepath.Clean(path), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		mode := info.Mode()
		if disk := mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0; !mode.IsRegular() && !disk {
			err = fmt.Errorf("%s: is neither a regular file nor a disk", path)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// checkID reports what cannot be the ID of a payload.
func checkID(id string) error {
	if id != "" && (len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "") {
		return fmt.Errorf("--id %q: an ID has 64 digits, 0 to 9 and a to f", id)
	}
	return nil
}

// payloadFaults are what can be wrong with an image itself, not with the way to it or from it.
var payloadFaults = []error{
	payload.ErrNotPayload, payload.ErrTruncated, payload.ErrLimit, payload.ErrName, payload.ErrDuplicate,
	payload.ErrSums, payload.ErrNoSums, payload.ErrChecksum, payload.ErrWrongID,
}

// payloadError gives an error its exit status: that of a bad payload, of bad usage, or none.
func payloadError(image string, err error) error {
	if errors.Is(err, payload.ErrRange) {
		return usageError("%s: %s", image, err)
	}
	for _, fault := range payloadFaults {
		if errors.Is(err, fault) {
			return &exitError{report.ResultPayload.ExitStatus(), fmt.Sprintf("%s: %s", image, err)}
		}
	}
	return fmt.Errorf("%s: %w", image, err)
}

// orInterrupted is err, or that the user has ended it.
func orInterrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &exitError{report.ResultInterrupted.ExitStatus(), "interrupted; nothing incomplete was left behind"}
	}
	return err
}
