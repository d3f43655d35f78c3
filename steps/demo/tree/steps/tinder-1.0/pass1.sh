#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later

src_compile() {
    cd tinder-1.0 || return
    tcc -o tinder tinder.c
    ./tinder ../tinder-1.0-check.bin | tee sum
    [ "$(cut -d' ' -f1,2 sum)" = "3895cbb9 3145728" ]
}

src_install() {
    mkdir -p "${DESTDIR}${PREFIX}/bin"
    cp tinder "${DESTDIR}${PREFIX}/bin/"
}
