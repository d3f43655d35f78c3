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

# failed STATUS NAME: tells the host as well, where a script tells it of success, and nobody is there to look at it.
failed() {
    local name=${2//[\"\\]/}
    echo "kindling: extra root ${name} failed with exit status $1"
    if [ "${INTERACTIVE}" != True ] && [ -e /steps/after/999999999-kindling-done.sh ] && [ -c /dev/ttyS1 ]; then
        stty -F /dev/ttyS1 raw &&
            printf '{"seq":1,"ms":0,"kind":"done","status":"failed","reason":"step","exit":%d,"name":"extra root %s"}\n' \
                "$1" "${name:0:200}" > /dev/ttyS1
    fi
    power_off 1
}

# A root's script has a line for each step; this notes the one that runs. What is called or sourced does not inherit it.
note_steps() {
    mkdir -p /kindling
    cat > /kindling/extra-trace << 'EOF'
unset BASH_ENV
trap 'echo "${BASH_COMMAND}" > /kindling/extra-step || true' DEBUG
EOF
}

ran=
for root in ${EXTRA_BUILD//,/ }; do
    [ ! -e "/kindling/extra-done/${root}" ] || continue
    ran=1
    rm -rf "/external/repo-${root}" "/steps-${root}"/*/build
    note_steps
    BASH_ENV=/kindling/extra-trace bash "/steps-${root}/0.sh" || failed $? "${root}: $(cat /kindling/extra-step)"
    mkdir -p /kindling/extra-done
    sync
    : > "/kindling/extra-done/${root}"
    sync
done
[ -n "${ran}" ] || exit 0

if [ -e /steps/after/999999999-kindling-done.sh ]; then
    bash /steps/after/999999999-kindling-done.sh
fi
power_off 0
