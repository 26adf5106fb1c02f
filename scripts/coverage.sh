#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# coverage.sh [DIRECTORY]: add up what the boots with the configuration gcov reached, into
# Documentation/testing/coverage.txt. The result is TAP.
. "$(dirname "$0")/lib.sh"
. "$scripts/tap.sh"

obj=$work/obj-gcov
report=$top/Documentation/testing/coverage.txt

# read_counts BOOT: write its counts as JSON, one line for each object. gcov wants counts
# and graph side by side, and finds the source from where the object was built.
read_counts() {
	local boot=$1 data graph
	find "$work/results/$boot/gcov" -name '*.gcda' | while read -r data; do
		graph=$obj${data#*"$obj"}
		cp -L "${graph%.gcda}.gcno" "$(dirname "$data")"
		(cd "$obj" && gcov --branch-counts --branch-probabilities --json-format \
			--stdout "$data") || return 1
	done >"$out/$boot.json" || return 1
	[ -s "$out/$boot.json" ]
}

add_up() {
	"$scripts/coverage.pl" "$scripts/coverage-exceptions" "$tree" "$out"/*.json >"$out/coverage.txt"
}

tap_begin coverage "${1:-$work/results/coverage}"
while read -r boot; do
	if [ -e "$work/results/$boot/left-out" ]; then
		skip "each line is reached, or it is said why not" "$boot is left out"
		tap_end
		exit
	fi
	check "counts of $boot" read_counts "$boot"
done < <(awk '$3 == "gcov" { print $1 }' "$scripts/boots")
check "each line is reached, or it is said why not" add_up
if [ -s "$out/coverage.txt" ]; then
	mkdir -p "$(dirname "$report")"
	cp "$out/coverage.txt" "$report"
	grep ' of .* lines' "$report" >"$out/notes"
fi
tap_end
