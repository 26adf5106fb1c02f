// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of protection keys and restartable sequences on x86 (F7): a task that changes
 * its rights in an rseq critical section does not undo what another task does to
 * its rights between RDPKRU and WRPKRU; and a task that has closed key 0 lives.
 *
 * The "target" is a task that spins between RDPKRU and WRPKRU, where it changes its
 * rights to one key. Meanwhile the main thread changes the rights of all tasks to
 * another key. Then it lets the target go on.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>

#include "../kselftest_harness.h"
#include "pkey_prctl.h"
#include "pkey_rseq.h"

/* The key whose rights the main thread changes, and that of the target. */
#define KEY		7
#define TARGET_KEY	9

/* Rounds of the first variant of each kind, and of the others. */
#define NR_ROUNDS	200
#define FEW_ROUNDS	25

#define NO_RSEQ		"needs rseq() (CONFIG_RSEQ)"

struct target {
	/* A process that shares memory, instead of a thread. */
	bool process;
	/* With a critical section or without. */
	bool in_section;
	/* It has left a section and not cleared its address. */
	bool after_section;
	/* It runs on the processor of the main thread: it is always preempted. */
	bool same_cpu;

	pthread_t thread;
	pid_t pid;
	/* Unused in threads that the C library has registered. */
	struct pkey_rseq area;
	struct pkey_rseq *rseq;
	int error;

	/* It has round @go to do, and has done round @done. */
	unsigned int go;
	unsigned int done;
	bool stop;
	/* PKRU to begin with, and what it changes. */
	uint32_t pkru;
	struct pkey_window window;

	/* Its results: PKRU at the end, and without a section just before WRPKRU. */
	uint32_t seen;
	uint32_t inside;
	unsigned int aborts;
};

static int target_register(struct target *target)
{
	if (!target->process)
		target->rseq = pkey_rseq_of_thread();
	if (target->rseq)
		return 0;

	target->rseq = &target->area;
	return pkey_rseq_register(target->rseq);
}

/* A section that nobody disturbs, whose address stays. */
static void target_leave_section(struct target *target)
{
	struct pkey_window window = { .keep = ~0u, .release = 1 };

	while (!pkey_rseq_change(target->rseq, &window))
		target->aborts++;
	target->aborts = 0;
}

static void target_round(struct target *target)
{
	if (target->after_section)
		target_leave_section(target);
	wrpkru(target->pkru);
	if (target->in_section) {
		while (!pkey_rseq_change(target->rseq, &target->window))
			target->aborts++;
		target->rseq->rseq_cs = 0;
	} else {
		target->inside = pkey_plain_change(&target->window);
	}
	target->seen = rdpkru();
}

static int target_run(void *arg)
{
	struct target *target = arg;
	unsigned int round = 0;

	if (target->process)
		pkey_die_with_parent();
	target->error = target_register(target);
	if (target->same_cpu)
		pkey_stay_on(0);
	for (;;) {
		pkey_wait_while(&target->go, round);
		if (LOAD(target->stop))
			return 0;
		target_round(target);
		pkey_set_and_wake(&target->done, ++round);
	}
}

static void *target_thread(void *arg)
{
	target_run(arg);
	return NULL;
}

static bool target_start(struct target *target)
{
	if (target->same_cpu)
		pkey_stay_on(0);
	if (!target->process)
		return !pthread_create(&target->thread, NULL, target_thread, target);

	target->pid = pkey_clone(target_run, target, CLONE_VM | SIGCHLD);
	return target->pid > 0;
}

/* Start a round; return false if the target cannot be registered for rseq. */
static bool target_enter(struct target *target, unsigned int round, uint32_t pkru,
			 unsigned int rights)
{
	target->pkru = pkru;
	target->window = (struct pkey_window){
		.keep = ~((uint32_t)PKEY_RIGHTS_MASK << 2 * TARGET_KEY),
		.set = rights << 2 * TARGET_KEY,
	};
	pkey_set_and_wake(&target->go, round);
	while (!LOAD(target->window.entered))
		if (target->error)
			return false;
	return true;
}

/* Let the target go on, and wait for the end of the round. */
static void target_leave(struct target *target, unsigned int round)
{
	STORE(target->window.release, 1);
	pkey_wait_while(&target->done, round - 1);
}

