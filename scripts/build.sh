#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Configure and build the kernel that BASE, CONFIG and UNPATCHED name.
. "$(dirname "$0")/lib.sh"

mapfile -t fragments < <(fragments "$CONFIG.config")
[ -n "$UNPATCHED" ] || fragments+=(patched.fragment)

# dropped: print the options that configs/ asks for and .config does not have. Kconfig
# drops an option silently if a dependency is off.
dropped() {
	local line
	while read -r line; do
		case $line in
		CONFIG_*)	grep -qxF -e "$line" "$obj/.config" || echo "$line" ;;
		"# CONFIG_"*" is not set")
			line=${line#\# } line=${line% is not set}
			! grep -q "^$line=" "$obj/.config" || echo "$line=n" ;;
		esac
	done <"$obj/wanted.config"
}

# configure: write .config. The patches change Kconfig files, so this runs each time;
# kconfig does not touch a .config that would be the same.
configure() {
	local missing
	quietly "$obj/config.log" kmake "$src" -s O="$obj" \
		KCONFIG_ALLCONFIG="$obj/wanted.config" allnoconfig
	missing=$(dropped | tr '\n' ' ')
	[ -z "$missing" ] || die "Kconfig dropped these options of configs/, because a dependency is off: $missing"
}

# made_with: print what the kernel depends on beside its source.
made_with() { cat "$obj/wanted.config" "${BASH_SOURCE[0]}"; make_arguments "$CONFIG"; gcc -v 2>&1; }

# is_built: Is the image newer than each file and directory of the source? make takes half
# a minute to find that out.
is_built() {
	[ -f "$image" ] && [ -f "$obj/built" ] &&
		[ "$(made_with | sha256sum)" = "$(cat "$obj/built")" ] &&
		[ -z "$(find "$src/" -mindepth 1 \( -name .git -o -name __pycache__ \) -prune -o \
			-newer "$obj/built" -print -quit)" ]
}

# steps: print how many steps the last build from nothing of this configuration had, or
# how many its file names.
steps() {
	local known
	known=$(cat "$obj/steps" "$BUILD"/*/obj-"$CONFIG"*/steps 2>/dev/null || true)
	[ -n "$known" ] || known=$(sed -n 's/^# steps: //p' "$top/configs/$CONFIG.config")
	echo "${known%%$'\n'*}"
}

compile() {
	# shellcheck disable=SC2046
	kmake "$src" O="$obj" $(make_arguments "$CONFIG") bzImage </dev/null 2>&1 |
		tee "$obj/build.log" | progress "${total:-}"
}

mkdir -p "$obj" 2>/dev/null || die "cannot write to $obj: set BUILD= to a directory of yours"
config "${fragments[@]}" >"$obj/wanted.config"
! is_built || exit 0
rm -f "$obj/built"
made_with | sha256sum >"$obj/building"
anew=1 total=''
[ ! -f "$obj/.config" ] || anew=''
[ -z "$anew" ] || total=$(steps)
configure
if ! step "building the ${UNPATCHED:+unpatched }kernel $BASE, $CONFIG" compile; then
	grep -B 5 -A 20 -m 1 -i 'error' "$obj/build.log" >&2 || tail -n 40 "$obj/build.log" >&2
	die "the kernel does not build; the whole log is in $obj/build.log"
fi
# The time of this file is that of the beginning of the build, so that the next run builds
# what has changed meanwhile.
mv "$obj/building" "$obj/built"
[ -z "$anew" ] || grep -c . "$obj/build.log" >"$obj/steps"
