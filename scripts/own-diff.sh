# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Source this file after lib.sh. With its function export.sh writes
# patches/BASE/own-files.diff, and verify.sh compares it.

# own_files_diff TREE: a unified diff that turns the files here into those of TREE.
# Each file that differs appears once, in the order of the paths. The headers carry
# no time stamps. A file that stands on one side only has /dev/null on the other.
own_files_diff() {
	local their=$1 file from to status
	{ own_files "$top"; own_files "$their"; } | sed 's|^\./||' | sort -u |
	while read -r file; do
		from=a/$file to=b/$file
		[ -f "$top/$file" ] || from=/dev/null
		[ -f "$their/$file" ] || to=/dev/null
		status=0
		diff -u -N --label "$from" --label "$to" "$top/$file" "$their/$file" || status=$?
		[ "$status" -le 1 ] || return "$status"
	done
}
