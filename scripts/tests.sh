#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Build the test programs and the initramfs that carries them. Ours come from
# the tree under test, the kernel's own from the unpatched source (clause H3).
. "$(dirname "$0")/lib.sh"

selftests=tools/testing/selftests/mm
root=$work/root${UNPATCHED:+-unpatched}
ours=$work/tests
stock=$work/tests-unpatched
headers=$work/headers${UNPATCHED:+-unpatched}

can_build() {
	echo 'int main(void) { return 0; }' |
		gcc "-m$1" -static -x c -o /dev/null - 2>/dev/null
}

# build_programs DIRECTORY OUTPUT NAME...: with the kernel's own Makefile, static.
build_programs() {
	local from=$1 out=$2
	shift 2
	kmake "$from" OUTPUT="$out" ARCH=x86_64 CC=gcc \
		KHDR_INCLUDES="-isystem $headers/include" \
		EXTRA_CFLAGS="-static -mxsave -Wno-unused-result" "${@/#/$out/}"
}

# unpack_stock: unpack the part of the unpatched source that has the kernel's own tests.
unpack_stock() {
	rm -rf "$stock"
	mkdir -p "$stock"
	git -C "$tree" archive refs/tags/base tools mm/gup_test.h | tar -x -m -C "$stock"
	git -C "$tree" rev-parse refs/tags/base >"$stock/base"
}

abis=
for abi in ${ABIS:-64 32 x32}; do
	if can_build "$abi"; then
		abis="$abis $abi"
	else
		say "note: this compiler cannot build $abi programs: those tests are left out"
	fi
done

# flavours NAME...: print the names of these programs for each ABI of the compiler.
flavours() {
	local name abi
	for name in "$@"; do
		for abi in $abis; do echo "${name}_$abi"; done
	done
}

quietly "$headers.log" kmake "$src" -s O="$headers-build" headers_install INSTALL_HDR_PATH="$headers"

[ "$(cat "$stock/base" 2>/dev/null)" = "$(git -C "$tree" rev-parse refs/tags/base)" ] || unpack_stock
# Some kernels have only one of these, and their directory differs.
stock_sources=$(find "$stock/tools/testing/selftests" -name protection_keys.c -o -name pkey_sighandler_tests.c)
# shellcheck disable=SC2046,SC2086
stock_programs=$(flavours $(basename -s .c $stock_sources) | grep -v x32)
mkdir -p "$stock/bin" "$ours"
# shellcheck disable=SC2086
quietly "$stock/build.log" build_programs "$(dirname ${stock_sources%%$'\n'*})" "$stock/bin" $stock_programs

programs=
if [ -z "$UNPATCHED" ]; then
	# shellcheck disable=SC2046
	programs="$(flavours $(cd "$tree/$selftests" && basename -s .c pkey_*_test.c)) pkey_example"
	# shellcheck disable=SC2086
	quietly "$ours/build.log" build_programs "$tree/$selftests" "$ours" $programs
fi

# Programs that pkey_rights_test and pkey_demo run. Not each patch of the series has them.
helpers=
if [ -f "$tree/$selftests/pkey_embedder.c" ]; then
	quietly "$ours/build-embedder.log" build_programs "$tree/$selftests" "$ours" pkey_embedder
	helpers=pkey_embedder
fi
if [ -f "$tree/tools/mm/pkey-run.c" ]; then
	quietly "$ours/build-pkey-run.log" gcc -O2 -Wall -Wextra -Werror -static -isystem "$headers/include" \
		-o "$ours/pkey-run" "$tree/tools/mm/pkey-run.c"
	helpers="$helpers pkey-run"
fi

# These are no tests. They run on both kernels, to compare them.
others=$(cd "$tree/$selftests" && find . -name pkey_bench.c -o -name pkey_demo.c | sed 's|./||; s|.c$||')
# shellcheck disable=SC2086
[ -z "$others" ] || quietly "$ours/build-others.log" build_programs "$tree/$selftests" "$ours" $others

rm -rf "$root"
mkdir -p "$root"/{bin,dev,etc,proc,results,sys,tests,tmp}
cp "$(command -v busybox)" "$root/bin/busybox"
cp "$scripts/guest-init" "$root/init"
for name in $programs $helpers; do cp "$ours/$name" "$root/tests/"; done
for name in $others; do cp "$ours/$name" "$root/bin/"; done
for name in $stock_programs; do cp "$stock/bin/$name" "$root/tests/"; done
# protection_keys reads this file and wants some hundred lines in it.
for i in $(seq 500); do echo "user$i:x:$i:$i::/:/bin/sh"; done >"$root/etc/passwd"
# trinity changes to this user.
echo "nobody:x:65534:65534::/tmp:/bin/sh" >>"$root/etc/passwd"
(cd "$root" && find . | sort | cpio -o -H newc -R 0:0 --quiet) | gzip -1 >"$root.cpio.gz.new"
mv "$root.cpio.gz.new" "$root.cpio.gz"
