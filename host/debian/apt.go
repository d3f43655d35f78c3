// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package debian

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/google/renameio/v2"
)

// apt fetches packages with apt-get, all of whose state lies in a folder of one entry of the cache, for one architecture: an
// apt that knows i386 alone asks no third-party source of the host for it. Nothing of that is read back later: a hook in
// an apt.conf would run with the rights of the user.
type apt struct {
	sourceList string // "" for the host's

	mu    sync.Mutex
	fresh map[string]bool // states whose lists were updated
}

// newApt checks that apt's configuration can name dir and what is in it.
func newApt(dir, sourceList string) (*apt, error) {
	if sourceList != "" {
		abs, err := filepath.Abs(sourceList)
		if err != nil {
			return nil, err
		}
		sourceList = abs
	}
	for _, p := range []string{dir, sourceList} {
		if strings.ContainsAny(p, "\"\\\n\r") {
			return nil, fmt.Errorf("path %q: apt's configuration cannot hold quotes, backslashes and line breaks", p)
		}
	}
	return &apt{sourceList: sourceList, fresh: make(map[string]bool)}, nil
}

// aptConfig is the configuration file that apt reads after the host's own (apt.conf(5)): state of its own, one
// architecture, package lists and nothing else, no hooks of the host, no unsigned sources.
func aptConfig(dir, arch, sourceList string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `Dir::State "%[1]s/state";
Dir::State::lists "%[1]s/state/lists";
Dir::State::status "%[1]s/state/status";
Dir::State::extended_states "%[1]s/state/extended_states";
Dir::Cache "%[1]s/cache";
Dir::Cache::archives "%[1]s/cache/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
APT::Architecture "%[2]s";
#clear APT::Architectures;
APT::Architectures { "%[2]s"; };
// The cache may lie where the user _apt cannot look.
APT::Sandbox::User "root";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
// Without this, sources out of reach are only a warning.
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Acquire::PDiffs "false";
#clear Acquire::IndexTargets;
Acquire::IndexTargets::deb::Packages {
	MetaKey "$(COMPONENT)/binary-$(ARCHITECTURE)/Packages";
	flatMetaKey "Packages";
	ShortDescription "Packages";
	Description "$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Packages";
	flatDescription "$(RELEASE) Packages";
	Optional "false";
};
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
`, dir, arch)
	if sourceList != "" {
		fmt.Fprintf(&b, "Dir::Etc::sourcelist \"%s\";\nDir::Etc::sourceparts \"/dev/null\";\n", sourceList)
	}
	return b.String()
}

// prepare creates the state folders and gives the path of the configuration.
func (a *apt) prepare(dir, arch string) (string, error) {
	for _, sub := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return "", err
		}
	}
	// No package counts as installed: what the host has must not change what is fetched.
	if err := os.WriteFile(filepath.Join(dir, "state", "status"), nil, 0o644); err != nil {
		return "", err
	}
	conf := filepath.Join(dir, "apt.conf")
	err := renameio.WriteFile(conf, []byte(aptConfig(dir, arch, a.sourceList)), 0o644, renameio.WithTempDir(dir))
	return conf, err
}

// program gives apt-get or apt-cache with the private configuration.
func (a *apt) program(name, state, arch, dir string, args ...string) (program, error) {
	exe, err := find(name, "apt")
	if err != nil {
		return program{}, err
	}
	conf, err := a.prepare(state, arch)
	if err != nil {
		return program{}, fmt.Errorf("state of apt: %w", err)
	}
	return program{path: exe, dir: dir, args: append([]string{"-c", conf}, args...)}, nil
}

// update fetches the package lists. An error does not mean that the lists are of no use: one source of several may be
// out of reach or in the middle of its mirror's update.
func (a *apt) update(ctx context.Context, state, arch string, p Progress) error {
	g, err := a.program("apt-get", state, arch, "", "-q", "update")
	if err != nil {
		return err
	}
	p.printf("updating package lists for %s", arch)
	return g.run(ctx, p)
}

// withLists calls use when the package lists are there. If use fails, the lists are updated once more and use is tried
// again: a mirror may have been in the middle of an update. A failed update counts only if use fails as well.
func (a *apt) withLists(ctx context.Context, state, arch string, p Progress, use func() error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var updateErr, err error
	for attempt := range 2 {
		if attempt > 0 || !a.fresh[state] {
			updateErr = a.update(ctx, state, arch, p)
			if ctx.Err() != nil {
				return updateErr
			}
			a.fresh[state] = updateErr == nil
		}
		if err = use(); err == nil {
			if updateErr != nil {
				a.fresh[state] = true // good enough for what was asked, so for the next question
				p.printf("warning: package lists for %s are incomplete: %v", arch, updateErr)
			}
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
	}
	var unknown *unknownPackageError
	switch {
	case updateErr != nil:
		return fmt.Errorf("%w (the package lists are incomplete: %w)", err, updateErr)
	case errors.As(err, &unknown):
		return fmt.Errorf("%w: the package sources must hold Debian 12", err)
	}
	return err
}

// unknownPackageError is a failure of apt over a package that no list names.
type unknownPackageError struct{ error }

func (u *unknownPackageError) Unwrap() error { return u.error }

func (a *apt) download(ctx context.Context, state, arch string, names []string, dir string, p Progress) error {
	args := []string{"-q", "download"}
	for _, name := range names {
		args = append(args, name+":"+arch)
	}
	return a.withLists(ctx, state, arch, p, func() error {
		g, err := a.program("apt-get", state, arch, dir, args...)
		if err != nil {
			return err
		}
		p.printf("downloading %d packages for %s", len(names), arch)
		if err := g.run(ctx, p); err != nil {
			return blamed(err, names)
		}
		return nil
	})
}

// blamed adds the package that a failure of apt is about, when the output tells.
func blamed(err error, names []string) error {
	var f *programError
	if errors.As(err, &f) {
		line := tellingLine(f.output)
		if strings.Contains(line, "Unable to locate package") || strings.Contains(line, "No packages found") {
			err = &unknownPackageError{err}
		}
		name := blame(line, names)
		if name == "" && len(names) == 1 {
			name = names[0]
		}
		if name != "" {
			return fmt.Errorf("%w: %s: %w", ErrFetch, name, err)
		}
	}
	return fmt.Errorf("%w: %w", ErrFetch, err)
}

func (a *apt) dependency(
	ctx context.Context, state, arch, meta string, pattern *regexp.Regexp, p Progress,
) (name string, err error) {
	err = a.withLists(ctx, state, arch, p, func() error {
		g, err := a.program("apt-cache", state, arch, "", "show", "--no-all-versions", meta+":"+arch)
		if err != nil {
			return err
		}
		data, err := g.output(ctx)
		if err != nil {
			return blamed(err, []string{meta})
		}
		fields, err := parseControl(data)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrFetch, meta, err)
		}
		if name, err = matchingDependency(fields["Depends"], pattern); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrFetch, meta, err)
		}
		return nil
	})
	return name, err
}
