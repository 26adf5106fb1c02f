# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034
# What the scripts share: settings, places, messages. Messages go to stderr, so
# that stdout is free for answers (make -s image, the table).

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

say() { echo "$*" >&2; }
die() { echo "error: $*" >&2; exit 1; }

# step TEXT COMMAND...: say what happens, and how long it took.
step() {
	local text=$1 start=$SECONDS status=0
	shift
	say "==> $text"
	# Not "|| status=$?": that would switch off set -e inside the command.
	"$@"
	status=$?
	say "    $text: $((SECONDS - start)) s"
	return $status
}

# quietly LOG COMMAND...: output into a file, its end on failure.
quietly() {
	local log=$1
	shift
	mkdir -p "$(dirname "$log")"
	if ! "$@" >"$log" 2>&1 </dev/null; then
		tail -n 40 "$log" >&2
		die "$1 failed; the whole log is in $log"
	fi
}

# Count what make does: a line that moves on a terminal, now and then elsewhere.
progress() {
	local count=0 start=$SECONDS next=$((SECONDS + 20))
	while read -r _; do
		count=$((count + 1))
		if [ -t 2 ]; then
			printf '\r    %d steps, %d s ' "$count" $((SECONDS - start)) >&2
		elif [ "$SECONDS" -ge "$next" ]; then
			say "    $count steps, $((SECONDS - start)) s"
			next=$((SECONDS + 20))
		fi
	done
	[ ! -t 2 ] || printf '\r\033[K' >&2
}

# In the harness's own trees git does the same for everybody, and knows who it is.
neutral_git() {
	export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
	export GIT_AUTHOR_NAME="x86 protection keys" GIT_AUTHOR_EMAIL=pkeys@localhost
	export GIT_COMMITTER_NAME=$GIT_AUTHOR_NAME GIT_COMMITTER_EMAIL=$GIT_AUTHOR_EMAIL
}

# kernel_version TREE|TARBALL: its first two numbers.
kernel_version() {
	if [ -f "$1" ]; then
		tar -x -O -f "$1" --occurrence=1 --wildcards --no-wildcards-match-slash '*/Makefile'
	else
		cat "$1/Makefile"
	fi | sed -n 's/^VERSION = //p; s/^PATCHLEVEL = //p' | paste -s -d .
}

# For which kernels there is a series.
known_bases() { (cd "$top/patches" 2>/dev/null && echo *) || echo none; }

# own_files DIRECTORY: which files there are wholly ours.
own_files() {
	(cd "$1" && grep -v '^#' "$scripts/own-files" |
		while read -r pattern; do find . -path "./$pattern" -type f; done | sort)
}

# own_work TREE: Does the branch "series" of a kernel git tree have somebody's own
# commits, as against what the harness applied, or the tree changes?
own_work() {
	local applied
	[ -z "$(git -C "$1" config harness.busy || true)" ] || return 1
	applied=$(git -C "$1" config harness.tip || git -C "$1" rev-parse refs/tags/base)
	[ "$(git -C "$1" rev-parse series)" != "$applied" ] ||
		[ -n "$(git -C "$1" status --porcelain -uno)" ]
}

# any_work TREE: the same, of other branches, stashes and a rebase under way too. The
# harness's own worktrees, of verify and mutate, are nobody's work.
any_work() {
	own_work "$1" ||
		[ -n "$(git -C "$1" rev-list -n 1 --single-worktree HEAD --all --not series)" ]
}

patches=$top/patches/$BASE
if [ -n "$KERNEL" ]; then
	[ -e "$KERNEL" ] || die "KERNEL=$KERNEL does not exist: name a kernel tree or a tarball of one"
	KERNEL=$(realpath "$KERNEL")
	work=$BUILD/kernel-$(echo "$KERNEL" | cksum | cut -d' ' -f1)
else
	work=$BUILD/$BASE
fi
# Where the source comes from. What Debian 12 does not have, a later suite does:
# scripts/fetch.sh gets it from there, and needs only the keys.
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

# config FILE...: of configs/, for this base: some options have other names there.
config() {
	local renamed=$top/configs/$BASE.sed
	[ -f "$renamed" ] || renamed=/dev/null
	(cd "$top/configs" && sed -f "$renamed" "$@")
}

# make_arguments CONFIG: what that wants make to be told, in lines of its own.
make_arguments() { sed -n 's/^# make: //p' "$top/configs/$1.config"; }

# kmake DIRECTORY ARGUMENT...: the kernel's make, in the same way everywhere.
# Fixed build stamps and paths relative to $work let ccache serve other clones.
kmake() {
	local dir=$1 cc=gcc
	shift
	if command -v ccache >/dev/null; then
		cc="ccache gcc"
		export CCACHE_BASEDIR=$work CCACHE_NOHASHDIR=1
	fi
	make -C "$dir" -j"$(($(nproc) + 1))" CC="$cc" KBUILD_BUILD_USER=pkeys \
		KBUILD_BUILD_HOST=localhost \
		KBUILD_BUILD_TIMESTAMP="Thu Jan 1 00:00:00 UTC 1970" "$@"
}
