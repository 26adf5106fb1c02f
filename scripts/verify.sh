#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# verify.sh [DIRECTORY]: prove that patches/BASE applies to the pristine base and gives the
# files of this repository, changed by patches/BASE/own-files.diff, and that the objects that
# each patch touches compile after it: with protection keys, without them, and as allnoconfig,
# which is a 32-bit kernel. (make bisect builds whole kernels and boots them.) The faults of
# make mutate apply to the result. TAP goes into DIRECTORY if there is one.
. "$(dirname "$0")/lib.sh"
. "$scripts/tap.sh"
. "$scripts/own-diff.sh"

scratch=$work/linux-verify

fresh_scratch() {
	remove_worktree "$tree" "$scratch"
	git -C "$tree" worktree prune
	git -C "$tree" worktree add -q --detach "$scratch" refs/tags/base
}

# The files here are those of the newest base, which has no own-files.diff.
same_files() {
	local expected=$patches/own-files.diff
	[ -e "$expected" ] || expected=/dev/null
	own_files_diff "$scratch" | diff -u "$expected" -
}

# What mutate.sh breaks is in the series as it is now.
mutants_apply() {
	local mutant status=0
	for mutant in "$scripts"/mutants/*.patch; do
		git -C "$scratch" apply --check -C1 "$mutant" || status=1
	done
	return $status
}

same_tree() { git -C "$scratch" diff --stat --exit-code "$(git -C "$tree" rev-parse series)"; }

# These objects include the headers that the series touches.
observers="mm/mprotect.o mm/mmap.o kernel/fork.o arch/x86/kernel/process.o
	arch/x86/kernel/fpu/ arch/x86/mm/ fs/proc/task_mmu.o"

# objects: print the objects of the .c files that the patch touches, and for a header the
# observers.
objects() {
	local file
	git -C "$scratch" show --diff-filter=d --name-only --format= HEAD | while read -r file; do
		case $file in
		tools/*|Documentation/*) ;;
		*.c) echo "${file%.c}.o" ;;
		*.h) echo "$observers" ;;
		*/Makefile|*/Kconfig*) echo mm/ ;;
		esac
	done | xargs -n 1 | sort -u
}

# left_out CONFIG: print a regex of the objects that this configuration does not build.
left_out() {
	case $1 in
	default) echo '^$' ;;
	nopkeys) echo '^arch/x86/mm/pkeys\.o$' ;;
	allnoconfig) echo '^(arch/x86/mm/pkeys\.o|.*_kunit\.o|arch/x86/kvm/.*|arch/x86/ia32/.*|arch/x86/kernel/signal_64\.o|fs/proc/.*|io_uring/.*|kernel/rseq\.o)$' ;;
	esac
}

builds() {
	local config=$1 build=$work/obj-verify-$1 wanted=$work/verify-$1.config targets
	targets=$(objects | grep -Ev "$(left_out "$config")" || true)
	[ -n "$targets" ] || return 0
	if [ "$config" = allnoconfig ]; then
		: >"$wanted"
	else
		# shellcheck disable=SC2046
		config $(fragments "$config.config") {patched,verify}.fragment >"$wanted"
	fi
	kmake "$scratch" -s O="$build" KCONFIG_ALLCONFIG="$wanted" allnoconfig || return 1
	# shellcheck disable=SC2086
	kmake "$scratch" -s O="$build" $targets
}

tap_begin verify "${1:-$work/results/verify}"
fresh_scratch
for patch in "$patches"/[0-9]*.patch; do
	name=$(basename "$patch" .patch)
	check "$name applies" git -C "$scratch" am -q "$patch"
	for config in default nopkeys allnoconfig; do
		check "$name builds, $config" builds "$config"
	done
done
check "the patches give the files of this repository, changed by own-files.diff" same_files
check "the patches give the tree that is built" same_tree
[ "$BASE" != "$mutants_base" ] || check "the faults in scripts/mutants apply" mutants_apply
remove_worktree "$tree" "$scratch"
tap_end
