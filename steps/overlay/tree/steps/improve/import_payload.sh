#!/bin/sh
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Import what is needed before Linux from the payload disk. kaem runs this under Fiwix; it splits no words.
# shellcheck disable=SC2086

set -ex

# Without early files there is nothing to read yet, perhaps because Fiwix cannot see the disk.
if match x${PAYLOAD_EARLY_COUNT} x0; then
    echo no early part: the payload waits for Linux
else
    payload-import --id ${PAYLOAD_ID} --count ${PAYLOAD_EARLY_COUNT} --bytes ${PAYLOAD_EARLY_BYTES} ${DISTFILES}
fi

# The agent is no distfile: clean_sources would delete it, because no package lists it.
if match x${PAYLOAD_AGENT} xTrue; then
    mkdir -p /kindling
    cp ${DISTFILES}/kindling-init /kindling/init
    chmod 755 /kindling/init
    rm ${DISTFILES}/kindling-init
fi
