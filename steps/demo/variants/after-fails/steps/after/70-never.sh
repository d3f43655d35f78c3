#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later

echo "an after script has run behind one that failed"