static bool target_end(struct target *target)
{
	STORE(target->stop, true);
	pkey_set_and_wake(&target->go, ~0u);
	if (target->process)
		return !pkey_wait_for(target->pid);
	return !pthread_join(target->thread, NULL);
}

/* How the main thread changes the rights of all tasks to KEY. */
enum change {
	REISSUE,
	SET,
	ALLOC_IN_SCOPE_PROCESS,
};

static bool change_rights(enum change change, unsigned int rights)
{
	switch (change) {
	case REISSUE:
		return pkey_reissue(KEY);
	case SET:
		return !pkey_set_rights_everywhere(KEY, rights);
	case ALLOC_IN_SCOPE_PROCESS:
		return pkey_reissue_with_rights(KEY, rights);
	}
	return false;
}

/* May a task have @pkru after the change, if it had @before and changed nothing? */
static bool change_is_seen(enum change change, unsigned int rights, uint32_t before,
			   uint32_t pkru)
{
	if (change == REISSUE)
		return pkru_only_revoked(before, KEY, pkru);
	return pkru == pkru_with_rights(before, KEY, rights);
}

FIXTURE(window)
{
	struct target *target;
};

FIXTURE_VARIANT(window)
{
	enum change change;
	bool process;
	bool same_cpu;
	/* Signals come all the time, to all threads. */
	bool signals;
	unsigned int rounds;
};

FIXTURE_VARIANT_ADD(window, reissue) {
	.change = REISSUE,
	.rounds = NR_ROUNDS,
};

FIXTURE_VARIANT_ADD(window, reissue_beside_process) {
	.change = REISSUE,
	.process = true,
	.rounds = FEW_ROUNDS,
};

FIXTURE_VARIANT_ADD(window, reissue_on_one_cpu) {
	.change = REISSUE,
	.same_cpu = true,
	.rounds = FEW_ROUNDS,
};

FIXTURE_VARIANT_ADD(window, reissue_and_signals) {
	.change = REISSUE,
	.signals = true,
	.rounds = FEW_ROUNDS,
};

FIXTURE_VARIANT_ADD(window, set_rights) {
	.change = SET,
	.rounds = NR_ROUNDS,
};

FIXTURE_VARIANT_ADD(window, set_rights_beside_process) {
	.change = SET,
	.process = true,
	.rounds = FEW_ROUNDS,
};

FIXTURE_VARIANT_ADD(window, set_rights_on_one_cpu) {
	.change = SET,
	.same_cpu = true,
	.rounds = FEW_ROUNDS,
};

FIXTURE_VARIANT_ADD(window, set_rights_and_signals) {
	.change = SET,
	.signals = true,
	.rounds = FEW_ROUNDS,
};

FIXTURE_VARIANT_ADD(window, alloc_in_scope_process) {
	.change = ALLOC_IN_SCOPE_PROCESS,
	.rounds = FEW_ROUNDS,
};

FIXTURE_SETUP(window)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	if (variant->change == ALLOC_IN_SCOPE_PROCESS)
		ASSERT_EQ(0, pkey_set_scope(PR_PKEY_SCOPE_PROCESS));
	self->target = pkey_mmap(NULL, sizeof(*self->target), RW,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1);
	ASSERT_TRUE(!!self->target);
	self->target->process = variant->process;
	self->target->same_cpu = variant->same_cpu;
}

FIXTURE_TEARDOWN(window)
{
}

static struct {
	pthread_t thread;
	bool stop;
	unsigned int handled;
} storm;

static void count_signal(int sig)
{
	ADD(storm.handled, 1);
}

/* Each signal is sent to the process: any one of its threads handles it. */
static void *send_signals(void *arg)
{
	while (!LOAD(storm.stop)) {
		kill(getpid(), SIGUSR1);
		sched_yield();
	}
	return NULL;
}

static bool storm_start(void)
{
	return signal(SIGUSR1, count_signal) != SIG_ERR &&
	       !pthread_create(&storm.thread, NULL, send_signals, NULL);
}

static bool storm_end(void)
{
	STORE(storm.stop, true);
	return !pthread_join(storm.thread, NULL) && storm.handled;
}

