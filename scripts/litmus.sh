#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# litmus.sh [DIRECTORY]: run Documentation/litmus-tests/pkeys against the memory model
# of the kernel tree. Each test says in its first comment what the result has to be.
# The result is TAP. Debian has no package of herd7; HERD names one that was built by
# hand (https://github.com/herd/herdtools7), with options if it needs some.
. "$(dirname "$0")/lib.sh"
. "$scripts/tap.sh"

: "${HERD:=herd7}"
tests_dir=$top/Documentation/litmus-tests/pkeys
model=$tree/tools/memory-model
[ -d "$model" ] || model=$BUILD/7.3/linux/tools/memory-model

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
herd=$(command -v "${HERD%% *}" || true)
if [ -z "$herd" ]; then
	say "    litmus tests: skipped, herd7 is not installed"
elif [ ! -d "$model" ]; then
	say "    litmus tests: skipped, there is no kernel tree: make build"
fi
for file in "$tests_dir"/*.litmus; do
	name=$(basename "$file" .litmus)
	if [ -z "$herd" ]; then
		skip "$name" "herd7 is not installed"
	elif [ ! -d "$model" ]; then
		skip "$name" "there is no kernel tree"
	else
		check "$name: $(sed -n 's/^ \* Result: //p' "$file")" as_expected "$file"
	fi
done
tap_end
