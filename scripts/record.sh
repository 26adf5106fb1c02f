#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# record.sh NAME COMMAND [PART]: keep what comes from stdin, which COMMAND found, in
# results/NAME.txt: as the section of BASE, or of BASE and PART, with the date, the kernel
# and the series that it is about. A section with the same heading is replaced.
. "$(dirname "$0")/lib.sh"

file=$top/results/$1.txt
heading="== Linux $BASE${3:+, $3}"
series=$(cat /dev/null "$patches"/[0-9]*.patch | sha256sum | cut -c 1-12)

new=$(mkdir -p "$top/results" && mktemp "$file.XXXXXX") ||
	die "cannot write to $top/results: make it a directory that can be written"
trap 'rm -f "$new"' EXIT
{
	[ ! -e "$file" ] || awk -v heading="$heading" '/^== / { skip = $0 == heading } !skip' "$file"
	echo "$heading"
	echo "$2, $(date -u +%F). Source: $(basename "${KERNEL:-$source}"). Series: sha256 of patches/$BASE: $series"
	echo
	cat
	echo
} >"$new"
chmod 644 "$new"
mv "$new" "$file"
say "    results/$1.txt has the section ${heading#== }"
