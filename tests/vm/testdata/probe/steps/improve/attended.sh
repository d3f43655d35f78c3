#!/bin/bash
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# A person sits at the run from the next step on.

echo INTERACTIVE=True >> /steps/bootstrap.cfg
