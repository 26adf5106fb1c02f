#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Measure the unpatched and the patched kernel, built alike, in the same emulated
# machine: a table, and the curves as pictures. Into Documentation/benchmark/.
export CONFIG=bench
. "$(dirname "$0")/lib.sh"

results=$work/results
report=$top/Documentation/benchmark
mkdir -p "$report" "$results"

# measure KERNEL: with UNPATCHED set for the stock one.
measure() {
	local mode name=bench${UNPATCHED:+-unpatched}
	"$scripts/tree.sh"
	"$scripts/build.sh"
	step "building the benchmark" "$scripts/tests.sh"
	ICOUNT=1 PLAN="pkey_bench counted" step "counting instructions, $name" \
		"$scripts/boot.sh" "$name-counted" 1 pku 64 mitigations=off
	PLAN="pkey_bench clocked" step "reading the clock, $name" \
		"$scripts/boot.sh" "$name-clocked" 2 pku 64 mitigations=off
	for mode in counted clocked; do
		[ ! -e "$results/$name-$mode/failure" ] || die "the benchmark did not run, see above"
		sort "$results/$name-$mode/pkey_bench.tap" >"$results/$name-$mode.tsv"
	done
}

# size STRUCT, in bytes, from the debugging information of one object.
size() {
	pahole --sizes "$work/obj-bench${UNPATCHED:+-unpatched}/kernel/fork.o" | awk -v name="$1" '$1 == name { print $2 }'
}

sizes() {
	local struct
	config base.fragment "$CONFIG.config" >"$work/bench.config"
	echo CONFIG_DEBUG_INFO_DWARF5=y >>"$work/bench.config"
	quietly "$work/obj-bench${UNPATCHED:+-unpatched}.log" kmake "$src" -s O="$work/obj-bench${UNPATCHED:+-unpatched}" \
		KCONFIG_ALLCONFIG="$work/bench.config" allnoconfig
	quietly "$work/obj-bench${UNPATCHED:+-unpatched}.log" kmake "$src" -s O="$work/obj-bench${UNPATCHED:+-unpatched}" kernel/fork.o
	for struct in mm_struct task_struct vm_area_struct; do
		printf '%s\t%s\n' "$struct" "$(size $struct)"
	done | sort >"$results/bench${UNPATCHED:+-unpatched}-sizes.tsv"
}

# compare MODE: what, unpatched, patched, ratio, bar, met or not. BARS gives the
# names, their bars, and to what they compare: the same row of the unpatched
# kernel, or another row of the patched one.
compare() {
	join -t "$(printf '\t')" "$results/bench-unpatched-$1.tsv" "$results/bench-$1.tsv" |
	awk -F '\t' -v bars="$scripts/bench-bars" '
		BEGIN {
			while ((getline line < bars) > 0) {
				if (line ~ /^(#|$)/) continue
				n = split(line, field, /[ \t]+/)
				bar[field[1]] = field[2]
				to[field[1]] = n > 2 ? field[3] : ""
			}
		}
		{ name[NR] = $1; stock[$1] = $2; ours[$1] = $3 }
		END {
			for (i = 1; i <= NR; i++) {
				row = name[i]
				against = to[row] ? ours[to[row]] : stock[row]
				ratio = against ? ours[row] / against : 0
				met = row in bar ? (ratio <= bar[row] ? "met" : "NOT MET") : ""
				printf "%-26s %12d %12d %8.3f %8s  %-8s %s\n", row, stock[row],
					ours[row], ratio, bar[row], met, to[row] ? "of " to[row] : ""
			}
		}'
}

table() {
	printf '%-26s %12s %12s %8s %8s\n' "$1" unpatched patched ratio bar
	compare "$2"
	echo
}

# curves NAME TITLE UNIT AXIS FILE ROW...: rows that end in _NUMBER, over the number.
curves() {
	local name=$1 title=$2 unit=$3 axis=$4 file=$5 row kernel plots=
	shift 5
	for row in "$@"; do
		for kernel in -unpatched ""; do
			sed -n "s/^${row}_\([0-9]*\)\t/\1\t/p" "$results/bench$kernel-$file.tsv" | sort -n \
				>"$results/curve-$row$kernel"
			plots="$plots${plots:+, }'$results/curve-$row$kernel' with linespoints title '$row, ${kernel:+un}patched'"
		done
	done
	for terminal in svg pngcairo; do
		gnuplot <<-END
			set terminal $terminal size 800,500 noenhanced
			set output '$report/$name.${terminal%cairo}'
			set title '$title'
			set xlabel '$axis'
			set ylabel '$unit'
			set logscale xy
			set key outside bottom
			set grid
			plot $plots
		END
	done
}

if [ "${1:-}" = measure ]; then
	measure
	sizes
	exit
fi

PACKAGES="gnuplot-nox:gnuplot dwarves:pahole" "$scripts/setup.sh"
UNPATCHED=1 "$0" measure
"$0" measure
{
	echo "Linux $(kernel_version "$tree"), $CONFIG configuration. Made by: make bench"
	echo
	table "instructions, one CPU" counted
	table "nanoseconds, two CPUs" clocked
	table "bytes" sizes
} | tee "$report/results.txt"
curves mappings "The cost of a key as the number of mappings grows" instructions \
	"mappings in the process" counted alloc_free cycle
curves threads "The cost of a re-issue as the number of other threads grows" instructions \
	"other threads" counted reissue_sleeping reissue_running
