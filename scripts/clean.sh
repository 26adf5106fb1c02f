#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Remove what was built. If a kernel git tree has work, remove nothing (work_in() in lib.sh).
. "$(dirname "$0")/lib.sh"

shopt -s nullglob

for dir in "$BUILD"/*/; do
	dir=${dir%/}
	[ ! -e "$dir.lock" ] || lock "$dir"
	[ -e "$dir/linux" ] || continue
	mine=$(work_in "$dir/linux") && mine=${mine:-$(files_in "$dir/linux")} || exit 1
	[ -z "$mine" ] ||
		die "$dir/linux has $mine: save that (make export writes commits to patches/), or remove $dir yourself"
done

# BUILD may hold other things: only what the harness made goes. It locks what it uses.
for lock in "$BUILD"/{[0-9]*.[0-9]*,kernel-[0-9]*}.lock; do
	! grep -q '^process [0-9]*, .*[.]sh$' "$lock" || rm -rf "${lock%.lock}" "$lock"
done
for dir in "$BUILD"/*/; do
	! git -C "$dir/linux" config harness.source >/dev/null 2>&1 || rm -rf "$dir"
done
rm -rf "$BUILD"/*/linux.new "$BUILD/apt" "$BUILD/ccache"
rm -f "$BUILD/apt.log" "$BUILD"/kvm-trial-*
[ ! -d "$BUILD" ] || rmdir --ignore-fail-on-non-empty "$BUILD"/*/ "$BUILD" 2>/dev/null || true
