// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package payload

import (
	"bytes"
	"encoding/binary"
)

// Frame is what stands directly before the data of one entry.
type Frame struct {
	Offset int64 // of Head, from the start of the container, in bytes
	Head   []byte
}

// Frames is Layout for a writer that places the files itself, several at a time: a frame for each entry, with its data
// behind it. The first frame begins at 0 and holds SHA256SUMS as well; what is behind the data of the last entry is
// zero. Whoever uses it has to check sizes and sums while copying, as Write does. Errors are those of Layout.
func Frames(entries []Entry) (Summary, []Frame, error) {
	sums, err := checkEntries(entries)
	if err != nil {
		return Summary{}, nil, err
	}
	summary, headers := layout(entries, sums)
	var head bytes.Buffer
	head.WriteString(Magic)
	head.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(headers))))
	frames := make([]Frame, 0, len(entries))
	for i, h := range headers {
		head.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(h.Name))))
		head.Write(binary.LittleEndian.AppendUint64(nil, uint64(h.Size)))
		head.WriteString(h.Name)
		if i == 0 {
			head.Write(sums)
			if len(entries) > 0 {
				continue // stands before the first entry, in one frame
			}
		}
		frames = append(frames, Frame{Offset: h.Offset - int64(head.Len()), Head: bytes.Clone(head.Bytes())})
		head.Reset()
	}
	if len(entries) == 0 {
		frames[0].Offset = 0
	}
	return summary, frames, nil
}
