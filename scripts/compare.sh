#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck disable=SC2317
# compare.sh [DIRECTORY]: run the same random sequence of mapping and key calls on the
# unpatched and on the patched kernel, in 64- and 32-bit programs, with keys and without,
# and compare the logs line by line (clause H4; tools/testing/selftests/mm/pkey_compare.c).
# A difference is shown with the shortest sequence found that still makes it. DIRECTORY
# gets the result as TAP; without it and without PLANT= results/compare.txt is written too.
#
#  OPERATIONS=N	how many on each kernel, all four kinds together; default 1000000
#  SEED=N	of the random numbers; default 1
#  PLANT=1	log a difference that is not there, to see this script fail
. "$(dirname "$0")/lib.sh"
. "$scripts/tap.sh"

: "${OPERATIONS:=1000000}" "${SEED:=1}" "${PLANT:=}"
export OPERATIONS SEED PLANT
name=pkey_compare
programs=$work/compare
archive=$work/compare.cpio.gz
processors="pku nopku"
abis="64 32"
each=$((OPERATIONS / 4))
# Seconds. An emulated processor does more than a thousand operations a second, far fewer
# on a busy machine.
export TEST_LIMIT=$((600 + OPERATIONS / 100)) BOOT_LIMIT=$((900 + OPERATIONS / 50))

results() { echo "$work/results/compare-$1${2:+-unpatched}"; }
role() { if [ -n "$UNPATCHED" ]; then echo unpatched; else echo "${PLANT:+planted}" | grep . || echo patched; fi; }

build_programs() {
	local abi
	rm -rf "$programs"
	mkdir -p "$programs/bin"
	for abi in $abis; do
		gcc "-m$abi" -O2 -Wall -static -pthread -o "$programs/bin/${name}_$abi" \
			"$top/tools/testing/selftests/mm/$name.c"
	done
	(cd "$programs" && find . | sort | cpio -o -H newc -R 0:0 --quiet) | gzip -1 >"$archive"
}

# guest NAME PROCESSOR: boot the kernel that UNPATCHED says, with PLAN.
guest() { ARCHIVE=$archive "$scripts/boot.sh" "$1${UNPATCHED:+-unpatched}" 2 "$2" 64; }

# one PROCESSOR: all of the sequence, in both kinds of programs.
one() {
	local abi plan=
	for abi in $abis; do
		plan="$plan${name}_$abi $(role) run $SEED $each"$'\n'
	done
	PLAN=${plan%$'\n'} guest "compare-$1" "$1"
}

build() {
	"$scripts/tree.sh"
	"$scripts/build.sh"
	[ -e "$work/root${UNPATCHED:+-unpatched}.cpio.gz" ] ||
		step "building the tests" "$scripts/tests.sh"
}

# both COMMAND...: on both kernels at once.
both() {
	local pid status=0
	UNPATCHED=1 "$0" "$@" &
	pid=$!
	"$0" "$@" || status=1
	wait "$pid" || status=1
	return $status
}

# chunk_of FILE FILE: print the chunks whose lines differ, or that have a result that was not
# predicted.
chunk_of() {
	diff "$1" "$2" | sed -n 's/^[<>] \([0-9]*\) .*/\1/p'
	awk 'NF == 4 && $4 > 0 { print $1 }' "$1" "$2"
}

# ask OPERATION...: run these of the chunk on both kernels. Succeed if the logs differ, or if
# one of them has a result that was not predicted.
requests=0 smaps=
ask() {
	local side deadline=$((SECONDS + 600))
	requests=$((requests + 1))
	for side in "$ours" "$theirs"; do
		echo "$chunk $smaps $*" >"$side/request.new"
		mv "$side/request.new" "$side/request-$requests"
	done
	for side in "$ours" "$theirs"; do
		until [ -e "$side/answer-$requests" ]; do
			[ "$SECONDS" -lt "$deadline" ] || die "no answer in $side"
			sleep 0.05
		done
	done
	! cmp -s "$ours/answer-$requests" "$theirs/answer-$requests" ||
		grep -q ^MODEL "$ours/answer-$requests"
}

# first_difference: print the number of the first line that differs in the last answers, or
# was not predicted.
first_difference() {
	local a=$ours/answer-$requests b=$theirs/answer-$requests
	{ cmp "$a" "$b" || true; } | sed 's/.* line //' | grep . ||
		{ grep -n ^MODEL "$a" || true; } | head -n 1 | cut -d: -f1
}

# last_operation: print the operation that makes the first difference.
last_operation() {
	local line a=$ours/answer-$requests
	line=$(first_difference)
	[ -n "$line" ] || return 0
	head -n "$line" "$a" | sed -n 's/^\([0-9]*\)\.[0-9] .*/\1/p' | tail -n 1
}

