#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# boot.sh shell | NAME CPUS PROCESSOR PROGRAMS [COMMAND LINE...]: boot the kernel that
# BASE, CONFIG and UNPATCHED name. What happened is in $work/results/NAME. The words for
# PROCESSOR and PROGRAMS are explained in scripts/boots; PLAN, lines with a program and
# its arguments, stands for PROGRAMS. ARCHIVE=file is appended to the initramfs.
# SHARE=directory can be mounted in the guest (9p, tag "share"), read-only; with "shell"
# it is /share, and GDB=1 lets QEMU wait for gdb.
. "$(dirname "$0")/lib.sh"

name=$1
: "${PLAN:=}" "${ICOUNT:=}" "${IMAGE:=$image}" "${GDB:=}" "${SHARE:=}" "${ARCHIVE:=}"
cpus=${2:-2} processor=${3:-pku} programs=${4:-64}
shift $(($# < 4 ? $# : 4))
root=$work/root${UNPATCHED:+-unpatched}
results=$work/results/$name
log=$results/console.log
# Seconds for a program and for a boot: KASAN on an emulated processor is slow.
limit=${TEST_LIMIT:-600} boot_limit=${BOOT_LIMIT:-1800}
splat='WARNING:|BUG:|KASAN|UBSAN|Kernel panic|Oops|possible circular locking|possible recursive locking|suspicious RCU|INFO: task .* blocked|Call Trace:'

has_option() { grep -qx "$1=y" "$obj/.config"; }

# accelerator: choose KVM if it has protection keys and works, otherwise QEMU's emulation.
# KVM may be there and not work: such a guest hangs at its first instruction.
accelerator() {
	if ! grep -qw pku /proc/cpuinfo; then
		why="this machine's processor has no protection keys"
	elif [ ! -w /dev/kvm ]; then
		why="/dev/kvm cannot be used"
	elif ! kvm_works; then
		why="a trial boot with KVM failed"
	else
		qemu=(-accel kvm) cpu=host
		say "    KVM, -cpu host: the processor has protection keys and KVM works"
		return
	fi
	qemu=(-accel "tcg,thread=multi") cpu=max
	say "    TCG, -cpu max: $why"
}

# kvm_works: boot once with KVM, and keep the result until the machine is rebooted.
kvm_works() {
	local trial
	trial=$BUILD/kvm-trial-$(cat /proc/sys/kernel/random/boot_id)
	[ -f "$trial" ] || timeout --foreground 20 qemu-system-x86_64 -accel kvm -cpu host -m 256M -nodefaults \
		-display none -serial "file:$trial" -no-reboot -kernel "$IMAGE" \
		-append "console=ttyS0 panic=-1" >/dev/null 2>&1 </dev/null || true
	grep -q "Linux version" "$trial"
}

if [ -n "$ICOUNT" ]; then
	# Each instruction takes a nanosecond of the guest's clock.
	qemu=(-accel tcg -icount shift=0) cpu=max
else
	accelerator
fi
case $processor in
pku) ;;
nopku) cpu=$cpu,-pku ;;
noxsave) cpu=$cpu,-xsave ;;
*) die "unknown processor $processor: use pku, nopku or noxsave" ;;
esac
# no_timer_check: on a busy host the emulated timer looks broken for a moment.
append="console=ttyS0 panic=-1 oops=panic panic_on_warn=1 no_timer_check $*"
# Without ACPI a kernel finds one processor in each socket.
smp=$cpus
has_option CONFIG_ACPI || smp=$cpus,sockets=$cpus
qemu+=(-cpu "$cpu" -smp "$smp" -m 2G -nodefaults -display none -no-reboot -kernel "$IMAGE")

# foreign: print the programs that we did not write. The seed is kept with the results.
foreign() {
	local seed=${SEED:-$RANDOM}
	echo "stress-ng --pkey 4 --verify --timeout 60 --seed $seed"
	printf 'trinity --dropprivs -q -C 4 -N 100000 -s %s' "$seed"
	printf ' -c %s' madvise mincore mlock mmap mprotect mremap msync munlock munmap \
		pkey_alloc pkey_free pkey_mprotect remap_file_pages
	echo
}

if [ -n "$SHARE" ]; then
	has_option CONFIG_NET_9P_VIRTIO || die "the kernel $CONFIG has no 9p for SHARE=: try CONFIG=default"
	[ -d "$SHARE" ] || die "SHARE=$SHARE is not a directory"
	access=readonly=on
	[ "$name" != shell ] || access=readonly=off
	# A comma ends an option of QEMU's, two are one in the path.
	qemu+=(-virtfs "local,path=$(realpath "$SHARE" | sed 's/,/,,/g'),mount_tag=share,security_model=none,$access,id=share")
fi

