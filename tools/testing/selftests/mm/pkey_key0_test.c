// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of a thread that has closed key 0 on x86, which is the key of its stack and of
 * its registered rseq memory: it lives when it is preempted and when a signal comes,
 * although the kernel writes to both (F7, F6).
 *
 * The thread runs a loop that uses registers only, and memory with another key.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "../kselftest_harness.h"
#include "pkey_util.h"

/* How often the thread is preempted, and how many signals it gets. */
#define NR_PREEMPTIONS	20
#define NR_SIGNALS	20

/* The child attaches another key to this page. The page of signals keeps key 0. */
struct loop {
	unsigned int running;
	unsigned int stop;
};

static struct loop *loop;
static unsigned int *signals;

/*
 * Is rseq memory registered for this thread? If the C library has registered none, this
 * function does. The kernel writes the number of the processor to it after each preemption.
 */
static bool rseq_is_registered(void)
{
	static char area[32] __attribute__((aligned(32)));
	const unsigned int signature = 0x53053053;

	return !syscall(__NR_rseq, area, sizeof(area), 0, signature) || errno != ENOSYS;
}

/* Spin with @pkru until loop->stop is set. Return PKRU as it is after that. */
static uint32_t loop_with_pkru(uint32_t pkru)
{
	const uint32_t saved = rdpkru();
	uint32_t value = pkru, after;

	asm volatile(".byte 0x0f, 0x01, 0xef\n\t"
		     "movl $1, (%[running])\n"
		     "1:\n\t"
		     "cmpl $0, (%[stop])\n\t"
		     "je 1b\n\t"
		     ".byte 0x0f, 0x01, 0xee\n\t"
		     "movl %%eax, %[after]\n\t"
		     "movl %[saved], %%eax\n\t"
		     "xorl %%edx, %%edx\n\t"
		     ".byte 0x0f, 0x01, 0xef"
		     : "+a" (value), [after] "=&r" (after)
		     : "c" (0), "d" (0), [running] "r" (&loop->running),
		       [stop] "r" (&loop->stop), [saved] "r" (saved)
		     : "memory");
	return after;
}

static void count_signal(int sig)
{
	ADD(*signals, 1);
}

/* How often was a task preempted? */
static long preemptions(pid_t pid)
{
	char path[64], line[128];
	long nr = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "r");
	if (!file)
		return -1;

	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "nonvoluntary_ctxt_switches: %ld", &nr) == 1)
			break;
	fclose(file);
	return nr;
}

FIXTURE(key0)
{
	pid_t hog;
};

FIXTURE_VARIANT(key0)
{
	/* The rights to key 0 that the thread disables. */
	unsigned int rights;
};

FIXTURE_VARIANT_ADD(key0, open) { .rights = 0 };
FIXTURE_VARIANT_ADD(key0, access_disabled) { .rights = PKEY_DISABLE_ACCESS };
FIXTURE_VARIANT_ADD(key0, write_disabled) { .rights = PKEY_DISABLE_WRITE };
FIXTURE_VARIANT_ADD(key0, both_disabled) { .rights = PKEY_RIGHTS_MASK };

FIXTURE_SETUP(key0)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);
	if (!rseq_is_registered())
		SKIP(return, "needs rseq() (CONFIG_RSEQ)");

	loop = pkey_map_shared(pkey_page_size());
	signals = pkey_map_shared(pkey_page_size());
	ASSERT_TRUE(loop && signals);

	/* This process runs on the same processor all the time. */
	self->hog = fork();
	ASSERT_LE(0, self->hog);
	if (!self->hog) {
		while (pkey_stay_on(0) && getppid() != 1)
			;
		_exit(0);
	}
}

FIXTURE_TEARDOWN(key0)
{
	kill(self->hog, SIGKILL);
	pkey_wait_for(self->hog);
}

static void loop_in_child(struct __test_metadata *_metadata, unsigned int rights)
{
	const struct sigaction action = { .sa_handler = count_signal };
	uint32_t pkru;
	int pkey;

	pkey = sys_pkey_alloc(0, 0);
	ASSERT_LE(1, pkey);
	ASSERT_EQ(0, sys_pkey_mprotect(loop, pkey_page_size(), RW, pkey));
	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
	ASSERT_TRUE(pkey_stay_on(0));
	pkru = rdpkru() | rights;
	EXPECT_EQ(pkru, loop_with_pkru(pkru));
}

/* Wait until the child has begun. Return false if it has died. */
static bool wait_for_loop(pid_t pid)
{
	while (!LOAD(loop->running))
		if (pkey_task_state(pid) == 'Z')
			return false;
	return true;
}

/* Wait until the child has been preempted again, or has died. */
static void wait_for_preemption(pid_t pid)
{
	const long begin = preemptions(pid);

	while (pkey_task_state(pid) != 'Z' && preemptions(pid) <= begin)
		sched_yield();
}

/* F7: a thread that has closed key 0 lives when it is preempted. */
TEST_F(key0, preempted)
{
	pid_t pid;
	int i;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		loop_in_child(_metadata, variant->rights);
		pkey_child_end(_metadata);
	}
	if (wait_for_loop(pid))
		for (i = 0; i < NR_PREEMPTIONS; i++)
			wait_for_preemption(pid);
	STORE(loop->stop, 1);
	EXPECT_CHILD_PASSED(pid);
}

/* F7, F6: it lives when signals come, too, each of which is handled. */
TEST_F(key0, preempted_and_signalled)
{
	stack_t stack = { .ss_size = 16 * pkey_page_size() };
	unsigned int i;
	int pkey;
	pid_t pid;

	stack.ss_sp = pkey_map(16, RW);
	pkey = sys_pkey_alloc(0, 0);
	ASSERT_TRUE(!!stack.ss_sp);
	ASSERT_LE(1, pkey);
	ASSERT_EQ(0, sys_pkey_mprotect(stack.ss_sp, stack.ss_size, RW, pkey));
	if (!pkey_frames_open_keys(&stack, pkey))
		SKIP(return, NO_KEYED_FRAMES);

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		loop_in_child(_metadata, variant->rights);
		pkey_child_end(_metadata);
	}
	if (wait_for_loop(pid)) {
		for (i = 1; i <= NR_SIGNALS; i++) {
			wait_for_preemption(pid);
			kill(pid, SIGUSR1);
			while (LOAD(*signals) < i && pkey_task_state(pid) != 'Z')
				sched_yield();
		}
	}
	EXPECT_EQ(NR_SIGNALS, *signals);
	STORE(loop->stop, 1);
	EXPECT_CHILD_PASSED(pid);
}

TEST_HARNESS_MAIN
