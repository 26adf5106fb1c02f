#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# make export and make port: patches/ and our files are as they were, or whole and new.
. "$(dirname "$0")/toy.sh"

: "${ROUNDS:=100}" "${SEED:=$RANDOM}"
RANDOM=$SEED
echo "# SEED=$SEED"

project
tree=$(tree_of 7.3)
other=$(tree_of 6.12)
run tree.sh 7.3 2>/dev/null
run tree.sh 6.12 2>/dev/null

state() { (cd "$top" && find . -path ./build -prune -o -path ./.git -prune -o -type f -print0 | sort -z | xargs -0 cksum); }
as_it_was() { diff "$toy/before" <(state); }
export_() { run export.sh "$@"; }
# with_broken COMMAND WHEN: as export_ 7.3, but COMMAND fails if its arguments match WHEN.
with_broken() {
	local status=0
	mkdir -p "$toy/bin"
	printf '#!/bin/bash\ncase "$*" in *%s*) echo "No space left on device" >&2; exit 1 ;; esac\nexec %s "$@"\n' \
		"$2" "$(command -v "$1")" >"$toy/bin/$1"
	chmod +x "$toy/bin/$1"
	PATH=$toy/bin:$PATH export_ 7.3 || status=$?
	rm "$toy/bin/$1"
	return "$status"
}
fails() { ! "$@"; }

ok "export" export_ 7.3
ok "gives the cover letter the number of patches" grep -qF '[PATCH 00/8]' "$top/patches/7.3/0000-cover-letter.txt"
ok "leaves nothing else in patches/" test "$(ls -A "$top/patches" | paste -s -d ' ')" = "6.12 7.3"
commit_all "$top" "exported"
state >"$toy/before"
ok "a second export" export_ 7.3
ok "changes nothing" as_it_was
ok "the kernel tree has nothing to apply then" empty "$(run tree.sh 7.3 2>&1)"

echo ours, changed >"$tree/mm/pkeys.c"
ok "changes in the tree are refused" says "changes that are not committed" export_ 7.3
commit_all "$tree" "mm/toy: Change"
for broken in "git format-patch" "git archive" "git ls-files" "tar -x" "cp -a"; do
	# shellcheck disable=SC2086
	ok "$broken fails: export fails" fails with_broken $broken
	ok "$broken fails: all is as it was" as_it_was
done
git_in "$tree" checkout -q -b elsewhere
ok "another branch is refused" says "elsewhere is checked out" export_ 7.3
git_in "$tree" checkout -q series
git_in "$tree" branch -q -D elsewhere
GIT_SEQUENCE_EDITOR='sed -i 1s/pick/edit/' git_in "$tree" rebase -q -i base 2>/dev/null
ok "so is a rebase under way" says "a rebase under way" export_ 7.3
git_in "$tree" rebase --abort
git_in "$tree" am "$top/patches/7.3/0001-"*.patch >/dev/null 2>&1
ok "and an am" says "rebase or am under way" export_ 7.3
git_in "$tree" am --abort
ok "all is as it was" as_it_was

echo by hand >>"$top/mm/pkeys.c"
ok "a change by hand of a file here is not overwritten" says "mm/pkeys.c has changes that are not in git" export_ 7.3
git_in "$top" checkout -q -- mm/pkeys.c
echo by hand >"$top/mm/pkeys_new.c"
ok "nor is a new file removed" says "mm/pkeys_new.c has changes that are not in git" export_ 7.3
rm "$top/mm/pkeys_new.c"
echo by hand >>"$(echo "$top"/patches/7.3/0002-*.patch)"
ok "nor is a patch that was changed by hand" says "patches/7.3 has changes" export_ 7.3
git_in "$top" checkout -q -- patches
echo text >"$top/patches/7.3/NOTES"

ok "export of the change" export_ 7.3
ok "gives nine patches" test "$(ls "$top"/patches/7.3/*.patch | wc -l)" = 9
ok "the file" grep -qx "ours, changed" "$top/mm/pkeys.c"
ok "and keeps what else is there" grep -qx text "$top/patches/7.3/NOTES"

git_in "$tree" mv mm/pkeys.c mm/pkeys_renamed.c
commit_all "$tree" "mm/toy: Rename"
ok "export of a renamed file" export_ 7.3
ok "removes the old one" test ! -e "$top/mm/pkeys.c" -a -e "$top/mm/pkeys_renamed.c"
git_in "$tree" reset -q --hard HEAD~1
export_ 7.3 2>/dev/null

ok "export of another base" export_ 6.12
ok "leaves the files alone" grep -qx "ours, changed" "$top/mm/pkeys.c"
applied() {
	local dir=$toy/own
	mkdir -p "$dir"
	cp -a "$top/mm" "$top/include" "$dir/"
	(cd "$dir" && patch -p1 -s <"$top/patches/6.12/own-files.diff") &&
	cmp "$dir/mm/pkeys.c" "$other/mm/pkeys.c" && cmp "$dir/include/linux/pkeys.h" "$other/include/linux/pkeys.h"
}
ok "own-files.diff leads from our files to its own" applied
ok "the mainline series has no such file" test ! -e "$top/patches/7.3/own-files.diff"