/* The rights to KEY to begin with, which are not those that the change gives. */
static uint32_t round_pkru(unsigned int round, enum change change)
{
	const uint32_t pattern = pkru_patterns[round % ARRAY_SIZE(pkru_patterns)];

	if (change == REISSUE)
		return pkru_without(pattern, KEY);
	return pkru_with_rights(pattern, KEY, ~round % 4);
}

/*
 * F7: with a section no old rights come back, and none that were given are lost. The
 * target's own change is made, and no other bit is touched.
 */
TEST_F(window, no_old_rights_with_section)
{
	struct target *target = self->target;
	unsigned int round, rights;
	int wrong = 0;
	uint32_t pkru;

	target->in_section = true;
	if (variant->signals)
		ASSERT_TRUE(storm_start());
	ASSERT_TRUE(target_start(target));
	for (round = 1; round <= variant->rounds; round++) {
		rights = round / 4 % 4;
		pkru = round_pkru(round, variant->change);
		if (!target_enter(target, round, pkru, rights))
			SKIP(return, NO_RSEQ);
		ASSERT_TRUE(change_rights(variant->change, round % 4));
		target_leave(target, round);
		pkru = pkru_with_rights(pkru, TARGET_KEY, rights);
		if (!change_is_seen(variant->change, round % 4, pkru, target->seen)) {
			if (!wrong++)
				TH_LOG("round %u: PKRU would be %08x, is %08x", round, pkru,
				       target->seen);
		}
	}
	ASSERT_TRUE(target_end(target));
	if (variant->signals)
		EXPECT_TRUE(storm_end());
	EXPECT_EQ(0, wrong);
	/* At least once in each round the window was open when the rights changed. */
	EXPECT_LE(variant->rounds, target->aborts);
}

/*
 * Without a section the rights change while the target spins, and its WRPKRU undoes
 * that each time. So the window of this test is there.
 */
TEST_F(window, old_rights_come_back_without_section)
{
	struct target *target = self->target;
	unsigned int round, taken = 0, back = 0;
	uint32_t pkru;

	if (variant->signals)
		ASSERT_TRUE(storm_start());
	ASSERT_TRUE(target_start(target));
	for (round = 1; round <= variant->rounds; round++) {
		pkru = round_pkru(round, variant->change);
		if (!target_enter(target, round, pkru, 0))
			SKIP(return, NO_RSEQ);
		ASSERT_TRUE(change_rights(variant->change, round % 4));
		target_leave(target, round);
		if (change_is_seen(variant->change, round % 4, pkru, target->inside))
			taken++;
		if (target->seen == pkru_without(pkru, TARGET_KEY))
			back++;
	}
	ASSERT_TRUE(target_end(target));
	if (variant->signals)
		EXPECT_TRUE(storm_end());
	EXPECT_EQ(variant->rounds, taken);
	EXPECT_EQ(variant->rounds, back);
}

/* F7: a task that is registered, and in no section, goes on where it was. */
TEST_F(window, task_after_section_is_not_disturbed)
{
	struct target *target = self->target;
	unsigned int round;
	uint32_t pkru;

	target->after_section = true;
	ASSERT_TRUE(target_start(target));
	for (round = 1; round <= FEW_ROUNDS; round++) {
		pkru = round_pkru(round, variant->change);
		if (!target_enter(target, round, pkru, 0))
			SKIP(return, NO_RSEQ);
		ASSERT_TRUE(change_rights(variant->change, round % 4));
		target_leave(target, round);
		EXPECT_TRUE(change_is_seen(variant->change, round % 4, pkru, target->inside));
	}
	ASSERT_TRUE(target_end(target));
	EXPECT_EQ(0, target->aborts);
}

