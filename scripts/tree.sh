#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Make the kernel git tree: tag "base" is the source as it came, branch "series" and tag
# "applied" have the patches. Everything else in the tree is work, which is never lost
# (work_in() in lib.sh).
. "$(dirname "$0")/lib.sh"

in_tree() { git -C "$tree" "$@"; }

from=${KERNEL:-$source}
[ -e "$from" ] || die "$from is not there: install linux-source-$BASE, or name a source with KERNEL="
[ -f "$from" ] || [ -f "$from/Kbuild" ] || die "$from is not a Linux kernel source"

# in_source ARGUMENT...: git in a tree of the user's, with the user's settings, reading only.
in_source() {
	env -u GIT_CONFIG_GLOBAL -u GIT_CONFIG_NOSYSTEM -u GIT_CONFIG_COUNT GIT_OPTIONAL_LOCKS=0 \
		git -C "$from" -c core.autocrlf=false -c core.eol=lf "$@"
}

# source_state: print what tells one state of the source from the next. There is nothing
# that tells it for a plain directory.
source_state() {
	if [ -e "$from/.git" ]; then
		in_source rev-parse HEAD
	elif [ -f "$from" ]; then
		TZ=UTC0 stat -c '%s bytes, %y' "$from"
	else
		echo "$from"
	fi
}

# unpack DIRECTORY: copy the source into a git repository that is empty.
unpack() {
	local said changes
	# The message is kept in a variable, because the disk may be full.
	if [ -f "$from" ]; then
		said=$({ extract "$1" -f "$from" --strip-components=1; } 2>&1) ||
			die "cannot unpack $from: ${said%%$'\n'*}"
	elif [ -e "$from/.git" ]; then
		changes=$(in_source status --porcelain -uno) || die "git cannot read $from, see above"
		[ -z "$changes" ] ||
			say "note: $from has changes that are not committed: those are left out"
		said=$({ in_source archive HEAD | extract "$1" -f -; } 2>&1) ||
			die "cannot copy $from: ${said%%$'\n'*}"
	else
		said=$(cp -a --no-preserve=ownership "$from/." "$1" 2>&1) ||
			die "cannot copy $from: ${said%%$'\n'*}"
	fi
	[ -f "$1/Kbuild" ] || die "$from is not a Linux kernel source"
	kernel_is_base "$1" || die "$from is Linux $(kernel_version "$1"): run with BASE=$(kernel_version "$1") (patches/ has: $(known_bases))"
}

# extract DIRECTORY ARGUMENT...: unpack what the arguments tell tar to, and have git read each
# file while tar writes the next ones, which takes half the time.
extract() {
	local into=$1
	shift
	tar -x -v --show-transformed-names --no-same-owner --exclude=.git -C "$into" "$@" |
		one_behind | git_fast "$into" update-index --add --stdin
}

# one_behind: print the names of files on stdin, each when the next name has come: tar prints
# a name before it writes the file.
one_behind() {
	awk '
		function written() { if (last != "" && last !~ /\/$/) { print last; fflush() } }
		{ written(); last = $0 }
		END { written() }'
}

# git_fast DIRECTORY ARGUMENT...: git, without waiting for the disk and without compression.
git_fast() { git -C "$1" -c core.compression=0 -c core.fsync=none "${@:2}"; }

kernel_is_base() { [ -n "$UNPATCHED" ] || [ "$(kernel_version "$1")" = "$BASE" ]; }

make_tree() {
	local new=$tree.new
	rm -rf "$new"
	mkdir -p "$new"
	git -C "$new" init -q --template= -b series
	unpack "$new"
	git -C "$new" config user.name "$GIT_AUTHOR_NAME"
	git -C "$new" config user.email "$GIT_AUTHOR_EMAIL"
	git -C "$new" config gc.auto 0
	# This adds what unpack has not, or has before it was complete. -f is needed because
	# Debian's source has a .gitignore that ignores everything.
	git_fast "$new" add -f .
	GIT_AUTHOR_DATE='@0 +0000' GIT_COMMITTER_DATE='@0 +0000' \
		git -C "$new" commit -q -m "Linux source as it came"
	git -C "$new" tag base
	git -C "$new" config harness.source "$(source_state)"
	mv "$new" "$tree"
}

