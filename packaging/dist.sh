#!/bin/bash
# SPDX-FileCopyrightText: 2026 The Kindling authors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Makes a release of the commit that is checked out, in the folder dist (or the one that is named):
#
#   kindling, kindling-init-386, kindling-init-amd64    static programs
#   kindling_VERSION_amd64.deb                          the same with manual page, completions and documents
#   kindling.cdx.json                                   what is in the programs (CycloneDX)
#   SHA256SUMS                                          of all of these
#
# The same commit gives the same bytes, wherever and whenever: every time is the commit's, every owner root.
set -eu -o pipefail
cd "$(dirname "$0")/.."
out=${1:-dist}
export LC_ALL=C TZ=UTC GOFLAGS='' GOOS=linux CGO_ENABLED=0 GOAMD64=v1 GO386=softfloat
umask 022

say() { printf 'dist: %s\n' "$*" >&2; }

git rev-parse --verify -q HEAD >/dev/null || { say "this is no git checkout: a release is one of a commit"; exit 1; }
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
if [ -n "$(git status --porcelain --untracked-files=no)" ]; then
	say "warning: the checkout has changes that are not committed; the version says so"
	modified=+modified
fi
# A release is a tag; before the first one, and between two, the version has the commit's date and name.
if tag=$(git describe --tags --exact-match --match 'v[0-9]*' 2>/dev/null); then
	version=${tag#v}
else
	last=$(git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null || echo v0)
	version=${last#v}~git$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d.%H%M%S).$(git rev-parse --short=12 HEAD)
	[ "$last" = v0 ] || version=${version/\~/+}
fi
version=$version${modified:-}

mkdir -p "$out"
out=$(cd "$out" && pwd)
rm -f "$out"/kindling "$out"/kindling-init-* "$out"/kindling_*.deb "$out"/kindling.cdx.json "$out"/SHA256SUMS
build() { go build -trimpath -buildvcs="$1" -ldflags '-s -w -buildid=' -o "$out/$2" "$3"; }
GOARCH=amd64 build true kindling ./cmd/host
GOARCH=386 build false kindling-init-386 ./cmd/init
GOARCH=amd64 build false kindling-init-amd64 ./cmd/init
(unset GOOS GOARCH && go run ./cmd/sbom "$out"/kindling "$out"/kindling-init-*) >"$out/kindling.cdx.json"

# The package.
maintainer='The Kindling authors <kindling@example.invalid>'
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 0755 "$root"
install -D -m 0755 "$out/kindling" "$root/usr/bin/kindling"
for agent in 386 amd64; do
	install -D -m 0755 "$out/kindling-init-$agent" "$root/usr/lib/kindling/kindling-init-$agent"
done
put() { # put FILE: standard input as a file of the package
	mkdir -p "$root/${1%/*}"
	cat >"$root/$1"
}
"$out/kindling" man | gzip -9n | put usr/share/man/man1/kindling.1.gz
"$out/kindling" completion bash | put usr/share/bash-completion/completions/kindling
"$out/kindling" completion zsh | put usr/share/zsh/vendor-completions/_kindling
"$out/kindling" completion fish | put usr/share/fish/vendor_completions.d/kindling.fish
doc=usr/share/doc/kindling
put $doc/copyright <packaging/copyright
put $doc/kindling.cdx.json <"$out/kindling.cdx.json"
put $doc/README.md <README.md
put $doc/NEWS.md <CHANGELOG.md
put $doc/SECURITY.md <SECURITY.md
gzip -9n <<EOF | put $doc/changelog.gz
kindling ($version) unstable; urgency=medium

  * NEWS.md says what has changed.

 -- $maintainer  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
EOF
put usr/share/lintian/overrides/kindling <<EOF
# A program that has to run anywhere, and one that is all there is in its guest.
kindling: statically-linked-binary [usr/bin/kindling]
kindling: statically-linked-binary [usr/lib/kindling/kindling-init-386]
kindling: statically-linked-binary [usr/lib/kindling/kindling-init-amd64]
EOF
for file in docs/*.md; do put "$doc/$file" <"$file"; done
(cd "$root" && find usr -type f | sort | xargs md5sum) | put DEBIAN/md5sums
put DEBIAN/control <<EOF
Package: kindling
Version: $version
Architecture: amd64
Maintainer: $maintainer
Installed-Size: $(du -sk --apparent-size "$root/usr" | cut -f1)
Recommends: qemu-system-x86, kmod
Suggests: bubblewrap, e2fsprogs
Section: devel
Priority: optional
Description: harness around live-bootstrap
 live-bootstrap builds a modern Linux system from a few hundred bytes of
 machine code that a person can check. Kindling plans such a bootstrap, makes
 its boot media, drives the machine, and ends with the guest's result. It
 brings a static agent that is PID 1 on the Linux side.
EOF
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group -Zxz -z2 --build "$root" "$out/kindling_${version}_amd64.deb" >/dev/null

(cd "$out" && sha256sum -- kindling* >SHA256SUMS)
say "$("$out/kindling" version)"
say "$out/kindling_${version}_amd64.deb"
