#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What a real tree's helpers have besides: a package's files go if they are still what the package has brought.

uninstall() {
    local archive file
    for removing in "$@"; do
        archive=$(find /external/repo -name "${removing}_*.tar.bz2" | sort | tail -n 1)
        mkdir -p /tmp/removing
        cd /tmp/removing || return
        bzip2 -dc "${archive}" | tar -xf -
        find . -type f > ../filelist
        while read -r file; do
            ! cmp -s "${file}" "/${file}" || rm -f "/${file}"
        done < ../filelist
        cd / || return
        rm -r /tmp/removing /tmp/filelist
    done
}
