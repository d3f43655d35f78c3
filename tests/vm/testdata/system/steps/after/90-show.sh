#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Shows what a finished system consists of.

set -e
[ "$(cat /init)" = "#!/kindling/init" ] && [ -x /init ] && echo "/init is the agent"
head -n 2 /kindling/init.tree
cat /boot/grub/grub.cfg /grub.args
cat /proc/swaps
ls -l /etc/mtab
cat /etc/resolv.conf.head
[ ! -e /usr/bin/tinder ] && echo "tinder is gone"
cat /steps/SHA256SUMS.pkgs
