#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# record.sh NAME COMMAND: keep what comes from stdin, which COMMAND found, in
# results/NAME.txt: as the section of BASE, with the date, the kernel and the series that it
# is about. A section that is there for this base is replaced.
. "$(dirname "$0")/lib.sh"

file=$top/results/$1.txt
series=$(cat /dev/null "$patches"/[0-9]*.patch | sha256sum | cut -c 1-12)

mkdir -p "$top/results"
new=$(mktemp "$file.XXXXXX")
trap 'rm -f "$new"' EXIT
{
	[ ! -e "$file" ] || awk -v base="$BASE" '/^== / { skip = $3 == base } !skip' "$file"
	echo "== Linux $BASE"
	echo "$2, $(date -u +%F). Source: $(basename "${KERNEL:-$source}"). Series: sha256 of patches/$BASE: $series"
	echo
	cat
	echo
} >"$new"
chmod 644 "$new"
mv "$new" "$file"
say "    results/$1.txt has the section for Linux $BASE"
