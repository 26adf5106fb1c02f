#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Carry the series for one kernel, FROM, to another one, KERNEL, by rebase. Where
# that conflicts it stops, as a rebase does, and names the files; resolve them, and run
# it again. At the end it writes patches/.
. "$(dirname "$0")/lib.sh"

in_tree() { git -C "$tree" "$@"; }

# own_in_tree TREE: print the files that are wholly ours in a git tree.
own_in_tree() { grep -v '^#' "$scripts/own-files" | xargs git -C "$1" ls-files --; }

# share_objects TREE: $tree gets the objects of another git tree, by hard links, which
# outlive that tree. Commits can then be carried over by three-way merges.
share_objects() { cp -a -l -n "$1/.git/objects/." "$tree/.git/objects/"; }

# conflicts: name the files and the patch where the rebase stopped, and exit.
conflicts() {
	local file subject
	subject=$(in_tree log -1 --format=%s REBASE_HEAD)
	in_tree diff --name-only --diff-filter=U | while read -r file; do
		say "conflict in $file: $subject"
	done
	say "in $tree: resolve the conflict, run git add -u and git rebase --continue there, then make port again"
	exit 1
}

# The series is on the new base: write it to patches/.
finished() {
	[ ! -f "$top/configs/$FROM.sed" ] || [ -f "$top/configs/$BASE.sed" ] ||
		cp "$top/configs/$FROM.sed" "$top/configs/$BASE.sed"
	"$scripts/export.sh"
	say "now make verify and make check, each with BASE=$BASE KERNEL=$KERNEL; after a change of $tree make export as well"
}

[ -n "${FROM:+$KERNEL}" ] || die "name both: make port FROM=7.3 KERNEL=/path/to/newer"
[ -d "$top/patches/$FROM" ] || die "there is no series for Linux $FROM: patches/ has $(known_bases)"
BASE=$(kernel_version "$KERNEL" 2>/dev/null || true)
[ -n "$BASE" ] || die "$KERNEL is not a Linux kernel source"
[ ! -d "$top/patches/$BASE" ] || die "there is a series for Linux $BASE already, in patches/$BASE"
export BASE FROM

KERNEL='' BASE=$FROM "$scripts/setup.sh"
KERNEL='' BASE=$FROM "$scripts/tree.sh"
old=$BUILD/$FROM/linux
from_base=$(git -C "$old" rev-parse refs/tags/base)
from_series=$(git -C "$old" rev-parse series)

"$scripts/tree.sh"
[ ! -d "$tree/.git/rebase-merge" ] || conflicts
if [ "$(in_tree rev-list --count refs/tags/base..series)" != 0 ] &&
   in_tree merge-base --is-ancestor refs/tags/base series; then
	finished
	exit
fi

share_objects "$old"
# The series has the right version of the files that are wholly ours, whatever this kernel
# has in their place.
in_tree config merge.ours-alone.driver 'cp %B %A'
mkdir -p "$tree/.git/info"
own_in_tree "$old" | sed 's|.*|/& merge=ours-alone|' >"$tree/.git/info/attributes"

in_tree checkout -q --detach refs/tags/base
in_tree branch -q -f series "$from_series"
in_tree -c advice.mergeConflict=false rebase -q --onto refs/tags/base "$from_base" series >"$work/port.log" 2>&1 ||
	conflicts
finished
