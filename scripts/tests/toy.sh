# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# The tests of the harness source this file. It makes a copy of the scripts beside a series
# of a few patches, and a toy source tree that the scripts take for a kernel. It prints TAP.

set -uo pipefail
unset "${!GIT_@}"
export LC_ALL=C GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
# git does not wait for the disk.
export GIT_TEST_FSYNC=0
unset BASE CONFIG UNPATCHED KERNEL BUILD TREE FROM TEST TIMES MINUTES BOUNDS PLAN ICOUNT LOCKED MAKEFLAGS MAKELEVEL

# A file system in memory is faster than a disk. Not on each can programs run.
case $(findmnt -n -o OPTIONS /dev/shm) in
*noexec*|'') ;;
*) export TMPDIR=${TMPDIR:-/dev/shm} ;;
esac

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
toy=$(mktemp -d) || exit 1
# A script that is killed leaves its temporary files.
export TMPDIR=$toy
trap 'rm -rf "$toy"' EXIT
trap 'exit 130' INT TERM HUP

tests=0 bad=0

# ok TEXT COMMAND...: one test.
ok() {
	local text=$1 output
	shift
	tests=$((tests + 1))
	if output=$("$@" 2>&1); then
		echo "ok $tests - $text"
	else
		bad=$((bad + 1))
		echo "not ok $tests - $text"
		echo "# ${output//$'\n'/$'\n'# }"
	fi
}

# skip TEXT REASON
skip() {
	tests=$((tests + 1))
	echo "ok $tests - $1 # SKIP $2"
}

# says WORDS COMMAND...: does the command fail, with one line on stderr that has WORDS?
says() {
	local words=$1 said
	shift
	! said=$("$@" 2>&1 >/dev/null) || { echo "it did not fail"; return 1; }
	echo "$said"
	[ "$(wc -l <<<"$said")" = 1 ] && grep -qF -e "$words" <<<"$said"
}

# empty TEXT: true if it is, printed otherwise.
empty() { [ -z "$1" ] || { echo "$1"; return 1; }; }

# pause SECONDS: sleep, without a process.
exec {never}<> <(:)
pause() { read -r -t "$1" -u "$never" || true; }

# soon COMMAND...: wait until it succeeds, at most 10 s.
soon() {
	local i
	for i in {1..500}; do
		! "$@" || return 0
		pause 0.02
	done
	return 1
} 2>/dev/null

# background COMMAND...: run it as the process group $group, with its output in $toy/said.
# A signal that is ignored here has its default effect there.
background() {
	set -m
	env --default-signal=HUP,INT,TERM "$@" >"$toy/said" 2>&1 &
	group=$!
	set +m
}

# kill_group SIGNAL: send it to $group, and wait for all of it. Status: that of the command.
# A zombie, which the first process of the system may not reap at once, has ended.
kill_group() {
	local status=0
	kill -s "$1" -- "-$group"
	wait "$group" || status=$?
	while kill -0 -- "-$group" && pgrep -g "$group" -r D,R,S,T >/dev/null; do pause 0.005; done
	return $status
} 2>/dev/null

# random_moment: wait for a random part of $duration, in microseconds.
random_moment() {
	local delay
	printf -v delay '%07d' $((RANDOM * duration / 32768))
	pause "${delay%??????}.${delay: -6}"
}

# interrupt COMMAND...: run it, and send a random $signal to all of it at a random moment.
# Set $status, and count what comes of it. Fails if the signal is told as an error.
signals=(HUP INT TERM KILL) interrupted=0 completed=0
interrupt() {
	signal=${signals[RANDOM % 4]} status=0
	background "$@"
	random_moment
	kill_group "$signal" || status=$?
	if [ "$status" = 0 ]; then
		completed=$((completed + 1))
	else
		interrupted=$((interrupted + 1))
		! grep -q '^error:' "$toy/said"
	fi
}

finish() {
	echo "1..$tests"
	exit $((bad > 0))
}

git_in() { git -C "$1" -c user.name=toy -c user.email=toy@localhost -c gc.auto=0 "${@:2}"; }

# source_tree DIRECTORY VERSION: some files, and what the scripts look at.
source_tree() {
	local i
	mkdir -p "$1"/{arch/x86/mm,include/linux,mm,doc}
	printf 'VERSION = %s\nPATCHLEVEL = %s\n' "${2%.*}" "${2#*.}" >"$1/Makefile"
	: >"$1/Kbuild"
	printf '*.o\n' >"$1/.gitignore"
	for i in $(seq 30); do seq "$i" "$((i + 30))" >"$1/mm/file$i.c"; done
}

# commit_all DIRECTORY TEXT
commit_all() { git_in "$1" add -A && git_in "$1" commit -q -m "$2"; }

# series DIRECTORY: commits on top: each changes two files, half of them add one.
series() {
	local i
	for i in $(seq 8); do
		sed -i "5s/\$/ patch $i/" "$1/mm/file$i.c" "$1/mm/file$((i + 10)).c"
		[ $((i % 2)) = 0 ] || seq "$i" 400 >"$1/arch/x86/mm/new$i.c"
		[ "$i" != 3 ] || echo ours >"$1/mm/pkeys.c"
		[ "$i" != 4 ] || echo "ours too" >"$1/include/linux/pkeys.h"
		commit_all "$1" "x86/toy: Change number $i"
	done
}

# project: the scripts in $top, with series for 7.3 and 6.12; the toy sources are
# $toy/linux-7.3 and $toy/linux-6.12, git trees with a branch "pristine".
project() {
	local version
	top=$toy/project
	mkdir -p "$top"/{configs,patches}
	cp -a "$here/.." "$top/scripts"
	cp "$here/../../Makefile" "$top/"
	: >"$top/configs/default.config"
	printf '# comment\ninclude/linux/pkeys.h\nmm/pkey*.c\n' >"$top/scripts/own-files"
	for version in 7.3 6.12; do
		source_tree "$toy/linux-$version" $version
		git init -q -b pristine "$toy/linux-$version"
		commit_all "$toy/linux-$version" "Linux $version"
		git_in "$toy/linux-$version" checkout -q -b with-series
		[ $version = 7.3 ] || sed -i '1s/$/ of 6.12/' "$toy/linux-$version/mm/file1.c"
		series "$toy/linux-$version"
		[ $version = 7.3 ] || {
			echo "in 6.12" >>"$toy/linux-$version/mm/pkeys.c"
			commit_all "$toy/linux-$version" "mm/toy: Differ"
		}
		git_in "$toy/linux-$version" format-patch -q -N -o "$top/patches/$version" pristine..with-series
		echo "Subject: [PATCH 00/99] toy" >"$top/patches/$version/0000-cover-letter.txt"
		git_in "$toy/linux-$version" checkout -q pristine
	done
	mkdir -p "$top"/{mm,include/linux}
	git_in "$toy/linux-7.3" show with-series:mm/pkeys.c >"$top/mm/pkeys.c"
	git_in "$toy/linux-7.3" show with-series:include/linux/pkeys.h >"$top/include/linux/pkeys.h"
	echo /build/ >"$top/.gitignore"
	git init -q "$top"
	commit_all "$top" "project"
}

# run SCRIPT VERSION [ARGUMENT...]: a script of the project, on a toy source.
run() {
	local script=$1 version=$2
	shift 2
	BASE=$version KERNEL=$toy/linux-$version "$top/scripts/$script" "$@"
}

# The kernel git tree of a version.
tree_of() { echo "$top"/build/kernel-"$(echo "$toy/linux-$1" | cksum | cut -d' ' -f1)"/linux; }
