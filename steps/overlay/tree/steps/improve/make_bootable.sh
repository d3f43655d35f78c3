#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The tree's own make_bootable.sh, make_bootable-tree.sh beside this file, writes the /init that a finished disk boots with.
# Before that opens a shell, it now runs the extra roots that bootstrap.cfg asks for.

# shellcheck source=/dev/null
. /steps/improve/make_bootable-tree.sh

if grep -q openvt /init && ! grep -q kindling-extra-build-handoff-1 /init; then
    sed '/openvt/i bash /steps/extra-handoff.sh # kindling-extra-build-handoff-1' /init > /init.handoff
    cat /init.handoff > /init
    rm /init.handoff
fi
