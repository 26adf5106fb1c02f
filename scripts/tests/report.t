#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The report: each kind of result, in canned directories.
. "$(dirname "$0")/toy.sh"

results=$toy/results
cat >"$toy/known" <<'END'
# comment
old_test_64	6[.]12/(one|two)	2	dies after two
END

# boot NAME [PROGRAM...]: a directory as a boot leaves it.
boot() {
	mkdir -p "$results/$1"
	echo "BASE=6.12 CONFIG=default" >"$results/$1/boot"
	printf '%s\n' "${@:2}" >"$results/$1/planned"
}
# program BOOT NAME STATUS: its output comes from stdin.
program() { cat >"$results/$1/$2.tap"; echo "$3" >"$results/$1/$2.status"; }
report() { (cd "$results" && TIMES=$toy/times "$here/../report.pl" "$toy" "$toy/known" "$@"); }
# has TEXT: does the last report have such a line?
has() { grep -qE -e "$1" <<<"$said" || { echo "$said"; return 1; }; }
has_not() { ! has "$1"; }
# reports STATUS BOOT...: run it, keep what it said.
reports() {
	local expected=$1 status=0
	shift
	said=$(report "$@" 2>&1) || status=$?
	[ "$status" = "$expected" ] || { echo "status $status"; echo "$said"; return 1; }
}

boot one a_test_64 b_test_64
printf 'TAP version 13\n1..3\nok 1 x\nok 2 y\nok 3 z # SKIP needs a kernel with fault injection\n' | program one a_test_64 0
printf 'TAP version 13\n1..3\nok 1 x\nok 2 y # SKIP the race never happened\nok 3 z # SKIP needs vm.pkey_reuse_mapped=1\n' | program one b_test_64 0
printf '61 building the kernel\n3 booting one\n0 nothing\n' >"$toy/times"
reports 0 one; ok "passed" has '^3 passed, 0 failed, 3 skipped$'
ok "the row of a program" has '^one +a_test_64 +2 +0 +1 +one/a_test_64.tap$'
ok "how long the parts took" has '^  1:01  building the kernel$'
ok "a part that took no time is left out" has_not 'nothing'
ok "what a skipped test needs" has '^note: 1 test did not run: it needs a kernel with fault injection: make check-all$'
ok "no word of a skipped test that nobody can change" has_not 'race|vm.pkey_reuse_mapped'
boot two a_test_32
printf 'TAP version 13\n1..3\nok 1 x\nok 2 y\nok 3 z\n' | program two a_test_32 0
reports 0 one two; ok "no word of a test that another boot ran" has_not 'did not run'
ok "the number of skipped tests stays" has '^6 passed, 0 failed, 3 skipped$'

boot three c_test_64 d_test_64 e_test_64 f_test_64 g_test_64
printf 'TAP version 13\n1..2\nok 1 x\nnot ok 2 breaks\n' | program three c_test_64 1
printf 'TAP version 13\n1..3\nok 1 x\n' | program three d_test_64 0
printf 'TAP version 13\n1..1\nok 1 x\n' | program three e_test_64 137
printf 'TAP version 13\n1..1\nok 1 x\n' | program three f_test_64 139
reports 1 three; ok "a failed test" has '^FAILED: three: c_test_64: - breaks|^FAILED: three: c_test_64: breaks'
ok "a plan that is not kept" has '^FAILED: three: d_test_64: bad TAP'
ok "a time limit" has '^FAILED: three: e_test_64: ran into its time limit'
ok "a signal" has '^FAILED: three: f_test_64: died of signal 11'
ok "a planned program without a result" has '^FAILED: three: g_test_64: left no result'
ok "each is counted" has '^4 passed, 5 failed, 0 skipped$'

boot two old_test_64
printf 'TAP version 13\n1..3\nok 1 x\nok 2 y\n' | program two old_test_64 139
reports 0 two; ok "a known failure is skipped" has '^2 passed, 0 failed, 1 skipped$'
printf 'TAP version 13\n1..3\nok 1 x\n' | program two old_test_64 139
reports 1 two; ok "not if it comes too early" has 'old_test_64: died of signal 11'
printf 'TAP version 13\n1..3\nok 1 x\nok 2 y\nnot ok 3 z\n' | program two old_test_64 1
reports 1 two; ok "a not ok is never excused" has 'FAILED: two: old_test_64: .*z'

boot again flaky_64
printf '1..1\nnot ok 1 x\n' | program again flaky_64 1
printf '1..1\nok 1 x\n' | program again flaky_64.again 0
reports 0 again; ok "a passing retry counts, with a note" has '^note: again: flaky_64 failed, and passed when it was run again$'

boot silent protection_keys_64
echo "has pkeys: 1" | program silent protection_keys_64 0
reports 1 silent; ok "a program without TAP has to reach its end" has 'did not get to its end'
echo "done (all tests OK)" | program silent protection_keys_64 0
reports 0 silent; ok "and then passes" has '^1 passed'

mkdir -p "$results"/{gone,left,panicked}
reports 1 gone; ok "a boot without results" has '^FAILED: gone: boot: left no result'
echo "it takes 20 minutes" >"$results/left/left-out"
reports 0 left one; ok "what is left out is told" has '^note: left is left out: it takes 20 minutes$'
echo "Kernel panic" >"$results/panicked/failure"
reports 1 panicked one; ok "a boot that failed" has '^FAILED: panicked: boot: Kernel panic'
reports 1 left; ok "nothing passed is a failure" has '^0 passed, 0 failed, 1 skipped$'

mkdir -p "$toy/tools/testing/kunit"
cat >"$toy/tools/testing/kunit/kunit.py" <<'END'
#!/bin/sh
echo '{"sub_groups": [{"name": "map", "test_cases": [{"name": "good", "status": "PASS"}, {"name": "bad", "status": "FAIL"}]}]}' >"${2#--json=}"
END
chmod +x "$toy/tools/testing/kunit/kunit.py"
boot kunit kunit_map
echo KTAP >"$results/kunit/kunit_map.ktap"
reports 1 kunit; ok "a KUnit suite" has '^FAILED: kunit: map \(KUnit\): bad'
ok "is counted" has '^1 passed, 1 failed, 0 skipped$'
finish
