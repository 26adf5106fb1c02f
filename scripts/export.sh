#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Write patches/BASE and the files that are wholly ours from the kernel git tree.
. "$(dirname "$0")/lib.sh"

neutral_git

[ -d "$tree/.git" ] || die "there is no kernel git tree in $tree: run make build first"
[ -z "$(git -C "$tree" status --porcelain -uno)" ] || die "$tree has changes that are not committed: commit them first"

[ ! -d "$tree/.git/rebase-merge" ] || die "$tree is in the middle of a rebase: finish it first"

letter=$patches/0000-cover-letter.txt
mkdir -p "$patches"
# A series that make port has carried here begins with what the old one had.
if ported=$(git -C "$tree" config harness.ported); then
	[ -f "$letter" ] || cp "$top/patches/$ported/0000-cover-letter.txt" "$letter"
	[ ! -f "$top/configs/$ported.sed" ] || [ -f "$top/configs/$BASE.sed" ] ||
		cp "$top/configs/$ported.sed" "$top/configs/$BASE.sed"
fi
rm -f "$patches"/[0-9]*.patch
git -C "$tree" -c core.abbrev=12 format-patch -q -n --zero-commit --no-signature --no-thread \
	--stat=72 -o "$patches" refs/tags/base..series

# What changes with the patches, below the text of the cover letter.
if [ -f "$letter" ]; then
	count=$(git -C "$tree" rev-list --count refs/tags/base..series)
	sed -i "s|^Subject: \[PATCH 00/[^]]*\]|Subject: [PATCH 00/$count]|; /^-- 8< --/,\$d" "$letter"
	{
		echo '-- 8< --'
		git -C "$tree" log --reverse --format='  %s' refs/tags/base..series
		echo
		git -C "$tree" diff --stat=72 --summary refs/tags/base..series
	} >>"$letter"
fi

grep -v '^#' "$scripts/own-files" | while read -r pattern; do
	git -C "$top" ls-files -z -- "$pattern" | (cd "$top" && xargs -0 -r rm -f)
	found=
	for file in $(cd "$tree" && git ls-files -- "$pattern"); do
		mkdir -p "$top/$(dirname "$file")"
		cp "$tree/$file" "$top/$file"
		found=1
	done
	[ -n "$found" ] || die "no file in $tree matches $pattern of scripts/own-files"
done

git -C "$tree" config harness.tip "$(git -C "$tree" rev-parse series)"
git -C "$tree" config harness.applied "$(cat "$patches"/[0-9]*.patch | sha256sum | cut -d' ' -f1)"
say "$(git -C "$tree" rev-list --count refs/tags/base..series) patches in patches/$BASE"
