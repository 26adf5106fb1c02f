#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# coverage.sh [DIRECTORY]: add up what the boots with the configuration gcov reached, into
# results/coverage.txt. The result is TAP. A line that no test reaches is a
# failure if scripts/coverage-exceptions does not name it; of branches there is only a table.
. "$(dirname "$0")/lib.sh"
. "$scripts/tap.sh"

PACKAGES="gcovr:gcovr" "$scripts/setup.sh"
obj=$work/obj-gcov
files='(arch/x86/)?mm/pkeys\.c|(arch/x86/)?include/(asm|linux)/pkeys\.h|arch/x86/include/asm/pkey_map\.h'
left_out=$(sed '/^#/d; s/\t.*//' "$scripts/coverage-exceptions" | paste -s -d '|')
counts=()

# read_counts BOOT: gcovr wants counts and graph side by side, and finds the source from
# where the object was built.
read_counts() {
	local boot=$1 data graph
	find "$work/results/$boot/gcov" -name '*.gcda' | while read -r data; do
		graph=$obj${data#*"$obj"}
		cp -L "${graph%.gcda}.gcno" "$(dirname "$data")" || exit 1
	done || return 1
	(cd "$obj" && gcovr --root "$tree" --object-directory "$obj" --filter "$tree/($files)\$" \
		${left_out:+--exclude-lines-by-pattern ".*($left_out)"} \
		--json "$out/$boot.json" "$work/results/$boot/gcov")
}

# table OPTION...
table() { gcovr --root "$tree" "${counts[@]}" --txt "$@"; }

tap_begin coverage "${1:-$work/results/coverage}"
while read -r boot; do
	if [ -e "$work/results/$boot/left-out" ]; then
		skip "every line is reached, or scripts/coverage-exceptions gives the reason" "$boot is left out"
		tap_end
		exit
	fi
	check "counts of $boot" read_counts "$boot"
	counts+=(--add-tracefile "$out/$boot.json")
done < <(awk '$3 == "gcov" { print $1 }' "$scripts/boots")
check "every line is reached, or scripts/coverage-exceptions gives the reason" table --fail-under-line 100 --output "$out/coverage.txt"
if [ -s "$out/coverage.txt" ]; then
	table --branches >>"$out/coverage.txt"
	{
		echo "What all tests together reach in the boots with gcov, see scripts/boots: lines, then"
		echo "branches, and which are missing. Lines that are left out, and why:"
		echo
		sed '/^#/d; s/^/  /; s/\t/: /' "$scripts/coverage-exceptions"
		echo
		cat "$out/coverage.txt"
	} | "$scripts/record.sh" coverage "make check-all"
	grep '^TOTAL' "$out/coverage.txt" >"$out/notes"
fi
tap_end
