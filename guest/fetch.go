// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"kindling/internal/event"
	"kindling/internal/httpget"
	"kindling/netcfg"
	"kindling/steps"
)

// How long an outage of the network or of its servers may last before a download fails, and the pauses between two
// rounds of trying: each twice as long as the one before.
const (
	progressEvery = time.Second // between two words to the host about one download
	fetchPatience = 10 * time.Minute
	firstPause    = 2 * time.Second
	maxPause      = 30 * time.Second
)

// missingSources lists the distfiles of steps that are still to run and that are not here.
func (a *agent) missingSources() []steps.Source {
	var missing []steps.Source
	seen := make(map[string]bool)
	for _, s := range a.order {
		if s.Kernel != steps.KernelDisk && s.Kernel != steps.KernelInitramfs || a.state.Done[s.ID()] {
			continue
		}
		for _, src := range s.Sources {
			if _, err := os.Stat(filepath.Join(distfilesDir, src.Name)); err == nil || seen[src.Name] {
				continue
			}
			seen[src.Name] = true
			missing = append(missing, src)
		}
	}
	return missing
}

// fetchSources downloads what the step's build needs and is not here, or is not what it should be: every mirror in turn,
// then the origin.
func (j *job) fetchSources(ctx context.Context) error {
	if len(j.step.Sources) == 0 {
		return nil
	}
	if err := os.MkdirAll(distfilesDir, 0o755); err != nil {
		return err
	}
	for _, src := range j.step.Sources {
		path := filepath.Join(distfilesDir, src.Name)
		// Without an address this only looks at what is here, and removes what is wrong.
		err := httpget.Download(ctx, nil, path, src.SHA256, httpget.DownloadOptions{})
		if _, missing := errors.AsType[*httpget.DownloadError](err); missing && ctx.Err() == nil {
			err = j.download(ctx, src, path, firstPause)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// download gets one source. What may pass is waited for: at first for pause.
func (j *job) download(ctx context.Context, src steps.Source, path string, pause time.Duration) error {
	urls := sourceURLs(j.mirrors(), src)
	if len(urls) == 0 {
		return fmt.Errorf("download %s: there is no mirror, and it has no origin", src.Name)
	}
	j.say("downloading %s", src.Name)
	began := time.Now()
	for ; ; pause = min(2*pause, maxPause) {
		_, offline := j.awaitNetwork(ctx)
		err := offline
		if err == nil {
			err = httpget.Download(ctx, urls, path, src.SHA256, httpget.DownloadOptions{Secure: j.curl, Progress: j.downloading(src.Name, progressEvery)})
		}
		switch {
		case err == nil:
			j.say("%s is here and right (%.1f s)", src.Name, time.Since(began).Seconds())
			j.agent.port.Send(event.Event{Kind: event.KindNet, Step: j.step.ID(), Name: src.Name,
				Text: "downloaded " + src.Name + ", sha256 right"})
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !worthWaiting(err, offline != nil) || time.Since(began)+pause > fetchPatience:
			return inDownload(src, err)
		}
		j.say("%v; trying again in %s", err, pause)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// downloading tells the host now and then how far a download of known size is.
func (j *job) downloading(name string, every time.Duration) func(string, int64, int64) {
	told := time.Now()
	return func(_ string, done, total int64) {
		if done >= total || time.Since(told) < every {
			return
		}
		told = time.Now()
		j.agent.port.Send(event.Event{Kind: event.KindNet, Step: j.step.ID(), Name: name, Status: event.StatusStart, Done: done, Total: total})
	}
}

// worthWaiting tells whether a failure may pass: an outage, but not a machine that has no network at all.
func worthWaiting(err error, offline bool) bool {
	if offline {
		return !errors.Is(err, errNetworkOff) && !errors.Is(err, netcfg.ErrNoLink)
	}
	return httpget.MayPass(err)
}

// inDownload names the file in errors that do not.
func inDownload(src steps.Source, err error) error {
	if _, named := errors.AsType[*httpget.DownloadError](err); named {
		return err
	}
	return fmt.Errorf("download %s: %w", src.Name, err)
}

// What curl may take, and its exit statuses that matter here (curl(1)).
const (
	curlConnect = 30 // seconds for a connection
	curlStall   = 60 // seconds in which at least curlLeast bytes a second must have come
	curlLeast   = 20 // bytes a second
	curlMaxSize = 8 << 30

	curlNoProtocol = 1 // built without TLS, as the tree's first curl is
)

// curl gets what needs https with the tree's own curl, which alone in the guest can speak it, from some point on.
func (j *job) curl(ctx context.Context, rawURL, path string) error {
	program, err := lookup("curl")
	if err != nil {
		return fmt.Errorf("%w: it needs https, and there is no curl yet", httpget.ErrFinal)
	}
	return j.runCurl(ctx, program, rawURL, path)
}

func (j *job) runCurl(ctx context.Context, program, rawURL, path string) error {
	j.say("curl %s", rawURL)
	err := j.run(ctx, program, curlArgs(rawURL, path)...)
	if failed, ok := errors.AsType[*runError](err); ok {
		return curlError(failed.exit)
	}
	return err
}

// curlArgs is the command line: no configuration of its own, no protocol but these two, every wait bounded.
func curlArgs(rawURL, path string) []string {
	return []string{"curl", "--disable", "--globoff", "--silent", "--show-error", "--fail", "--location", "--max-redirs", "5",
		"--proto", "=https,http", "--proto-redir", "=https,http", "--connect-timeout", strconv.Itoa(curlConnect),
		"--speed-limit", strconv.Itoa(curlLeast), "--speed-time", strconv.Itoa(curlStall),
		"--max-filesize", strconv.FormatInt(curlMaxSize, 10), "--output", path, "--url", rawURL}
}

// curlError says what an exit status of curl means for a download. What curl says itself is in the step's log.
func curlError(exit int) error {
	switch exit {
	case curlNoProtocol:
		return fmt.Errorf("%w: it needs https, which the curl that is here cannot speak yet", httpget.ErrFinal)
	case 5, 6, 7, 16, 18, 28, 35, 52, 55, 56, 92: // names, connections, time-outs, transfers that break off
		return fmt.Errorf("curl: exit status %d", exit)
	}
	return fmt.Errorf("curl: exit status %d %w", exit, httpget.ErrFinal)
}

// sourceURLs lists where a distfile can be had, in the order of trying.
func sourceURLs(mirrors []string, src steps.Source) []string {
	var urls []string
	for _, m := range mirrors {
		urls = append(urls, m+"/"+url.PathEscape(src.Name))
	}
	if src.URL != "_" {
		urls = append(urls, src.URL)
	}
	return urls
}
