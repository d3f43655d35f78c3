# SPDX-FileCopyrightText: 2026 The Kindling authors
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
#
# Completion for bash: source <(kindling completion bash), or put it into ~/.local/share/bash-completion/completions.

_kindling() {
	local line
	COMPREPLY=()
	while IFS= read -r line; do
		COMPREPLY+=("$line")
	done < <("$1" __complete bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
# Where Kindling knows nothing better, bash completes file names.
complete -o bashdefault -o default -F _kindling kindling
