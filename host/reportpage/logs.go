// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package reportpage

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"kindling/host/report"
)

// What of a log goes onto the page: its end.
const (
	logBytes = 64 << 10
	logLines = 200
)

// failure is what went wrong.
type failure struct {
	Words string
	Logs  []logText
}

// logText is the end of a log.
type logText struct{ Name, Cut, Text string }

func newFailure(s Source) *failure {
	r := s.Report
	f := &failure{Words: cmp.Or(r.Reason, r.Line)}
	if s.Run == nil {
		return f
	}
	for _, name := range logNames(r) {
		text, cut, err := tail(s.Run, name)
		if err != nil {
			text = err.Error()
		}
		if err != nil || text != "" {
			f.Logs = append(f.Logs, logText{Name: name, Cut: cut, Text: text})
		}
	}
	return f
}

// logNames are the logs that may explain a failure: the one that the report names, and what the machine itself said.
func logNames(r report.Report) []string {
	var names []string
	for _, name := range []string{r.Log, "console.log", "qemu.log"} {
		if r.Result == report.ResultStep || r.Result == report.ResultAfter || r.Result == report.ResultPayload {
			if name != r.Log && r.Log != "" {
				continue // the step's own log says it all
			}
		}
		if name = path.Clean(name); name != "." && fs.ValidPath(name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// tail is the end of a file in the run folder, and a word about what is left out of it.
func tail(run fs.FS, name string) (text, cut string, err error) {
	f, err := run.Open(name)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "", "", err
	}
	if !info.Mode().IsRegular() {
		return "", "", fmt.Errorf("%s: is no regular file", name)
	}
	if seeker, ok := f.(io.Seeker); ok && info.Size() > logBytes {
		if _, err := seeker.Seek(-logBytes, io.SeekEnd); err != nil {
			return "", "", err
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, logBytes))
	if err != nil {
		return "", "", err
	}
	if info.Size() > int64(len(data)) {
		if _, rest, ok := bytes.Cut(data, []byte("\n")); ok {
			data = rest
		}
	}
	lines := strings.Split(strings.TrimRight(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n"), "\n")
	if len(lines) > logLines || info.Size() > logBytes {
		lines = lines[max(0, len(lines)-logLines):]
		cut = fmt.Sprintf("the last %d lines of %s", len(lines), humanBytes(info.Size()))
	}
	return strings.Join(lines, "\n"), cut, nil
}
