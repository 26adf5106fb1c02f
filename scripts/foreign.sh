#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Pack programs that we did not write, from the distribution, and their libraries, into an
# archive that is appended to the initramfs of the boots that run them.
. "$(dirname "$0")/lib.sh"

root=$work/root-foreign
programs="stress-ng trinity"

PACKAGES="stress-ng:stress-ng trinity:trinity" "$scripts/setup.sh"

rm -rf "$root"
mkdir -p "$root/bin"
for name in $programs; do
	program=$(command -v "$name")
	cp "$program" "$root/bin/"
	# The guest's loader looks for a library at the first path of its line.
	ldd "$program" | grep -o '/[^ ]*' | sort -u | while read -r library; do
		mkdir -p "$root$(dirname "$library")"
		cp -L "$library" "$root$library"
	done
done
(cd "$root" && find . | sort | cpio -o -H newc -R 0:0 --quiet) | gzip -1 >"$work/root-foreign.cpio.gz"
