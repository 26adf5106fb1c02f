#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Install the packages that are missing, and nothing that is there.
. "$(dirname "$0")/lib.sh"

[ "$(uname -sm)" = "Linux x86_64" ] || die "this needs an x86-64 machine with Linux"
[ -d "$patches" ] || restore_patches
[ -n "$UNPATCHED" ] || ls "$patches"/[0-9]*.patch >/dev/null 2>&1 ||
	die "there is no series for Linux $BASE (patches/ has: $(known_bases)); UNPATCHED=1 builds the unpatched kernel"

# Each entry is a package and a command. A distribution without dpkg is asked for the command.
needed="
	gcc:gcc make:make git:git flex:flex bison:bison bc:bc perl:prove
	libelf-dev: libssl-dev: libc6-dev: libc6-dev-x32:
	rsync:rsync cpio:cpio xz-utils:xz python3:python3 ccache:ccache
	util-linux:flock busybox-static:busybox qemu-system-x86:qemu-system-x86_64
"
# Ask the compiler and not dpkg: gcc-multilib conflicts with the cross compilers. A
# machine without the package may still have what gcc -m32 needs.
echo 'int main(void) { return 0; }' | gcc -m32 -static -x c -o /dev/null - 2>/dev/null ||
	needed="$needed gcc-multilib:"
[ -n "$KERNEL" ] || needed="$needed $source_package:"
# PACKAGES has what only one target needs.
needed="$needed ${PACKAGES:-}"

missing=
for entry in $needed; do
	package=${entry%%:*} command=${entry#*:}
	if command -v dpkg-query >/dev/null; then
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
			missing="$missing $package"
	elif [ -n "$command" ] && ! command -v "$command" >/dev/null; then
		missing="$missing $command"
	fi
done

log=$BUILD/apt.log

# shellcheck disable=SC2086
install() {
	{ $sudo apt-get update &&
	  $sudo env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y --no-remove --no-install-recommends $missing; } \
		>"$log" 2>&1 </dev/null
}

if [ -n "$missing" ]; then
	command -v apt-get >/dev/null || die "please install these tools first:$missing"
	sudo=
	if [ "$(id -u)" != 0 ]; then
		command -v sudo >/dev/null || die "there is no sudo: run as root, or install these packages first:$missing"
		sudo=sudo
	fi
	mkdir -p "$BUILD" 2>/dev/null || die "cannot write to $BUILD: set BUILD= to a directory of yours"
	if ! step "installing packages:$missing" install; then
		tail -n 20 "$log" >&2
		die "apt-get could not install the packages above; its log is in $log"
	fi
fi

[ -n "$KERNEL" ] || [ -z "$suite" ] || [ -e "$source" ] ||
	step "fetching linux-source-$BASE from $suite" "$scripts/fetch.sh"
