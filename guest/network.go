// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"kindling/internal/event"
	"kindling/internal/httpget"
	"kindling/netcfg"
	"kindling/steps"
)

const (
	mirrorPatience = 30 * time.Second // for one mirror to accept a connection
	qemuHost       = "10.0.2.2"       // the host as QEMU's user network shows it
)

// getNetwork configures every interface. A plan that needs nothing more from the network goes on without one.
func getNetwork(ctx context.Context, j *job) error {
	err := j.configureNetwork(ctx)
	if err == nil {
		err = j.checkMirrors(ctx)
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	missing := j.agent.missingSources()
	if len(missing) > 0 {
		return fmt.Errorf("%w; %d distfiles must still be downloaded, the first is %s", err, len(missing), missing[0].Name)
	}
	j.say("no network, and none is needed: every distfile is here (%v)", err)
	return nil
}

func (j *job) configureNetwork(ctx context.Context) error {
	links, err := netcfg.NewNetlink()
	if err != nil {
		return err
	}
	defer links.Close()
	log := func(line string) {
		j.say("%s", line)
		j.agent.port.Send(event.Event{Kind: event.KindNet, Step: j.step.ID(), Text: line})
	}
	result, err := netcfg.Configure(ctx, netcfg.Options{Links: links, DHCP: &netcfg.Client{}, Log: log})
	if err != nil {
		return err
	}
	j.say("%s", strings.TrimSpace(string(result.ResolvConf)))
	return nil
}

// checkMirrors tries to reach the mirrors that will be used; one that answers is enough.
func (j *job) checkMirrors(ctx context.Context) error {
	mirrors := j.mirrors()
	if len(mirrors) == 0 || len(j.agent.missingSources()) == 0 {
		return nil
	}
	var failures []error
	for _, m := range mirrors {
		err := reach(ctx, m)
		if err == nil {
			j.say("mirror %s answers", m)
			return nil
		}
		j.say("mirror %s: %v", m, err)
		failures = append(failures, err)
	}
	return fmt.Errorf("no mirror answers: %w", errors.Join(failures...))
}

// reach connects to the server of a URL.
func reach(ctx context.Context, base string) error {
	u, err := url.Parse(base)
	if err != nil {
		return err
	}
	port := u.Port()
	if port == "" {
		port = u.Scheme // "http" and "https" are service names
	}
	d := net.Dialer{Timeout: mirrorPatience}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return err
	}
	return conn.Close()
}

// mirrors lists the mirrors to use: those of the kernel command line, then those of bootstrap.cfg.
func (j *job) mirrors() []string {
	return mirrorList(j.agent.cmdline.mirrors, j.config.Get("MIRRORS"), j.config.Get("QEMU") == "True")
}

// mirrorList joins and cleans the mirrors. In QEMU a mirror on the host's loopback is the host of the user network.
func mirrorList(first []string, configured string, qemu bool) []string {
	var list []string
	for _, m := range slices.Concat(first, strings.Fields(configured)) {
		m = strings.TrimRight(m, "/")
		if u, err := url.Parse(m); err == nil && qemu && u.Hostname() == "127.0.0.1" {
			host := qemuHost
			if u.Port() != "" {
				host = net.JoinHostPort(qemuHost, u.Port())
			}
			u.Host = host
			m = u.String()
		}
		if m != "" && !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	return list
}

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
