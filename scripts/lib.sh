# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034
# Each script sources this file for its settings, places and messages. Messages go to
# stderr, so that stdout is free for answers (make -s image, the table).

set -euo pipefail

# A developer's environment must not reach the kernel's build.
unset ARCH CROSS_COMPILE O KBUILD_OUTPUT MAKEFLAGS MAKELEVEL MFLAGS CDPATH \
	GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE KCFLAGS CFLAGS LDFLAGS KCONFIG_CONFIG \
	KCONFIG_ALLCONFIG INSTALL_HDR_PATH LLVM
export LC_ALL=C

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
scripts=$top/scripts

: "${BASE:=6.12}" "${CONFIG:=default}" "${UNPATCHED:=}" "${KERNEL:=}"
: "${BUILD:=$top/build}"
case $BUILD in /*) ;; *) BUILD=$top/$BUILD ;; esac
# The series in mainline form. The files at kernel paths of this project are those
# of this series; other series have an own-files.diff.
mainline=7.3
# The series that make mutate breaks.
mutants_base=6.12

say() { echo "$*" >&2; }
die() { echo "error: $*" >&2; exit 1; }

# Without these traps a command that a signal ended would be reported as a failure
# of what it did.
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

[ -e /proc/$$/fd/1 ] || die "standard output is closed: redirect it to a file or to /dev/null"
# The kernel's build, the compiler's options and QEMU's split paths at these characters.
case $top$BUILD in
*[[:space:]:,\\\"\'\`\$\#%\&\;\|\*\?\<\>\(\)]*)
	die "the path ${top}${BUILD#"$top"} has a space or a special character, which the kernel's build does not support: move the clone, or set BUILD=" ;;
esac

# lock DIRECTORY: keep other runs out of it until this one ends. Scripts that this one
# starts share the lock.
lock() {
	local fd file=$1.lock
	case " ${LOCKED:-} " in *" $1 "*) return ;; esac
	if ! mkdir -p "${file%/*}" 2>/dev/null || ! touch "$file" 2>/dev/null; then
		die "cannot write to ${file%/*}: set BUILD= to a directory of yours"
	fi
	exec {fd}>>"$file"
	flock -n "$fd" || die "another run works in $1 ($(cat "$file")): wait for its end, or set BUILD= to another directory"
	echo "process $$, ${0##*/}" >"$file"
	export LOCKED="${LOCKED:-} $1"
}

# make_temporary: make $temporary, a directory that is removed when the script ends.
make_temporary() {
	temporary=$(mktemp -d 2>/dev/null) || die "cannot write to ${TMPDIR:-/tmp}: free some space, or set TMPDIR="
	trap remove_temporary EXIT
}

remove_temporary() {
	trap '' HUP INT TERM
	# An interrupted apply_series leaves a worktree.
	[ ! -f "$temporary/owner" ] || remove_worktree "$(cat "$temporary/owner")" "$temporary/pkeys-apply"
	rm -rf "$temporary"
}

# remove_worktree TREE DIRECTORY: also what remains of one that was half removed.
remove_worktree() {
	rm -rf "$2"
	setsid git -C "$1" worktree remove --force "$2" 2>/dev/null || true
}

# step TEXT COMMAND...: say what happens, and how long it took. $TIMES names a file
# that collects the times for the report.
step() {
	local text=$1 start=$SECONDS status=0
	shift
	say "==> $text"
	# "|| status=$?" would switch off set -e inside the command.
	"$@"
	status=$?
	say "    $text: $((SECONDS - start)) s"
	[ -z "${TIMES:-}" ] || echo "$((SECONDS - start)) $text" >>"$TIMES"
	return $status
}

# quietly LOG COMMAND...: write the output to a file; on failure print its end and exit.
quietly() {
	local log=$1
	shift
	mkdir -p "$(dirname "$log")"
	if ! "$@" >"$log" 2>&1 </dev/null; then
		tail -n 40 "$log" >&2
		die "$1 failed; the whole log is in $log"
	fi
}

# progress [TOTAL]: count the lines that make prints, about TOTAL of them: a line that
# moves on a terminal, now and then a line elsewhere.
progress() {
	local count=0 start=$SECONDS next=$((SECONDS + 20)) of=
	[ -z "${1:-}" ] || of=" of about $1"
	while read -r _; do
		count=$((count + 1))
		if [ -t 2 ]; then
			printf '\r    step %d%s, %d s ' "$count" "$of" $((SECONDS - start)) >&2
		elif [ "$SECONDS" -ge "$next" ]; then
			say "    step $count$of, $((SECONDS - start)) s"
			next=$((SECONDS + 20))
		fi
	done
	[ ! -t 2 ] || printf '\r\033[K' >&2
}

# In the harness's own trees git does the same for everybody and has an identity. The
# trees may belong to another user, such as the owner of a mounted volume: who runs
# the scripts of this directory trusts its owner. apply.sh changes a tree of the user's.
if [ "${0##*/}" != apply.sh ]; then
	export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
	export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
	export GIT_AUTHOR_NAME="x86 protection keys" GIT_AUTHOR_EMAIL=pkeys@localhost
	export GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME GIT_COMMITTER_EMAIL=$GIT_AUTHOR_EMAIL
