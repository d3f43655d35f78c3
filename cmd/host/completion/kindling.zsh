#compdef kindling
# SPDX-FileCopyrightText: 2026 The Kindling authors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Completion for zsh: source <(kindling completion zsh), or put it as _kindling into a folder of $fpath.

_kindling() {
	local -a found
	found=(${(f)"$("$words[1]" __complete zsh "${(@)words[2,CURRENT]}" 2>/dev/null)"})
	if (( $#found )); then
		_describe kindling found
	else
		_files
	fi
}
if [[ $funcstack[1] == _kindling ]]; then
	_kindling "$@"
else
	compdef _kindling kindling
fi
