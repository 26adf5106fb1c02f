#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Apply the series to a user's own kernel git tree, on a new branch. The only
# command that changes a tree of the user's.
. "$(dirname "$0")/lib.sh"

[ -n "${TREE:-}" ] || die "name your kernel git tree: make apply TREE=/path/to/linux"
[ -d "$TREE" ] || die "TREE=$TREE is not a directory"
TREE=$(realpath "$TREE")
branch=pkeys

in_tree() { git -C "$TREE" "$@"; }

[ "$(in_tree rev-parse --show-toplevel 2>/dev/null)" = "$TREE" ] ||
	die "$TREE is not the top of a git tree: clone one, or run git init, add and commit there"
[ -f "$TREE/Kbuild" ] || die "$TREE is not a Linux kernel tree"
version=$(kernel_version "$TREE")
patches=$top/patches/$version
[ -d "$patches" ] || die "there is no series for Linux $version: patches/ has $(known_bases)"
git_dir=$(in_tree rev-parse --absolute-git-dir)
for state in rebase-apply rebase-merge MERGE_HEAD CHERRY_PICK_HEAD; do
	[ ! -e "$git_dir/$state" ] || die "$TREE is in the middle of a merge, rebase or am: finish or abort it first"
done
[ -z "$(in_tree status --porcelain -uno)" ] || die "$TREE has changes that are not committed: commit or stash them first"
! in_tree rev-parse -q --verify "refs/heads/$branch" >/dev/null ||
	die "$TREE has a branch $branch already: rename or delete it first"
in_tree var GIT_COMMITTER_IDENT >/dev/null 2>&1 ||
	die "git does not know who you are: set user.name and user.email with git config"

before=$(in_tree symbolic-ref -q --short HEAD || in_tree rev-parse HEAD)
log=$(mktemp)

undo() {
	in_tree am --abort 2>/dev/null || true
	in_tree checkout -q "$before"
	in_tree branch -q -D "$branch" 2>/dev/null || true
	die "$1: $TREE is as it was"
}

trap 'rm -f "$log"' EXIT
trap 'undo "interrupted"' INT TERM
in_tree checkout -q -b "$branch"
in_tree am -q "$patches"/[0-9]*.patch >"$log" 2>&1 ||
	undo "the series for $version does not apply ($(grep -m 1 . "$log")), try a newer $version.y"
trap - INT TERM
say "$TREE: branch $branch has the series; before it was on $before"
