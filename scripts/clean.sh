#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Remove what was built; a kernel git tree with somebody's own commits stays.
. "$(dirname "$0")/lib.sh"

for tree in "$BUILD"/*/linux; do
	[ -d "$tree/.git" ] || continue
	! any_work "$tree" ||
		die "$tree has work that is not in patches/: run make export first, or remove $BUILD yourself"
done

# What an interrupted "make run" was about to unpack.
rm -rf "$BUILD"/*/linux.new
# BUILD may hold other things: only what the harness made goes.
for tree in "$BUILD"/*/linux; do
	[ -z "$(git -C "$tree" config --get-regexp '^harness\.' 2>/dev/null)" ] ||
		rm -rf "$(dirname "$tree")"
done
rm -rf "$BUILD/apt"
rm -f "$BUILD/apt.log" "$BUILD"/kvm-trial-*
[ ! -d "$BUILD" ] || rmdir --ignore-fail-on-non-empty "$BUILD"
