#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# make run and make check: what is built and booted, with stubs for what does that.
. "$(dirname "$0")/toy.sh"

project
: >"$top/configs/other.config"
work=$top/build/6.12
# stub SCRIPT: what it does comes from stdin.
stub() {
	{ echo '#!/bin/bash'; echo "echo \"$1 \${CONFIG:-} \$* \${PLAN:-}\" >>'$toy/calls'"; cat; } >"$top/scripts/$1"
	chmod +x "$top/scripts/$1"
}
rm "$top"/scripts/tests/*.t "$top"/scripts/{litmus,compare,bisect,model,runtimes,vmtests}.sh 2>/dev/null
for script in setup.sh tree.sh lint.sh coverage.sh foreign.sh; do stub $script </dev/null; done
stub tests.sh <<END
mkdir -p "$work/root/tests"
touch "$work/root/tests/"{pkey_alloc_test_64,pkey_alloc_test_32,pkey_example,pkey_embedder,pkey-run}
END
stub runtimes.sh <<END
echo "bounds \${BOUNDS:-}" >>'$toy/calls'
END
stub build.sh <<END
[ ! -e "$toy/broken-\${CONFIG:-default}" ]
END
stub boot.sh <<END
mkdir -p "$work/results/\$1"
echo one_test_64 >"$work/results/\$1/planned"
printf '1..1\nok 1 x\n' >"$work/results/\$1/one_test_64.tap"
echo 0 >"$work/results/\$1/one_test_64.status"
[ -z "\${PLAN:-}" ] || { rm -rf "$work/results/\$1"/*; echo "\$PLAN" >"$work/results/\$1/planned"; }
END
stub verify.sh <<END
mkdir -p "\$1"
echo verify >"\$1/planned"
printf '1..1\nok 1 y\n' >"\$1/verify.tap"
echo 0 >"\$1/verify.status"
END
cat >"$top/scripts/tests/toy.t" <<'END'
#!/bin/sh
echo 1..1
echo ok 1 z
END
chmod +x "$top/scripts/tests/toy.t"
printf '# comment\nfirst\t-\tdefault\t2\tpku\t64,32,x32\nsecond\t-\tother\t1\tnopku\t64\tnopku\nlong\t20\tother\t2\tpku\t64\n' >"$top/scripts/boots"

# check ARGUMENT...: run it, keep what it called and said.
check() {
	: >"$toy/calls"
	local status=0
	BASE=6.12 "$top/scripts/check.sh" "$@" >"$toy/said" 2>&1 || status=$?
	return $status
}
called() { grep -qE -e "$1" "$toy/calls" || { cat "$toy/calls" "$toy/said"; return 1; }; }
not_called() { ! grep -E -e "$1" "$toy/calls"; }
said() { grep -qE -e "$1" "$toy/said" || { cat "$toy/said"; return 1; }; }

ok "make run" check run
ok "does the first boot, with 64-bit programs" called '^boot.sh default first 2 pku 64 $'
ok "and no other" not_called 'boot.sh other'
ok "shows the result" said '^1 passed, 0 failed, 0 skipped$'
CONFIG=other check run
ok "CONFIG= chooses the kernel" called '^boot.sh other first 2 pku 64 $'
TEST=pkey_alloc_test check run
ok "TEST= runs one program, of the first ABI" called '^boot.sh default .* pkey_alloc_test_64$'
TEST="pkey_alloc_test_32 -n 5" check run
ok "or of the one that is named, with arguments" called '^boot.sh default .* pkey_alloc_test_32 -n 5$'
: >"$toy/calls"
ok "an unknown TEST= lists what there is" \
	bash -c "BASE=6.12 TEST=none $top/scripts/check.sh run 2>&1 | grep -x 'error: there is no test none; there are,.*: pkey_alloc_test pkey_example kunit_pkey_map'"
ok "and builds no kernel" not_called '^build.sh'
touch "$toy/broken-default"
ok "make run fails if the kernel does not build" bash -c "! BASE=6.12 $top/scripts/check.sh run 2>/dev/null"
rm "$toy/broken-default"

ok "make check" check check
ok "does the first boot" called '^boot.sh default first 2 pku 64,32,x32 $'
ok "and the second" called '^boot.sh other second 1 nopku 64 nopku $'
ok "and no long one" not_called ' long '
ok "and verify" called 'verify.sh'
ok "and the tests of the harness" said '^harness +toy +1 +0 +0'
ok "and reports what is not there" said '^note: model is left out: there is no scripts/model.sh$'
ok "and how long it took" said 'booting second|time, min:s|^4 passed'
ok "the total" said '^4 passed, 0 failed, 1 skipped$'
touch "$toy/broken-other"
ok "a kernel that does not build fails the check" bash -c "! BASE=6.12 $top/scripts/check.sh check >$toy/said 2>&1"
ok "with a row of its own" said '^FAILED: second: boot: the kernel other does not build'
ok "and the other boots count" said '^first +one_test_64 +1 '
rm "$toy/broken-other"
rm -r "$top/patches/7.3"
MINUTES=0 check check
ok "MINUTES= leaves out what does not fit" said '^note: long is left out: it takes 20 minutes'
not_run() { not_called ' long '; }
ok "and does not boot it" not_run
check all
ok "make check-all boots it" called '^boot.sh other long 2 pku 64 $'
ok "and lints" called '^lint.sh'
ok "and runs the runtimes" called '^runtimes.sh'
ok "and has larger bounds for the models" called '^bounds large$'

# Ctrl-C ends the background part too.
stub verify.sh <<END
echo \$\$ >"$toy/verify"
sleep 60
END
background BASE=6.12 "$top/scripts/check.sh" check
soon grep -q 'waiting for verify' "$toy/said"
soon test -s "$toy/verify"
status=0
kill_group INT || status=$?
ok "Ctrl-C ends it with the status of a signal" test $status = 130
gone() { ! pgrep -F "$toy/verify" -r D,R,S,T; }
ok "and what it began in the background" soon gone
finish
