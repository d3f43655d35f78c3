#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later

src_compile() {
    cd spark-1.0 || return
    tcc -DPASS='"2"' -o spark spark.c
    [ "$(./spark)" = "a spark of pass 2" ]
}

src_install() {
    mkdir -p "${DESTDIR}${PREFIX}/bin"
    cp spark "${DESTDIR}${PREFIX}/bin/"
}
