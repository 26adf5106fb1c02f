#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# deb.sh [config|check]: build Debian packages of the patched kernel, with the kernel's own
# bindeb-pkg, in the configuration that CONFIG names. With "config", only check that it is
# one. With "check", build them in the default configuration, and boot the packaged image.
asked=${CONFIG:-/boot/config-$(uname -r)}
CONFIG=default
. "$(dirname "$0")/lib.sh"
. "$scripts/tap.sh"

dir=$work/deb${1:+-$1}
export DEBFULLNAME="x86 protection keys" DEBEMAIL=pkeys@localhost

# configure: take the configuration that was asked for, with protection keys, and without
# signing keys and debugging information that only the distribution has.
configure() {
	mkdir -p "$dir/obj"
	cp "$asked" "$dir/obj/.config"
	"$src/scripts/config" --file "$dir/obj/.config" -d LOCALVERSION_AUTO \
		-e X86_INTEL_MEMORY_PROTECTION_KEYS ${1:+-e MODULES} \
		--set-str SYSTEM_TRUSTED_KEYS '' --set-str SYSTEM_REVOCATION_KEYS '' \
		-d DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT -d DEBUG_INFO_DWARF4 \
		-d DEBUG_INFO_DWARF5 -e DEBUG_INFO_NONE
	quietly "$dir/config.log" kmake "$src" -s O="$dir/obj" olddefconfig
	grep -qx CONFIG_X86_INTEL_MEMORY_PROTECTION_KEYS=y "$dir/obj/.config" ||
		die "$asked is not a configuration for x86-64 with protection keys"
}

build() {
	rm -f "$dir"/linux-*
	kmake "$src" O="$dir/obj" LOCALVERSION=-pkeys bindeb-pkg </dev/null 2>&1 |
		tee "$dir/build.log" | progress "" || return 1
	# These would take the place of the distribution's packages.
	rm -f "$dir"/linux-libc-dev_* "$dir"/linux-upstream_*
}

unpack() { dpkg-deb -x "$dir"/linux-"$1"-*.deb "$dir/$1"; }

boots() {
	IMAGE=$(echo "$dir"/image/boot/vmlinuz-*) "$scripts/boot.sh" deb-boot 2 pku 64
	[ ! -e "$work/results/deb-boot/failure" ] && grep -q 'Linux version [^ ]*-pkeys ' "$work/results/deb-boot/console.log"
}

[ "${1:-}" != check ] || asked=$obj/.config
[ -f "$asked" ] || die "there is no $asked: name the configuration of a kernel, make deb CONFIG=/path/to/config"
grep -q '^CONFIG_[A-Z0-9_]*=' "$asked" || die "$asked is no kernel configuration: it has no line CONFIG_...="
grep -qx CONFIG_X86_64=y "$asked" || die "$asked is no configuration for x86-64: it has no CONFIG_X86_64=y"
[ "${1:-}" != config ] || exit 0
configure "$@"
if ! step "building packages of Linux $BASE with $asked" build; then
	tail -n 40 "$dir/build.log" >&2
	die "the packages do not build; the whole log is in $dir/build.log"
fi

if [ "${1:-}" = check ]; then
	rm -rf "$dir/image" "$dir/headers"
	tap_begin deb "$work/results/deb"
	check "the image package unpacks" unpack image
	check "the headers package unpacks" unpack headers
	check "modules can be built with the headers" test -x "$dir"/headers/usr/src/linux-headers-*-pkeys/scripts/mod/modpost
	check "the image boots" boots
	tap_end || true
	"$scripts/report.pl" "$src" "$scripts/known-failures" "$work/results/deb" "$work/results/deb-boot"
else
	ls "$dir"/linux-*.deb
fi
