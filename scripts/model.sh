#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# model.sh [DIRECTORY]: search the models of models/ exhaustively with Spin. Then leave
# out each guard that the head of a model names: the search must find a violation; its
# interleaving is in the log. BOUNDS=large has larger bounds. The result is TAP, and
# DIRECTORY/model.txt has states, depth and times; without DIRECTORY results/model.txt has
# them too. SPIN_MEMORY, in megabytes: the most that a search may use.
. "$(dirname "$0")/lib.sh"
. "$scripts/tap.sh"

: "${BOUNDS:=small}" "${SPIN_MEMORY:=4000}"
case $BOUNDS in
small) bounds='' ;;
large) bounds=-DLARGE ;;
*) die "BOUNDS=$BOUNDS is neither small nor large" ;;
esac

guards() { sed -n 's/^ \* \(NO_[A-Z_]*\)\t.*/\1/p' "$1"; }
meaning() { sed -n "s/^ \* $2\t\t*//p" "$1"; }

# generate MODEL DIRECTORY GCC-OPTIONS SPIN-OPTION...: a program that searches.
generate() {
	local model=$1 dir=$2 options=$3
	shift 3
	mkdir -p "$dir"
	# shellcheck disable=SC2086
	(cd "$dir" && spin -a "$@" "$model" && gcc $options -w -DSAFETY -DCOLLAPSE \
		-DNOFAIR -DMEMLIM="$SPIN_MEMORY" -o pan pan.c)
}

# summary TEXT LOG
summary() {
	local states depth
	states=$(awk '/states, stored$/ { printf "%d", $1 }' "$2")
	depth=$(sed -n 's/^State-vector.*depth reached \([0-9]*\),.*/\1/p' "$2")
	printf '%-46s %10s states, depth %7s, %s\n' "$1" "${states:-?}" "${depth:-?}" "$3"
}

# holds MODEL: no violation, nothing cut off, and every statement is reached.
holds() {
	local model=$1 name dir log start=$SECONDS
	name=$(basename "$model" .pml)
	dir=$out/$name log=$out/$name/pan.log
	# shellcheck disable=SC2086
	generate "$model" "$dir" -O2 $bounds || return 1
	(cd "$dir" && ./pan -w24 -m1000000) >"$log" 2>&1
	cat "$log"
	summary "$name" "$log" "no violation, $((SECONDS - start)) s" >"$dir/summary"
	if ! grep -q 'errors: 0$' "$log"; then
		# shellcheck disable=SC2086
		interleaving "$model" "$dir" $bounds
		return 1
	fi
	! grep -E 'max search depth too small|out of memory|Search not completed' "$log" &&
		! grep -E '^	.*state [0-9]+, ' "$log" | grep -v -- '-end-'
}

# interleaving MODEL DIRECTORY OPTION...: of the violation that was found, as a table
# with a column for each process.
interleaving() {
	local model=$1 dir=$2
	shift 2
	(cd "$dir" && spin -t "$@" -k ./*.trail "$model")
}

# violated MODEL GUARD: for a short interleaving the search goes to small depths first,
# then breadth first (there partial order reduction can miss violations).
violated() {
	local model=$1 guard=$2 name dir log depth start=$SECONDS
	name=$(basename "$model" .pml)
	dir=$out/$name-$guard log=$out/$name-$guard/pan.log
	generate "$model" "$dir" -O0 "-D$guard" || return 1
	for depth in 70 100 140 breadth; do
		if [ "$depth" = breadth ]; then
			generate "$model" "$dir" "-O1 -DBFS -DNOREDUCE" "-D$guard" || return 1
			depth=1000000
		fi
		(cd "$dir" && ./pan -w22 -m"$depth") >"$log" 2>&1
		! grep -q 'errors: 1$' "$log" || break
	done
	cat "$log"
	grep -q 'errors: 1$' "$log" || { echo "the search finds no violation without $guard"; return 1; }
	interleaving "$model" "$dir" "-D$guard" >"$dir/interleaving"
	cat "$dir/interleaving"
	summary "$name, $guard" "$log" "$(grep -c '' < <(sed '/^spin:/q' "$dir/interleaving")) steps shown, $((SECONDS - start)) s" >"$dir/summary"
}

tap_begin model "${1:-$work/results/model}"
PACKAGES="spin:spin" "$scripts/setup.sh"
for model in "$top"/models/*.pml; do
	name=$(basename "$model" .pml)
	check "$name holds, $BOUNDS bounds" holds "$model"
	for guard in $(guards "$model"); do
		check "$name, $guard: $(meaning "$model" "$guard")" violated "$model" "$guard"
	done
done
{
	echo "Spin $(spin -V | sed 's/^Spin Version \([0-9.]*\).*/\1/'), $BOUNDS bounds."
	echo
	for model in "$top"/models/*.pml; do
		name=$(basename "$model" .pml)
		cat "$out/$name/summary" "$out/$name"-NO_*/summary 2>/dev/null || true
	done
} >"$out/model.txt"
cat "$out/model.txt" >&2
[ -n "${1:-}" ] || "$scripts/record.sh" model "make model" "$BOUNDS bounds" <"$out/model.txt"
tap_end