fi

# kernel_version TREE|TARBALL: its first two numbers.
kernel_version() {
	if [ -f "$1" ]; then
		tar -x -O -f "$1" --occurrence=1 --wildcards --no-wildcards-match-slash '*/Makefile'
	else
		cat "$1/Makefile"
	fi | tr -d '\r' | sed -n 's/^VERSION = //p; s/^PATCHLEVEL = //p' | paste -s -d .
}

# known_bases: print the kernels that there is a series for.
known_bases() { (cd "$top/patches" 2>/dev/null && echo *) || echo none; }

# patches_stamp DIRECTORY: print a checksum of the patches there.
patches_stamp() { (shopt -s nullglob && cat /dev/null "$1"/[0-9]*.patch | sha256sum | cut -d' ' -f1); }

# restore_patches: undo an export that was killed between the two renames.
restore_patches() {
	local new=$top/patches/.new-$BASE old=$top/patches/.old-$BASE
	[ -d "$old" ] && [ -d "$new/patches" ] || return 0
	lock "$work"
	[ ! -e "$patches" ] ||
		die "make export was killed and left $old: take what you need from it, then remove it"
	mv "$old" "$patches"
}

# own_files DIRECTORY: which files there are wholly ours.
own_files() {
	(
		cd "$1" && shopt -s nullglob
		# shellcheck disable=SC2013
		for file in $(grep -Ev '^(#|$)' "$scripts/own-files"); do
			[ ! -f "$file" ] || echo "$file"
		done | sort
	)
}

# operation_in TREE: which operation of git has begun there and is not finished; fails if
# none has.
operation_in() {
	local git_dir name
	git_dir=$(git -C "$1" rev-parse --absolute-git-dir 2>&1) || die "git cannot read $1: ${git_dir%%$'\n'*}"
	for name in rebase-merge:rebase rebase-apply:"rebase or am" MERGE_HEAD:merge \
		CHERRY_PICK_HEAD:cherry-pick REVERT_HEAD:revert BISECT_LOG:bisect; do
		[ ! -e "$git_dir/${name%:*}" ] || { echo "a ${name#*:} under way"; return; }
	done
	return 1
}

# work_in TREE: print one line about the work in a kernel git tree, or nothing if it has
# none. Work is everything that is not in the tag "base", the source as it came, or in the
# tag "applied", the series as it is in patches/. The harness replaces or removes a tree
# only if work_in and files_in find nothing (Documentation/contributing.md).
work_in() {
	local changes commits known=(refs/tags/base)
	! operation_in "$1" || return 0
	! git -C "$1" rev-parse -q --verify refs/tags/applied >/dev/null || known+=(refs/tags/applied)
	# The detached worktrees of verify and mutate hold no work.
	commits=$(git -C "$1" rev-list --count --single-worktree HEAD --exclude=refs/heads/unfinished --all --not "${known[@]}") ||
		die "git cannot list the commits of $1"
	case $commits in
	0) ;;
	1) echo "1 commit that is not in patches/"; return ;;
	*) echo "$commits commits that are not in patches/"; return ;;
	esac
	changes=$(git -C "$1" status --porcelain -uno) || die "git cannot read the state of $1"
	[ -z "$changes" ] || echo "changes that are not committed, in ${changes:3}" | head -n 1
}

# remove_locks: remove what a git that was killed leaves in $tree. No git holds these locks for
# long. Only the lock of the index may be that of somebody who is writing a commit message.
remove_locks() {
	find "$tree/.git" -maxdepth 1 \( -name packed-refs.new -o -name '*.lock' ! -name index.lock \) -delete
	find "$tree/.git/refs" -name '*.lock' -delete
}

# mark_applied COMMIT STAMP: tag the series in $tree that patches with this stamp give.
mark_applied() { git -C "$tree" tag -f -a -m "$2" applied "$1^{commit}" >/dev/null; }
applied_stamp() { git -C "$tree" for-each-ref --format='%(contents:subject)' refs/tags/applied; }

# files_in TREE: print one line about a file that is not in git, or a worktree elsewhere,
# which the removal of the tree would lose too.
files_in() {
	local files worktrees
	files=$(git -C "$1" ls-files --others) || die "git cannot read $1"
	# The build of the selftests leaves local_config.* and a link.
	files=$(grep -Ev '(^|/)__pycache__/|(^|/)local_config\.(h|mk)(_gen)?$|^tools/include/include$|\.(pyc|orig|rej)$|^(tags|TAGS|GTAGS|GRTAGS|GPATH|cscope\..*)$' <<<"$files" | head -n 1) || true
	[ -z "$files" ] || { echo "a file that is not in git, $files"; return; }
	worktrees=$(git -C "$1" worktree list --porcelain) || die "git cannot read $1"
	worktrees=$(sed -n 's/^worktree //p' <<<"$worktrees" | grep -Ev "^$(dirname "$1")/|/pkeys-apply$" | head -n 1) || true
	[ ! -d "$worktrees" ] || echo "a worktree elsewhere, $worktrees"
}

