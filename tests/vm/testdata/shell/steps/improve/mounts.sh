#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What the probe needs to see anything.

if [ ! -e /proc/1 ]; then
    stub mount proc /proc
    stub mount devtmpfs /dev
fi
