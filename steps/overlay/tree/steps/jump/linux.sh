#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What Kindling does around the tree's own jump to Linux, which is linux-tree.sh beside this file. The first bash runs
# it, with "set -e".

# What is left of the distfiles would have to pass through the kexec window. The late import brings back what is needed
# again.
if [ "${PAYLOAD_REQUIRED}" = True ] && [ "${PAYLOAD_REST_COUNT}" != 0 ]; then
    rm -f "${DISTFILES:?}"/*
fi

# The agent becomes PID 1 of the next kernel. What the generator made for that stays beside it, for people. In an
# initramfs there shall be one copy of the agent only; it makes the other one itself.
if [ -e /kindling/init ]; then
    mv /init /kindling/init.tree
    if [ "${KERNEL_BOOTSTRAP}" = True ]; then
        mv /kindling/init /init
    else
        cp /kindling/init /init
    fi
    chmod 755 /init
fi

# Set initramfs to the size of what kexec-linux would take for one: a file, or behind a "!" a command that writes it. Set
# file to what kexec-linux shall take in its place.
kindling_measure() {
    file=$1
    case "${file}" in
    !*)
        # Keep what the command writes if there is room, otherwise only count it.
        if bash -c "${file#?}" > /kindling.initramfs; then
            file=/kindling.initramfs
            initramfs=$(wc -c < "${file}")
        else
            echo "kindling: no room to keep the initramfs in: it is counted now and made again for the jump"
            rm -f /kindling.initramfs
            initramfs=$(bash -c "${file#?}" | wc -c)
            # The next one will differ by a few bytes: the time of its making is in it.
            initramfs=$((initramfs + initramfs / 1024 + 1))
        fi
        ;;
    *)
        initramfs=$(wc -c < "${file}")
        ;;
    esac
}

# Leave out the base tarball, also in the lists of names that the command reads.
kindling_drop_base() {
    local word
    rm -f "${kindling_base}"
    for word in $1; do
        if [ -f "${word}" ] && grep -q "${kindling_base}" "${word}"; then
            sed "\\|${kindling_base}|d" "${word}" > /kindling.list
            cat /kindling.list > "${word}"
            rm /kindling.list
        fi
    done
}

# kexec-linux writes kernel and initramfs one after the other, behind two numbers of four bytes, and does not notice
# when the ramdisk ends before they do. So they are measured first, against the size that the tree gives that ramdisk.
kexec-linux() {
    local window kernel initramfs file total
    window=$(sed -n 's/.*kexec_size=\([0-9][0-9]*\).*/\1/p' /steps/jump/fiwix.sh | sed -n 1p)
    if [ -z "${window}" ]; then
        echo "kindling: no kexec_size in /steps/jump/fiwix.sh to hold kernel and initramfs against"
        return 1
    fi
    window=$((window * 1024))
    kernel=$(wc -c < "$2")
    kindling_measure "$3"
    total=$((kernel + initramfs + 8))
    if [ "${total}" -gt "${window}" ] && [ -e "${kindling_base}" ]; then
        echo "kindling: kernel and initramfs exceed the kexec window by $((total - window)) bytes with" \
            "${kindling_base} ($(($(wc -c < "${kindling_base}"))) bytes): it is left out"
        kindling_drop_base "${3#?}"
        kindling_measure "$3"
        total=$((kernel + initramfs + 8))
    fi
    echo "kindling: kexec window: kernel $((kernel)) + initramfs $((initramfs)) + 8 = ${total} of ${window} bytes"
    if [ "${total}" -gt "${window}" ]; then
        echo "kindling: kernel and initramfs exceed the kexec window by $((total - window)) bytes, no jump"
        return 1
    fi
    command kexec-linux "$1" "$2" "${file}"
}

kindling_base=/external/repo/base.tar.bz2
# shellcheck source=/dev/null
. /steps/jump/linux-tree.sh
