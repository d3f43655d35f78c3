// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"kindling/internal/event"
	"kindling/internal/httpget"
	"kindling/steps"
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
	for _, src := range j.step.Sources {
		path := filepath.Join(distfilesDir, src.Name)
		_, err := os.Stat(path)
		here := err == nil
		if err := os.MkdirAll(distfilesDir, 0o755); err != nil {
			return err
		}
		urls := sourceURLs(j.mirrors(), src)
		if !here {
			if _, err := j.awaitNetwork(ctx); err != nil {
				return err
			}
			j.say("downloading %s", src.Name)
		}
		began := time.Now()
		if err := httpget.Download(ctx, urls, path, src.SHA256, httpget.DownloadOptions{}); err != nil {
			return err
		}
		if here {
			continue
		}
		j.say("%s is here and right (%.1f s)", src.Name, time.Since(began).Seconds())
		j.agent.port.Send(event.Event{Kind: event.KindNet, Step: j.step.ID(), Name: src.Name, Text: "downloaded " + src.Name + ", sha256 right"})
	}
	return nil
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
