#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# litmus.sh [DIRECTORY]: run Documentation/litmus-tests/pkeys against a kernel's memory
# model: that of this kernel if it knows the atomic operations that the tests use, else
# that of the newest. Each test says in its first comment what the result has to be.
# The result is TAP; without DIRECTORY results/litmus.txt has it too. Debian has no package
# of herd7; HERD names one that was built by hand (https://github.com/herd/herdtools7), with
# options if it needs some.
. "$(dirname "$0")/lib.sh"
. "$scripts/tap.sh"

: "${HERD:=herd7}"
tests_dir=$top/Documentation/litmus-tests/pkeys
model=$tree/tools/memory-model
knows_atomics() { grep -qs 'atomic_andnot' "$1/linux-kernel.def"; }
knows_atomics "$model" || model=$BUILD/$mainline/linux/tools/memory-model
why=
knows_atomics "$model" || why="needs the memory model of Linux $mainline: make build BASE=$mainline"
command -v "${HERD%% *}" >/dev/null || why="herd7 is not installed"

# as_expected FILE
as_expected() {
	local wanted output
	wanted=$(sed -n 's/^ \* Result: //p' "$1")
	[ -n "$wanted" ] || { echo "$1 has no \"Result:\" line"; return 1; }
	# shellcheck disable=SC2086
	output=$(cd "$model" && $HERD -conf linux-kernel.cfg "$1" 2>&1) || { echo "$output"; return 1; }
	echo "$output"
	echo "wanted: $wanted"
	grep -q "^Observation $(basename "$1" .litmus) $wanted " <<<"$output" &&
		! grep -q "^Flag data-race" <<<"$output"
}

tap_begin litmus "${1:-$work/results/litmus}"
[ -z "$why" ] || say "    litmus tests: skipped, $why"
for file in "$tests_dir"/*.litmus; do
	name=$(basename "$file" .litmus)
	if [ -n "$why" ]; then
		skip "$name" "$why"
	else
		check "$name: $(sed -n 's/^ \* Result: //p' "$file")" as_expected "$file"
	fi
done
status=0
tap_end || status=1

report() {
	# shellcheck disable=SC2086
	echo "herd7 $($HERD -version | sed 's/,.*//'), memory model of Linux $(kernel_version "${model%/tools/memory-model}")."
	echo "A name that ends in -broken is that of the test without the barrier."
	echo
	grep -E '^(not )?ok' "$tap"
}
[ -n "${1:-}$why" ] || report | "$scripts/record.sh" litmus "make litmus"
exit $status