# Interrupted at random moments: the old series or the new one, never a part of one.
commit_all "$top" "exported"
state >"$toy/before"
applied=$(git_in "$tree" rev-parse refs/tags/applied)
# undo: as it was before the export of the change.
undo() {
	git_in "$top" reset -q --hard
	git_in "$top" clean -q -d -f -f
	git_in "$tree" update-ref refs/tags/applied "$applied"
}
echo "ours, again" >"$tree/mm/pkeys.c"
commit_all "$tree" "mm/toy: Change again"
start=${EPOCHREALTIME/.}
ok "export of another change" export_ 7.3
duration=$((${EPOCHREALTIME/.} - start))
state >"$toy/after"
undo
wrong=''
for round in $(seq "$ROUNDS"); do
	expected=$toy/before
	interrupt BASE=7.3 KERNEL="$toy/linux-7.3" "$top/scripts/export.sh" || wrong="an error, "
	[ "$status" != 0 ] || expected=$toy/after
	# The next export completes one that was killed.
	if [ "$signal" = KILL ]; then
		export_ 7.3 >>"$toy/said" 2>&1 || wrong+="the next export, "
		expected=$toy/after
	fi
	diff "$expected" <(state) >"$toy/differs" || wrong+="the files, "
	[ -z "$wrong" ] || {
		wrong="round $round, $signal: $wrong$(cat "$toy/said" "$toy/differs")"
		break
	}
	[ "$expected" = "$toy/before" ] || undo
done
echo "# of $ROUNDS signals $interrupted came in time, $completed too late"
ok "whole after each of $ROUNDS signals at random moments" empty "$wrong"
ok "some signals came in time" test "$interrupted" -gt 0

# killed_at WORDS: export 7.3, killed instead of the rename that has these words.
killed_at() {
	cat >"$toy/bin/mv" <<END
#!/bin/sh
case "\$*" in *$1*) kill -s KILL \$PPID ;; *) exec $(command -v mv) "\$@" ;; esac
END
	chmod +x "$toy/bin/mv"
	! PATH=$toy/bin:$PATH export_ 7.3
	rm "$toy/bin/mv"
} >/dev/null 2>&1
echo precious >"$top/patches/7.3/precious"
killed_at .new-7.3/patches
ok "killed between the renames, patches/7.3 is away" test ! -e "$top/patches/7.3"
ok "the next export completes it" export_ 7.3
ok "and a file beside the patches is there" grep -qx precious "$top/patches/7.3/precious"
undo
echo precious >"$top/patches/7.3/precious"
killed_at .new-7.3/patches
git_in "$top" checkout -q -- patches/7.3
ok "if git brought patches/7.3 back meanwhile, export names the old one" says "patches/.old-7.3: take" export_ 7.3
ok "which has that file" grep -qx precious "$top/patches/.old-7.3/precious"
undo
killed_at .new-7.3/b
: >"$tree/.git/refs/tags/applied.lock"
ok "killed before our files, the next export completes it" export_ 7.3
ok "all is as after an export" diff "$toy/after" <(state)

# Porting: 7.4 has changed a line that the series changes.
cp -a "$toy/linux-7.3" "$toy/linux-7.4"
sed -i 's/^PATCHLEVEL.*/PATCHLEVEL = 4/' "$toy/linux-7.4/Makefile"
sed -i '5s/$/ anew/' "$toy/linux-7.4/mm/file2.c"
commit_all "$toy/linux-7.4" "Linux 7.4"
cat >"$top/scripts/setup.sh" <<'END'
#!/bin/sh
exit 0
END
port() { BASE='' FROM=7.3 KERNEL=$toy/linux-7.4 "$top/scripts/port.sh"; }
# It starts from the tree of the package, which is that of the toy source here.
ln -s "${tree%/linux}" "$top/build/7.3"
sed -i "/^KERNEL=.. BASE=/d" "$top/scripts/port.sh"
conflicts() { { port 2>&1 || true; } | tee "$toy/said" | grep '^conflict in mm/file2.c: x86/toy: Change number 2' || { cat "$toy/said"; return 1; }; }
ok "port stops at a conflict and names the file" conflicts
ported=$(tree_of 7.4)
ok "nothing is in patches/ yet" test ! -e "$top/patches/7.4"
sed -i '/^<<<<<<<\|^=======\|^>>>>>>>/d' "$ported/mm/file2.c"
git_in "$ported" add -u
GIT_EDITOR=true git_in "$ported" rebase --continue >/dev/null 2>&1
ok "port goes on" port
ok "and writes patches/7.4" test "$(ls "$top"/patches/7.4/*.patch | wc -l)" = 10
ok "with a cover letter" grep -qF '[PATCH 00/10]' "$top/patches/7.4/0000-cover-letter.txt"
finish
