#!/bin/bash
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The person has gone.

echo INTERACTIVE=False >> /steps/bootstrap.cfg
