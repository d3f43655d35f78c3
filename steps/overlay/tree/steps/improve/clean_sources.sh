#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The tree's own clean_sources.sh, clean_sources-tree.sh beside this file, deletes every distfile that no later package
# of the main steps needs. What extra roots need, by the list in /steps/extra-distfiles, is put out of its way. This can
# be run again wherever it was cut short.

kept=${DISTFILES:?}.kept
mkdir -p "${kept}"
while read -r name; do
    if [ -e "${DISTFILES}/${name}" ]; then
        mv "${DISTFILES}/${name}" "${kept}/"
    fi
done < /steps/extra-distfiles

for name in "${DISTFILES}"/*; do
    if [ -e "${name}" ]; then # it has something to look at, without which it would fail
        # shellcheck source=/dev/null
        . /steps/improve/clean_sources-tree.sh
    fi
    break
done

while read -r name; do
    if [ -e "${kept}/${name}" ]; then
        mv "${kept}/${name}" "${DISTFILES}/"
    fi
done < /steps/extra-distfiles
rmdir "${kept}"
unset kept name
