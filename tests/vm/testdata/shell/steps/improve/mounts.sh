#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What the probe needs to see anything.

stub mount proc /proc
stub mount devtmpfs /dev
