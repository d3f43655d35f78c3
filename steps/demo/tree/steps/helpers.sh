#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What a package's passN.sh can rely on. build() unpacks the first source, then calls src_compile and src_install,
# which the pass script defines, packs what they put into DESTDIR, and installs the package from its archive.

umask 022

# check_sources PKG: every file that the package lists is there with its sha256.
check_sources() {
    local type url sum name
    while read -r type url sum name; do
        [ "${type}" = f ] || { echo "$1: source type ${type} is not known here"; return 1; }
        name=${name:-${url##*/}}
        echo "${sum}  ${DISTFILES}/${name}" | sha256sum -c -
    done < "${SRCDIR}/$1/sources"
}

# unpack_sources PKG: into the current folder.
unpack_sources() {
    local type url sum name
    # type and sum are columns of the file that are not needed here
    # shellcheck disable=SC2034
    while read -r type url sum name; do
        name=${name:-${url##*/}}
        case "${name}" in
            *.tar) tar --no-same-owner -xf "${DISTFILES}/${name}" ;;
            *) cp "${DISTFILES}/${name}" . ;;
        esac
    done < "${SRCDIR}/$1/sources"
}

# build PKG SCRIPT
build() {
    local pkg=$1 script=$2 revision archive
    revision=$(find /external/repo -name "${pkg}_*.tar.bz2" | wc -l)
    archive=/external/repo/${pkg}_${revision}.tar.bz2
    echo "${pkg}: ${script}"
    rm -rf "${SRCDIR:?}/${pkg}/build" "${DESTDIR:?}"
    mkdir -p "${SRCDIR}/${pkg}/build" "${DESTDIR}"
    cd "${SRCDIR}/${pkg}/build" || return
    if [ -e ../sources ]; then
        check_sources "${pkg}"
        unpack_sources "${pkg}"
    fi
    # shellcheck source=/dev/null
    . "../${script}"
    src_compile
    src_install
    tar -C "${DESTDIR}" --sort=name --numeric-owner --owner=0 --group=0 --mtime=@0 -cf - . | bzip2 > "${archive}.tmp"
    mv "${archive}.tmp" "${archive}"
    bzip2 -dc "${archive}" | tar -C / --keep-directory-symlink -xpf -
    rm -rf "${SRCDIR:?}/${pkg}/build" "${DESTDIR:?}"
    unset -f src_compile src_install
    cd "${SRCDIR}" || return
    echo "${pkg}: installed"
}
