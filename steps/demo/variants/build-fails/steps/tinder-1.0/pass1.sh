#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The variant "build-fails": a compiler that is asked for a file that is not there.

src_compile() {
    cd tinder-1.0 || return
    tcc -o tinder missing.c
}

src_install() {
    :
}
