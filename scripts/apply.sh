#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Apply the series to a user's own kernel git tree, on a new branch. No other command
# changes a tree of the user's. The commits are made beside the tree, and one checkout
# brings them in. If that fails or a signal arrives, the tree gets back what it had.
. "$(dirname "$0")/lib.sh"

[ -n "${TREE:-}" ] || die "name your kernel git tree: make apply TREE=/path/to/linux"
[ -d "$TREE" ] || die "TREE=$TREE is not a directory"
TREE=$(realpath "$TREE")
branch=pkeys
# git status takes no lock of the index, which a signal could make it leave behind.
export GIT_OPTIONAL_LOCKS=0

# With $away git runs in a session of its own, where a terminal's signals do not reach it.
away=
in_tree() { $away git -C "$TREE" "$@"; }

git_dir=$(in_tree rev-parse --absolute-git-dir 2>&1) || die "git cannot use $TREE: ${git_dir%%$'\n'*}"
[ "$(in_tree rev-parse --show-toplevel)" = "$TREE" ] ||
	die "$TREE is not the top of a git tree: clone one, or run git init, add and commit there"
[ -f "$TREE/Kbuild" ] || die "$TREE is not a Linux kernel tree"
version=$(kernel_version "$TREE")
patches=$top/patches/$version
[ -d "$patches" ] || die "there is no series for Linux $version: patches/ has $(known_bases)"
exec {lock}<"$git_dir"
flock -n "$lock" || die "another make apply is at work in $TREE: wait for its end"
[ ! -e "$git_dir/index.lock" ] || die "another git command is at work in $TREE, or left $git_dir/index.lock"
! operation=$(operation_in "$TREE") || die "$TREE has $operation: finish or abort it first"
changes=$(in_tree status --porcelain -uno 2>&1) || die "git cannot read the state of $TREE: ${changes%%$'\n'*}"
[ -z "$changes" ] || die "$TREE has changes that are not committed: commit or stash them first"
! in_tree rev-parse -q --verify "refs/heads/$branch" >/dev/null ||
	die "$TREE has a branch $branch already: rename or delete it first"
in_tree var GIT_COMMITTER_IDENT >/dev/null 2>&1 ||
	die "git does not know who you are: set user.name and user.email with git config"

before=$(in_tree rev-parse HEAD)
head=$(in_tree symbolic-ref -q HEAD || true)
make_temporary
after=$(apply_series "$TREE" "$before" "$patches"/[0-9]*.patch) ||
	die "the series for $version does not apply ($(grep -m 1 . "$temporary/am.log")), try a newer $version.y; $TREE is as it was"

in_tree diff --name-only --no-renames "$before" "$after" >"$temporary/changed"
in_tree diff --name-only --no-renames --diff-filter=A "$before" "$after" >"$temporary/added"
cp "$git_dir/index" "$temporary/index"

# git overwrites a file that is ignored, or marked as unchanged.
while read -r file; do
	path=/$file
	while [ -n "$path" ]; do
		if [ -L "$TREE$path" ] || { [ -e "$TREE$path" ] && [ ! -d "$TREE$path" ]; }; then
			die "$TREE$path is not in git and the series needs its name: move it away first"
		fi
		path=${path%/*}
	done
done <"$temporary/added"
hidden=$(xargs git -C "$TREE" ls-files -v -- <"$temporary/changed" | sed -n 's/^[a-z] //p' | head -n 1)
[ -z "$hidden" ] || die "$TREE/$hidden is marked assume-unchanged and the series changes it: unmark it first"

# written FILE: is it missing, or the beginning of what the checkout writes there?
written() {
	[ -f "$TREE/$1" ] || return 0
	in_tree cat-file --filters "$after:$1" >"$temporary/after" 2>/dev/null || : >"$temporary/after"
	cmp -s -n "$(stat -c %s "$TREE/$1")" "$TREE/$1" "$temporary/after"
}

# restore STATUS: undo the checkout, however far it came. A file with other contents is the
# user's.
restore() {
	local file
	[ "$1" -le 128 ] || rm -f "$git_dir/index.lock"
	if [ -n "$head" ]; then
		in_tree symbolic-ref HEAD "$head"
	else
		in_tree update-ref --no-deref HEAD "$before"
	fi && cp "$temporary/index" "$git_dir/index.pkeys" && mv "$git_dir/index.pkeys" "$git_dir/index" || return 1
	while read -r file; do
		written "$file" || continue
		if in_tree cat-file -e "$before:$file" 2>/dev/null; then
			in_tree checkout-index -q -f -- "$file"
		else
			rm -f "${TREE:?}/$file"
			(cd "$TREE" && rmdir -p --ignore-fail-on-non-empty "$(dirname "$file")") 2>/dev/null || true
		fi || return 1
	done <"$temporary/changed"
	in_tree update-index -q --refresh >/dev/null || true
	! in_tree rev-parse -q --verify "refs/heads/$branch" >/dev/null || in_tree update-ref -d "refs/heads/$branch"
}

# From here on a signal is remembered.
signal='' away=setsid
trap 'signal=129' HUP
trap 'signal=130' INT
trap 'signal=143' TERM
status=0
in_tree checkout -q -b "$branch" "$after" 2>"$temporary/checkout" </dev/null || status=$?
if [ "$status" != 0 ] || [ -n "$signal" ]; then
	trap '' HUP INT TERM
	if ! restore "$status"; then
		say "error: $TREE could not be put back as it was: run git checkout -f ${head#refs/heads/} there" || true
	elif [ -z "$signal" ]; then
		say "error: git cannot check out the series: $(head -n 1 "$temporary/checkout"); $TREE is as it was" || true
	else
		say "error: interrupted; $TREE is as it was" || true
	fi
	exit "${signal:-1}"
fi
say "$TREE: branch $branch has the series; before it was on ${head:+${head#refs/heads/}}${head:-$before}"
