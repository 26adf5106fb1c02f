#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Run one short program on the unpatched and on the patched kernel, and show the output
# of both side by side, in lines that a page of 100 columns has room for.
. "$(dirname "$0")/lib.sh"

result() { echo "$work/results/demo${UNPATCHED:+-unpatched}"; }

if [ "${1:-}" = one ]; then
	"$scripts/tree.sh"
	"$scripts/build.sh"
	"$scripts/tests.sh"
	PLAN=pkey_demo "$scripts/boot.sh" "$(basename "$(result)")"
	[ ! -e "$(result)/failure" ] || die "the demonstration did not run, see above"
	[ "$(cat "$(result)/pkey_demo.status")" = 0 ] ||
		die "the demonstration failed: $(tail -n 1 "$(result)/pkey_demo.tap")"
	exit
fi

"$scripts/setup.sh"
"$scripts/tree.sh"
UNPATCHED=1 "$0" one
"$0" one
{
	echo "Linux $BASE as it is"
	cat "$(UNPATCHED=1 result)/pkey_demo.tap"
} >"$work/demo-left"
{
	echo "Linux $BASE with this series"
	cat "$(result)/pkey_demo.tap"
} >"$work/demo-right"
echo
pr -m -t -w 98 "$work/demo-left" "$work/demo-right" | expand