/* F7: one change aborts the sections of many targets. */
TEST(many_targets_in_sections)
{
	enum { NR = 8 };
	static struct target targets[NR];
	int i, round, wrong = 0;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	for (i = 0; i < NR; i++) {
		targets[i].in_section = true;
		targets[i].process = i & 1;
		ASSERT_TRUE(target_start(&targets[i]));
	}
	for (round = 1; round <= 10; round++) {
		for (i = 0; i < NR; i++)
			if (!target_enter(&targets[i], round, 0x0f0f0f0c & ~(3u << 2 * KEY), 0))
				SKIP(return, NO_RSEQ);
		ASSERT_TRUE(pkey_reissue(KEY));
		for (i = 0; i < NR; i++) {
			target_leave(&targets[i], round);
			wrong += !pkru_denies(targets[i].seen, KEY);
		}
	}
	for (i = 0; i < NR; i++)
		ASSERT_TRUE(target_end(&targets[i]));
	EXPECT_EQ(0, wrong);
}

/*
 * Key 0 closed (F7)
 *
 * A task closes key 0 and spins, without its stack, on a page with another key. The
 * main thread, on the same processor, sees that, so it has preempted the task. Before
 * the task goes on, the kernel writes its rseq memory, which has key 0.
 */
#define NR_PREEMPTIONS	20

struct page {
	unsigned int ready;
	unsigned int go;
};

/* Spin with PKRU @closed, then set it to @open. */
static void spin_with_key_0_closed(struct page *page, uint32_t closed, uint32_t open)
{
	asm volatile(PKEY_WRPKRU
		     "movl $1, (%[page])\n"
		     "1:\n\t"
		     "pause\n\t"
		     "cmpl $0, 4(%[page])\n\t"
		     "je 1b\n\t"
		     "movl %[open], %%eax\n\t"
		     PKEY_WRPKRU
		     : "+a" (closed) : [page] "D" (page), [open] "S" (open)
		     : "ecx", "edx", "cc", "memory");
}

/* Do the same in a critical section. Return true if it was aborted. */
static bool section_with_key_0_closed(struct pkey_rseq *rseq, struct page *page,
				      uint32_t closed, uint32_t open)
{
	asm goto(PKEY_RSEQ_CS
		 PKEY_RSEQ_ENTER("%[rseq]")
		 "1:\n\t"
		 PKEY_WRPKRU
		 "movl $1, (%[page])\n"
		 "5:\n\t"
		 "pause\n\t"
		 "cmpl $0, 4(%[page])\n\t"
		 "je 5b\n\t"
		 "movl %[open], %%eax\n\t"
		 PKEY_WRPKRU
		 "2:\n\t"
		 PKEY_RSEQ_ABORT("movl %[open], %%eax\n\t"
				 PKEY_WRPKRU
				 "jmp %l[aborted]\n\t")
		 : : "a" (closed), [rseq] "b" (rseq), [page] "D" (page), [open] "S" (open)
		 : "ecx", "edx", "cc", "memory" : aborted);
	return false;

aborted:
	return true;
}

struct closer {
	struct page *page;
	bool in_section;
	/* The area has this key instead, and the task closes it. */
	int area_key;
	/* The bits that close a key. */
	int rights;
	struct pkey_rseq *area;
	int aborts;
	uint32_t after;
};

static int closer_run(void *arg)
{
	struct closer *closer = arg;
	struct pkey_rseq *rseq = closer->area;
	uint32_t open = rdpkru(), closed;
	int i;

	pkey_die_with_parent();
	pkey_stay_on(0);
	if (pkey_rseq_register(rseq))
		return 2;

	/* Only KEY is open, or all but that of the area. */
	closed = closer->rights * 0x55555555 & ~(PKEY_RIGHTS_MASK << 2 * KEY);
	if (closer->area_key)
		closed = closer->rights << 2 * closer->area_key;
	for (i = 1; i <= NR_PREEMPTIONS; i++) {
		if (closer->in_section)
			closer->aborts += section_with_key_0_closed(rseq, closer->page, closed,
								    open);
		else
			spin_with_key_0_closed(closer->page, closed, open);
		/* The main thread waits for this one, which ends the round. */
		pkey_wait_while(&closer->page->ready, 1);
	}
	closer->after = rdpkru();
	return 0;
}

static bool closer_state_ends(pid_t pid)
{
	const char state = pkey_task_state(pid);

	return state == 'Z' || state == '?' || state == 'X';
}

