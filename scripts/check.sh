#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# check.sh run|check|all: the first boot of scripts/boots; those of make check,
# and verify; all of them, the other kernels, coverage and lint. With MINUTES=N make
# check goes on with those, in this order, and leaves out what would hardly end N
# minutes from now; the other kernels, which come first, N + 15.
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

# foreign_boot: as long_boot; the programs that we did not write have to be there.
foreign_boot() {
	if "$scripts/foreign.sh"; then
		long_boot "$@"
	else
		no_result "$work/results/$1" left-out "its programs cannot be installed"
	fi
}

# static NAME: a script of that name, whose result is TAP.
static() {
	step "$1" "$scripts/$1.sh" "$work/results/$1" || true
	results="$results $work/results/$1"
}

# no_result DIRECTORY left-out|failure REASON: a row that says why there is none.
no_result() {
	rm -rf "$1"
	mkdir -p "$1"
	echo "$3" >"$1/$2"
	results="$results $1"
}

# if_it_fits NAME MINUTES LIMIT COMMAND...: once something does not fit, nothing after
# it does, which may need what that would have built.
left_out=
if_it_fits() {
	local name=$1 minutes=$2 limit=$3
	shift 3
	if [ -z "${MINUTES:-}" ] ||
	   { [ -z "$left_out" ] && [ $((SECONDS / 60 + minutes)) -le "$limit" ]; }; then
		"$@"
		return
	fi
	left_out=$name
	say "==> leaving out $name: it takes $minutes minutes"
	no_result "$work/results/$name" left-out "it takes $minutes minutes, which would be too long"
}

long_boot() {
	if CONFIG=$3 "$scripts/build.sh"; then
		boot "$@"
	else
		no_result "$work/results/$1" failure "the kernel does not build"
	fi
}

long_lint() {
	if PACKAGES=$LINT_PACKAGES "$scripts/setup.sh"; then
		UNPATCHED=1 "$scripts/tree.sh"
		static lint
	else
		no_result "$work/results/lint" left-out "its tools cannot be installed"
	fi
}

other_bases() { known_bases | tr ' ' '\n' | grep -vxF -e "$BASE" || true; }

# other_base BASE: the first boot, with another kernel.
other_base() {
	local name=linux-$1
	local dir=$BUILD/$1/results/$name
	if ! BASE=$1 "$scripts/setup.sh"; then
		no_result "$dir" left-out "its source cannot be had"
	elif BASE=$1 "$scripts/tree.sh" && BASE=$1 "$scripts/build.sh" &&
	     BASE=$1 step "building the tests" "$scripts/tests.sh"; then
		BASE=$1 step "booting $name: default, 2 CPUs, pku" \
			"$scripts/boot.sh" "$name" 2 pku 64,32,x32
		results="$results $dir"
	else
		no_result "$dir" failure "the kernel or its tests do not build"
	fi
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

if [ "$what" = all ] || [ -n "${MINUTES:-}" ]; then
	limit=${MINUTES:-0}
	[ -n "$KERNEL" ] || for base in $(other_bases); do
		if_it_fits "linux-$base" 10 $((limit + 15)) other_base "$base"
	done

	# shellcheck disable=SC2086
	while read -r line; do
		set -- $line
		run=long_boot
		[ "$6" != foreign ] || run=foreign_boot
		if_it_fits "$1" "$2" "$limit" $run "$@"
	done < <(long_boots)
	if_it_fits coverage 1 "$limit" static coverage
	if_it_fits lint 20 "$limit" long_lint
fi

# shellcheck disable=SC2086
"$scripts/report.pl" "$src" "$scripts/known-failures" $results
