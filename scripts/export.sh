#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Write patches/BASE from the kernel git tree. The mainline series gives the files at
# their kernel paths here too; another series gives patches/BASE/own-files.diff, which
# leads from those files to its own. Everything is written elsewhere first.
. "$(dirname "$0")/lib.sh"
. "$scripts/own-diff.sh"

in_tree() { git -C "$tree" "$@"; }

[ -d "$tree/.git" ] || die "there is no kernel git tree in $tree: run make build first"
remove_locks
! operation=$(operation_in "$tree") || die "$tree has $operation: finish it first"
branch=$(in_tree symbolic-ref -q --short HEAD || in_tree rev-parse --short HEAD)
[ "$branch" = series ] || die "in $tree $branch is checked out: check out the branch series first"
changes=$(in_tree status --porcelain -uno) || die "git cannot read the state of $tree"
[ -z "$changes" ] || die "$tree has changes that are not committed: commit them first"
count=$(in_tree rev-list --count refs/tags/base..series)

# The new patches are written beside the old ones, so that a rename puts them in place.
new=$top/patches/.new-$BASE old=$top/patches/.old-$BASE
restore_patches
rm -rf "$new" "$old"
trap 'rm -rf "$new"' EXIT
mkdir -p "$new"/{patches,b} 2>/dev/null ||
	die "cannot write to $top/patches: make it writable, or free some space"

# Other files beside the patches stay.
[ ! -d "$patches" ] || cp -a "$patches/." "$new/patches"
rm -f "$new"/patches/[0-9]*.patch
# The subject of the cover letter says for which version and kernel the patches are.
prefix=$(sed -n 's|^Subject: \[\(PATCH[^]]*\) 00*/.*|\1|p' "$new/patches/0000-cover-letter.txt" 2>/dev/null || true)
in_tree -c core.abbrev=12 format-patch -q -n --zero-commit --no-signature --no-thread \
	--subject-prefix="${prefix:-PATCH}" --stat=72 -o "$new/patches" refs/tags/base..series
[ "$(ls "$new"/patches/[0-9]*.patch | wc -l)" = "$count" ] || die "git wrote fewer than $count patches"

# A series that make port has carried here begins with the old cover letter.
letter=$new/patches/0000-cover-letter.txt
[ -f "$letter" ] || [ -z "${FROM:-}" ] || cp "$top/patches/$FROM/0000-cover-letter.txt" "$letter"
# A list of the patches and a diffstat stand below the text of the cover letter.
if [ -f "$letter" ]; then
	sed -i "s|^Subject: \[PATCH\([^]]*\) 00*/[^]]*\]|Subject: [PATCH\1 00/$count]|; /^-- 8< --/,\$d" "$letter"
	{
		echo '-- 8< --'
		in_tree log --reverse --format='  %s' refs/tags/base..series
		echo
		in_tree diff --stat=72 --summary refs/tags/base..series
	} >>"$letter"
fi

# $new/b gets the files that are wholly ours, as the series has them.
while read -r pattern; do
	in_tree ls-files -- "$pattern" | grep . || die "no file in $tree matches $pattern of scripts/own-files"
done < <(grep -Ev '^(#|$)' "$scripts/own-files") >"$new/list"
xargs git -C "$tree" archive series -- <"$new/list" | tar -x -C "$new/b"

# edited FILE: has the copy here something that no commit and no series has?
edited() {
	local hash at
	hash=$(git hash-object --no-filters "$top/$1")
	for at in "$top HEAD" "$top " "$tree refs/tags/applied" "$tree series"; do
		[ "$(git -C "${at% *}" rev-parse -q --verify "${at##* }:$1" 2>/dev/null)" != "$hash" ] || return 1
	done
}

if [ "$BASE" = "$mainline" ]; then
	for file in $(own_files "$top"); do
		! edited "$file" || die "$file has changes that are not in git: they belong into $tree, or git checkout drops them"
	done
else
	own_files_diff "$new/b" >"$new/patches/own-files.diff"
fi
case $(patches_stamp "$patches") in
"$(applied_stamp)"|"$(patches_stamp "$new/patches")") ;;
*)	[ -z "$(git -C "$top" status --porcelain -- "patches/$BASE/[0-9]*.patch" 2>/dev/null)" ] ||
		die "patches/$BASE has changes that are not committed and not from $tree: commit or drop them first" ;;
esac

# Put all in place, and ignore signals meanwhile.
trap '' HUP INT TERM
[ ! -d "$patches" ] || mv "$patches" "$old"
mv "$new/patches" "$patches" || { mv "$old" "$patches"; die "cannot write to $top/patches"; }
rm -rf "$old"
if [ "$BASE" = "$mainline" ]; then
	[ -z "$(own_files_diff "$new/b")" ] || say "note: our files have changed: run make export with each other BASE= too"
	comm -23 <(own_files "$top") <(own_files "$new/b") | (cd "$top" && xargs -r rm -f)
	for file in $(own_files "$new/b"); do
		mkdir -p "$top/$(dirname "$file")"
		cmp -s "$new/b/$file" "$top/$file" || mv "$new/b/$file" "$top/$file"
	done
fi
mark_applied series "$(patches_stamp "$patches")"
say "$count patches in patches/$BASE"
