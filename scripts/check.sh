#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# check.sh [COUNT]: the first COUNT boots of scripts/boots, or all and verify.
. "$(dirname "$0")/lib.sh"

count=${1:-}
# Seconds for each run of the torture test.
export TORTURE=10
if [ "$count" = 1 ]; then
	TORTURE=1
	export ABIS="64 32"
fi
[ -z "$UNPATCHED" ] || count=${count:-1}

"$scripts/setup.sh"
"$scripts/tree.sh"

boots=$(grep -v '^#' "$scripts/boots" | head -n "${count:-99}")
# One boot is of the configuration that was asked for, and quick.
[ "$count" != 1 ] || boots=$(awk -v config="$CONFIG" '{ $2 = config; $5 = "64,32" } 1' <<<"$boots")
for config in $(echo "$boots" | awk '!seen[$2]++ { print $2 }'); do
	CONFIG=$config "$scripts/build.sh"
done
step "building the tests" "$scripts/tests.sh"

results=
while read -r name config cpus processor abis cmdline; do
	# shellcheck disable=SC2086
	CONFIG=$config step "booting $name: $config, $cpus CPUs, $processor $cmdline" \
		"$scripts/boot.sh" "$name" "$cpus" "$processor" "$abis" $cmdline
	results="$results $work/results/$name"
done <<<"$boots"

if [ -z "$count" ]; then
	step "verifying patches/$BASE" "$scripts/verify.sh" "$work/results/verify" || true
	results="$results $work/results/verify"
fi

# shellcheck disable=SC2086
"$scripts/report.pl" "$src" "$scripts/known-failures" $results
