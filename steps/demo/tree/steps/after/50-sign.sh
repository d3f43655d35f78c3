#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later

set -e
cd /external/repo
tinder ./*.tar.bz2 | tee /after.signature
