# SPDX-FileCopyrightText: 2026 The Kindling authors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# make run     install what is missing, build, boot the embedded default in QEMU, end with the guest's result
# make test    install what is missing, run every check and test, virtual machines included
# make build   bin/kindling and bin/kindling-init-{386,amd64}
# make dist    a release in dist/: static programs, Debian package, bill of materials, checksums
# make bench   benchmarks
# make lint    formatting, vet, golangci-lint, shellcheck, C, licences
# make soak    SOAK_KILLS (50) power cuts at random moments of one run, each resumed; SOAK_SEED is what chance depends on
# make fuzz    each fuzz target for FUZZTIME (10s), and its rate

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

GOLANGCI_VERSION := v2.15.0
TOOLS := $(CURDIR)/.tools
GO := go
# The agent: static, without cgo, nothing of the building machine in it; for 386 without SSE2 (a Pentium II will do).
STATIC := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -buildid='
FUZZTIME := 10s
ARGS :=

RUN_PACKAGES := qemu-system-x86 qemu-utils kmod dpkg
TEST_PACKAGES := $(RUN_PACKAGES) qemu-user gcc libc6-dev tcc shellcheck dnsmasq-base iproute2 cpio reuse e2fsprogs bzip2 bubblewrap procps git mandoc zsh fish grub-common grub-pc-bin curl chromium

export CI

.PHONY: all build dist run test unit lint bench soak fuzz run-deps test-deps clean
all: build

build:
	$(STATIC) -buildvcs=auto -o bin/kindling ./cmd/host
	GOOS=linux GOARCH=386 GO386=softfloat $(STATIC) -buildvcs=false -o bin/kindling-init-386 ./cmd/init
	GOOS=linux GOARCH=amd64 $(STATIC) -buildvcs=false -o bin/kindling-init-amd64 ./cmd/init

dist:
	packaging/dist.sh

run: run-deps build
	bin/kindling run $(ARGS)

test: test-deps build lint unit

# Not from the cache: tests/vm builds the programs that it runs, which go test does not see. What reads disks in the agent is
# tested as it runs there, too, where an int has 32 bits: for ARM, because not every amd64 kernel runs 386 programs.
unit:
	GOOS=linux GOARCH=arm $(GO) test -count=1 -exec qemu-arm ./internal/ext4 ./internal/payload
	$(GO) test -count=1 -timeout 20m ./...

lint: $(TOOLS)/golangci-lint
	unformatted=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$unformatted" ] || { echo "not gofmt's: $$unformatted"; exit 1; }
	$(GO) mod tidy -diff
	$(GO) vet ./...
	GOOS=linux GOARCH=386 $(GO) vet ./guest/... ./cmd/init ./netcfg/... ./devnodes/... ./internal/...
	$(TOOLS)/golangci-lint run ./...
	shellcheck $$(git ls-files '*.sh' '*.bash') .ci/run
	gcc -std=c89 -pedantic-errors -Wall -Wextra -Werror -fsyntax-only $$(git ls-files '*.c')
	reuse lint --quiet

bench: test-deps
	$(GO) test -run '^$$' -bench . -benchmem -timeout 60m ./...

SOAK_KILLS := 50
SOAK_SEED := 1
soak: test-deps
	SOAK_KILLS=$(SOAK_KILLS) SOAK_SEED=$(SOAK_SEED) $(GO) test -count=1 -timeout 24h -v -run '^TestKills$$' ./tests/vm

# The total of a fuzz target, from lines such as "fuzz: elapsed: 1m3s, execs: 12345 (98/sec), new interesting: ...".
RATE = { print; fflush() } \
	$$4 == "execs:" { execs = $$5; seconds = split($$3, part, "m") > 1 ? 60 * part[1] + part[2] : part[1] + 0 } \
	END { if (seconds > 0) printf "%s: %d executions a second\n", name, execs / seconds }

fuzz:
	for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' "$$package" | grep '^Fuzz' || true); do \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$package" | awk -v name="$$package $$target" '$(RATE)'; \
		done; \
	done

# Packages are asked for only when one of them is missing, so that a second run needs neither root nor a network.
define install
	missing=(); for p in $(1); do \
		[ "$$(dpkg-query -W -f '$${db:Status-Status}' $$p 2>/dev/null)" = installed ] || missing+=("$$p"); \
	done; \
	if [ $${#missing[@]} -gt 0 ]; then \
		sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		echo "installing: $${missing[*]}"; \
		$$sudo apt-get -qq update; \
		DEBIAN_FRONTEND=noninteractive $$sudo apt-get -qq install -y --no-install-recommends "$${missing[@]}" >/dev/null; \
	fi
endef

run-deps:
	@$(call install,$(RUN_PACKAGES))

test-deps:
	@$(call install,$(TEST_PACKAGES))

$(TOOLS)/golangci-lint:
	GOBIN=$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

clean:
	rm -rf bin dist $(TOOLS) kindling-runs
