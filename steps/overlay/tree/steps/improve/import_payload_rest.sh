#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Import from the payload disk what is needed on Linux. The agent does this itself; this is for runs without it. The
# first bash runs it.

if [ "${PAYLOAD_REST_COUNT}" != 0 ]; then
    # Disks show up when they are ready. No file is asked for yet, so only the head of the payload is read.
    kindling_wait=120
    while ! payload-import --id "${PAYLOAD_ID}" --count 0 "${DISTFILES}"; do
        kindling_wait=$((kindling_wait - 1))
        if [ "${kindling_wait}" -le 0 ]; then
            echo "kindling: no payload disk after two minutes"
            false
        fi
        sleep 1
    done
    unset kindling_wait
    payload-import --id "${PAYLOAD_ID}" --skip "${PAYLOAD_REST_SKIP}" --count "${PAYLOAD_REST_COUNT}" "${DISTFILES}"
fi
