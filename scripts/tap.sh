# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Checks that run on the host, with a result in TAP that report.pl reads as it
# reads that of a test program. Sourced after lib.sh.

tests=0 bad=0 skipped=0

# tap_begin NAME DIRECTORY
tap_begin() {
	tap_name=$1 out=$2 tap=$2/$1.tap
	rm -rf "$out"
	mkdir -p "$out"
	echo "TAP version 13" >"$tap"
	# A planned program that leaves no status is a failure: so is an end before tap_end.
	echo "$tap_name" >"$out/planned"
}

# check TEXT COMMAND...: one test; what the command printed is kept, and shown if
# it failed.
check() {
	local text=$1
	shift
	tests=$((tests + 1))
	if "$@" >"$out/$tests.log" 2>&1 </dev/null; then
		echo "ok $tests - $text" >>"$tap"
	else
		bad=$((bad + 1))
		echo "not ok $tests - $text" >>"$tap"
		say "    FAILED: $text; log: $out/$tests.log"
		tail -n 20 "$out/$tests.log" >&2
	fi
}

# skip TEXT REASON
skip() {
	tests=$((tests + 1)) skipped=$((skipped + 1))
	echo "ok $tests - $1 # SKIP $2" >>"$tap"
}

# tap_end: write the plan and the status; fail if a check failed.
tap_end() {
	local skipped_text=
	[ "$skipped" = 0 ] || skipped_text=", $skipped skipped"
	echo "1..$tests" >>"$tap"
	echo $((bad > 0)) >"$out/$tap_name.status"
	say "    $((tests - bad - skipped)) of $tests checks passed$skipped_text; $tap"
	[ "$bad" = 0 ]
}
