#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The variant "after-fails": 70-never.sh must not run after this one.

echo "this after script fails on purpose"
exit 3
