#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Make the kernel git tree: tag "base" is the source as it came, branch "series"
# has the patches. Commits that somebody made on that branch are never lost.
. "$(dirname "$0")/lib.sh"

neutral_git
in_tree() { git -C "$tree" "$@"; }

from=${KERNEL:-$source}
[ -e "$from" ] || die "$from is not there: install linux-source-$BASE, or name a source with KERNEL="
[ -f "$from" ] || [ -f "$from/Kbuild" ] || die "$from is not a Linux kernel source"

# git in a tree of the user's: with the user's settings, and reading only.
in_source() { env -u GIT_CONFIG_GLOBAL GIT_OPTIONAL_LOCKS=0 git -C "$from" "$@"; }

# What tells one state of the source from the next; a plain directory has nothing.
source_state() {
	if [ -e "$from/.git" ]; then
		in_source rev-parse HEAD
	elif [ -f "$from" ]; then
		stat -c '%s bytes, %y' "$from"
	else
		echo "$from"
	fi
}

# The source, into the empty directory $1.
unpack() {
	if [ -f "$from" ]; then
		tar -x --no-same-owner -f "$from" -C "$1" --strip-components=1 ||
			die "$from is not a tarball that tar can read"
	elif [ -e "$from/.git" ]; then
		[ -z "$(in_source status --porcelain -uno)" ] ||
			say "note: $from has changes that are not committed: those are left out"
		in_source archive HEAD | tar -x -C "$1"
	else
		cp -a --no-preserve=ownership "$from/." "$1"
	fi
	[ -f "$1/Kbuild" ] || die "$from is not a Linux kernel source"
	kernel_is_base "$1" || die "$from is Linux $(kernel_version "$1"): run with BASE=$(kernel_version "$1") (patches/ has: $(known_bases))"
}

kernel_is_base() { [ -n "$UNPATCHED" ] || [ "$(kernel_version "$1")" = "$BASE" ]; }

make_tree() {
	local new=$tree.new
	rm -rf "$new"
	mkdir -p "$new"
	unpack "$new"
	git -C "$new" init -q -b series
	git -C "$new" config user.name "$GIT_AUTHOR_NAME"
	git -C "$new" config user.email "$GIT_AUTHOR_EMAIL"
	git -C "$new" config gc.auto 0
	# -f: Debian's source has a .gitignore that ignores everything.
	git -C "$new" -c core.compression=0 -c core.fsync=none add -f .
	GIT_AUTHOR_DATE='@0 +0000' GIT_COMMITTER_DATE='@0 +0000' \
		git -C "$new" commit -q -m "Linux source as it came"
	git -C "$new" tag base
	git -C "$new" config harness.source "$(source_state)"
	mv "$new" "$tree"
}

patch_files() {
	shopt -s nullglob
	echo "$patches"/[0-9]*.patch
}

apply_patches() {
	local files
	files=$(patch_files)
	in_tree config harness.busy true
	rm -f "$tree/.git/index.lock"
	in_tree am --quit 2>/dev/null || true
	in_tree checkout -q -f -B series refs/tags/base
	# shellcheck disable=SC2086
	if [ -n "$files" ] && ! in_tree am -q --committer-date-is-author-date $files; then
		in_tree am --abort
		in_tree config harness.tip "$(in_tree rev-parse series)"
		in_tree config --unset harness.applied || true
		in_tree config --unset harness.busy
		die "the patches in $patches do not apply to this source"
	fi
	in_tree config harness.applied "$(applied_stamp)"
	in_tree config harness.tip "$(in_tree rev-parse series)"
	in_tree config --unset harness.busy
}

make_pristine() {
	in_tree worktree remove --force "$pristine" 2>/dev/null || true
	rm -rf "$pristine"
	in_tree worktree prune
	in_tree worktree add -q --detach "$pristine" refs/tags/base
	in_tree config harness.pristine true
}

applied_stamp() {
	# shellcheck disable=SC2046
	cat /dev/null $(patch_files) | sha256sum | cut -d' ' -f1
}

if [ -d "$tree" ]; then
	state=$(in_tree config harness.source || true)
	if [ -n "$state" ] && [ "$state" != "$(source_state)" ]; then
		! any_work "$tree" || die "$from has changed, and $tree has work of its own: make export, then remove $tree"
		say "note: $from has changed: starting over with it"
		rm -rf "$tree" "$pristine"
	fi
fi
[ -d "$tree" ] || step "unpacking $from into $tree" make_tree

if [ -n "$UNPATCHED" ]; then
	[ "$(in_tree config harness.pristine || true)" ] ||
		step "checking out the unpatched source into $pristine" make_pristine
	exit 0
fi
kernel_is_base "$tree" || die "$from is Linux $(kernel_version "$tree"): run with BASE=$(kernel_version "$tree")"

if [ "$(in_tree config harness.busy || true)" ]; then
	step "applying patches/$BASE, which was interrupted" apply_patches
elif own_work "$tree"; then
	say "note: using $tree as it is, with $(in_tree rev-list --count refs/tags/base..HEAD) commits; make export writes them to patches/"
elif [ "$(in_tree config harness.applied || true)" != "$(applied_stamp)" ]; then
	step "applying patches/$BASE" apply_patches
fi
