# SPDX-FileCopyrightText: 2026 The Kindling authors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Completion for fish: kindling completion fish | source, or put it into ~/.config/fish/completions.

function __kindling_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    set -l found ($before[1] __complete fish $before[2..-1] "$current" 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path "$current"
    end
end
complete -c kindling -f -a '(__kindling_complete)'
