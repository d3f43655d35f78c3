#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# No program: something beside the main root's tinder.

src_compile() {
    [ -e tinder-1.0/tinder.c ]
}

src_install() {
    mkdir -p "${DESTDIR}${PREFIX}/share"
    echo "tinder of another root" > "${DESTDIR}${PREFIX}/share/tinder"
}
