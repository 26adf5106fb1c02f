#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# check.sh run: do the first boot of scripts/boots, or with TEST= one test program of it.
# check.sh check: do the boots without a number of minutes, verify, the harness's own tests
# and the model.
# check.sh all: do that and what more() has. With MINUTES=N check.sh check goes on with
# more() too, and leaves out what would hardly end N minutes after the start; for the other
# kernels, which come first, the limit is N + 15.
. "$(dirname "$0")/lib.sh"

what=${1:-check}
[ -z "$UNPATCHED" ] || what=run
# Seconds for each run of the torture test.
export TORTURE=10
if [ "$what" = run ]; then
	TORTURE=1
	export ABIS=64
	[ -z "${TEST:-}" ] || ABIS="64 32"
fi
results=

# make check-all searches the models with larger bounds.
[ "$what" != all ] || export BOUNDS="${BOUNDS:-large}"

# Each step adds the time it took.
export TIMES=$work/times
if [ "$what" != background ]; then
	"$scripts/setup.sh"
	mkdir -p "$work" && : >"$TIMES"
	"$scripts/tree.sh"
fi

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

# foreign_boot ROW...: install the programs that we did not write, and boot with them.
foreign_boot() {
	if "$scripts/foreign.sh"; then
		long_boot "$@"
	else
		no_result "$work/results/$1" left-out "its programs cannot be installed"
	fi
}

# static NAME [ARGUMENT...]: a script of that name, whose result is TAP.
static() {
	local name=$1
	shift
	if [ ! -x "$scripts/$name.sh" ]; then
		no_result "$work/results/$name" left-out "there is no scripts/$name.sh"
		return
	fi
	step "$name" "$scripts/$name.sh" "$work/results/$name" "$@" || true
	results="$results $work/results/$name"
}

