#!/bin/bash
#
# SPDX-FileCopyrightText: 2026 The Kindling authors
#
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Records everything that a step can see of the process that it runs in. It is sourced, as every improvement is, and
# leaves nothing behind but its record. The record is written through descriptor 9, so that 0 to 2 are as they were.

probe() {
    local fd
    {
        echo "== exports"; export -p
        echo "== options"; set +o; echo "$-"; shopt
        echo "== positional"; echo "$# $*"
        echo "== functions"; declare -F
        echo "== traps"; trap -p
        echo "== jobs"; jobs || true
        echo "== umask"; umask
        echo "== limits"; ulimit -a; cat "/proc/$$/limits"
        echo "== folder"; pwd; readlink "/proc/$$/cwd" "/proc/$$/root"
        echo "== name"; echo "$0"; tr '\0' ' ' < "/proc/$$/cmdline"; echo; cat "/proc/$$/comm"; readlink "/proc/$$/exe"
        echo "== parent"; echo "${PPID}"
        echo "== environment"; tr '\0' '\n' < "/proc/$$/environ" | sort
        echo "== environment of a child"; env | sort
        echo "== status"
        grep -E '^(Umask|State|TracerPid|[UG]id|Groups|Sig|Shd|Cap|NoNewPrivs|Seccomp|Speculation|Cpus_allowed|Mems_allowed|CoreDumping|THP)' "/proc/$$/status"
        echo "== job control (pgrp session tty tpgid, flags)"; cut -d')' -f2 "/proc/$$/stat" | cut -d' ' -f4-8
        echo "== scheduling (priority nice threads policy)"; cut -d')' -f2 "/proc/$$/stat" | cut -d' ' -f18-20,41,42
        for fd in oom_score_adj cgroup personality timerslack_ns coredump_filter autogroup; do
            [ ! -r "/proc/$$/${fd}" ] || { echo "== ${fd}"; cat "/proc/$$/${fd}"; }
        done
        echo "== namespaces other than those of PID 1"
        for fd in "/proc/$$/ns/"*; do
            [ "$(readlink "${fd}")" = "$(readlink "/proc/1/ns/${fd##*/}")" ] || echo "${fd##*/}"
        done
    } >&9 2>&1
    echo "== descriptors" >&9
    for fd in "/proc/$$/fd/"*; do
        [ "${fd##*/}" != 9 ] || continue
        echo "${fd##*/} $(readlink "${fd}") $(stat -L -c '%F %t:%T %a %u' "${fd}") $(grep flags "/proc/$$/fdinfo/${fd##*/}")" >&9
    done
    echo "== terminal" >&9
    for fd in 0 1 2; do
        [ ! -t "${fd}" ] || echo "${fd} is a terminal" >&9
        tty <&"${fd}" >&9 2>&1 || true
        stty -a <&"${fd}" >&9 2>&1 || true
    done
    { : < /dev/tty; } 2>/dev/null || echo "no controlling terminal" >&9
    echo "== end" >&9
}
probe 9> /probe.record
cat /probe.record
unset -f probe
