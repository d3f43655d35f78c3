#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The agent has imported the payload; now payload-import, just built here by tcc, does it again, and both must have the
# same files with the same bytes.

second=/tmp/second-import
rm -rf "${second}"
payload-import --id "${PAYLOAD_ID}" "${second}"
count=0
for file in "${second}"/*; do
    name=${file##*/}
    [ "${name}" = SHA256SUMS ] && continue
    cmp "${file}" "${DISTFILES}/${name}"
    count=$((count + 1))
done
# Everything that the agent has imported is here as well: nothing else has come to distfiles by now.
[ "${count}" -gt 1 ] && [ "${count}" = "$(find "${DISTFILES}" -type f | wc -l)" ]
echo "both importers agree on ${count} files"
rm -rf "${second}"
