#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Packages of this root have a repository of their own, in which revisions are counted anew; the main root's stays as it
# was. What the manifest defines is in the one configuration that all roots share.

[ "${SRCDIR}" = /steps-spark ]
[ "$(cd /external/repo-spark && echo ./*)" = "./spark-1.0_0.tar.bz2 ./spark-1.0_1.tar.bz2 ./tinder-1.0_0.tar.bz2" ]
[ "$(cd /external/repo && echo ./tinder*)" = ./tinder-1.0_0.tar.bz2 ]
[ "$(spark)" = "a spark of pass 2" ]
[ -x /usr/bin/tinder ] && [ -s /usr/share/tinder ]
[ "$(grep -c '^SPARK=lit$' /steps/bootstrap.cfg)" = 1 ]
[ ! -e /after.order ]
echo "the extra root spark is as it should be"
