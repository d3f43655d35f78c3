#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The extra roots that were asked for, then the tree's own after.sh, which is after-tree.sh beside this file. Whatever
# fails in a root ends the bootstrap here, before the after scripts.

bash /steps/extra-roots.sh || exit

# shellcheck source=/dev/null
. /steps/improve/after-tree.sh