# harness: run the tests of the harness itself, which need no kernel.
harness() {
	local test name status dir=$work/results/harness
	rm -rf "$dir"
	mkdir -p "$dir"
	for test in "$scripts"/tests/*.t; do
		name=$(basename "$test" .t)
		echo "$name" >>"$dir/planned"
		status=0
		step "$name" "$test" >"$dir/$name.tap" || status=$?
		echo "$status" >"$dir/$name.status"
	done
	results="$results $dir"
}

# no_result DIRECTORY left-out|failure REASON: a row that says why there is none.
no_result() {
	rm -rf "$1"
	mkdir -p "$1"
	echo "$3" >"$1/$2"
	results="$results $1"
}

# if_it_fits NAME MINUTES LIMIT COMMAND...: run the command if it ends in time. Once
# something was left out, leave out the rest too, because it may need its results.
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
	if PACKAGES=${LINT_PACKAGES:-} "$scripts/setup.sh"; then
		UNPATCHED=1 "$scripts/tree.sh"
		static lint
	else
		no_result "$work/results/lint" left-out "its tools cannot be installed"
	fi
}

other_bases() { known_bases | tr ' ' '\n' | grep -vxF -e "$BASE" || true; }

# other_base BASE: do the first boot with another kernel.
other_base() {
	local name=linux-$1
	local dir=$BUILD/$1/results/$name
	if ! BASE=$1 "$scripts/setup.sh"; then
		no_result "$dir" left-out "its packages or its source cannot be installed"
	elif BASE=$1 "$scripts/tree.sh" && BASE=$1 "$scripts/build.sh" &&
	     BASE=$1 step "building the tests" "$scripts/tests.sh"; then
		BASE=$1 step "booting $name: default, 2 CPUs, pku" \
			"$scripts/boot.sh" "$name" 2 pku 64,32,x32
		results="$results $dir"
	else
		no_result "$dir" failure "the kernel or its tests do not build"
	fi
}

# start LOG COMMAND...: in the background, as the process group $job, which ends with
# this script. SIGINT would not reach a plain background command.
jobs=
start() {
	local log=$1
	shift
	set -m
	"$@" >"$log" 2>&1 </dev/null &
	job=$! jobs="$jobs $!"
	set +m
}
stop() {
	local group
	for group in $jobs; do kill -- "-$group" 2>/dev/null || true; done
}
trap stop EXIT

# finish JOB LOG: wait for what start began, and print what it said.
finish() {
	local status=0
	wait "$1" || status=$?
	cat "$2" >&2
	return $status
}

build_tests() { step "building the tests" "$scripts/tests.sh"; }

# planned_test: the line for TEST=, or an error that lists what there is.
planned_test() {
	local name=${TEST%% *} known
	known=$(test_programs && echo kunit_pkey_map)
	if grep -qxF -e "$name" <<<"$known"; then
		echo "$TEST"
	elif grep -qxF -e "${name}_64" <<<"$known"; then
		echo "${name}_64${TEST#"$name"}"
	else
		die "there is no test $name; there are, most of them also with _64 or _32 at the end:" \
			"$(awk '{ sub(/_(64|32|x32)$/, "") } !seen[$0]++' <<<"$known" | paste -s -d ' ')"
	fi
}

# run: do the first boot with the configuration that CONFIG names, with 64-bit programs.
run() {
	local row name
	row=$(short_boots | awk -v config="$CONFIG" 'NR == 1 { $3 = config; $6 = "64"; print }')
	if [ -n "${TEST:-}" ]; then
		build_tests
		PLAN=$(planned_test)
		export PLAN
		name=test-${PLAN%% *}
		row="$name ${row#* }"
		"$scripts/build.sh"
	else
		start "$work/tests.log" build_tests
		"$scripts/build.sh"
		finish "$job" "$work/tests.log" || exit 1
	fi
	# shellcheck disable=SC2086
	boot $row
}

# built CONFIG: print the file that has the status of this kernel's build in the background.
built() { echo "$work/build-$1.status"; }

# background CONFIG...: build these kernels, then verify.
background() {
	local config status
	for config in "$@"; do
		status=0
		CONFIG=$config "$scripts/build.sh" || status=$?
		echo "$status" >"$(built "$config")"
	done
	static verify
}

# check: boot one kernel after the other while the next ones are built.
check() {
	local short first rest config line building log=$work/background.log
	short=$(short_boots)
	read -r first rest < <(awk '!seen[$3]++ { print $3 }' <<<"$short" | paste -s -d ' ')
	start "$work/tests.log" build_tests
	CONFIG=$first "$scripts/build.sh"
	finish "$job" "$work/tests.log" || exit 1
	for config in $rest; do rm -f "$(built "$config")"; done
	say "==> in the background: kernels $rest, verify; log: $log"
	# shellcheck disable=SC2086
	start "$log" nice -n 5 "$0" background $rest
	building=$job
	harness
	static model
	# shellcheck disable=SC2086
	while read -r line; do
		set -- $line
		while [ "$3" != "$first" ] && [ ! -f "$(built "$3")" ] && kill -0 "$building" 2>/dev/null; do
			sleep 0.2
		done
		if [ "$3" = "$first" ] || [ "$(cat "$(built "$3")" 2>/dev/null)" = 0 ]; then
			boot "$@"
		else
			no_result "$work/results/$1" failure "the kernel $3 does not build, see $log"
		fi
	done <<<"$short"
	say "==> waiting for verify"
	finish "$building" "$log" || true
	results="$results $work/results/verify"
}

# more: do what takes longer.
more() {
	local limit=${MINUTES:-0} base line run
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
	if_it_fits litmus 5 "$limit" static litmus
	if_it_fits lint 20 "$limit" long_lint
	if_it_fits runtimes 20 "$limit" static runtimes
	if_it_fits compare 25 "$limit" static compare
	if_it_fits bisect 240 "$limit" static bisect
}

case $what in
background)
	shift
	background "$@"
	exit ;;
run)	run ;;
*)	check ;;
esac
[ "$what" != all ] && [ -z "${MINUTES:-}" ] || [ "$what" = run ] || more

status=0
# shellcheck disable=SC2086
"$scripts/report.pl" "$src" "$scripts/known-failures" $results >"$work/report.txt" || status=$?
cat "$work/report.txt"
[ "$what" != all ] || "$scripts/record.sh" check-all "make check-all" <"$work/report.txt"
exit "$status"
