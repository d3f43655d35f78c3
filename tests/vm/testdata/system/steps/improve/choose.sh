#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# A change to the configuration counts from the next step on.

echo SWAP_SIZE=24 >> /steps/bootstrap.cfg
# A file of the wrong size is what a cut leaves of a swap file.
head -c 1000000 /dev/zero > /swapfile
