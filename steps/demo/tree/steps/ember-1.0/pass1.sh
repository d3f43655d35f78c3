#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later

src_compile() {
    cd ember-1.0 || return
    tcc -o ember ember.c
    ./ember < ember.c
}

src_install() {
    mkdir -p "${DESTDIR}${PREFIX}/bin"
    cp ember "${DESTDIR}${PREFIX}/bin/"
}
