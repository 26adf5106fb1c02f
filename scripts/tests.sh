#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Build the test programs and the initramfs that carries them. Ours come from
# the tree under test, the kernel's own from the unpatched tree (clause H3).
. "$(dirname "$0")/lib.sh"

selftests=tools/testing/selftests/mm
root=$work/root${UNPATCHED:+-unpatched}
ours=$work/tests
stock=$work/tests-unpatched

# build_programs SOURCE OUTPUT NAME...: with the kernel's own Makefile, static.
build_programs() {
	local from=$1 out=$2
	shift 2
	mkdir -p "$out"
	kmake "$from" -s O="$out/headers-build" headers_install INSTALL_HDR_PATH="$out/headers"
	kmake "$from/$selftests" OUTPUT="$out" ARCH=x86_64 CC=gcc \
		KHDR_INCLUDES="-isystem $out/headers/include" \
		EXTRA_CFLAGS="-static -mxsave -Wno-unused-result" "${@/#/$out/}"
}

# The programs of the series, in the three flavours the compiler can do.
our_programs() {
	local source name
	for source in "$tree/$selftests"/pkey_*_test.c; do
		name=$(basename "$source" .c)
		echo "${name}_64 ${name}_32"
		! can_x32 || echo "${name}_x32"
	done
	echo pkey_example
}

can_x32() { echo 'int main(void) { return 0; }' | gcc -mx32 -static -x c -o /dev/null - 2>/dev/null; }

stock_programs="protection_keys_64 protection_keys_32 pkey_sighandler_tests_64 pkey_sighandler_tests_32"

can_x32 || say "note: this compiler cannot build x32 programs: those tests are left out"
# shellcheck disable=SC2086
quietly "$stock/build.log" build_programs "$pristine" "$stock" $stock_programs
programs=
if [ -z "$UNPATCHED" ]; then
	programs=$(our_programs)
	# shellcheck disable=SC2086
	quietly "$ours/build.log" build_programs "$tree" "$ours" $programs
fi

rm -rf "$root"
mkdir -p "$root"/{bin,dev,etc,proc,results,sys,tests,tmp}
cp "$(command -v busybox)" "$root/bin/busybox"
cp "$scripts/guest-init" "$root/init"
for name in $programs; do cp "$ours/$name" "$root/tests/"; done
for name in $stock_programs; do cp "$stock/$name" "$root/tests/"; done
# protection_keys reads this file and wants some hundred lines in it.
for i in $(seq 500); do echo "user$i:x:$i:$i::/:/bin/sh"; done >"$root/etc/passwd"
(cd "$root" && find . | sort | cpio -o -H newc -R 0:0 --quiet) | gzip -1 >"$root.cpio.gz.new"
mv "$root.cpio.gz.new" "$root.cpio.gz"
