#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Install the packages that are missing, and nothing that is there.
. "$(dirname "$0")/lib.sh"

# Package, and the command that shows that another distribution has it.
needed="
	gcc:gcc make:make git:git flex:flex bison:bison bc:bc perl:prove
	libelf-dev: libssl-dev: libc6-dev: gcc-multilib: libc6-dev-x32:
	rsync:rsync cpio:cpio xz-utils:xz python3:python3 ccache:ccache
	busybox-static:busybox qemu-system-x86:qemu-system-x86_64
"
[ -n "$KERNEL" ] || needed="$needed linux-source-$BASE:"

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
[ -n "$missing" ] || exit 0

command -v apt-get >/dev/null || die "please install these tools first:$missing"
sudo=
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || die "run as root, or install first:$missing"
	sudo=sudo
fi

say "==> installing packages:$missing"
log=$BUILD/apt.log
mkdir -p "$BUILD"
# shellcheck disable=SC2086
if ! { $sudo apt-get update &&
       $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing; } \
	>"$log" 2>&1 </dev/null; then
	tail -n 20 "$log" >&2
	die "apt-get could not install the packages above; its log is in $log"
fi
