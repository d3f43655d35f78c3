#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Writes the sums of all packages beside the steps, and shows them.

pushd /external/repo || return
sha256sum -- * | tee "${SRCDIR}/SHA256SUMS.pkgs"
popd || return
