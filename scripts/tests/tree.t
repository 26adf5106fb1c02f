#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The kernel git tree of the harness: it recovers from a signal at any moment, and
# nobody's work in it is lost.
. "$(dirname "$0")/toy.sh"

: "${ROUNDS:=100}" "${SEED:=$RANDOM}"
RANDOM=$SEED
echo "# SEED=$SEED"

project
tree=$(tree_of 7.3)
patch=$(echo "$top"/patches/7.3/0008-*.patch)
series=$(git_in "$toy/linux-7.3" rev-parse 'with-series^{tree}')
without_last=$(git_in "$toy/linux-7.3" rev-parse 'with-series~1^{tree}')

# has TREE: is that what the branch series and the files are?
has() {
	[ "$(git_in "$tree" rev-parse 'HEAD^{tree}')" = "$1" ] &&
	[ "$(git_in "$tree" status --porcelain --branch --ignored)" = "## series" ]
}
# other_series: the series is $expected after this: without its last patch, or with it.
other_series() {
	if [ -e "$patch" ]; then
		mv "$patch" "$toy/last.patch"
		expected=$without_last
	else
		mv "$toy/last.patch" "$patch"
		expected=$series
	fi
}

ok "a tree is made" run tree.sh 7.3
ok "it has the series" has "$series"
ok "nothing to do a second time" empty "$(run tree.sh 7.3 2>&1)"
ok "the unpatched source beside it" env UNPATCHED=1 BASE=7.3 KERNEL="$toy/linux-7.3" "$top/scripts/tree.sh"
ok "is unpatched" test "$(git_in "$tree-unpatched" rev-parse 'HEAD^{tree}')" = \
	"$(git_in "$toy/linux-7.3" rev-parse 'pristine^{tree}')"

# Interrupted at a random moment while one series takes the place of another.
other_series
start=${EPOCHREALTIME/.}
ok "another series is applied" run tree.sh 7.3
duration=$((${EPOCHREALTIME/.} - start))
wrong=''
for round in $(seq "$ROUNDS"); do
	other_series
	interrupt BASE=7.3 KERNEL="$toy/linux-7.3" "$top/scripts/tree.sh" || wrong="an error, "
	said=$(run tree.sh 7.3 2>&1)
	has "$expected" || wrong="${wrong}the tree, "
	[ -z "$wrong" ] || {
		wrong="round $round, $signal: $wrong$(cat "$toy/said"); $said; $(git_in "$tree" status)"
		break
	}
done
echo "# of $ROUNDS signals $interrupted came in time, $completed too late"
ok "it recovers from $ROUNDS signals at random moments" empty "$wrong"
ok "some signals came in time" test "$interrupted" -gt 0
[ -e "$patch" ] || other_series
run tree.sh 7.3 2>/dev/null

# A checkout that was interrupted: half of the files, a lock, another branch.
git_in "$tree" branch -f unfinished series
git_in "$tree" symbolic-ref HEAD refs/heads/unfinished
echo half >"$tree/mm/pkeys.c"
: >"$tree/.git/index.lock"
: >"$tree/.git/packed-refs.new"
for lock in packed-refs HEAD config refs/heads/unfinished refs/heads/series refs/tags/applied; do
	: >"$tree/.git/$lock.lock"
done
run tree.sh 7.3 2>/dev/null
ok "it completes a half-done checkout" has "$series"

echo mine >"$tree/mm/mine.c"
mv "$patch" "$toy/last.patch"
run tree.sh 7.3 2>/dev/null
ok "a new file stays when patches/ changes" grep -qx mine "$tree/mm/mine.c"
ok "and patches/ is applied" test "$(git_in "$tree" rev-parse 'HEAD^{tree}')" = "$without_last"
ok "make clean refuses to remove the file" says "a file that is not in git, mm/mine.c" "$top/scripts/clean.sh"
mv "$tree/mm/mine.c" "$tree/mm/pkeys7.c"
printf 'From: toy <toy@localhost>\nSubject: [PATCH] Add\n\n---\ndiff --git a/mm/pkeys7.c b/mm/pkeys7.c\nnew file mode 100644\n--- /dev/null\n+++ b/mm/pkeys7.c\n@@ -0,0 +1 @@\n+ours\n' >"$top/patches/7.3/0009-add.patch"
ok "a new file in the way of patches/ is named" \
	bash -c "BASE=7.3 KERNEL=$toy/linux-7.3 $top/scripts/tree.sh 2>&1 | grep -q 'pkeys7.c is not in git and the series adds it'"
ok "and stays" grep -qx mine "$tree/mm/pkeys7.c"
rm "$tree/mm/pkeys7.c" "$top/patches/7.3/0009-add.patch"
run tree.sh 7.3 2>/dev/null

