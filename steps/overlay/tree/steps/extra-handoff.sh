#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# /init of a finished disk runs this at every boot, when everything is mounted: the extra roots that bootstrap.cfg asks for
# and that are not done yet. There is no journal without the agent, so a root that was cut short begins again.

# shellcheck source=/dev/null
. /steps/bootstrap.cfg

power_off() {
    [ "${INTERACTIVE}" != True ] || exit "$1"
    swapoff -a > /dev/null 2>&1
    sync
    echo u > /proc/sysrq-trigger
    mount -o remount,ro /
    echo o > /proc/sysrq-trigger
    while true; do sleep 1; done
}

ran=
for root in ${EXTRA_BUILD//,/ }; do
    [ ! -e "/kindling/extra-done/${root}" ] || continue
    ran=1
    rm -rf "/external/repo-${root}" "/steps-${root}"/*/build
    if ! bash "/steps-${root}/0.sh"; then
        echo "kindling: extra root ${root} failed"
        power_off 1
    fi
    mkdir -p /kindling/extra-done
    sync
    touch "/kindling/extra-done/${root}"
    sync
done
[ -n "${ran}" ] || exit 0

if [ -e /steps/after/999999999-kindling-done.sh ]; then
    bash /steps/after/999999999-kindling-done.sh
fi
power_off 0
