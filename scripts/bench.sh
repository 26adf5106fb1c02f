#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Measure the unpatched and the patched kernel, built alike, in the same emulated
# machine. The table goes into results/bench.txt, with the date and the series, and two
# curves become pictures beside it. "bench.sh table" makes them again from what the last
# run measured.
export CONFIG=bench
. "$(dirname "$0")/lib.sh"

results=$work/results
mkdir -p "$results" || die "cannot make $results: set BUILD= to a directory that can be written"

# run MODE NAME CPUS: one boot with the benchmark. norandmaps: how many pages of page
# tables fork() copies depends on where the mappings are. A boot that the emulation of
# jump labels killed (configs/bench.config) has measured nothing, and is tried again.
run() {
	local mode=$1 name=$2 cpus=$3 try
	for try in 1 2 3; do
		PLAN="pkey_bench $mode" step "pkey_bench $mode, $name" \
			"$scripts/boot.sh" "$name" "$cpus" pku 64 mitigations=off norandmaps
		[ -e "$results/$name/failure" ] || return 0
		grep -q 'Oops: int3' "$results/$name/console.log" || break
	done
	die "the benchmark did not run in $try boots, see above"
}

# With UNPATCHED set the unpatched kernel. What is counted is the same each time; of
# what the clock says the median of three.
measure() {
	local i name=bench${UNPATCHED:+-unpatched}
	"$scripts/tree.sh"
	"$scripts/build.sh"
	step "building the benchmark" "$scripts/tests.sh"
	ICOUNT=1 run counted "$name-counted" 1
	sort "$results/$name-counted/pkey_bench.tap" >"$results/$name-counted.tsv"
	for i in 1 2 3; do run clocked "$name-clocked-$i" 2; done
	sort -k 1,1 -k 2,2n "$results/$name-clocked"-[123]/pkey_bench.tap | awk 'NR % 3 == 2' \
		>"$results/$name-clocked.tsv"
}

# sizes: in bytes, from the debugging information of one object.
sizes() {
	local struct name=bench${UNPATCHED:+-unpatched}
	local build=$work/obj-$name-sizes
	mkdir -p "$build"
	# shellcheck disable=SC2046
	config $(fragments "$CONFIG.config") >"$build/wanted.config"
	echo CONFIG_DEBUG_INFO_DWARF5=y >>"$build/wanted.config"
	quietly "$build.log" kmake "$src" -s O="$build" KCONFIG_ALLCONFIG="$build/wanted.config" allnoconfig
	quietly "$build.log" kmake "$src" -s O="$build" kernel/fork.o
	for struct in mm_struct task_struct vm_area_struct; do
		pahole --sizes "$build/kernel/fork.o" | awk -v name="$struct" '$1 == name { print name "\t" $2 }'
	done | sort >"$results/$name-sizes.tsv"
}

# compare MODE: for each row the unpatched and the patched kernel, the ratio, the
# target and whether it is met. scripts/bench-targets has the targets.
compare() {
	join -t "$(printf '\t')" "$results/bench-unpatched-$1.tsv" "$results/bench-$1.tsv" |
	awk -F '\t' -v targets="$scripts/bench-targets" '
		BEGIN {
			while ((getline line < targets) > 0) {
				if (line ~ /^(#|$)/) continue
				n = split(line, field, /[ \t]+/)
				target[field[1]] = field[2]
				to[field[1]] = n > 2 ? field[3] : ""
			}
		}
		{ name[NR] = $1; stock[$1] = $2; ours[$1] = $3 }

		function sum_of(rows,    n, part, total) {
			for (n = split(rows, part, "+"); n > 0; n--)
				total += ours[part[n]]
			return total
		}

		function is_met(row,    number) {
			number = target[row]
			gsub(/[^0-9.]/, "", number)
			if (target[row] ~ /^<=/)
				return ours[row] <= number + 0
			if (target[row] ~ /^\+/)
				return ours[row] <= stock[row] + number
			return ours[row] <= against * number
		}

		END {
			for (i = 1; i <= NR; i++) {
				row = name[i]
				against = to[row] ? sum_of(to[row]) : stock[row]
				ratio = against ? sprintf("%.3f", ours[row] / against) : "-"
				met = row in target ? (is_met(row) ? "met" : "NOT MET") : ""
				printf "%-27s %11d %11d %8s %7s  %-8s %s\n", row, stock[row],
					ours[row], ratio, target[row], met, to[row] ? "of " to[row] : ""
			}
		}' | sed 's/ *$//'
}

table() {
	printf '%-27s %11s %11s %8s %7s\n' "$1" unpatched patched ratio target
	compare "$2"
	echo
}

# heading: what was measured.
heading() {
	echo "Linux $(kernel_version "$tree"), $CONFIG configuration. Made by: make bench"
	echo "Series: $(git -C "$tree" log -1 --format='%h, %s'). Project: $(git -C "$top" rev-parse --short HEAD)"
}

# curves NAME TITLE UNIT AXIS FILE ROW...: rows that end in _NUMBER, over the number. A
# row is 0 where the kernel does not have the call.
curves() {
	local name=$1 title=$2 unit=$3 axis=$4 file=$5 row kernel plots=
	shift 5
	for row in "$@"; do
		for kernel in -unpatched ""; do
			sed -n "s/^${row}_\([0-9]*\)\t\([1-9]\)/\1\t\2/p" "$results/bench$kernel-$file.tsv" |
				sort -n >"$results/curve-$row$kernel"
			[ -s "$results/curve-$row$kernel" ] || continue
			plots="$plots${plots:+, }'$results/curve-$row$kernel' with linespoints title '$row, ${kernel:+un}patched'"
		done
	done
	# White, because a page that is dark would hide the axes.
	gnuplot <<-END
		set terminal svg size 800,500 noenhanced background rgb 'white'
		set output '$top/results/bench-$name.svg'
		set title '$title, Linux $BASE'
		set xlabel '$axis'
		set ylabel '$unit'
		set logscale xy
		set key outside bottom
		set grid
		plot $plots
	END
}

if [ "${1:-}" = measure ]; then
	measure
	sizes
	exit
fi

PACKAGES="gnuplot-nox:gnuplot dwarves:pahole" "$scripts/setup.sh"
if [ "${1:-}" != table ]; then
	# The benchmark is part of the series.
	"$scripts/tree.sh"
	UNPATCHED=1 "$0" measure
	"$0" measure
fi
{
	heading
	echo
	table "instructions, one CPU" counted
	table "nanoseconds, two CPUs" clocked
	table "bytes" sizes
} | tee "$results/bench.txt"
"$scripts/record.sh" bench "make bench" <"$results/bench.txt"
curves mappings "The cost of a key as the number of mappings grows" instructions \
	"mappings in the process" counted alloc_free cycle
curves threads "The cost of a broadcast as the number of other threads grows" instructions \
	"other threads" counted reissue_sleeping reissue_running set_rights_sleeping
