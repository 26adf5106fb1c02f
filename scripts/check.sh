#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# check.sh run|check|all: the first boot of scripts/boots; those of make check,
# and verify; all of them, coverage and lint. With MINUTES=N what is long is left
# out if it would hardly end N minutes from now.
. "$(dirname "$0")/lib.sh"

what=${1:-check}
[ -z "$UNPATCHED" ] || what=run
# Seconds for each run of the torture test.
export TORTURE=10
if [ "$what" = run ]; then
	TORTURE=1
	export ABIS="64 32"
fi
results=

"$scripts/setup.sh"
"$scripts/tree.sh"

short_boots() { grep -v '^#' "$scripts/boots" | awk '$2 == "-"'; }
long_boots() { grep -v '^#' "$scripts/boots" | awk '$2 != "-"'; }

# boot NAME MINUTES CONFIG CPUS PROCESSOR ABIS COMMAND-LINE...
boot() {
	local name=$1 config=$3 cpus=$4 processor=$5 abis=$6
	shift 6
	CONFIG=$config step "booting $name: $config, $cpus CPUs, $processor $*" \
		"$scripts/boot.sh" "$name" "$cpus" "$processor" "$abis" "$@"
	results="$results $work/results/$name"
}

# static NAME: a script of that name, whose result is TAP.
static() {
	step "$1" "$scripts/$1.sh" "$work/results/$1" || true
	results="$results $work/results/$1"
}

# if_it_fits NAME MINUTES COMMAND...
if_it_fits() {
	local name=$1 minutes=$2
	shift 2
	if [ -z "${MINUTES:-}" ] || [ $((SECONDS / 60 + minutes)) -le "$MINUTES" ]; then
		"$@"
		return
	fi
	say "==> leaving out $name: it takes $minutes minutes"
	rm -rf "${work:?}/results/$name"
	mkdir -p "$work/results/$name"
	echo "it takes $minutes minutes, which would be too long" >"$work/results/$name/left-out"
	results="$results $work/results/$name"
}

long_boot() {
	CONFIG=$3 "$scripts/build.sh"
	boot "$@"
}

long_lint() {
	UNPATCHED=1 "$scripts/tree.sh"
	static lint
}

if [ "$what" = run ]; then
	# Of the configuration that was asked for, and quick.
	short=$(short_boots | awk -v config="$CONFIG" 'NR == 1 { $3 = config; $6 = "64,32"; print }')
else
	short=$(short_boots)
fi
for config in $(echo "$short" | awk '!seen[$3]++ { print $3 }'); do
	CONFIG=$config "$scripts/build.sh"
done
step "building the tests" "$scripts/tests.sh"
# shellcheck disable=SC2086
while read -r line; do boot $line; done <<<"$short"
[ "$what" = run ] || static verify

if [ "$what" = all ]; then
	"$scripts/foreign.sh"
	# shellcheck disable=SC2086
	while read -r line; do
		set -- $line
		if_it_fits "$1" "$2" long_boot "$@"
	done < <(long_boots)
	if_it_fits coverage 1 static coverage
	if_it_fits lint 10 long_lint
fi

# shellcheck disable=SC2086
"$scripts/report.pl" "$src" "$scripts/known-failures" $results
