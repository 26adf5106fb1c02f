#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# lint.sh [DIRECTORY]: run the tools that read the series without running it. Messages
# that a tool also has for the unpatched source do not count. The result is TAP.
. "$(dirname "$0")/lib.sh"
. "$scripts/tap.sh"

# The packages' modules are for the distribution's python3.
PATH=/usr/bin:$PATH
in_tree() { git -C "$tree" "$@"; }
touched() { in_tree diff --diff-filter=d --name-only refs/tags/base series -- "$@"; }

# $objects are those of the kernel's .c files that the series touches. Each architecture
# compiles the "common" ones.
objects=$(touched 'arch/x86/*.c' 'fs/*.c' 'io_uring/*.c' 'kernel/*.c' 'mm/*.c' | sed 's/c$/o/')
mapfile -t common < <(grep -Ev '^(arch|mm/tests)/' <<<"$objects")
# A 32-bit kernel has no keys and no 64-bit frames; KVM is no part of its defconfig.
mapfile -t i386 < <(grep -E '^arch/' <<<"$objects" | grep -Ev '^arch/x86/(mm/pkey|kvm/|kernel/signal_64)')

# The arguments of make to compile with clang.
clang=("LLVM=${LINT_LLVM:-1}" "CC=clang${LINT_LLVM:-}")

# silent COMMAND...: fail on any output, even with status 0.
silent() {
	local said
	said=$("$@" 2>&1) || said=${said:-"$1 failed"}
	[ -z "$said" ] || { echo "$said"; return 1; }
}

checkpatch() {
	local ignore
	ignore=$(sed -n 's/^\([A-Z_]*\)\s.*/\1/p' "$scripts/checkpatch-exceptions" | paste -s -d ,)
	(cd "$tree" && ./scripts/checkpatch.pl --strict --show-types --no-summary --quiet \
		--ignore "$ignore" "$1")
}

# messages SOURCE OUTPUT ARGUMENT...: print the compiler's messages for the objects that
# SOURCE has, without line numbers, which the patches change.
messages() {
	local from=$1 build=$2 object
	local -a targets=()
	shift 2
	for object in $objects; do
		[ ! -f "$from/${object%.o}.c" ] || targets+=("$object")
	done
	mkdir -p "$build"
	# shellcheck disable=SC2046
	config $(fragments default.config) {patched,verify}.fragment >"$build/wanted.config"
	kmake "$from" -s O="$build" KCONFIG_ALLCONFIG="$build/wanted.config" "$@" allnoconfig >&2 || return 1
	for object in "${targets[@]}"; do rm -f "$build/$object"; done
	kmake "$from" -s -k O="$build" KCFLAGS=-Wno-error "$@" "${targets[@]}" 2>&1 >/dev/null |
		grep -E '(warning|error):' | sed -E 's/:[0-9]+:[0-9]+:/:/; s/line [0-9]+/line/' |
		sed "s|$from/||; s|^\.\./linux[a-z-]*/||" | sort -u || true
}

# nothing_new NAME ARGUMENT...: fail on a message that the unpatched source does not have.
nothing_new() {
	local name=$1
	shift
	messages "$pristine" "$work/obj-lint-$name-unpatched" "$@" >"$out/$name-unpatched" || return 1
	messages "$tree" "$work/obj-lint-$name" "$@" >"$out/$name-patched" || return 1
	echo "messages of the unpatched source, subtracted:"
	cat "$out/$name-unpatched"
	echo "new messages:"
	silent comm -13 "$out/$name-unpatched" "$out/$name-patched"
}

# cross ARCH CONFIG OBJECT...: compile for another architecture, with clang, which needs no
# second compiler.
cross() {
	local arch=$1 config=$2 build=$work/obj-lint-$1
	shift 2
	kmake "$tree" -s O="$build" ARCH="$arch" "${clang[@]}" "$config"
	kmake "$tree" -s O="$build" ARCH="$arch" "${clang[@]}" "$@"
}