/* Let the task run and preempt it, until it ends; return its status. */
static int preempt_closer(struct closer *closer)
{
	pid_t pid;

	pkey_stay_on(0);
	pid = pkey_clone(closer_run, closer, CLONE_VM | SIGCHLD);
	while (pid > 0 && !closer_state_ends(pid)) {
		if (!LOAD(closer->page->ready)) {
			sched_yield();
			continue;
		}
		STORE(closer->page->go, 1);
		/* It is at the end of the round when it sleeps. */
		while (pkey_task_state(pid) != 'S' && !closer_state_ends(pid))
			sched_yield();
		STORE(closer->page->go, 0);
		pkey_set_and_wake(&closer->page->ready, 0);
	}
	return pkey_wait_for(pid);
}

FIXTURE(key_0)
{
	struct closer closer;
};

FIXTURE_VARIANT(key_0)
{
	int rights;
};

FIXTURE_VARIANT_ADD(key_0, no_access) { .rights = PKEY_RIGHTS_MASK };
FIXTURE_VARIANT_ADD(key_0, no_write) { .rights = PKEY_DISABLE_WRITE };

FIXTURE_SETUP(key_0)
{
	const size_t size = pkey_page_size();

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	wrpkru(0);
	self->closer.rights = variant->rights;
	self->closer.page = pkey_map(1, RW);
	self->closer.area = pkey_map(1, RW);
	ASSERT_TRUE(self->closer.page && self->closer.area);
	ASSERT_EQ(0, sys_pkey_mprotect(self->closer.page, size, RW, KEY));
}

FIXTURE_TEARDOWN(key_0)
{
}

#define CLOSER_STATUS_NO_RSEQ	(2 << 8)

TEST_F(key_0, preempted_task_lives)
{
	int status = preempt_closer(&self->closer);

	if (status == CLOSER_STATUS_NO_RSEQ)
		SKIP(return, NO_RSEQ);
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, self->closer.after);
}

/* F7: the abort handler is reached, with the rights that the section has set. */
TEST_F(key_0, preempted_section_is_aborted)
{
	int status;

	self->closer.in_section = true;
	status = preempt_closer(&self->closer);
	if (status == CLOSER_STATUS_NO_RSEQ)
		SKIP(return, NO_RSEQ);
	EXPECT_EQ(0, status);
	EXPECT_EQ(NR_PREEMPTIONS, self->closer.aborts);
	EXPECT_EQ(0, self->closer.after);
}

/* F7: the kernel opens key 0, and no other key. */
TEST_F(key_0, area_with_another_key_stays_closed)
{
	int status;

	ASSERT_EQ(0, sys_pkey_mprotect(self->closer.area, pkey_page_size(), RW, TARGET_KEY));
	self->closer.area_key = TARGET_KEY;
	status = preempt_closer(&self->closer);
	if (status == CLOSER_STATUS_NO_RSEQ)
		SKIP(return, NO_RSEQ);
	ASSERT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGSEGV, WTERMSIG(status));
}

/* Do pkey_rseq_register() with PKRU @closed, without the stack; then set PKRU to @open. */
static int register_with_pkru(struct pkey_rseq *rseq, uint32_t closed, uint32_t open)
{
	pkey_arg_t value = (uintptr_t)rseq;

	memset(rseq, 0, sizeof(*rseq));
#ifdef __x86_64__
	asm volatile(PKEY_WRPKRU
		     "movl %[nr], %%eax\n\t"
		     "movl %[size], %%esi\n\t"
		     "movl %[sig], %%r10d\n\t"
		     "syscall\n\t"
		     "movl %%eax, %%edi\n\t"
		     "movl %[open], %%eax\n\t"
		     PKEY_WRPKRU
		     : "+a" (closed), "+D" (value)
		     : [nr] "i" (__NR_rseq), [size] "i" (sizeof(*rseq)),
		       [sig] "i" (PKEY_RSEQ_SIG), [open] "r" (open)
		     : "rcx", "rdx", "rsi", "r10", "r11", "cc", "memory");
#else
	asm volatile(PKEY_WRPKRU
		     "movl %[nr], %%eax\n\t"
		     "movl %[size], %%ecx\n\t"
		     "movl %[sig], %%esi\n\t"
		     "int $0x80\n\t"
		     "movl %%eax, %%ebx\n\t"
		     "movl %[open], %%eax\n\t"
		     PKEY_WRPKRU
		     : "+a" (closed), "+b" (value)
		     : [nr] "i" (__NR_rseq), [size] "i" (sizeof(*rseq)),
		       [sig] "i" (PKEY_RSEQ_SIG), [open] "D" (open)
		     : "ecx", "edx", "esi", "cc", "memory");
#endif
	return (int)value;
}

