#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Fetch the source of a kernel that the system's own suites do not have, from
# another suite of the same mirror: with a configuration, lists and caches of its
# own under build/. The system's apt knows nothing of it.
. "$(dirname "$0")/lib.sh"

apt=$BUILD/apt
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# mirror: print the mirror that the system's own release comes from.
mirror() {
	local release
	release=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
	# shellcheck disable=SC2016
	apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
		awk -v release="$release" '($1 == release || $1 ~ /^(old)?stable$/) && $2 == "main" { print $3; exit }'
}

# configure: write an apt.conf that takes only Acquire (proxies and the like) from the system.
configure() {
	local from
	from=$(mirror || true)
	[ -n "$from" ] ||
		die "there is no Debian mirror in the system's sources: name a source of Linux $BASE with KERNEL="
	mkdir -p "$apt"/{state/lists/partial,cache/archives/partial,log,etc/{apt.conf,preferences}.d}
	echo "deb [signed-by=$keyring] $from $suite main" >"$apt/etc/sources.list"
	{
		apt-config dump Acquire
		echo "Dir::State \"$apt/state\"; Dir::Cache \"$apt/cache\"; Dir::Log \"$apt/log\";"
		echo "Dir::Etc \"$apt/etc\"; Dir::Etc::netrc \"/etc/apt/auth.conf\";"
		echo "Dir::Etc::netrcparts \"/etc/apt/auth.conf.d\";"
	} >"$apt/apt.conf"
	export APT_CONFIG=$apt/apt.conf
}

# newest: print the newest kernel whose source is there.
newest() {
	apt-cache pkgnames linux-source- | sed -n 's/^linux-source-\([0-9.]*\)$/\1/p' | sort -V | tail -n 1
}

fetch() {
	(cd "$apt" && rm -rf -- *.deb unpacked && apt-get download "linux-source-$BASE" &&
		dpkg-deb -x linux-source-*.deb unpacked && rm -f -- *.deb)
}

configure
quietly "$apt/update.log" apt-get update --error-on=any
there="the newest kernel in $suite is linux-source-$(newest), the series is for $BASE; name another source with KERNEL="
apt-cache show "linux-source-$BASE" >/dev/null 2>&1 || die "$there"
[ "$(newest)" = "$BASE" ] || say "note: $there"
quietly "$apt/fetch.log" fetch
mv "$apt/unpacked/usr/src/linux-source-$BASE.tar.xz" "$source"
rm -rf "$apt/unpacked"
