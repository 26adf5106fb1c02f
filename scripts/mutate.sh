#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# mutate.sh [NAME...]: break the kernel as scripts/mutants/NAME.patch says, boot it,
# and see which tests notice. Without a name: all, and the table. A result is kept
# until the mutant, the kernel, its configuration or the programs that ran change.
#
# A mutant says in its first line what is broken, then, each in a line:
#  Clause:	of the contract, or "-"
#  Boot:	as in scripts/boots, without the name; default 2 pku 64
#  Tests:	the programs that are to notice, each in a boot of its own until one does;
#		kmemleak runs in the boot of the program before it
#  Rebuild:	for a header, which half of the kernel includes: the files that
#		use what is changed there, or change
#  Equivalent:	why no test can notice
. "$(dirname "$0")/lib.sh"

mutants=$scripts/mutants
selftests=tools/testing/selftests/mm
# To the scripts that build and boot, the broken tree is a tree like any other.
# Two of these can run at a time, each with a LAB= of its own, and names of its own.
lab=$work/mutants${LAB:+-$LAB}
lab_work=$lab/${work##*/}
broken=$lab_work/linux
caught=$work/mutants-caught
# A mutant that the compiler refuses says nothing of the tests: it is missed.
unbuilt="does not build"
# The boots whose control has passed in this run.
declare -A controlled=()
# Seconds for a program and for a boot: what is broken may hang.
: "${TEST_LIMIT:=120}" "${BOOT_LIMIT:=400}"
export TEST_LIMIT BOOT_LIMIT TORTURE=3

[ -z "$UNPATCHED" ] || die "there is nothing to break in the unpatched kernel"
[ "$BASE" = "$mutants_base" ] || die "the faults in scripts/mutants are for $mutants_base: use BASE=$mutants_base"

in_broken() { git -C "$broken" "$@"; }

# field NAME PATCH
field() { sed -n "/^diff /q; s/^$1:[[:space:]]*//p" "$2"; }
boot_of() { field Boot "$1" | grep . || echo "default 2 pku 64"; }

# The tree, and the tests that are not broken.
set_up() {
	[ -z "$(git -C "$tree" status --porcelain -uno)" ] ||
		die "$tree has changes that are not committed: commit them first"
	check_mutants
	step "building the tests" "$scripts/tests.sh"
	mkdir -p "$caught" "$lab_work"
	git -C "$tree" worktree prune
	in_broken rev-parse -q --verify HEAD >/dev/null 2>&1 || {
		rm -rf "$broken"
		git -C "$tree" worktree add -q --detach "$broken" series
	}
	ln -sfn "$work/root" "$work/root.cpio.gz" "$lab_work/"
	kernel=$(git -C "$tree" diff refs/tags/base series -- . ':!Documentation' ':!MAINTAINERS' ':!tools')
}

# stamp TESTS CONFIG...: what a result depends on, beside the mutant.
stamp() {
	local test
	{
		echo "$* $kernel"
		# shellcheck disable=SC2046
		config $(fragments "$2.config") patched.fragment
		cat "$scripts/guest-init" "$scripts/known-failures" "$tree/$selftests"/pkey_*.h
		for test in $1; do cat "$tree/$selftests/"{"$test","${test%_*}"}.c 2>/dev/null || true; done
	} | sha256sum
}

# A mutant that does not apply is found before the first one is built.
check_mutants() {
	local name
	for name in $names; do
		[ -f "$mutants/$name.patch" ] || die "there is no $mutants/$name.patch"
		git -C "$tree" apply --check -C1 "$mutants/$name.patch" ||
			die "$mutants/$name.patch does not apply to the series any more: correct it"
	done
}

# Headers look old, so that make builds what a mutant names and not half the kernel.
age() { (cd "$broken" && xargs -r touch -d @0); }
broken_headers() { in_broken diff --name-only -- '*.h'; }

mend() {
	local headers
	headers=$(broken_headers)
	in_broken checkout -q -f
	age <<<"$headers"
	in_broken checkout -q --detach series
}

# break_kernel PATCH
break_kernel() {
	local file
	in_broken apply -C1 "$1"
	for file in $(field Rebuild "$1"); do
		echo "/* rebuild */" >>"$broken/$file"
	done
	[ -z "$(broken_headers)" ] || [ -n "$(field Rebuild "$1")" ] || die "$1 changes a header: it needs Rebuild:"
	broken_headers | age
}

# The kernel is configured when its control is built.
# shellcheck disable=SC2317
compile() {
	if [[ $1 == control-* ]]; then
		BUILD=$lab CONFIG=$2 "$scripts/build.sh"
	else
		# shellcheck disable=SC2046
		work=$lab_work kmake "$broken" O="$lab_work/obj-$2" $(make_arguments "$2") bzImage
	fi >"$lab_work/$1.log" 2>&1 </dev/null
}

# boot_with PLAN NAME CONFIG CPUS PROCESSOR ABIS...: run these programs; print what failed, a
# line each. One lab boots while another builds: tests that race need the processors.
# shellcheck disable=SC2317
boot_with() {
	local plan=$1 name=$2 config=$3 log=$lab_work/$2.log failures
	shift 3
	BUILD=$lab CONFIG=$config PLAN=$plan flock "$work/mutants-boot.lock" \
		"$scripts/boot.sh" "$name" "$@" >>"$log" 2>&1
	"$scripts/report.pl" "$tree" "$scripts/known-failures" "$lab_work/results/$name" >"$log.report" || true
	cat "$log.report" >>"$log"
	# What did not start because of another failure says nothing. Without another failure
	# it is the program that hung.
	failures=$(sed -n 's/; log: .*//; s/^FAILED: [^:]*: //p' "$log.report")
	grep -v 'left no result' <<<"$failures" | grep . || grep . <<<"$failures" || true
}

# try NAME TESTS CONFIG CPUS PROCESSOR ABIS...: build what is in the tree, and boot it with one
# program after the other until one fails. Print what failed; store in $lab_work/ran which ran.
# shellcheck disable=SC2317
try() {
	local name=$1 tests=$2 config=$3 program failures ran=
	shift 2
	echo "$tests" >"$lab_work/ran"
	compile "$name" "$config" || {
		echo "$unbuilt, see $lab_work/$name.log"
		return
	}
	for program in ${tests// kmemleak/+kmemleak}; do
		ran="${ran:+$ran }${program//+/ }"
		echo "$ran" >"$lab_work/ran"
		failures=$(boot_with "${program//+/$'\n'}" "$name" "$@")
		[ -z "$failures" ] || break
	done
	[ -z "$failures" ] || echo "$failures"
}

# known NAME STAMP: is there a result?
known() { [ "$(head -n 1 "$caught/$1" 2>/dev/null)" = "$2" ]; }

# mark PATCH TESTS: what the result of a mutant depends on, if these are the programs that ran.
mark() {
	# shellcheck disable=SC2046
	echo "$(stamp "$2" $(boot_of "$1")) $(sha256sum <"$1")"
}

# known_mutant NAME PATCH: The programs after the one that noticed did not run, whichever it is.
known_mutant() {
	local program ran=
	[ -f "$caught/$1" ] || return
	for program in $(field Tests "$2"); do
		ran="${ran:+$ran }$program"
		! known "$1" "$(mark "$2" "$ran")" || return 0
	done
	return 1
}

# keep NAME STAMP: store the result, which comes from stdin.
keep() {
	{ echo "$2"; cat; } >"$caught/$1.new"
	mv "$caught/$1.new" "$caught/$1"
}

# control BOOT: the kernel that is not broken, where all tests have to pass that
# any mutant with this boot is given. Each lab has its own, which configures it.
control() {
	local boot=$1 name tests result patch mark caught=$lab_work
	[ -z "${controlled[$boot]:-}" ] || return 0
	controlled[$boot]=1
	name=control-$(cksum <<<"$boot" | cut -d' ' -f1)
	tests=$(for patch in "$mutants"/*.patch; do
		[ "$(boot_of "$patch")" != "$boot" ] || field Tests "$patch"
	done | tr ' ' '\n' | sort -u | paste -s -d ' ')
	# shellcheck disable=SC2086
	mark=$(stamp "$tests" $boot)
	known "$name" "$mark" && return
	mend
	# shellcheck disable=SC2086
	result=$(step "the kernel as it is: $boot: $tests" try "$name" "$tests" $boot)
	[ -z "$result" ] || die "tests fail on a kernel that is not broken: $result"
	keep "$name" "$mark" </dev/null
}

mutate() {
	local name=$1 patch=$mutants/$1.patch
	known_mutant "$name" "$patch" && return
	control "$(boot_of "$patch")"
	mend
	break_kernel "$patch"
	# shellcheck disable=SC2046
	step "$name: $(head -n 1 "$patch")" try "$name" "$(field Tests "$patch")" $(boot_of "$patch") >"$lab_work/result"
	keep "$name" "$(mark "$patch" "$(cat "$lab_work/ran")")" <"$lab_work/result"
}

# Stdin: what failed. The first tests of each program, without their variants, and
# how many more.
summary() {
	sed -E 's/: global\./: /; s/: (\w+)\.\w+\.(\w+)$/: \1.\2/' | awk '
		function program_ends() {
			if (count > 3) tests = tests " and " count - 3 " more"
			if (count) print program ": " tests
			count = 0
		}
		{
			colon = index($0, ": ")
			if (substr($0, 1, colon - 1) != program) program_ends()
			program = substr($0, 1, colon - 1)
			if (seen[$0]++) next
			if (++count <= 3) tests = (count > 1 ? tests ", " : "") substr($0, colon + 2)
		}
		END { program_ends() }'
}

# What is to be said of a mutant; fails if that is not good enough.
row() {
	local name=$1 patch=$mutants/$1.patch reason found good=0
	reason=$(field Equivalent "$patch")
	found=$(tail -n +2 "$caught/$name")
	if [[ $found == "$unbuilt"* ]]; then
		good=1
	elif [ -n "$found" ]; then
		found=$(summary <<<"$found")
		found="caught by $found"
		[ -z "$reason" ] || { found="is said to be equivalent, and was $found" good=1; }
	elif [ -n "$reason" ]; then
		found="equivalent: $reason"
	else
		found="NOT CAUGHT" good=1
	fi
	printf '%-6s %s: %s\n' "$(field Clause "$patch")" "$name" "$(head -n 1 "$patch")"
	sed '1!s/^/          /; s/^/       /' <<<"$found"
	return $good
}

names=$*
[ -n "$names" ] || names=$(cd "$mutants" && basename -s .patch ./*.patch)
set_up
for name in $names; do mutate "$name"; done
mend

by_clause() {
	local name
	for name in $names; do
		echo "$(field Clause "$mutants/$name.patch") $name"
	done | sort -V | cut -d' ' -f2
}

report() {
	local name missed=0 count=0
	for name in $(by_clause); do
		count=$((count + 1))
		row "$name" || missed=$((missed + 1))
	done
	echo
	echo "$((count - missed)) mutants caught or equivalent, $missed missed"
	return $((missed > 0))
}

if [ $# -gt 0 ]; then
	report
	exit
fi
{
	cat <<-END
	Faults that were put into the kernel on purpose, and the tests that noticed: clause
	of the contract, name in scripts/mutants, what is broken, then the first tests that
	failed. The programs that are meant to notice run until one of them does.

	END
	report || status=1
} >"$lab_work/table"
"$scripts/record.sh" mutate "make mutate" <"$lab_work/table"
tail -n 1 "$lab_work/table"
exit "${status:-0}"
