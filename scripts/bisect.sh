#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# bisect.sh [DIRECTORY [REGEX]]: prove that the series can be bisected. After each patch
# that touches kernel code (on the older kernels after those of scripts/bisect-steps), or whose
# subject matches REGEX, the kernel builds with protection keys, without them and as
# allnoconfig; the first two boot; the tests of the unpatched tree and those of ours that
# belong to the patches so far pass (scripts/bisect-tests). The tests are built once, from
# the whole series. The result is TAP, into DIRECTORY if there is one, with one row for
# each patch; without arguments results/bisect.txt has the rows too. A patch that has
# passed is not tried again until something below it, the tests or the configuration change.
. "$(dirname "$0")/lib.sh"
. "$scripts/tap.sh"

only=${2:-}
# To the scripts that build and boot, each step is a tree like any other.
lab=$work/bisect
lab_work=$lab/${work##*/}
stage=$lab_work/linux
passed=$work/bisect-passed
subjects=$(git -C "$tree" log --reverse --format=%s refs/tags/base..series)

[ -z "$UNPATCHED" ] || die "there is nothing to bisect in the unpatched kernel"
[ -z "$(git -C "$tree" status --porcelain -uno)" ] ||
	die "$tree has changes that are not committed: commit them first"

# data FILE: without comments.
data() { grep -v '^#' "$scripts/$1"; }

# starts_with PREFIX: Does a line of stdin begin so? The lines are all read.
starts_with() { awk -v prefix="$1" 'index($0, prefix) == 1 { found = 1 } END { exit !found }'; }

# tests: the lines that are for this kernel. The test harness of 6.1 ignores its arguments
# and would run all tests of a program: lines with a part of them are left out there.
tests() {
	local parts=1
	grep -q getopt "$tree/tools/testing/selftests/kselftest_harness.h" || parts=
	data bisect-tests | awk -F '\t' -v base="$BASE" -v parts="$parts" '
		(!$4 || index(" " $4 " ", " " base " ")) && (parts || $2 !~ / -/)'
}

# A subject that was changed in the series and not in the data would leave tests out.
check_data() {
	local prefix
	{ tests | cut -f 3; data bisect-steps; } | sort -u | grep -vxF -e - |
	while read -r prefix; do
		starts_with "$prefix" <<<"$subjects" ||
			die "no patch of $BASE begins with \"$prefix\": correct scripts/bisect-tests and bisect-steps"
	done
}

# is_step COMMIT: Is this patch tried?
is_step() {
	local subject prefix
	subject=$(git -C "$tree" log -1 --format=%s "$1")
	if [ -n "$only" ]; then
		grep -qE -- "$only" <<<"$subject"
	elif [ "$BASE" = "$mainline" ]; then
		git -C "$tree" show --name-only --format= "$1" >"$lab_work/files"
		grep -qvE '^(tools|Documentation)/|^MAINTAINERS$' "$lab_work/files"
	else
		while read -r prefix; do
			! starts_with "$prefix" <<<"$subject" || return 0
		done < <(data bisect-steps)
		return 1
	fi
}

set_up() {
	check_data
	step "building the tests" "$scripts/tests.sh"
	mkdir -p "$passed" "$lab_work"/obj-{quick,nopkeys,allnoconfig}
	git -C "$tree" worktree prune
	git -C "$stage" rev-parse -q --verify HEAD >/dev/null 2>&1 || {
		rm -rf "$stage"
		git -C "$tree" worktree add -q --detach "$stage" refs/tags/base
	}
	# Before KUnit's tests are in the tree it is built as the unpatched one is: without
	# the options of patched.fragment.
	ln -sfn linux "$lab_work/linux-unpatched"
	ln -sfn obj-quick "$lab_work/obj-quick-unpatched"
	ln -sfn obj-nopkeys "$lab_work/obj-nopkeys-unpatched"
	ln -sfn "$work/root" "$lab_work/root"
	ln -sfn "$work/root" "$lab_work/root-unpatched"
	ln -sfn "$work/root.cpio.gz" "$lab_work/root.cpio.gz"
	ln -sfn "$work/root.cpio.gz" "$lab_work/root-unpatched.cpio.gz"
}

# plan PROCESSOR COMMIT: which programs must pass there.
plan() {
	local processor program subject until
	until=$(git -C "$tree" log --format=%s "refs/tags/base..$2")
	tests | while IFS=$'\t' read -r processor program subject _; do
		[ "$processor" = "$1" ] || continue
		[ "$subject" = - ] || starts_with "$subject" <<<"$until" || continue
		echo "$program"
	done | awk '
		!($1 in line) { order[++count] = $1 }
		{ line[$1] = $0 }
		END { for (i = 1; i <= count; i++) print line[order[i]] }'
}

# stamp COMMIT: what its result depends on.
stamp() {
	{
		git -C "$tree" rev-parse series:tools/testing/selftests
		plan nopku "$1"
		plan pku "$1"
		(cd "$top" && cat configs/* scripts/{bisect.sh,boot.sh,guest-init})
	} | sha256sum
}

has_kunit() { git -C "$stage" grep -q 'config PKEY_MAP_KUNIT_TEST' -- '*Kconfig*'; }

# in_lab COMMAND...: on the tree of the step.
in_lab() {
	local unpatched=1
	! has_kunit || unpatched=
	BUILD=$lab UNPATCHED=$unpatched "$@"
}

# boots CONFIG PROCESSOR PLAN: and its programs pass. No failure is a known one.
boots() {
	local config=$1 processor=$2 plan=$3 name=bisect-$1-$2
	if [ "$config" = quick ] && has_kunit; then
		plan="$plan"$'\n'kunit_pkey_map
	fi
	CONFIG=$config PLAN=$plan in_lab "$scripts/boot.sh" "$name" 2 "$processor" &&
		"$scripts/report.pl" "$stage" /dev/null "$lab_work/results/$name"
}

allnoconfig() {
	local build=$lab_work/obj-allnoconfig
	kmake "$stage" -s O="$build" KCONFIG_ALLCONFIG=/dev/null allnoconfig &&
		kmake "$stage" -s O="$build" vmlinux
}

# whole COMMIT: all that is said above.
whole() {
	git -C "$stage" checkout -q --detach "$1" &&
		work=$lab_work allnoconfig &&
		CONFIG=nopkeys in_lab "$scripts/build.sh" &&
		CONFIG=quick in_lab "$scripts/build.sh" &&
		boots nopkeys pku "$(plan nopku "$1")" &&
		boots quick nopku "$(plan nopku "$1")" &&
		boots quick pku "$(plan pku "$1")" &&
		stamp "$1" >"$passed/$1"
}

export TORTURE=3
tap_begin bisect "${1:-$work/results/bisect}"
set_up
count=0
for commit in $(git -C "$tree" rev-list --reverse refs/tags/base..series); do
	count=$((count + 1))
	is_step "$commit" || continue
	name=$(printf '%04d %s' "$count" "$(git -C "$tree" log -1 --format=%s "$commit")")
	if [ "$(cat "$passed/$commit" 2>/dev/null)" = "$(stamp "$commit")" ]; then
		check "$name (unchanged since it passed)" true
	else
		say "==> $name"
		check "$name" whole "$commit"
	fi
done
status=0
tap_end || status=1
[ $# -gt 0 ] || grep -E '^(not )?ok' "$tap" | "$scripts/record.sh" bisect "make bisect"
exit $status
