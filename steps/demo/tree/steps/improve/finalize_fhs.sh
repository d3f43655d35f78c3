#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The folders and files that programs expect. It may be run at every boot.

mkdir -p /etc /run /var/log /var/tmp /var/cache
ln -sfn /proc/mounts /etc/mtab
# What stands in the head file stays first, whatever DHCP says later.
[ -e /etc/resolv.conf.head ] || echo 'nameserver 1.1.1.1' > /etc/resolv.conf.head
[ -e /etc/passwd ] || echo 'root:x:0:0:root:/root:/bin/bash' > /etc/passwd
[ -e /etc/group ] || echo 'root:x:0:' > /etc/group
