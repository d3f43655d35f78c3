#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# What Kindling does around the tree's own move to disk, which is move_disk-tree.sh beside this file: no disk that
# carries a payload or somebody's data is partitioned. The agent does without both; this is for runs that have none, and
# decides as it does, but for disks that the tree's sfdisk cannot partition. The first bash runs it, which counts in 32
# bits and wraps around in silence, with the commands that it has by then.

set -e
mkdir -p /dev /etc
mount -t devtmpfs none /dev 2> /kindling.junk || true # the tree's script says it once more

# kindling_kind NAME prints "disk", "diskp" for one whose partitions have a p before their number, or "partition".
kindling_kind() {
    echo "$1" | sed -n \
        -e 's/^x*[shv]d[a-z]\{1,3\}$/disk/p' \
        -e 's/^x*[shv]d[a-z]\{1,3\}[1-9][0-9]\{0,2\}$/partition/p' \
        -e 's/^nvme[0-9][0-9]*n[0-9][0-9]*$/diskp/p' \
        -e 's/^nvme[0-9][0-9]*n[0-9][0-9]*p[1-9][0-9]*$/partition/p' \
        -e 's/^mmcblk[0-9][0-9]*$/diskp/p' \
        -e 's/^mmcblk[0-9][0-9]*p[1-9][0-9]*$/partition/p'
}

# kindling_run NAME: the partition holds a run of Kindling, somebody's hours. After a loss of power its folders may be torn,
# or there in the filesystem's own journal only, so what is not found is looked for once more behind that. Not at first:
# a journal that is torn itself keeps the filesystem from being mounted.
kindling_run() {
    local options found=
    mkdir -p /kindling.look
    for options in ro,noload ro; do
        mount -n -t ext4 -o "${options}" "/dev/$1" /kindling.look 2> /kindling.junk || continue
        if [ -e /kindling.look/kindling/journal ] && [ -e /kindling.look/kindling/plan.cfg ] &&
            [ -e /kindling.look/kindling/init ]; then
            found=yes
        fi
        umount -n /kindling.look
        [ -z "${found}" ] || return 0
    done
    return 1
}

# kindling_read NAME KIB reads the first MiB and the last 32 KiB of a disk, and the half KiB behind them that a disk with an
# odd number of sectors has: a GPT has its second copy in the last sector. A disk of 2 TiB has more KiB than 32 bits count,
# so the last six digits are counted with a 1 before them, and the ones before these on their own.
kindling_read() {
    local high=${2%??????} low
    low=$((1${2#"${high}"} - 32))
    if [ "${low}" -lt 1000000 ]; then
        high=$((high - 1))
        low=$((low + 1000000))
    fi
    dd if="/dev/$1" of=/kindling.head bs=1024 count=1024 2> /kindling.junk &&
        dd if="/dev/$1" of=/kindling.tail bs=1024 skip="${high}${low#1}" count=33 2> /kindling.junk &&
        [ $(($(wc -c < /kindling.head))) -eq 1048576 ] && [ $(($(wc -c < /kindling.tail))) -ge 32768 ]
}

# kindling_look NAME says what is on a disk: in kindling_what blank, boot (builder-hex0), ours (the partition that a
# bootstrap makes, and no run in it), payload, small or foreign, in kindling_text why one of the others cannot be taken.
kindling_look() {
    local kib sector table p
    kindling_what=foreign
    kindling_text="it cannot be read"
    sector=$(dd if="/dev/$1" bs=512 count=1 2> /kindling.junk | od -A n -v -t x1 | tr -d ' \n')
    kib=$(sfdisk -s "/dev/$1" 2> /kindling.junk) || kib=
    case "${sector} ${kib}" in
    4c425041594c4431*)
        kindling_what=payload
        kindling_text="it holds a payload: wipe its first and last MiB"
        return
        ;;
    ' '* | *' ')
        return
        ;;
    esac
    if [ ${#kib} -lt 10 ] && [ "${kib}" -lt 1114112 ]; then
        kindling_what=small
        kindling_text="disk too small: ${kib} KiB, at least 1114112 KiB are needed (the partition starts at 1048576 KiB)"
        return
    fi
    # sfdisk 2.19.1 for 32 bits counts a disk's sectors modulo 2^32, takes what is left for the size, and writes an empty
    # table when that ends before the partition starts. Masked, the number is right however few bits the shell has.
    if [ $((kib & 2147483647)) -lt 1114112 ]; then
        kindling_what=small
        kindling_text="the tree's sfdisk, which counts in 32 bits, makes no partition on a disk of ${kib} KiB: take one of another size"
        return
    fi
    kindling_read "$1" "${kib}" || return 0
    kindling_text="it is read-only: make it writable"
    [ "$(blockdev --getro "/dev/$1" 2> /kindling.junk)" != 1 ] || return 0
    kindling_text="it holds data: wipe its first and last MiB"
    if [ $(($(cat /kindling.head /kindling.tail | tr -d '\000' | wc -c))) -eq 0 ]; then
        kindling_what=blank
        return
    fi
    [ "${sector:1020}" = 55aa ] || return 0
    table=${sector:892:128}
    kindling_text="it holds a boot sector or partition table: wipe its first and last MiB"
    case "${table}" in
    80000200b5ffffff01000000ffffffff*) kindling_what=boot ;;
    ????????83??????00002000*)
        case "${table:32}" in
        *[!0]*) ;;
        *) kindling_what=ours ;;
        esac
        ;;
    esac
    if [ "${kindling_what}" = ours ]; then
        p=$(kindling_kind "$1")
        if kindling_run "$1${p#disk}1"; then
            kindling_what=foreign
            kindling_text="it holds a run of Kindling: go on with that, or wipe the disk's first MiB"
        fi
    fi
}

