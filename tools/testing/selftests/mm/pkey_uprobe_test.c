// SPDX-License-Identifier: GPL-2.0
/*
 * Test of uprobes and revoked rights on x86 (F4): a task that is preempted on its way to
 * user mode applies a revocation before the kernel emulates an instruction for it.
 *
 * The "caller" is a task that executes one call instruction on and on. A uprobe makes the
 * instruction a breakpoint. On the way to user mode the kernel emulates the instruction:
 * it stores the return address on the user stack. The "blocker" is a task on the same
 * processor that preempts the caller when it gets a real-time priority.
 *
 * The main thread lets the blocker preempt the caller until that happens between the
 * breakpoint and the store. Then the main thread re-issues a key, to which the caller has
 * rights, and attaches the key to the stack of the caller. When the caller goes on, the
 * kernel must not store anything there, and the caller gets SIGSEGV.
 */
#define _GNU_SOURCE
#include <linux/perf_event.h>
#include <stdlib.h>

#include "../kselftest_harness.h"
#include "pkey_prctl.h"
#include "pkey_util.h"

/* The key that the test re-issues. */
#define KEY		7

/* The processors of the main thread, and of the caller and the blocker. */
#define MAIN_CPU	0
#define OTHER_CPU	1

/* How often the caller is to be preempted before the store, and how often to try that. */
#define NR_ROUNDS	10
#define NR_TRIES	2000

/* What the new owner of the key stores on the stack. */
#define SENTINEL	0x5e7715e1

#define UPROBE_TYPE	"/sys/bus/event_source/devices/uprobe/type"

/* The call instruction. */
extern const char probed_call[];

/* The stack of the caller. It holds 0 from before the breakpoint until the store. */
static pkey_arg_t *word;

/* The caller and the blocker count the turns of their loops. */
static unsigned int calls, blocks;

/* The stack pointer has 32 bits because @word is below 4 GiB (MAP_32BIT). */
static __attribute__((noinline)) int call_endlessly(void *arg)
{
	pkey_die_with_parent();
	pkey_stay_on(OTHER_CPU);
	asm volatile("1:\n\t"
		     "movl %k[end], %%esp\n\t"
		     "mov %[zero], (%[word])\n\t"
		     "incl %[calls]\n"
		     "probed_call:\n\t"
		     "call 2f\n"
		     "2:\n\t"
		     "jmp 1b"
		     : [calls] "+m" (calls)
		     : [end] "r" (word + 1), [zero] "r" ((pkey_arg_t)0),
		       [word] "r" ((pkey_arg_t)(uintptr_t)word)
		     : "cc", "memory");
	return 1;
}

static int block_endlessly(void *arg)
{
	pkey_die_with_parent();
	pkey_stay_on(OTHER_CPU);
	for (;;)
		ADD(blocks, 1);
	return 1;
}

static bool set_policy(pid_t pid, int policy, int priority)
{
	const struct sched_param param = { .sched_priority = priority };

	return !sched_setscheduler(pid, policy, &param);
}

/* Put a uprobe on the call instruction in this address space. */
static bool uprobe_open(void)
{
	struct perf_event_attr attr = {
		.type = pkey_read_setting(UPROBE_TYPE),
		.size = sizeof(attr),
		.uprobe_path = (uintptr_t)"/proc/self/exe",
	};
	struct pkey_vma code;

	if (!pkey_find_vma(probed_call, &code))
		return false;

	attr.probe_offset = (uintptr_t)probed_call - code.start + code.offset;
	return (int)attr.type >= 0 &&
	       syscall(__NR_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC) >= 0;
}

/*
 * Did the task call schedule() in the loop on its way to user mode, after a breakpoint?
 * F4 does not cover a task that is preempted later, when the emulation has begun. Such a
 * task has another function in the first line of its kernel stack.
 */
static bool preempted_on_way_back(pid_t pid)
{
	char path[64], stack[4096], *rest;

	snprintf(path, sizeof(path), "/proc/%d/stack", pid);
	if (!pkey_read_file(path, stack, sizeof(stack)))
		return false;

	rest = strchr(stack, '\n');
	if (!rest)
		return false;

	*rest++ = '\0';
	return strstr(stack, "exit_to_user_mode") && strstr(rest, "exc_int3");
}

/* Preempt the caller between the breakpoint and the store. Return false without success. */
static bool catch_caller(pid_t caller, pid_t blocker, unsigned int *tries)
{
	while (++*tries <= NR_TRIES) {
		wait_for_progress(&calls);
		/* The caller is elsewhere in its loop in each try. */
		delay(*tries % 128);
		if (!set_policy(blocker, SCHED_FIFO, 1))
			return false;
		wait_for_progress(&blocks);
		if (!LOAD(*word) && preempted_on_way_back(caller))
			return true;
		set_policy(blocker, SCHED_IDLE, 0);
	}
	return false;
}

TEST(emulated_call_stores_nothing_with_revoked_rights)
{
	unsigned int tries = 0, caught = 0, stored = 0;
	const size_t size = pkey_page_size();
	pid_t caller, blocker;
	char text[16];
	int status;
	bool held;

	if (!pku_enabled())
		SKIP(return, NO_PKU);
	if (!pkey_stay_on(OTHER_CPU) || !pkey_stay_on(MAIN_CPU))
		SKIP(return, "needs two processors");
	if (!set_policy(0, SCHED_FIFO, 1) || !set_policy(0, SCHED_OTHER, 0))
		SKIP(return, "needs the right to use SCHED_FIFO");
	if (!pkey_read_file("/proc/self/stack", text, sizeof(text)))
		SKIP(return, "needs /proc/PID/stack (CONFIG_STACKTRACE) and the right to read it");
	if (!uprobe_open())
		SKIP(return, "needs uprobes (CONFIG_UPROBE_EVENTS) and the right to use them");

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	word = pkey_mmap(NULL, size, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1);
	ASSERT_TRUE(!!word);
	signal(SIGSEGV, SIG_DFL);
	blocker = pkey_clone(block_endlessly, NULL, CLONE_VM | SIGCHLD);
	ASSERT_LT(0, blocker);
	ASSERT_TRUE(set_policy(blocker, SCHED_IDLE, 0));

	while (caught < NR_ROUNDS) {
		caller = pkey_clone(call_endlessly, NULL, CLONE_VM | SIGCHLD);
		ASSERT_LT(0, caller);
		if (!catch_caller(caller, blocker, &tries)) {
			kill(caller, SIGKILL);
			pkey_wait_for(caller);
			break;
		}

		ASSERT_TRUE(pkey_reissue(KEY));
		ASSERT_EQ(0, sys_pkey_mprotect(word, size, RW, KEY));
		STORE(*word, SENTINEL);
		/* The scheduler takes the processor from a real-time task after a second. */
		held = preempted_on_way_back(caller);
		ASSERT_TRUE(set_policy(blocker, SCHED_IDLE, 0));
		status = pkey_wait_for(caller);
		EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
		caught += held;
		stored += held && LOAD(*word) != SENTINEL;
		ASSERT_EQ(0, sys_pkey_mprotect(word, size, RW, 0));
	}
	kill(blocker, SIGKILL);
	pkey_wait_for(blocker);
	TH_LOG("preempted between breakpoint and store %u times in %u tries", caught, tries);
	EXPECT_EQ(0, stored);
	if (!caught)
		SKIP(return, "the race did not happen: no preemption between breakpoint and store");
}

TEST_HARNESS_MAIN