# apply_patches: apply them on base without touching a file, then check the result out.
apply_patches() {
	local new file stamp
	stamp=$(patches_stamp "$patches")
	shopt -s nullglob
	local files=("$patches"/[0-9]*.patch)
	new=$(in_tree rev-parse 'refs/tags/base^{commit}')
	[ ${#files[@]} = 0 ] ||
		new=$(apply_series "$tree" "$new" --committer-date-is-author-date "${files[@]}") || {
			cat "$temporary/am.log" >&2
			die "the patches in $patches do not apply to this source"
		}
	for file in $(in_tree diff --name-only --no-renames --diff-filter=A HEAD "$new"); do
		[ ! -e "$tree/$file" ] || die "$tree/$file is not in git and the series adds it: move it away"
	done
	# Until the files are complete, the branch that is checked out has this name.
	in_tree branch -q -f unfinished "$new"
	in_tree symbolic-ref HEAD refs/heads/unfinished
	finish_checkout "$stamp"
}

# finish_checkout STAMP: complete the checkout, even if it was interrupted before.
finish_checkout() {
	rm -f "$tree/.git/index.lock"
	in_tree reset -q --hard
	mark_applied HEAD "$1"
	in_tree checkout -q -B series
	in_tree branch -q -D unfinished
}

make_pristine() {
	in_tree worktree remove --force "$pristine" 2>/dev/null || true
	rm -rf "$pristine"
	in_tree worktree prune
	in_tree worktree add -q --detach "$pristine" refs/tags/base
}

# pristine_is_there: git writes the index of a new worktree when all files are there.
pristine_is_there() {
	local index
	[ -f "$pristine/.git" ] || return 1
	index=$(git -C "$pristine" rev-parse --absolute-git-dir 2>/dev/null) && [ -f "$index/index" ]
}

make_temporary
mkdir -p "$work" 2>/dev/null || die "cannot write to $work: set BUILD= to a directory of yours"
if [ -d "$tree" ]; then
	in_tree rev-parse -q --verify refs/tags/base >/dev/null ||
		die "$tree is not a kernel git tree of the harness: move it away"
	remove_locks
	[ "$(in_tree symbolic-ref -q HEAD || true)" != refs/heads/unfinished ] ||
		step "completing the checkout of the series, which was interrupted" finish_checkout unknown
	state=$(in_tree config harness.source || true)
	now=$(source_state) || die "git cannot read $from, see above"
	if [ -n "$state" ] && [ "$state" != "$now" ]; then
		mine=$(work_in "$tree") && mine=${mine:-$(files_in "$tree")} || exit 1
		[ -z "$mine" ] ||
			die "$from has changed, and $tree has $mine: save that (make export), then remove $tree"
		say "note: $from has changed: starting over with it"
		rm -rf "$tree" "$pristine"
	fi
fi
[ -d "$tree" ] || step "unpacking $from into $tree" make_tree

if [ -n "$UNPATCHED" ]; then
	pristine_is_there || step "checking out the unpatched source into $pristine" make_pristine
	exit 0
fi
kernel_is_base "$tree" || die "$from is Linux $(kernel_version "$tree"): run with BASE=$(kernel_version "$tree")"

branch=$(in_tree symbolic-ref -q --short HEAD || in_tree rev-parse --short HEAD)
mine=$(work_in "$tree")
if [ -n "$mine" ]; then
	say "note: using $tree as it is: it has $mine; make export writes commits to patches/"
elif [ "$branch" = series ] && [ "$(applied_stamp)" != "$(patches_stamp "$patches")" ]; then
	step "applying patches/$BASE" apply_patches
fi
[ "$branch" = series ] || say "note: in $tree $branch is checked out, not series: that is what is built"