struct registrar {
	struct pkey_rseq *area;
	/* The process closes this key with these bits, then opens it again. */
	int area_key;
	int rights;
	int result_closed;
	int result_open;
};

static int registrar_run(void *arg)
{
	struct registrar *registrar = arg;

	pkey_die_with_parent();
	registrar->result_closed = register_with_pkru(registrar->area,
						      registrar->rights <<
						      2 * registrar->area_key, 0);
	registrar->result_open = pkey_rseq_register(registrar->area);
	return 0;
}

/* F7: the call that registers an area uses the rights of its caller, key 0 or not. */
TEST_F(key_0, registering_uses_own_rights)
{
	const int keys[] = { 0, TARGET_KEY };
	struct registrar registrar;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(keys); i++) {
		registrar = (struct registrar){
			.area = self->closer.area,
			.area_key = keys[i],
			.rights = variant->rights,
		};
		ASSERT_EQ(0, sys_pkey_mprotect(registrar.area, pkey_page_size(), RW, keys[i]));
		EXPECT_CHILD_PASSED(pkey_clone(registrar_run, &registrar, CLONE_VM | SIGCHLD));
		if (registrar.result_open == -ENOSYS)
			SKIP(return, NO_RSEQ);
		EXPECT_EQ(-EFAULT, registrar.result_closed);
		/* The call has registered nothing. */
		EXPECT_EQ(0, registrar.result_open);
	}
}

/*
 * The area of a stopped task (F4)
 *
 * A task is stopped. It loses its rights to a key, then its area gets this key. A signal
 * waits for it, so it gets to the handler before it has been on the way to user mode.
 */
#define WRITTEN			0x5a5a5a5a

static int stopped_run(void *area)
{
	pkey_die_with_parent();
	if (pkey_rseq_register(area))
		return 2;

	pkey_raw_syscall(__NR_kill, pkey_gettid(), SIGSTOP, 0, 0);
	return 0;
}

TEST(area_of_stopped_task)
{
	struct pkey_rseq *area = pkey_map(1, RW);
	int status;
	pid_t pid;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_TRUE(!!area);
	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	signal(SIGUSR1, count_signal);
	pid = pkey_clone(stopped_run, area, CLONE_VM | SIGCHLD);
	ASSERT_LT(0, pid);
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	if (status == CLOSER_STATUS_NO_RSEQ)
		SKIP(return, NO_RSEQ);
	ASSERT_TRUE(WIFSTOPPED(status));

	ASSERT_TRUE(pkey_reissue(KEY));
	ASSERT_EQ(0, sys_pkey_mprotect(area, pkey_page_size(), RW, KEY));
	area->cpu_id = WRITTEN;
	ASSERT_EQ(0, kill(pid, SIGUSR1));
	ASSERT_EQ(0, kill(pid, SIGCONT));
	/* The task cannot go on without its area. */
	status = pkey_wait_for(pid);
	ASSERT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGSEGV, WTERMSIG(status));
	EXPECT_EQ(WRITTEN, area->cpu_id);
}

/*
 * Slice extensions (F7)
 *
 * A task asks for more time whenever another waits for its processor. A change of its
 * rights ends the time that it is granted: then it is scheduled. The task that waits is a
 * real-time task, for which nothing else schedules it.
 */
#define NR_WAITS		1000
/*
 * A slow processor, or a kernel with KASAN, uses up most of the time that it grants before
 * the task has any of it: then the test goes on, up to this many waits.
 */
#define MOST_WAITS		50000
/* If the real-time task has not run after this many changes, it starves. */
#define TOO_MANY_CHANGES	5000

/* The most requests of the task between two changes of its rights. */
#define MANY_TURNS		500

/* In nanoseconds; an emulated processor needs more than the default. */
#define SLICE_LENGTH		"/sys/kernel/debug/rseq/slice_ext_nsec"