# kindling_pick decides which whole disk to move to: DISK if it is free. A DISK with a payload cannot be meant: kernels
# name disks in the order in which their drivers are ready. Then it is the disk that the machine was booted from, or the
# blank one, if there is exactly one. The choice is in kindling_target, what is wrong in kindling_text, and whether DISK
# has a payload in kindling_payload.
kindling_pick() {
    local name wrong="it is not there: attach it" payload='' boot='' blank=''
    for name in /dev/[shvx]*d[a-z]* /dev/nvme*n* /dev/mmcblk*; do
        name=${name##*/}
        case "$(kindling_kind "${name}")" in
        disk*) ;;
        *) continue ;;
        esac
        kindling_look "${name}"
        case "${name}:${kindling_what}" in
        "${DISK}":blank | "${DISK}":boot | "${DISK}":ours)
            kindling_target=${name}
            return 0
            ;;
        "${DISK}":*)
            wrong=${kindling_text}
            [ "${kindling_what}" != payload ] || payload=yes
            ;;
        *:boot) boot="${boot} ${name}" ;;
        *:blank) blank="${blank} ${name}" ;;
        esac
    done
    kindling_text=${wrong}
    kindling_payload=${payload}
    # Two names have a space between them, and none is taken.
    kindling_target=${boot# }
    [ -n "${boot}" ] || kindling_target=${blank# }
    case "${payload}:${kindling_target}" in
    :* | *: | *' '*) return 1 ;;
    esac
    echo "kindling: DISK=${DISK} carries the payload on this boot; moving to ${kindling_target}, the only disk that is free"
}

# kindling_wait waits for the disk, as the tree does; this one knows that a /dev/NAME may be no device.
kindling_wait() {
    local timeout=120
    while ! dd if="/dev/${DISK}" of=/kindling.head bs=512 count=1 2> /kindling.junk; do
        [ "${timeout}" -gt 0 ] || return 1
        timeout=$((timeout - 1))
        sleep 1
    done
}

# kindling_guard decides, and sets DISK, KINDLING_P (what stands between a disk's name and a partition's number) and
# kindling_minor for the tree's script; the reason for a refusal is in kindling_text.
kindling_guard() {
    local tries=0 kind
    DISK=${DISK#/dev/}
    kind=$(kindling_kind "${DISK}")
    kindling_text="no name of a disk or a partition of one"
    [ -n "${kind}" ] || return 1
    kindling_text="it has not shown up in 120 s, or cannot be read"
    kindling_wait || return 1
    if [ "${kind}" = partition ]; then
        kindling_minor=1
        kindling_text="it holds a run of Kindling: go on with that, or wipe it"
        ! kindling_run "${DISK}" || return 1
        return 0
    fi
    # In the place of the payload's disk, one that is still to show up may be the right one.
    while ! kindling_pick; do
        tries=$((tries + 1))
        [ -n "${kindling_payload}" ] && [ "${tries}" -lt 10 ] || return 1
        sleep 1
    done
    DISK=${kindling_target}
    kind=$(kindling_kind "${DISK}")
    # shellcheck disable=SC2034 # the tree's script has it put into its own lines
    KINDLING_P=${kind#disk}
    kindling_minor=0
}

# The tree tells a disk from a partition by its minor number, which is right for sdX and nothing else.
stat() {
    if [ "$3" = "/dev/${DISK}" ]; then
        echo "${kindling_minor}"
    else
        command stat "$@"
    fi
}

if ! kindling_guard; then
    echo "kindling: not moving to DISK=${DISK}: ${kindling_text}; or set DISK to another disk"
    false
fi
rm -f /kindling.head /kindling.tail /kindling.junk
[ ! -d /kindling.look ] || rmdir /kindling.look

# shellcheck source=/dev/null
. /steps/jump/move_disk-tree.sh
