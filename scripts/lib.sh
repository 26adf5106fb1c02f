# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034
# What the scripts share: settings, places, messages. Messages go to stderr, so
# that stdout is free for answers (make -s image, the table).

set -euo pipefail

# A developer's environment must not reach the kernel's build.
unset ARCH CROSS_COMPILE O KBUILD_OUTPUT MAKEFLAGS MAKELEVEL MFLAGS CDPATH \
	GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE KCFLAGS CFLAGS LDFLAGS KCONFIG_CONFIG
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
	local text=$1 start=$SECONDS
	shift
	say "==> $text"
	"$@"
	say "    $text: $((SECONDS - start)) s"
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

patches=$top/patches/$BASE
if [ -n "$KERNEL" ]; then
	[ -e "$KERNEL" ] || die "KERNEL=$KERNEL does not exist: name a kernel tree or a tarball of one"
	KERNEL=$(realpath "$KERNEL")
	work=$BUILD/kernel-$(echo "$KERNEL" | cksum | cut -d' ' -f1)
else
	work=$BUILD/$BASE
fi
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

# kmake DIRECTORY ARGUMENT...: the kernel's make, in the same way everywhere.
# Fixed build stamps and paths relative to $work let ccache serve other clones.
kmake() {
	local dir=$1 cc=gcc
	shift
	if command -v ccache >/dev/null; then
		cc="ccache gcc"
		export CCACHE_BASEDIR=$work CCACHE_NOHASHDIR=1
	fi
	make -C "$dir" -j"$(nproc)" CC="$cc" KBUILD_BUILD_USER=pkeys \
		KBUILD_BUILD_HOST=localhost \
		KBUILD_BUILD_TIMESTAMP="Thu Jan 1 00:00:00 UTC 1970" "$@"
}
