#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Configurations, and the build of a kernel: Ctrl-C, a home directory that cannot be
# written, files of another owner. The kernel is a Makefile.
. "$(dirname "$0")/toy.sh"

project
cp "$here/../../configs/"* "$top/configs/"
cat >>"$toy/linux-7.3/Makefile" <<END
allnoconfig:
	cp \$(KCONFIG_ALLCONFIG) \$(O)/.config
	[ ! -e $toy/drop ] || sed -i /CONFIG_SMP/d \$(O)/.config
bzImage:
	echo "\$\$CCACHE_DIR" >$toy/ccache
	touch $toy/started
	[ ! -e $toy/slow ] || sleep 60
	[ ! -e $toy/broken ] || { echo "a.c: error: no"; exit 1; }
	mkdir -p \$(O)/arch/x86/boot
	touch \$(O)/arch/x86/boot/bzImage
END
git_in "$toy/linux-7.3" checkout -q pristine
commit_all "$toy/linux-7.3" "build"
build() { run build.sh 7.3; }
tree=$(tree_of 7.3)
obj=${tree%/linux}/obj-default
fragments() { bash -c ". $top/scripts/lib.sh; fragments $1.config" | paste -s -d ' '; }

for config in "$top"/configs/*.config; do
	name=$(basename "$config" .config)
	ok "the configuration $name begins with base.fragment" \
		grep -qE "^base.fragment (.* )?$name.config$" <<<"$(fragments "$name")"
done
ok "the default is quick and more" test "$(fragments default)" = "base.fragment full.fragment default.config"

run tree.sh 7.3 2>/dev/null
touch "$obj"
ok "a directory that cannot be made is told" says "cannot write to $obj: set BUILD=" build
rm "$obj"
touch "$toy/drop"
ok "an option that Kconfig drops is named" says "Kconfig dropped these options of configs/" build
rm "$toy/drop"
touch "$toy/broken"
broken() { { run build.sh 7.3 2>&1 || true; } | grep -q 'error: the kernel does not build'; }
ok "a kernel that does not build is an error" broken
rm "$toy/broken" "$toy/started"

touch "$toy/slow"
background BASE=7.3 KERNEL="$toy/linux-7.3" "$top/scripts/build.sh"
soon test -e "$toy/started"
status=0
kill_group INT || status=$?
rm "$toy/slow"
ok "Ctrl-C ends a build with the status of a signal" test $status = 130
told() { grep 'does not build' "$toy/said"; }
ok "and the kernel is not said to be broken" empty "$(told)"
ok "the next build" build
ok "gives a kernel" test -f "$obj/arch/x86/boot/bzImage"
rm "$toy/started"
ok "a build with nothing to do" build
ok "does not start make" test ! -e "$toy/started"

if command -v ccache >/dev/null; then
	touch "$tree/Kbuild"
	HOME=/proc/none CCACHE_DIR='' build 2>/dev/null
	ok "where HOME cannot be written ccache has a directory" grep -qx "$top/build/ccache" "$toy/ccache"
else
	skip "where HOME cannot be written ccache has a directory" "needs ccache"
fi
touch "${obj%/*}/results"
ok "results that cannot be written are told" says "cannot write to ${obj%/*}/results/boot: set BUILD=" \
	env ICOUNT=1 BASE=7.3 KERNEL="$toy/linux-7.3" "$top/scripts/boot.sh" boot
rm "${obj%/*}/results"

# A mounted volume may belong to another user.
if [ "$(id -u)" = 0 ]; then
	chown -R nobody "$toy/linux-7.3/.git" "$top"
	owner() { { run tree.sh 7.3 2>&1 || true; } | grep 'dubious ownership'; }
	ok "a source of another owner: what git says" owner
	chown -R root "$toy/linux-7.3/.git"
	ok "a tree of another owner is used" run tree.sh 7.3
	echo mine >"$tree/mm/mine.c"
	ok "and the work in it is seen" says "a file that is not in git, mm/mine.c" "$top/scripts/clean.sh"
	rm "$tree/mm/mine.c"
	chown -R root "$top"
else
	skip "a source and a tree of another owner" "needs root"
fi

cp "$here/../../.gitattributes" "$top/"
commit_all "$top" attributes
git clone -q -c core.autocrlf=true "$top" "$toy/clone"
converted() { grep -rlI $'\r' "$toy/clone" --exclude-dir=.git; }
ok "core.autocrlf=true converts no file" empty "$(converted)"
finish
