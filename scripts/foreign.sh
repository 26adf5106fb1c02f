#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Programs that we did not write, from the distribution, and the libraries that
# they want: an archive that is appended to the initramfs of the boots that run
# them.
. "$(dirname "$0")/lib.sh"

root=$work/root-foreign
programs="stress-ng trinity"

PACKAGES="stress-ng:stress-ng trinity:trinity" "$scripts/setup.sh"

rm -rf "$root"
mkdir -p "$root/bin"
for name in $programs; do
	program=$(command -v "$name")
	cp "$program" "$root/bin/"
	# The first path of each line, where the loader looks for it in the guest too.
	ldd "$program" | grep -o '/[^ ]*' | sort -u | while read -r library; do
		mkdir -p "$root$(dirname "$library")"
		cp -L "$library" "$root$library"
	done
done
# The guest has no /etc/ld.so.conf: what the loader finds by itself.
(cd "$root" && find . | sort | cpio -o -H newc -R 0:0 --quiet) | gzip -1 >"$work/root-foreign.cpio.gz"
