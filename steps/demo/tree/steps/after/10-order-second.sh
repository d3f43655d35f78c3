#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# 9 comes before 10, though not in the alphabet.

set -e
[ "$(cat /after.order)" = 9 ]
echo 10 >> /after.order
