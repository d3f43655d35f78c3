#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The source stands beside this script; the host puts it there.

src_compile() {
    tcc -o payload-import ../src/payload-import.c
}

src_install() {
    mkdir -p "${DESTDIR}${PREFIX}/bin"
    cp payload-import "${DESTDIR}${PREFIX}/bin/"
}
