#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What Kindling does behind the tree's own update_checksums, which is update_checksums-tree.sh beside this file: the base
# tarball is no package, and differs with the options of a run, so it has no place among the checksums.

# shellcheck source=/dev/null
. /steps/improve/update_checksums-tree.sh

sed -i '/[ *]base\.tar\.bz2$/d' "${SRCDIR}/SHA256SUMS.pkgs"