echo change >>"$tree/mm/file1.c"
mv "$toy/last.patch" "$patch"
ok "uncommitted changes are noted" bash -c "BASE=7.3 KERNEL=$toy/linux-7.3 $top/scripts/tree.sh 2>&1 | grep -q 'changes that are not committed'"
ok "and stay" grep -qx change "$tree/mm/file1.c"
ok "make clean refuses" says "changes that are not committed" "$top/scripts/clean.sh"
commit_all "$tree" "mine"
mine=$(git_in "$tree" rev-parse HEAD)
run tree.sh 7.3 2>/dev/null
ok "a commit stays" test "$(git_in "$tree" rev-parse HEAD)" = "$mine"
ok "make clean refuses that too" says "1 commit that is not in patches/" "$top/scripts/clean.sh"
git_in "$tree" checkout -q -b other
git_in "$tree" branch -q -f series refs/tags/applied
ok "another branch that is checked out is noted" bash -c "BASE=7.3 KERNEL=$toy/linux-7.3 $top/scripts/tree.sh 2>&1 | grep -q 'other is checked out, not series'"
ok "make clean refuses to lose it" says "1 commit that is not in patches/" "$top/scripts/clean.sh"
git_in "$tree" checkout -q series
git_in "$tree" branch -q -D other
git_in "$tree" stash list >/dev/null
echo stashed >>"$tree/mm/file2.c"
git_in "$tree" stash -q
ok "make clean refuses to lose a stash" says "commits that are not in patches/" "$top/scripts/clean.sh"
git_in "$tree" stash drop -q

# The source changes.
echo newer >>"$toy/linux-7.3/mm/file30.c"
commit_all "$toy/linux-7.3" "newer"
echo mine >"$tree/mm/mine.c"
ok "a source that changed does not remove somebody's file" says "has changed, and" run tree.sh 7.3
rm "$tree/mm/mine.c"
run tree.sh 7.3 2>/dev/null
ok "without work it starts over" grep -qx newer "$tree/mm/file30.c"

# git that fails is not taken for "no work".
mkdir "$toy/bin"
printf '#!/bin/sh\necho "fatal: no" >&2\nexit 128\n' >"$toy/bin/git"
chmod +x "$toy/bin/git"
ok "make clean stops when git fails" bash -c "! PATH=$toy/bin:\$PATH $top/scripts/clean.sh"
ok "and the tree is there" test -d "$tree/.git"

# Two runs.
exec 9>>"${tree%/linux}.lock"
flock 9
ok "a second run says that there is one" says "another run works in" run tree.sh 7.3
flock -u 9
exec 9>&-

# Killed runs leave these.
mkdir -p "$top"/build/{6.1/linux.new,6.12}
mkdir -p "$tree/tools/testing/selftests/mm"
touch "$tree/tools/testing/selftests/mm/"local_config.{h,mk,h_gen}
ok "make clean, with what killed runs and a build of the selftests leave" "$top/scripts/clean.sh"
ok "removes everything" test ! -e "$top/build"

# Tarballs.
tar -c -C "$toy" -f "$toy/whole.tar" linux-7.3
TZ=Asia/Tokyo BASE=7.3 KERNEL=$toy/whole.tar "$top/scripts/tree.sh" 2>/dev/null
ok "a tarball is the same in another time zone" empty "$(
	TZ=America/New_York BASE=7.3 KERNEL=$toy/whole.tar "$top/scripts/tree.sh" 2>&1)"
head -c 100000 /dev/zero >"$toy/linux-7.3/zero"
tar -c -C "$toy" linux-7.3/zero | head -c 50000 >"$toy/cut.tar"
ok "a tarball that ends early: what tar says" says "cannot unpack $toy/cut.tar: tar: Unexpected EOF" \
	bash -c "BASE=7.3 KERNEL=$toy/cut.tar $top/scripts/tree.sh 2>&1 | grep -v '^==>' >&2; exit 1"

mkdir "$toy/small"
trap 'umount -q "$toy/small"; rm -rf "$toy"' EXIT
if mount -t tmpfs -o size=64k toy "$toy/small" 2>/dev/null; then
	for source in whole.tar linux-7.3; do
		ok "a full disk is told, $source" says "No space left on device" \
			bash -c "BUILD=$toy/small BASE=7.3 KERNEL=$toy/$source $top/scripts/tree.sh 2>&1 | grep -v '^==>' >&2; exit 1"
		rm -rf "$toy"/small/*
	done
	umount "$toy/small"
else
	skip "a full disk is told" "mount is refused"
fi

# Places that the kernel's build cannot use, or that cannot be written.
cp -a "$top" "$toy/a project"
ok "a path with a space is refused at once" says "has a space or a special character" "$toy/a project/scripts/tree.sh"
ok "so is BUILD= with a comma" says "special character" env BUILD="$toy/a,b" "$top/scripts/tree.sh"
ok "BUILD= that cannot be written is told" says "cannot write to" env BUILD=/proc/build "$top/scripts/tree.sh"
ok "TMPDIR= that is not there is told" says "cannot write to $toy/none" env TMPDIR="$toy/none" BASE=7.3 KERNEL="$toy/linux-7.3" "$top/scripts/tree.sh"
ok "a closed stdout is told" says "standard output is closed" bash -c "$top/scripts/image.sh >&-"

# git as it is set up for Windows.
sed -i 's/$/\r/' "$toy/linux-7.3/Makefile"
ok "the version is read from a Makefile with CR LF" test "$(
	. "$top/scripts/lib.sh" >/dev/null; kernel_version "$toy/linux-7.3")" = 7.3
finish
