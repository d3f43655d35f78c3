#!/bin/bash
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The end, without an agent.

if [ -e /ended ]; then
    echo o > /proc/sysrq-trigger
    sleep 60
fi
: > /ended
