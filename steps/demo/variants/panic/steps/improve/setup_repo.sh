#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The variant "panic": the kernel dies in the middle of a step.

echo "crashing the kernel on purpose"
sync
echo c > /proc/sysrq-trigger
sleep 60
