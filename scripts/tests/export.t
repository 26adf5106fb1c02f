#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# make export and make port: patches/ and our files are as they were, or whole and new.
. "$(dirname "$0")/toy.sh"

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

# Interrupted at random moments: one or the other, never a part.
commit_all "$top" "exported"
state >"$toy/before"
echo "ours, again" >"$tree/mm/pkeys.c"
commit_all "$tree" "mm/toy: Change again"
wrong=''
for round in $(seq 10); do
	set -m
	BASE=7.3 KERNEL=$toy/linux-7.3 "$top/scripts/export.sh" >"$toy/said" 2>&1 &
	pid=$!
	set +m
	sleep "0.$(printf '%03d' $((RANDOM % 500)))"
	kill_group TERM "$pid"
	grep -q ' patches in ' "$toy/said" && break
	as_it_was >"$toy/differs" || { wrong="round $round: $(cat "$toy/differs")"; break; }
done
ok "interrupted, all is as it was" empty "$wrong"
export_ 7.3 2>/dev/null

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
# Its other end is the tree of the package, here that of the toy source.
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