# reduce: leave out ever smaller parts of the sequence, as long as the difference stays.
reduce() {
	local ops size start last fewer changed line
	mapfile -t ops < <(seq 0 249)
	if ! ask "${ops[@]}"; then
		echo "chunk $chunk makes no difference when it runs alone"
		return
	fi
	last=$(last_operation)
	mapfile -t ops < <(seq 0 "${last:-249}")
	ask "${ops[@]}" || mapfile -t ops < <(seq 0 249)
	size=$((${#ops[@]} / 2))
	while [ "$size" -gt 0 ]; do
		changed=
		start=0
		while [ "$start" -lt ${#ops[@]} ]; do
			fewer=("${ops[@]:0:start}" "${ops[@]:start+size}")
			if [ ${#fewer[@]} -gt 0 ] && ask "${fewer[@]}"; then
				ops=("${fewer[@]}")
				changed=1
			else
				start=$((start + size))
			fi
		done
		[ "$size" = 1 ] && [ -n "$changed" ] || size=$((size / 2))
	done
	ask "${ops[@]}" || true
	# Ask for the text of smaps if that is what differs.
	line=$(first_difference)
	! sed -n "${line:-1}p" "$ours/answer-$requests" | grep -q 'mappings' || smaps=smaps
	ask "${ops[@]}" || true
	echo "chunk $chunk of seed $SEED, operations ${ops[*]}; - unpatched, + patched:"
	if cmp -s "$theirs/answer-$requests" "$ours/answer-$requests"; then
		cat "$ours/answer-$requests"
	else
		diff -U 1000 "$theirs/answer-$requests" "$ours/answer-$requests" | tail -n +4
	fi
	echo "($requests sequences were tried)"
}

# shortest PROCESSOR ABI CHUNK: both kernels wait for requests; show what is found.
shortest() {
	local ours theirs chunk=$3 pid
	ours=$(results reduce) theirs=$(results reduce unpatched)
	rm -rf "$ours" "$theirs"
	"$0" serve "$1" "$2" >"$work/compare-reduce.log" 2>&1 &
	pid=$!
	until [ -e "$ours/boot" ] && [ -e "$theirs/boot" ]; do
		kill -0 "$pid" || die "the kernels for the reduction do not boot, see $work/compare-reduce.log"
		sleep 0.2
	done
	reduce
	touch "$ours/quit" "$theirs/quit"
	wait "$pid"
}

# same PROCESSOR ABI: Are the logs the same, complete, and predicted?
reduced=
same() {
	local ours theirs chunk bad=0 side
	ours=$(results "$1")/${name}_$2.tap theirs=$(results "$1" unpatched)/${name}_$2.tap
	for side in "$(results "$1")" "$(results "$1" unpatched)"; do
		cat "$side/failure" 2>/dev/null && bad=1
	done
	echo "unpatched: $(tail -n 1 "$theirs")"
	echo "patched: $(tail -n 1 "$ours")"
	echo "documented differences:"
	grep ^# "$ours"
	grep -q "^operations [0-9]* not predicted 0$" "$ours" || bad=1
	cmp "$theirs" "$ours" || bad=1
	[ "$bad" = 0 ] && return
	chunk_of "$theirs" "$ours" | sort -un >"$work/compare.chunks"
	echo "chunks that differ or have results that were not predicted: $(wc -l <"$work/compare.chunks"):" \
		"$(head -n 10 "$work/compare.chunks" | paste -s -d ' ')"
	chunk=$(head -n 1 "$work/compare.chunks")
	# Reduce once. The other kinds of programs mostly have the same difference.
	[ -z "$chunk" ] || [ -n "$reduced" ] || shortest "$1" "$2" "$chunk"
	reduced=1
	return 1
}

case ${1:-} in
one)
	one "$2"
	exit ;;
build)
	build
	exit ;;
serve)
	both serve-one "$2" "$3"
	exit ;;
serve-one)
	PLAN="${name}_$3 $(role) serve $SEED /results" TEST_LIMIT=7200 BOOT_LIMIT=7200 \
		guest compare-reduce "$2"
	exit ;;
both)
	both one "$2"
	exit ;;
esac

"$scripts/setup.sh"
UNPATCHED=1 "$0" build
"$0" build
build_programs
for processor in $processors; do
	step "comparing: $((each * 2)) operations, $processor" "$0" both "$processor"
done

tap_begin compare "${1:-$work/results/compare}"
for processor in $processors; do
	for abi in $abis; do
		check "$abi-bit programs, $processor: $each operations, the same on both kernels" \
			same "$processor" "$abi"
	done
done
status=0
tap_end || status=1

report() {
	echo "Random sequences of mapping and key calls, compared call by call with the unpatched"
	echo "kernel (H4). OPERATIONS=$OPERATIONS SEED=$SEED."
	echo
	grep -E '^(not )?ok' "$tap"
	for log in "$out"/*.log; do
		echo
		sed "s/^/  /" "$log"
	done
}
[ -n "${1:-}$PLANT" ] || report | "$scripts/record.sh" compare "make compare" "$CONFIG configuration"
exit $status