if [ "$name" = shell ]; then
	qemu+=(-initrd "$root.cpio.gz")
	if [ -n "$GDB" ]; then
		qemu+=(-s -S)
		append="$append nokaslr"
		say "    QEMU waits for gdb. Run gdb $obj/vmlinux -ex 'target remote :1234', then: continue"
		has_option CONFIG_DEBUG_INFO ||
			say "    for source lines add CONFIG_DEBUG_INFO_DWARF5=y to configs/$CONFIG.config"
	fi
	exec qemu-system-x86_64 "${qemu[@]}" -serial mon:stdio \
		-append "$append quiet harness=shell${SHARE:+ harness_share}"
fi

{ rm -rf "$results" && mkdir -p "$results"; } 2>/dev/null ||
	die "cannot write to $results: set BUILD= to a directory of yours"

# Programs that are no tests of ours come in an archive of their own.
initrd=$root.cpio.gz
case $programs in
foreign|vmtests)
	if [ "$programs" = vmtests ] && ! "$scripts/vmtests.sh"; then
		echo "the selftests cannot be built or installed" >"$results/failure"
		exit
	fi
	initrd=$work/root-with-$programs.cpio.gz
	cat "$root.cpio.gz" "$work/root-$programs.cpio.gz" >"$initrd"
	;;
esac
if [ -n "$ARCHIVE" ]; then
	cat "$initrd" "$ARCHIVE" >"$results/initrd"
	initrd=$results/initrd
fi
# The limit of a program is that of the boot, where one program runs all.
[ "$programs" != vmtests ] || limit=$boot_limit

echo "BASE=$BASE CONFIG=$CONFIG UNPATCHED=$UNPATCHED -smp $smp -cpu $cpu $append" >"$results/boot"

# tests: print all test programs of these ABIs and of none, and KUnit's suite.
tests() {
	local abis=${programs%%:*} only=${programs#*:}
	[ "$only" != "$programs" ] || only='.*'
	[ "$only" != nokeys ] ||
		only='pkey_(alloc|header|mprotect|nohw|rights)_test|protection_keys|pkey_sighandler_tests|kunit_'
	{
		test_programs | awk -v abis="$abis" \
			'!match($0, /_(64|32|x32)$/) || index("," abis ",", "," substr($0, RSTART + 1) ",")'
		! has_option CONFIG_PKEY_MAP_KUNIT_TEST || echo kunit_pkey_map
	} | { has_option CONFIG_KVM && cat || grep -v ^pkey_kvm_test; } | grep -E "^($only)" ||
		die "no test of $work/root matches $programs"
}

# The guest runs what is planned. A planned program that leaves no result is a failure.
if [ -n "$PLAN" ]; then
	echo "$PLAN"
elif [ "$programs" = vmtests ]; then
	echo vmtests
elif [ "$programs" = foreign ]; then
	foreign
else
	tests
fi | sed "s/^pkey_torture_test[^ ]*$/& -t ${TORTURE:-10}/" >"$results/planned"
# kmemleak comes last, because it looks at what the others leave behind.
if [ -z "$PLAN" ] && has_option CONFIG_DEBUG_KMEMLEAK && [[ " $* " != *" kmemleak=off "* ]]; then
	echo kmemleak >>"$results/planned"
fi

# A kernel without 9p has the plan in its initramfs, and sends its results through the
# second serial port.
channel=(-virtfs "local,path=$results,mount_tag=results,security_model=none,id=results")
archives=$results/archives
if ! has_option CONFIG_NET_9P_VIRTIO; then
	{
		cat "$initrd"
		(cd "$results" && echo planned | cpio -o -H newc -R 0:0 --quiet) | gzip -1
	} >"$results/initrd-with-plan"
	initrd=$results/initrd-with-plan
	channel=(-serial "file:$archives")
fi

# QEMU runs in the background, so that a signal ends this script, and the trap ends QEMU.
failure=
timeout "$boot_limit" qemu-system-x86_64 "${qemu[@]}" -initrd "$initrd" -serial "file:$log" "${channel[@]}" \
	-append "$append harness_limit=$limit" >"$results/qemu.log" 2>&1 </dev/null &
trap 'kill $! 2>/dev/null || true' EXIT
wait $! || {
	status=$?
	failure="QEMU ended with status $status: $(tail -n 1 "$results/qemu.log")"
	[ "$status" != 124 ] || failure="QEMU did not end within $boot_limit s"
}

# The last archive is cut off if the kernel died.
if [ -f "$archives" ]; then
	{ zcat "$archives" | tar -x -i -C "$results"; } 2>/dev/null || true
	rm -f "$archives" "$initrd"
fi

if [ -z "$failure" ] && [ ! -f "$results/done" ]; then
	failure="the guest left no result"
fi
# Tests of races must not pass on fewer processors.
if [ -z "$failure" ] && ! grep -qE "smp: Brought up .*, $cpus CPUs?" "$log"; then
	failure="the guest does not have $cpus processors"
fi
if grep -qE "$splat" "$log" 2>/dev/null; then
	failure="the kernel complained: $(grep -m 1 -E "$splat" "$log" | tr -d '\r')"
fi
if [ -n "$failure" ]; then
	echo "$failure" >"$results/failure"
	say "    boot $name FAILED: $failure"
	tail -n 40 "$log" >&2 || true
	say "    the whole log is in $log"
fi
