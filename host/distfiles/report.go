// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package distfiles

import "strings"

// Status says what has become of a wanted file.
type Status string

// The states. Present, Fetched and Replaced are good.
const (
	Present  Status = "present"  // was there and right
	Fetched  Status = "fetched"  // was missing, is there now
	Replaced Status = "replaced" // was wrong, is right now
	Missing  Status = "missing"  // is not there, and could not be had
	Wrong    Status = "wrong"    // is there and wrong (Verify), or was, and no right one could be had (Fetch)
	Skipped  Status = "skipped"  // not looked at to the end, because the run was ended
)

// Good reports whether the file is there and right.
func (s Status) Good() bool { return s == Present || s == Fetched || s == Replaced }

// Attempt is one address that did not give the file, or for Verify the file itself.
type Attempt struct {
	Address string `json:"address"`
	Cause   string `json:"cause"` // one clean line
}

// Result is what is known of one wanted file.
type Result struct {
	Name     string    `json:"name"`
	SHA256   string    `json:"sha256"`
	Status   Status    `json:"status"`
	Size     int64     `json:"size"`               // in bytes, of the file that is there; 0 if none is
	Received int64     `json:"received,omitempty"` // bytes that arrived in this run, wrong ones included
	From     string    `json:"from,omitempty"`     // the address that gave it
	Aside    string    `json:"aside,omitempty"`    // the name under which a wrong file was set aside
	Attempts []Attempt `json:"attempts,omitempty"` // what did not work, each address once, with its last cause
}

func resultOf(w Want) Result { return Result{Name: w.Name, SHA256: w.SHA256, Status: Skipped} }

// failed notes why an address did not give the file.
func (r *Result) failed(address, cause string) {
	for i := range r.Attempts {
		if r.Attempts[i].Address == address {
			r.Attempts[i].Cause = cause
			return
		}
	}
	r.Attempts = append(r.Attempts, Attempt{Address: address, Cause: cause})
}

// Report has one Result for each wanted file, in the order in which they were wanted.
type Report struct {
	Files []Result `json:"files"`
}

// Bad are the files that are not there or not right.
func (r Report) Bad() []Result {
	var bad []Result
	for _, f := range r.Files {
		if !f.Status.Good() {
			bad = append(bad, f)
		}
	}
	return bad
}

// Count is the number of files with a status.
func (r Report) Count(s Status) int {
	n := 0
	for _, f := range r.Files {
		if f.Status == s {
			n++
		}
	}
	return n
}

// Size is the number of bytes in the good files, and received how many arrived in this run.
func (r Report) Size() (size, received int64) {
	for _, f := range r.Files {
		received += f.Received
		if f.Status.Good() {
			size += f.Size
		}
	}
	return size, received
}

// Kind says what an Update is about.
type Kind string

// The kinds, in the order in which a file can have them.
const (
	Checking Kind = "checking" // what is there is being read
	Waiting  Kind = "waiting"  // another run is at work on the file
	Trying   Kind = "trying"   // Address is being asked
	Received Kind = "received" // Done bytes of Total (0: not known) are there
	GaveUp   Kind = "gave up"  // Address did not give it, for Cause
	Finished Kind = "finished" // Result is final
)

// Update tells about one file while Fetch or Verify is at work.
type Update struct {
	Name    string
	Kind    Kind
	Address string
	Cause   string // one clean line
	Done    int64  // bytes, what an earlier run left included
	Total   int64
	Result  *Result // Finished only
}

func notify(tell func(Update), u Update) {
	if tell != nil {
		tell(u)
	}
}

// trimHex is s without the lower-case hexadecimal digits at its ends.
func trimHex(s string) string { return strings.Trim(s, "0123456789abcdef") }