/* Arguments of rseq(), bits of pkey_rseq.flags. */
#define RSEQ_SLICE_ON		2
#define RSEQ_SLICE_IS_ON	(1 << 5)

/* An area of the size and alignment that the kernel wants for all of struct rseq. */
union slice_area {
	struct pkey_rseq rseq;
	struct {
		uint32_t unused[7];
		uint8_t request;
		uint8_t granted;
	};
	char size[64];
} __attribute__((aligned(64)));

struct slicer {
	union slice_area area;
	bool ready;
	bool enabled;
	bool stop;
	unsigned int turns;
	unsigned int granted;
	/* How often the real-time task has run. */
	unsigned int waits;
};

static int slicer_run(void *arg)
{
	struct slicer *slicer = arg;
	union slice_area *area = &slicer->area;

	pkey_die_with_parent();
	pkey_stay_on(0);
	slicer->enabled = !pkey_raw_syscall(__NR_rseq, (uintptr_t)area, sizeof(*area),
					    RSEQ_SLICE_ON, PKEY_RSEQ_SIG) &&
			  area->rseq.flags & RSEQ_SLICE_IS_ON;
	STORE(slicer->ready, true);
	while (!LOAD(slicer->stop)) {
		STORE(area->request, 1);
		STORE(slicer->granted, slicer->granted + LOAD(area->granted));
		STORE(slicer->turns, slicer->turns + 1);
	}
	return 0;
}

static void *wait_for_cpu_0(void *arg)
{
	const struct sched_param param = { .sched_priority = 1 };
	const struct timespec pause = { .tv_nsec = 100 * 1000 };
	struct slicer *slicer = arg;

	pkey_stay_on(0);
	if (sched_setscheduler(0, SCHED_FIFO, &param))
		return NULL;
	while (!LOAD(slicer->stop)) {
		nanosleep(&pause, NULL);
		ADD(slicer->waits, 1);
	}
	return slicer;
}

/* F7: the processor goes to the task that waits, before that has to wait long. */
TEST(aborted_task_gives_its_processor_away)
{
	static struct slicer slicer;
	unsigned int waits = 0, changes = 0, turns, i;
	char length[16] = "";
	pthread_t waiter;
	void *result;
	pid_t pid;

	if (!pku_enabled())
		SKIP(return, NO_PKU);
	if (!pkey_stay_on(1))
		SKIP(return, "needs two processors");

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	pid = pkey_clone(slicer_run, &slicer, CLONE_VM | SIGCHLD);
	ASSERT_LT(0, pid);
	while (!LOAD(slicer.ready))
		sched_yield();
	if (!slicer.enabled)
		SKIP(return, "needs CONFIG_RSEQ_SLICE_EXTENSION, which Linux 7.3 has");

	pkey_read_file(SLICE_LENGTH, length, sizeof(length));
	pkey_write_file(SLICE_LENGTH, "50000");
	ASSERT_EQ(0, pthread_create(&waiter, NULL, wait_for_cpu_0, &slicer));
	for (i = 0; changes < TOO_MANY_CHANGES; i++) {
		if (waits >= (LOAD(slicer.granted) ? NR_WAITS : MOST_WAITS))
			break;
		ASSERT_TRUE(change_rights(SET, i % 4));
		/* Let the task ask again, and be granted more time, or not yet. */
		turns = LOAD(slicer.turns);
		while (LOAD(slicer.turns) - turns < i % MANY_TURNS)
			;
		changes = waits == LOAD(slicer.waits) ? changes + 1 : 0;
		waits = LOAD(slicer.waits);
	}
	pkey_write_file(SLICE_LENGTH, length);
	EXPECT_GT(TOO_MANY_CHANGES, changes) {
		TH_LOG("after %u waits", waits);
	}
	TH_LOG("%u changes, %u waits, %u granted", i, waits, LOAD(slicer.granted));
	STORE(slicer.stop, true);
	ASSERT_EQ(0, pthread_join(waiter, &result));
	EXPECT_TRUE(!!result);
	EXPECT_EQ(0, pkey_wait_for(pid));
	EXPECT_LT(0, slicer.granted);
}

TEST_HARNESS_MAIN
