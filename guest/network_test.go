// SPDX-FileCopyrightText: 2026 The Kindling authors
// SPDX-License-Identifier: GPL-3.0-or-later

package guest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"kindling/netcfg"
	"kindling/steps"
)

// fakeNetwork fails in these ways, one after the other, and then is up.
type fakeNetwork struct{ failures []error }

func (f *fakeNetwork) Await(context.Context) (netcfg.Result, error) {
	if len(f.failures) == 0 {
		return netcfg.Result{ResolvConf: []byte("nameserver 1.1.1.1\n")}, nil
	}
	err := f.failures[0]
	f.failures = f.failures[1:]
	return netcfg.Result{}, err
}

// networkJob is a job whose log can be read, with one build to run that needs these sources, and a network.
func networkJob(t *testing.T, config string, network *fakeNetwork, sources ...steps.Source) (*job, *safeBuffer) {
	t.Helper()
	a := testAgent(t, io.Discard, io.Discard)
	a.order = []steps.Step{{Kind: steps.KindBuild, Name: "x", Kernel: steps.KernelDisk, Sources: sources}}
	if network != nil {
		a.uplink = &uplink{network: network}
	}
	cfg, err := steps.ParseConfig("bootstrap.cfg", strings.NewReader(config))
	if err != nil {
		t.Fatal(err)
	}
	var log safeBuffer
	return &job{agent: a, config: cfg, log: &log}, &log
}

// closed is the address of a port that nobody listens on.
func closed(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func TestGetNetwork(t *testing.T) {
	open := httptest.NewServer(http.NotFoundHandler())
	defer open.Close()
	dead := closed(t)
	source := steps.Source{Name: "not-here-1.0.tar", URL: "_"}
	withOrigin := steps.Source{Name: "not-here-1.0.tar", URL: open.URL + "/not-here-1.0.tar"}
	noLink := fmt.Errorf("configure network: %w", netcfg.ErrNoLink)
	tests := []struct {
		name    string
		config  string
		network *fakeNetwork
		sources []steps.Source
		err     string // "" for success
		log     string
	}{
		{"a network", "MIRRORS=" + open.URL + "\n", &fakeNetwork{}, []steps.Source{source}, "", "nameserver 1.1.1.1\n" + open.URL + " answers"},
		{"a network, and nothing to get: no mirror is asked", "MIRRORS=" + dead + "\n", &fakeNetwork{}, nil, "", "nameserver 1.1.1.1\n"},
		{"the second mirror answers", "MIRRORS=\"" + dead + " " + open.URL + "\"\n", &fakeNetwork{}, []steps.Source{source}, "",
			open.URL + " answers"},
		{"only the origin answers", "MIRRORS=" + dead + "\n", &fakeNetwork{}, []steps.Source{withOrigin}, "", open.URL + " answers"},
		{"no mirror answers", "MIRRORS=" + dead + "\n", &fakeNetwork{}, []steps.Source{source},
			"no mirror answers: .*connection refused; 1 distfiles must still be downloaded, the first is not-here-1.0.tar", ""},
		{"no mirror at all", "A=b\n", &fakeNetwork{}, []steps.Source{source}, "there is no mirror, and no origin; 1 distfiles must", ""},
		{"no network, and none needed", "A=b\n", &fakeNetwork{failures: []error{noLink}}, nil, "",
			"no network, and none is needed: every distfile is here (configure network: no ethernet interface)"},
		{"no network, but one needed", "A=b\n", &fakeNetwork{failures: []error{noLink}}, []steps.Source{source},
			"configure network: no ethernet interface; 1 distfiles must still be downloaded, the first is not-here-1.0.tar", ""},
		{"off, and none needed", "NET_MODE=off\n", nil, nil, "", "no network, and none is needed: every distfile is here (NET_MODE is off)"},
		{"off, but one needed", "NET_MODE=off\n", nil, []steps.Source{source}, "NET_MODE is off; 1 distfiles must", ""},
		{"bad value", "NET_STATIC=192.0.2.2/24\n", nil, []steps.Source{source}, `/steps/bootstrap.cfg: NET_STATIC: "192.0.2.2/24": the name`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j, log := networkJob(t, tt.config, tt.network, tt.sources...)
			err := getNetwork(t.Context(), j)
			if tt.err == "" && err != nil {
				t.Fatal(err)
			}
			if tt.err != "" {
				checkPattern(t, err, tt.err)
			}
			if !strings.Contains(log.String(), tt.log) {
				t.Errorf("log %q, want one with %q", log.String(), tt.log)
			}
		})
	}
}

// checkPattern checks that an error is one line that has the parts of pattern, which ".*" separates.
func checkPattern(t *testing.T, err error, pattern string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", pattern)
	}
	rest := err.Error()
	for part := range strings.SplitSeq(pattern, ".*") {
		_, after, found := strings.Cut(rest, part)
		if !found || strings.Contains(err.Error(), "\n") {
			t.Fatalf("got error %q, want %s", err, pattern)
		}
		rest = after
	}
}

// TestHadNetwork is about a run that goes on behind the step that brings up the network.
func TestHadNetwork(t *testing.T) {
	p := plan(t, "jump: linux", "improve: get_network", "improve: after")
	a := &agent{order: p.Steps}
	a.state.Done = map[string]bool{}
	if a.hadNetwork() {
		t.Error("a run that has not got there had a network")
	}
	for _, s := range p.Steps {
		if s.Name == "get_network" {
			a.state.Done[s.ID()] = true
		}
	}
	if !a.hadNetwork() {
		t.Error("a run that has been there had no network")
	}
}

// TestExpectNetwork makes sure that after a resume the first script waits for the network that the run had, that one which
// does not come stops nobody, and that no one else waits.
func TestExpectNetwork(t *testing.T) {
	for _, expected := range []bool{false, true} {
		network := &fakeNetwork{failures: []error{netcfg.ErrNoCarrier, netcfg.ErrNoCarrier}}
		j, log := networkJob(t, "A=b\n", network)
		j.agent.uplink.expected = expected
		for range 2 {
			j.expectNetwork(t.Context())
		}
		if waited := 2 - len(network.failures); waited != map[bool]int{false: 0, true: 1}[expected] {
			t.Errorf("expected %t: waited %d times", expected, waited)
		}
		if said := strings.Contains(log.String(), "no carrier (going on without)"); said != expected {
			t.Errorf("expected %t: log %q", expected, log.String())
		}
	}
	j, _ := networkJob(t, "A=b\n", nil)
	j.expectNetwork(t.Context()) // a life without any network
}
