#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Install the selftests of protection keys with the kernel tree's own make install, and
# pack them, with a bash for its script, into an archive that is appended to the initramfs
# of the boot that runs them. In the guest the command vmtests runs the tree's script.
. "$(dirname "$0")/lib.sh"

root=$work/root-vmtests
build=$work/vmtests
headers=$work/headers

PACKAGES="bash-static:bash-static" "$scripts/setup.sh"

selftests() {
	kmake "$tree/tools/testing/selftests" ARCH=x86_64 CC=gcc TARGETS=mm O="$build" \
		KHDR_INCLUDES="-isystem $headers/include" \
		EXTRA_CFLAGS="-static -mxsave -Wno-unused-result" "$@"
}

# files: print the programs of the tree's Makefile that are ours, or protection_keys.
files() {
	# shellcheck disable=SC2016
	make -s -C "$tree/tools/testing/selftests/mm" ARCH=x86_64 CC=gcc OUTPUT="$build/kselftest/mm" \
		--eval 'harness-files: ; @echo $(TEST_GEN_FILES)' harness-files 2>/dev/null |
		xargs -n 1 | grep -E '/(pkey_[a-z0-9]*_test|protection_keys)(_(64|32|x32))?$'
}

rm -rf "$root"
mkdir -p "$root/bin" "$root/vmtests" "$build"
list=$(files | paste -s -d ' ')
[ -n "$list" ] || die "make install of $tree would install no test of protection keys"
for source in "$tree"/tools/testing/selftests/mm/pkey_*_test.c; do
	[[ $list = */$(basename "$source" .c)* ]] || die "$(basename "$source") is not in the Makefile beside it"
done
quietly "$build.log" selftests install INSTALL_PATH="$root/vmtests" TEST_GEN_FILES="$list"

# 6.1 has a script of its own for these tests.
script="run_vmtests.sh -t pkey"
[ -x "$root/vmtests/mm/run_vmtests.sh" ] || script=run_pkey_tests.sh
cp "$(command -v bash-static)" "$root/bin/bash"
cat >"$root/bin/vmtests" <<END
#!/bin/sh
cd /vmtests/mm && exec ./$script
END
chmod +x "$root/bin/vmtests"
(cd "$root" && find . | sort | cpio -o -H newc -R 0:0 --quiet) | gzip -1 >"$work/root-vmtests.cpio.gz"
