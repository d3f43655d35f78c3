#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Makes the system bootable in the way of a real tree: its boot loader takes the running kernel's command line, and its
# /init is a shell script, which a machine without the agent boots with.

mkdir -p /boot/grub
grub-install "/dev/${DISK}"
cat > /boot/grub/grub.cfg << END
menuentry 'Linux' {
    linux /boot/vmlinuz root=/dev/${DISK} rootwait rw $(cat /proc/cmdline)
}
END
cat > /init << 'END'
#!/usr/bin/bash
echo this is the shell script
set -e
cd /steps
. ./bootstrap.cfg
. ./env
openvt -c 1 -- bash -i || echo the shell is over
echo o > /proc/sysrq-trigger
while true; do sleep 1; done
END
chmod +x /init
