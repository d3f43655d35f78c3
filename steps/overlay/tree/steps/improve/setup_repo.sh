#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What Kindling does behind the tree's own setup_repo, which is setup_repo-tree.sh beside this file: keep a reference copy
# of everything that was built before there were packages. It is no package and has no checksum; --early-preseed takes
# it. The first bash runs this, with "set -e".

# shellcheck source=/dev/null
. /steps/improve/setup_repo-tree.sh

# The uncompressed one is there only if the packing was cut short.
if [ -e /external/repo/base.tar ]; then
    rm -f /external/repo/base.tar.bz2
fi

# Not through a pipe: this bash has no way to tell how the first program of one ended.
if [ -e /external/repo/base.tar.bz2 ]; then
    echo "kindling: /external/repo/base.tar.bz2 is there already"
elif tar -cf /external/repo/base.tar --exclude='/external/repo/*' --exclude='/external/repo-preseeded/*' \
    --exclude='/external/distfiles/*' --exclude='/dev/*' --exclude='/proc/*' --exclude='/sys/*' --exclude='/tmp/*' \
    --exclude='/kindling/*' / && bzip2 --best /external/repo/base.tar; then
    echo "kindling: what was built so far is in /external/repo/base.tar.bz2"
else
    echo "kindling: what was built so far cannot be packed (is there room?): base.tar.bz2 is left out"
    rm -f /external/repo/base.tar /external/repo/base.tar.bz2
fi
