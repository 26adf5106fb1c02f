#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# make apply: a signal at any moment, or a failure, leaves the user's tree as it was.
. "$(dirname "$0")/toy.sh"

: "${ROUNDS:=100}" "${SEED:=$RANDOM}"
RANDOM=$SEED
echo "# SEED=$SEED"

project
user=$toy/user
git clone -q "$toy/linux-7.3" "$user"
git_in "$user" checkout -q -B work origin/pristine
git_in "$user" config user.name user
git_in "$user" config user.email user@localhost
# The user has untracked and ignored files.
mkdir "$user/empty"
echo precious >"$user/mm/notes.txt"
echo precious >"$user/mm/precious.o"
# A filter slows the checkout of the series down. It fails half way if $toy/fail is there.
mkdir "$toy/bin"
cat >"$toy/bin/git" <<END
#!/bin/sh
case "\$*" in
*"checkout -q -b"*)
	slow='sleep 0.01; cat'
	[ ! -e "$toy/fail" ] || slow='case %f in mm/file15.c) exit 1 ;; esac; cat'
	set -- -c "filter.slow.smudge=\$slow" -c filter.slow.clean=cat -c filter.slow.required=true "\$@"
esac
exec $(command -v git) "\$@"
END
chmod +x "$toy/bin/git"
echo 'mm/file1*.c filter=slow' >"$user/.git/info/attributes"

# state: print where HEAD is, the branches, the index, the worktrees and the files.
state() {
	git_in "$user" symbolic-ref -q HEAD || git_in "$user" rev-parse HEAD
	git_in "$user" for-each-ref
	git_in "$user" ls-files -s -v
	git_in "$user" status --porcelain --ignored
	git_in "$user" worktree list
	(cd "$user" && find . -path ./.git -prune -o -print -type f -exec cksum {} + | sort)
	ls "$user/.git"/{index.lock,rebase-apply} 2>/dev/null
}
as_it_was() { diff "$toy/before" <(state); }
apply() { TREE=$user PATH=$toy/bin:$PATH "$top/scripts/apply.sh"; }

undo() {
	git_in "$user" checkout -q work
	git_in "$user" branch -q -D pkeys
}

ok "the series goes onto a new branch" apply
ok "it has the patches" git_in "$user" diff --quiet origin/with-series pkeys
ok "a second apply names the branch in the way" says "has a branch pkeys already" apply
undo
state >"$toy/before"

ok "a tree with changes is refused" bash -c "echo x >>'$user/mm/file1.c'; ! TREE=$user $top/scripts/apply.sh"
git_in "$user" checkout -q -- mm/file1.c
for file in mm/pkeys.c arch/x86/mm/new1.c; do
	mkdir -p "$user/$(dirname $file)"
	echo mine >"$user/$file"
	ok "$file, which is in the way, is named" says "$file is not in git and the series needs its name" apply
	ok "$file is as it was" grep -qx mine "$user/$file"
	rm "$user/$file"
done
echo '*.c' >"$user/.git/info/exclude"
echo mine >"$user/mm/pkeys.c"
ok "so is a file that git ignores" says "mm/pkeys.c is not in git and the series needs its name" apply
rm -r "$user/mm/pkeys.c" "$user/.git/info/exclude" "$user/arch"

touch "$toy/fail"
ok "a checkout that fails half way is told" says "git cannot check out the series" apply
rm "$toy/fail"
ok "the tree is as it was" as_it_was

sed 's/^-5$/-no such line/' -i.orig "$top"/patches/7.3/0001-*.patch
ok "a series that does not apply is told" says "does not apply" apply
ok "the tree is still as it was" as_it_was
mv "$top"/patches/7.3/0001-*.patch.orig "$(echo "$top"/patches/7.3/0001-*.patch)"

# signal_to WHOM: start apply, and send $signal at a random moment to the script; to its
# process group, as a terminal does; or to the git that changes the tree.
signal_to() {
	background TREE="$user" PATH="$toy/bin:$PATH" "$top/scripts/apply.sh"
	random_moment
	case $1 in
	script)	kill -s "$signal" "$group" ;;
	group)	kill_group "$signal"; return ;;
	git)	pgrep -P "$group" -x git | xargs -r kill -s "$signal" ;;
	esac
	wait "$group"
} 2>/dev/null

start=${EPOCHREALTIME/.}
ok "the series applies again" apply
duration=$((${EPOCHREALTIME/.} - start))
undo

all=(script group git)
wrong=''
for round in $(seq "$ROUNDS"); do
	whom=${all[RANDOM % 3]}
	# The script itself can do nothing about SIGKILL, the last one.
	if [ "$whom" = git ]; then signal=${signals[RANDOM % 4]}; else signal=${signals[RANDOM % 3]}; fi
	if signal_to "$whom"; then
		completed=$((completed + 1))
		undo
	elif grep -q 'error: interrupted' "$toy/said"; then
		interrupted=$((interrupted + 1))
	fi
	as_it_was >"$toy/differs" 2>&1 || {
		wrong="round $round, $signal to $whom: $(cat "$toy/differs" "$toy/said")"
		break
	}
done
echo "# of $ROUNDS signals $interrupted came during the checkout, $completed too late"
ok "as it was after each of $ROUNDS signals at random moments" empty "$wrong"
ok "some signals came during the checkout" test "$interrupted" -gt 0
finish
