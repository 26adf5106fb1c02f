#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Configure and build the kernel that BASE, CONFIG and UNPATCHED name.
. "$(dirname "$0")/lib.sh"

below=$(sed -n 's/^# on top of: //p' "$top/configs/$CONFIG.config")
fragments=(base.fragment ${below:+"$below.config"} "$CONFIG.config")
[ -n "$UNPATCHED" ] || fragments+=(patched.fragment)

# Options that were asked for and are not in .config: kconfig drops silently
# what depends on something that is off.
vanished() {
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

# Every time, because the patches change Kconfig files too; kconfig leaves a
# .config alone that would be the same.
configure() {
	local missing
	mkdir -p "$obj"
	config "${fragments[@]}" >"$obj/wanted.config"
	quietly "$obj/config.log" kmake "$src" -s O="$obj" \
		KCONFIG_ALLCONFIG="$obj/wanted.config" allnoconfig
	missing=$(vanished | tr '\n' ' ')
	[ -z "$missing" ] || die "these options of configs/ vanished from $obj/.config, a dependency is off: $missing"
}

compile() {
	# shellcheck disable=SC2046
	kmake "$src" O="$obj" $(make_arguments "$CONFIG") bzImage </dev/null 2>&1 | tee "$obj/build.log" | progress
}

configure
if ! step "building the ${UNPATCHED:+unpatched }kernel $BASE, $CONFIG" compile; then
	grep -B 5 -A 20 -m 1 -i 'error' "$obj/build.log" >&2 || tail -n 40 "$obj/build.log" >&2
	die "the kernel does not build; the whole log is in $obj/build.log"
fi
