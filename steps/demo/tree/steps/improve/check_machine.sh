#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The root is on the disk now, not in memory; the configured job count is in effect; /dev/shm is there for semaphores.

grep ' / ' /proc/mounts | tee /tmp/root
[ "$(grep -c " / ext4 " /tmp/root)" = 1 ]
[ "$(stat -f -c %T /)" = ext2/ext3 ]
[ "${JOBS}" = "${FINAL_JOBS}" ] && [ "${MAKEJOBS}" = "-j${FINAL_JOBS}" ]
[ "$(stat -f -c %T /dev/shm)" = tmpfs ]