# apply_series TREE COMMIT [OPTION...] PATCH...: print the commit that the patches give
# on top of COMMIT. git am runs in a temporary worktree without files: no file, index
# or branch of TREE changes. What git says is in $temporary/am.log.
apply_series() {
	local from=$1 commit=$2 sparse=$temporary/pkeys-apply status=0
	shift 2
	echo "$from" >"$temporary/owner"
	# Remove what a killed run left.
	git -C "$from" worktree list --porcelain | sed -n 's|^worktree \(.*/pkeys-apply\)$|\1|p' |
		while read -r stale; do remove_worktree "$from" "$stale"; done
	{
		git -C "$from" worktree add -q --no-checkout --detach "$sparse" "$commit" &&
		git -C "$sparse" read-tree HEAD &&
		git -C "$sparse" -c core.hooksPath=/dev/null -c core.autocrlf=false -c core.fsmonitor=false \
			-c advice.mergeConflict=false am -q --no-3way --no-keep-cr --whitespace=nowarn "$@"
	} >"$temporary/am.log" 2>&1 </dev/null || status=1
	git -C "$sparse" rev-parse HEAD 2>/dev/null || status=1
	remove_worktree "$from" "$sparse"
	return $status
}

patches=$top/patches/$BASE
if [ -n "$KERNEL" ]; then
	[ -e "$KERNEL" ] || die "KERNEL=$KERNEL does not exist: name a kernel tree or a tarball of one"
	KERNEL=$(realpath "$KERNEL")
	work=$BUILD/kernel-$(echo "$KERNEL" | cksum | cut -d' ' -f1)
else
	work=$BUILD/$BASE
fi
# The source of 6.1 and 6.12 is a package of Debian 12. scripts/fetch.sh gets others from
# a later suite; it needs the archive's keys.
case $BASE in
6.1|6.12)
	suite='' source_package=linux-source-$BASE
	source=/usr/src/linux-source-$BASE.tar.xz ;;
*)
	suite=trixie-backports source_package=debian-archive-keyring
	source=$BUILD/apt/linux-source-$BASE.tar.xz ;;
esac
tree=$work/linux
pristine=$work/linux-unpatched

if [ -n "$UNPATCHED" ]; then
	src=$pristine
	obj=$work/obj-$CONFIG-unpatched
else
	src=$tree
	obj=$work/obj-$CONFIG
fi
image=$obj/arch/x86/boot/bzImage

[ -f "$top/configs/$CONFIG.config" ] ||
	die "CONFIG=$CONFIG is none of: $(cd "$top/configs" && for f in *.config; do printf '%s ' "${f%.config}"; done)"

# config FILE...: print files of configs/ with the names that options have in this base.
config() {
	local renamed=$top/configs/$BASE.sed
	[ -f "$renamed" ] || renamed=/dev/null
	(cd "$top/configs" && sed -f "$renamed" "$@")
}

# fragments FILE: print the files of configs/ that this one is made of, the lowest first.
fragments() {
	local below
	below=$(sed -n 's/^# on top of: //p' "$top/configs/$1")
	[ -z "$below" ] || fragments "$below"
	echo "$1"
}

# make_arguments CONFIG: print the arguments for make that the configuration names.
make_arguments() { sed -n 's/^# make: //p' "$top/configs/$1.config"; }

# test_programs: print the tests in /tests of the guest. The two others pkey_rights_test runs.
test_programs() {
	find "$work/root${UNPATCHED:+-unpatched}/tests" -type f ! -name pkey_embedder ! -name pkey-run \
		-printf '%f\n' | sort
}

# kmake DIRECTORY ARGUMENT...: the kernel's make, in the same way everywhere.
# Fixed build stamps and paths relative to $work let ccache serve other clones. Its depend
# mode must stay off: it does not see that piggy.S includes the compressed kernel, and so gives
# the object of another kernel that was compressed to the same size.
kmake() {
	local dir=$1 cc=gcc cache
	shift
	if command -v ccache >/dev/null; then
		cc="ccache gcc"
		export CCACHE_BASEDIR=$work CCACHE_NOHASHDIR=1
		cache=$(ccache -k cache_dir 2>/dev/null || true)
		# With a home directory that cannot be written, ccache fails and so would gcc.
		{ [ -n "$cache" ] && mkdir -p "$cache" 2>/dev/null && [ -w "$cache" ]; } ||
			export CCACHE_DIR=$BUILD/ccache
	fi
	make -C "$dir" -j"$(($(nproc) + 1))" CC="$cc" KBUILD_BUILD_USER=pkeys \
		KBUILD_BUILD_HOST=localhost \
		KBUILD_BUILD_TIMESTAMP="Thu Jan 1 00:00:00 UTC 1970" "$@"
}

# Each script that writes to $work locks it. Those that only start others, or only read
# there, do not.
case ${0##*/} in
apply.sh|boot.sh|clean.sh|image.sh|mutate.sh|port.sh|setup.sh) ;;
*) lock "$work" ;;
esac