# our_rules: run the rules in scripts/coccinelle/.
our_rules() {
	local rule
	for rule in "$scripts"/coccinelle/*.cocci; do
		# shellcheck disable=SC2046
		spatch --very-quiet -D report --no-includes --sp-file "$rule" \
			$(touched arch/x86/mm arch/x86/include io_uring mm kernel | grep '[.][ch]$' | sed "s|^|$tree/|") || return 1
	done >"$out/our-rules"
	! grep . "$out/our-rules"
}

# coccicheck: run the kernel's own rules. Messages about lines that are not ours do not
# count.
coccicheck() {
	local rule file line rest new=
	while read -r rule; do
		# shellcheck disable=SC2046
		(cd "$tree" && spatch --very-quiet -D report --cocci-file "$rule" --no-includes \
			$(touched 'arch/*.c' 'mm/*.c' 'kernel/*.c' 'fs/*.c' 'io_uring/*.c') 2>/dev/null)
	done < <(cd "$tree" && grep -rl --include='*.cocci' '^virtual report' scripts/coccinelle) \
		>"$out/coccicheck"
	while IFS=: read -r file line rest; do
		in_tree blame -s -L "$line,$line" refs/tags/base..series -- "$file" 2>/dev/null |
			grep -q '^^' || { echo "$file:$line:$rest"; new=1; }
	done < <(grep -E '^[^ :]+:[0-9]+' "$out/coccicheck")
	[ -z "$new" ]
}

# The ignored words only look like mistakes, or are the kernel's, in the context of a patch.
spelling() {
	(cd "$top" && git ls-files -z | grep -zv '^COPYING$' |
		xargs -0 codespell --ignore-words-list=nd,ser,te,bu,struc,inport,currnet)
}

kernel_doc() {
	# shellcheck disable=SC2046
	(cd "$tree" && silent ./scripts/kernel-doc -none -Wall \
		$(own_files . | grep -E '\.[ch]$' | grep -v selftests))
}

# sphinx: build the two directories that have our pages, with the kernel's own target.
sphinx() {
	local docs=$work/obj-docs page
	rm -rf "$docs"
	kmake "$tree" O="$docs" SPHINXDIRS="core-api admin-guide/sysctl" htmldocs >"$out/sphinx" 2>&1 || return 1
	for page in core-api/protection-keys admin-guide/sysctl/vm; do
		[ -s "$docs/Documentation/output/$page.html" ] || return 1
	done
	! grep -E 'protection-keys|pkey|sysctl/vm' "$out/sphinx"
}

maintainers() {
	! grep -i pkey <<<"$(cd "$tree" && ./scripts/get_maintainer.pl --self-test=patterns 2>&1)" || return 1
	(cd "$tree" && ./scripts/get_maintainer.pl --no-git --no-email --no-l --sections -f mm/pkeys.c) |
		grep PROTECTION
}

shell() { (cd "$top" && shellcheck -x scripts/*.sh scripts/tests/*.t scripts/guest-init .ci/run); }

manuals() { silent mandoc -T lint -W warning "$top"/Documentation/man/man*/*; }

tap_begin lint "${1:-$work/results/lint}"
for patch in "$patches"/[0-9]*.patch; do
	check "checkpatch --strict $(basename "$patch")" checkpatch "$patch"
done
check "W=1, gcc: nothing new" nothing_new gcc W=1
check "W=1, clang: nothing new" nothing_new clang W=1 "${clang[@]}"
check "sparse: nothing new" nothing_new sparse C=2
check "i386 builds" cross i386 defconfig "${common[@]}" "${i386[@]}"
check "arm64 builds" cross arm64 defconfig "${common[@]}"
check "powerpc64le builds" cross powerpc ppc64le_defconfig "${common[@]}"
check "riscv64, without keys, builds" cross riscv defconfig "${common[@]}"
check "coccinelle, our rules" our_rules
check "coccinelle, the kernel's rules" coccicheck
check "codespell" spelling
check "kernel-doc" kernel_doc
check "sphinx" sphinx
check "get_maintainer finds our entry" maintainers
check "shellcheck" shell
check "mandoc" manuals
tap_end
