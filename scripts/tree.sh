#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Make the kernel git tree: tag "base" is the source as it came, branch "series"
# has the patches. Commits that somebody made on that branch are never lost.
. "$(dirname "$0")/lib.sh"

# Where only the harness commits: same content, same hash, on every machine.
export GIT_AUTHOR_NAME="x86 protection keys" GIT_AUTHOR_EMAIL=pkeys@localhost
export GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME GIT_COMMITTER_EMAIL=$GIT_AUTHOR_EMAIL

in_tree() { git -C "$tree" "$@"; }

# The source, into the empty directory $1.
unpack() {
	local from=$KERNEL
	if [ -z "$from" ]; then
		from=/usr/src/linux-source-$BASE.tar.xz
		[ -f "$from" ] || die "$from is not there: install linux-source-$BASE, or name a source with KERNEL="
	fi
	if [ -f "$from" ]; then
		tar -x -f "$from" -C "$1" --strip-components=1
	elif [ -e "$from/.git" ]; then
		git -C "$from" archive HEAD | tar -x -C "$1"
	else
		cp -a "$from/." "$1"
	fi
	[ -f "$1/Kbuild" ] || die "$from is not a Linux kernel source"
}

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
	git -C "$new" add -f .
	GIT_AUTHOR_DATE='@0 +0000' GIT_COMMITTER_DATE='@0 +0000' \
		git -C "$new" commit -q -m "Linux source as it came"
	git -C "$new" tag base
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

[ -d "$tree" ] || step "unpacking the kernel source into $tree" make_tree
[ "$(in_tree config harness.pristine || true)" ] ||
	step "checking out the unpatched source" make_pristine

[ -z "$UNPATCHED" ] || exit 0
[ -n "$(patch_files)" ] || die "there is no series for Linux $BASE: patches/ has $(ls "$top/patches" 2>/dev/null || echo nothing)"

tip=$(in_tree rev-parse series)
if [ "$(in_tree config harness.busy || true)" ]; then
	step "applying patches/$BASE, which was interrupted" apply_patches
elif [ "$tip" != "$(in_tree config harness.tip || in_tree rev-parse refs/tags/base)" ] ||
   [ -n "$(in_tree status --porcelain -uno)" ]; then
	say "note: using $tree as it is, with $(in_tree rev-list --count refs/tags/base..HEAD) commits; make export writes them to patches/"
elif [ "$(in_tree config harness.applied || true)" != "$(applied_stamp)" ]; then
	step "applying patches/$BASE" apply_patches
fi
