// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of what becomes of old rights when pkey_alloc() hands out a key again
 * on x86: no other task that shares the memory keeps any, whatever it is doing.
 *
 * A "holder" (pkey_holder.h) is a task that has opened a key for itself. A re-issue is the
 * pkey_free() and the pkey_alloc() that give a key, which no mapping carries,
 * to a new owner. All keys are allocated, so the one that is freed comes next.
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>

#include "../kselftest_harness.h"
#include "pkey_birth.h"
#include "pkey_holder.h"
#include "pkey_util.h"

/* The arguments that make this program report its state instead of testing. */
#define REPORT_ARG	"--report-to-fd"
#define LOSE_RIGHTS_ARG	"--lose-rights"

/* The key that the tests re-issue, where one is enough. */
#define KEY		7

/* PKRU as execve() left it for this program, before anything changed it. */
static uint32_t pkru_at_start;

/*
 * F4, A5: access to the key is disabled, no other key's bits change in either
 * task, and the holder's system call goes on.
 */
TEST_F(holder, loses_rights)
{
	struct holder *holder = self->holder;
	uint32_t mine;
	size_t p;
	int pkey;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	for (p = 0; p < 2 * ARRAY_SIZE(pkru_patterns); p++) {
		pkey = 1 + p * 5 % PKEY_MAX;
		/* The holder has all rights to the key, or only those to read. */
		holder_reset(holder, pkru_with_rights(pkru_patterns[p / 2], pkey,
						      p & 1 ? PKEY_DISABLE_WRITE : 0));
		handled = 0;
		ASSERT_TRUE(holder_start(holder));
		mine = ~pkru_patterns[p / 2] & ~PKRU_KEY0_MASK;
		wrpkru(mine);
		ASSERT_TRUE(pkey_reissue_with_rights(pkey, p % 4));
		EXPECT_EQ(pkru_with_rights(mine, pkey, p % 4), rdpkru());
		EXPECT_EQ(0, LOAD(handled));
		ASSERT_TRUE(holder_finish(holder));

		EXPECT_REVOKED(holder->pkru, pkey, holder->seen);
		EXPECT_EQ(holder_expected_result(holder), holder->result);
		if (holder->doing == READ)
			EXPECT_EQ('x', holder->byte);
		/* The holder keeps what it takes after the call. */
		EXPECT_EQ(holder->pkru, holder->seen_later);
	}
}

/* F4: the data of the new owner is closed to the holder. */
TEST_F(holder, cannot_read_data_of_new_owner)
{
	struct holder *holder = self->holder;
	char *secret;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	holder_reset(holder, 0);
	secret = pkey_map(1, RW);
	ASSERT_TRUE(!!secret);
	holder->secret = secret;
	ASSERT_TRUE(holder_start(holder));
	ASSERT_TRUE(pkey_reissue(KEY));
	ASSERT_EQ(0, sys_pkey_mprotect(secret, pkey_page_size(), RW, KEY));
	secret[0] = 42;
	ASSERT_TRUE(holder_finish(holder));

	EXPECT_TRUE(holder->fault.hit);
	EXPECT_EQ(SEGV_PKUERR, holder->fault.code);
	EXPECT_EQ(KEY, holder->fault.pkey);
	EXPECT_TRUE(holder->fault.addr == secret);
	EXPECT_EQ(42, secret[0]);
}

/* F4: several keys are re-issued before the holder runs again, one of them twice. */
TEST_F(holder, loses_rights_to_several_keys)
{
	const int keys[] = { 3, 15, 1, 8, 15 };
	struct holder *holder = self->holder;
	uint32_t denied = 0;
	size_t i;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	holder_reset(holder, 0);
	ASSERT_TRUE(holder_start(holder));
	for (i = 0; i < ARRAY_SIZE(keys); i++) {
		ASSERT_TRUE(pkey_reissue(keys[i]));
		denied |= PKEY_DISABLE_ACCESS << 2 * keys[i];
	}
	ASSERT_TRUE(holder_finish(holder));
	EXPECT_EQ(denied, holder->seen & (denied | denied << 1));
	EXPECT_EQ(0, holder->seen & ~(denied | denied << 1));
	EXPECT_EQ(holder_expected_result(holder), holder->result);
}

/* F4, D1: the holder loses its rights when the key becomes the execute-only key. */
TEST_F(holder, loses_rights_to_execute_only_key)
{
	struct holder *holder = self->holder;
	void *code;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	holder_reset(holder, 0);
	ASSERT_TRUE(holder_start(holder));
	ASSERT_EQ(0, sys_pkey_free(KEY));
	code = pkey_map_code(PROT_EXEC);
	ASSERT_TRUE(!!code);
	holder->secret = code;
	ASSERT_EQ(KEY, pkey_of(code));
	ASSERT_TRUE(holder_finish(holder));
	EXPECT_REVOKED(0, KEY, holder->seen);
	EXPECT_TRUE(holder->fault.hit);
	EXPECT_EQ(KEY, holder->fault.pkey);
}

/* B2: pkey_free() alone takes no rights. */
TEST_F(holder, keeps_rights_when_key_is_freed)
{
	struct holder *holder = self->holder;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	holder_reset(holder, 0x33333330);
	ASSERT_TRUE(holder_start(holder));
	ASSERT_EQ(0, sys_pkey_free(KEY));
	ASSERT_TRUE(holder_finish(holder));
	EXPECT_EQ(0x33333330, holder->seen);
	EXPECT_EQ(holder_expected_result(holder), holder->result);
}

/* F4, E1: fork() gave the child rights of its own, in its own memory. */
TEST_F(holder, loses_no_rights_in_another_address_space)
{
	struct holder *holder = self->holder;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	holder_reset(holder, 0x0f0f0f0c);
	ASSERT_TRUE(holder_start(holder));
	IN_CHILD {
		EXPECT_TRUE(pkey_reissue(KEY));
	}
	ASSERT_TRUE(holder_finish(holder));
	EXPECT_EQ(0x0f0f0f0c, holder->seen);
}

FIXTURE(full)
{
};

FIXTURE_SETUP(full)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
}

FIXTURE_TEARDOWN(full)
{
}

/* F4: many holders of all kinds lose their rights at once. */
TEST_F(full, many_holders_lose_rights)
{
	enum { NR = 24 };
	static struct holder holders[NR];
	int i;

	for (i = 0; i < NR; i++) {
		holder_choose_kind(&holders[i], i);
		holders[i].pkru = pkru_with_rights(pkru_patterns[i % ARRAY_SIZE(pkru_patterns)],
						   KEY, 0);
		ASSERT_TRUE(holder_start(&holders[i]));
	}
	ASSERT_TRUE(pkey_reissue(KEY));
	for (i = 0; i < NR; i++) {
		ASSERT_TRUE(holder_finish(&holders[i]));
		EXPECT_REVOKED(holders[i].pkru, KEY, holders[i].seen);
		EXPECT_EQ(holder_expected_result(&holders[i]), holders[i].result);
	}
}

/* How many interrupts for function calls has processor 1 had? */
static unsigned long calls_of_processor_1(void)
{
	FILE *interrupts = fopen("/proc/interrupts", "r");
	unsigned long calls = 0;
	char line[4096];

	while (interrupts && fgets(line, sizeof(line), interrupts))
		if (sscanf(line, " CAL: %*u %lu", &calls) == 1)
			break;
	if (interrupts)
		fclose(interrupts);
	return calls;
}

/*
 * Let a holder begin on processor 1, and leave that to it. Return how many interrupts
 * of processor 1 came with each hundred re-issues.
 */
static unsigned long calls_per_hundred_reissues(struct __test_metadata *_metadata,
						struct holder *holder)
{
	enum { ROUNDS = 400 };
	unsigned long before, calls;
	int i;

	ASSERT_TRUE(pkey_stay_on(1));
	ASSERT_TRUE(holder_start(holder));
	ASSERT_TRUE(pkey_stay_on(0));
	/* The first re-issue of the machine patches code. */
	ASSERT_TRUE(pkey_reissue(KEY));

	before = calls_of_processor_1();
	for (i = 0; i < ROUNDS; i++) {
		/* Its processor runs it. */
		if (holder->doing == SPIN)
			wait_for_progress(&holder->spins);
		ASSERT_TRUE(pkey_reissue(KEY));
	}
	calls = calls_of_processor_1() - before;

	ASSERT_TRUE(holder_finish(holder));
	EXPECT_REVOKED(0, KEY, holder->seen);
	return calls * 100 / ROUNDS;
}

/*
 * F4: a processor that runs another task is interrupted, and one where it sleeps is not.
 * The second half cannot fail where idle processors poll: they need no interrupt.
 */
TEST_F(full, idle_processor_is_not_interrupted)
{
	static struct holder running = { .doing = SPIN }, asleep = { .doing = READ };

	if (!pkey_stay_on(0) || !pkey_stay_on(1))
		SKIP(return, "needs processors 0 and 1");

	EXPECT_LT(25, calls_per_hundred_reissues(_metadata, &running));
	EXPECT_GT(25, calls_per_hundred_reissues(_metadata, &asleep));
}

/* E4: what a debugger writes while a revocation is pending does not undo it. */
TEST_F(full, debugger_does_not_undo_revocation)
{
	const enum doing doing[] = { SPIN, READ };
	static struct pkey_xstate xstate;
	struct holder holder;
	size_t i, p;

	for (i = 0; i < ARRAY_SIZE(doing); i++) {
		for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
			holder = (struct holder){
				.process = true,
				.doing = doing[i],
				.held = TRACED,
				.pkru = pkru_without(pkru_patterns[p], KEY),
			};
			ASSERT_TRUE(holder_start(&holder));
			ASSERT_TRUE(pkey_get_xstate(holder.tid, &xstate));
			EXPECT_EQ(holder.pkru, xsave_get_pkru(xstate.bytes));
			ASSERT_TRUE(pkey_reissue(KEY));
			xsave_set_pkru(xstate.bytes, pkru_without(~pkru_patterns[p] & ~3u, KEY));
			ASSERT_TRUE(pkey_set_xstate(holder.tid, &xstate));
			ASSERT_TRUE(holder_finish(&holder));
			EXPECT_REVOKED(~pkru_patterns[p] & ~3u, KEY, holder.seen);
			EXPECT_EQ(holder_expected_result(&holder), holder.result);
		}
	}
}

/* E4: when no revocation is pending the task has what the debugger writes. */
TEST_F(full, debugger_changes_rights)
{
	struct holder holder = { .process = true, .doing = READ, .held = TRACED };
	static struct pkey_xstate xstate;

	holder.pkru = PKRU_INIT;
	ASSERT_TRUE(pkey_reissue(KEY));
	ASSERT_TRUE(holder_start(&holder));
	ASSERT_TRUE(pkey_get_xstate(holder.tid, &xstate));
	xsave_set_pkru(xstate.bytes, 0x0f0f0f0c);
	ASSERT_TRUE(pkey_set_xstate(holder.tid, &xstate));
	ASSERT_TRUE(holder_finish(&holder));
	EXPECT_EQ(0x0f0f0f0c, holder.seen);
}

/* F4: all threads of another process lose their rights, whether or not its first has exited. */
TEST_F(full, threads_of_another_process_lose_rights)
{
	struct team team;
	pid_t pid;
	int i;

	for (i = 0; i < 2; i++) {
		memset(&team, 0, sizeof(team));
		team.first_exits = i;
		pid = team_start(&team);
		ASSERT_LE(0, pid);
		ASSERT_TRUE(pkey_reissue(KEY));
		team_finish(&team);
		EXPECT_CHILD_PASSED(pid);
		EXPECT_REVOKED(0, KEY, team.holder.seen);
	}
}

static void *reissue_thread(void *arg)
{
	bool *done = arg;

	wrpkru(0xffffffff & ~PKRU_KEY0_MASK);
	*done = pkey_reissue(KEY) && rdpkru() == pkru_without(0xfffffffc, KEY);
	return NULL;
}

/* F4: the first thread of the process loses its rights too. */
TEST_F(full, main_thread_loses_rights)
{
	pthread_t thread;
	bool done;
	size_t p;

	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		wrpkru(pkru_without(pkru_patterns[p], KEY));
		ASSERT_EQ(0, pthread_create(&thread, NULL, reissue_thread, &done));
		ASSERT_EQ(0, pthread_join(thread, NULL));
		EXPECT_TRUE(done);
		EXPECT_REVOKED(pkru_patterns[p], KEY, rdpkru());
	}
}

/* Does this task lose its rights when a thread re-issues the key? All are taken. */
static bool rights_are_lost(void)
{
	pthread_t thread;
	bool done;

	wrpkru(0);
	if (pthread_create(&thread, NULL, reissue_thread, &done) ||
	    pthread_join(thread, NULL))
		return false;

	return done && pkru_only_revoked(0, KEY, rdpkru());
}

static bool reissue_often(void)
{
	int i;

	for (i = 0; i < 10; i++)
		if (!pkey_reissue(KEY))
			return false;
	return true;
}

/* E1, F4: re-issues before fork() do not hide the next one from the child. */
TEST_F(full, reissues_before_fork)
{
	ASSERT_TRUE(reissue_often());
	IN_CHILD {
		EXPECT_TRUE(rights_are_lost());
	}
}

enum { NOT_YET, DONE, FAILED };

static void *take_all_and_reissue_thread(void *arg)
{
	bool done = pkey_take_all(NULL) == PKEY_MAX && pkey_reissue(KEY);

	STORE(*(int *)arg, done ? DONE : FAILED);
	return NULL;
}

/*
 * This runs in a new program. Its first thread stays in user mode until the key has been
 * re-issued: only execve() has reset its epoch.
 */
static bool new_program_loses_rights(void)
{
	int state = NOT_YET;
	pthread_t thread;

	wrpkru(0);
	if (pthread_create(&thread, NULL, take_all_and_reissue_thread, &state))
		return false;

	while (LOAD(state) == NOT_YET)
		delay(1);
	return state == DONE && pkru_only_revoked(0, KEY, rdpkru());
}

/* E3, F4: re-issues before execve() do not hide the next one from the new program. */
TEST_F(full, reissues_before_execve)
{
	IN_CHILD {
		EXPECT_TRUE(reissue_often());
		execl("/proc/self/exe", "pkey_revoke_test", LOSE_RIGHTS_ARG, NULL);
		EXPECT_EQ(0, errno);
	}
}

static int reissue_process(void *arg)
{
	reissue_thread(arg);
	return 0;
}

/* F4: a task that waits for the child of its vfork() loses its rights too. */
TEST_F(full, vfork_parent_loses_rights)
{
	bool done;
	pid_t pid;
	size_t p;

	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		wrpkru(pkru_without(pkru_patterns[p], KEY));
		pid = pkey_clone(reissue_process, &done, CLONE_VM | CLONE_VFORK | SIGCHLD);
		EXPECT_REVOKED(pkru_patterns[p], KEY, rdpkru());
		EXPECT_CHILD_PASSED(pid);
		EXPECT_TRUE(done);
	}
}

/* F4, E1: a child of fork() keeps its rights when the parent re-issues. */
TEST_F(full, forked_child_keeps_rights)
{
	int fds[2];
	char byte;
	pid_t pid;

	wrpkru(0);
	ASSERT_EQ(0, pipe(fds));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(fds[1]);
		EXPECT_EQ(0, read(fds[0], &byte, 1));
		EXPECT_EQ(0, rdpkru());
		pkey_child_end(_metadata);
	}
	ASSERT_TRUE(pkey_reissue(KEY));
	close(fds[1]);
	EXPECT_CHILD_PASSED(pid);
}

/* E2: rights to a key that was re-issued before are as good as others. */
TEST_F(full, new_tasks_have_rights_to_reissued_key)
{
	uint32_t seen = ~0u;
	pthread_t thread;
	pid_t pid;

	ASSERT_TRUE(pkey_reissue(KEY));
	wrpkru(0);
	ASSERT_EQ(0, pthread_create(&thread, NULL, pkru_thread, &seen));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, seen);

	seen = ~0u;
	pid = pkey_clone(pkru_process, &seen, CLONE_VM | CLONE_VFORK | SIGCHLD);
	EXPECT_CHILD_PASSED(pid);
	EXPECT_EQ(0, seen);

	IN_CHILD {
		EXPECT_EQ(0, rdpkru());
	}
}

/*
 * A process that shares memory and starts one thread after the other. Another one, younger
 * and so behind it on the list of processes, opens the key and sleeps.
 */
#define NR_CROWD	400
#define CROWD_STACK	4096

static struct {
	char *stacks;
	unsigned int full;
	unsigned int end;
	/* Odd while the younger process looks at its rights. */
	unsigned int turn;
	uint32_t seen;
} crowd;

static int crowd_thread(void *arg)
{
	/* crowd_run() ends it. */
	pkey_raw_syscall(__NR_pause, 0, 0, 0, 0);
	return 0;
}

static int crowd_run(void *arg)
{
	int i;

	pkey_die_with_parent();
	for (i = 1; i <= NR_CROWD; i++)
		if (clone(crowd_thread, crowd.stacks + i * CROWD_STACK, THREAD_FLAGS, NULL) < 0)
			break;
	STORE(crowd.full, 1);
	pkey_wait_while(&crowd.end, 0);
	_exit(0);
}

static int behind_crowd(void *arg)
{
	unsigned int turn;

	pkey_die_with_parent();
	for (turn = 1; !LOAD(crowd.end); turn += 2) {
		wrpkru(0);
		pkey_set_and_wake(&crowd.turn, turn + 1);
		pkey_wait_while(&crowd.turn, turn + 1);
		STORE(crowd.seen, rdpkru());
	}
	return 0;
}

/* F4: tasks that come meanwhile are not counted in place of one that was there. */
TEST_F_TIMEOUT(full, loses_rights_behind_new_tasks, 300)
{
	unsigned int turn = 0;
	int with_rights = 0;
	pid_t before, behind;

	memset(&crowd, 0, sizeof(crowd));
	crowd.stacks = pkey_mmap(NULL, NR_CROWD * CROWD_STACK, RW,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1);
	ASSERT_TRUE(!!crowd.stacks);
	before = start_process(crowd_run, NULL, 0);
	ASSERT_LT(0, before);
	behind = start_process(behind_crowd, NULL, 0);
	ASSERT_LT(0, behind);
	do {
		pkey_wait_while(&crowd.turn, turn);
		turn += 2;
		ASSERT_TRUE(pkey_reissue(KEY));
		pkey_set_and_wake(&crowd.turn, turn + 1);
		pkey_wait_while(&crowd.turn, turn + 1);
		if (!pkru_denies(crowd.seen, KEY))
			with_rights++;
	} while (!LOAD(crowd.full));
	pkey_set_and_wake(&crowd.end, 1);
	pkey_set_and_wake(&crowd.turn, turn + 3);
	EXPECT_CHILD_PASSED(before);
	EXPECT_CHILD_PASSED(behind);
	EXPECT_EQ(0, with_rights);
}

static void *alloc_thread(void *arg)
{
	*(int *)arg = sys_pkey_alloc(0, 0);
	return NULL;
}

FIXTURE(none_used)
{
};

FIXTURE_SETUP(none_used)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);
}

FIXTURE_TEARDOWN(none_used)
{
}

/* E1, F4: a key that was used before fork() is a used one in the child. */
TEST_F(none_used, key_used_before_fork)
{
	pthread_t thread;
	int pkey = 0;

	ASSERT_EQ(1, sys_pkey_alloc(0, 0));
	ASSERT_EQ(0, sys_pkey_free(1));
	IN_CHILD {
		wrpkru(0);
		ASSERT_EQ(0, pthread_create(&thread, NULL, alloc_thread, &pkey));
		ASSERT_EQ(0, pthread_join(thread, NULL));
		EXPECT_EQ(1, pkey);
		EXPECT_REVOKED(0, 1, rdpkru());
	}
}

/* F5: a key that was never used has no holders, whatever PKRU says of it. */
TEST_F(none_used, first_use_takes_no_rights)
{
	static struct holder holder;
	int i;

	holder.doing = READ;
	ASSERT_TRUE(holder_start(&holder));
	for (i = 1; i <= PKEY_MAX; i++)
		ASSERT_EQ(i, sys_pkey_alloc(0, 0));
	ASSERT_TRUE(holder_finish(&holder));
	EXPECT_EQ(0, holder.seen);
	EXPECT_EQ(1, holder.result);
}

static bool reissue(unsigned int rights)
{
	return pkey_reissue_with_rights(KEY, rights);
}

/* F4, E1, E2: no task is born with rights that were taken meanwhile. */
TEST_F(birth, brings_no_rights_back)
{
	const uint32_t both = PKEY_RIGHTS_MASK << 2 * KEY | PKEY_RIGHTS_MASK << 2 * MARK;
	int i, hits = 0, with_rights = 0, changed = 0;
	struct birth *birth = &self->birth;
	uint32_t pkru;

	ASSERT_TRUE(birth_start(birth, reissue));
	for (i = 0; i < NR_BIRTHS; i++) {
		pkru = pkru_patterns[i % ARRAY_SIZE(pkru_patterns)] & ~both;
		ASSERT_TRUE(birth_round(birth, variant->kind, i + 1, pkru, 0));
		ASSERT_EQ(MARK, sys_pkey_alloc(0, 0));
		if ((birth->task->pkru & ~both) != pkru)
			changed++;
		if (!birth->task->after_call)
			continue;
		hits++;
		if (!pkru_denies(birth->task->pkru, KEY))
			with_rights++;
	}
	ASSERT_EQ(0, pthread_join(birth->other, NULL));
	ASSERT_EQ(0, birth->failed);
	ASSERT_EQ(0, with_rights);
	ASSERT_EQ(0, changed);
	if (!hits)
		SKIP(return, "the race did not happen: no task was born after a re-issue");
}

/* Each round lasts until a re-issue has come and gone. */
#define NR_ROUNDS	200

/*
 * F4: the same holds for a task that is not new. It makes a system call that
 * yields the processor, one that does not, or none.
 */
TEST_F(full, no_rights_after_reissue_in_any_round)
{
	int i, with_rights = 0, changed = 0;
	uint32_t opened, pkru;
	unsigned int begin;
	bool hit;

	ASSERT_TRUE(endless_start(reissue, 0));
	for (i = 0; i < NR_ROUNDS; i++) {
		opened = pkru_without(pkru_patterns[i % ARRAY_SIZE(pkru_patterns)], KEY);
		wrpkru(opened);
		begin = LOAD(endless.begin);
		do {
			if (i % 3 == 0)
				sched_yield();
			else if (i % 3 == 1)
				getppid();
			hit = endless_hit(begin);
			pkru = rdpkru();
		} while (!hit);
		if (pkru_without(pkru, KEY) != opened)
			changed++;
		if (!pkru_denies(pkru, KEY))
			with_rights++;
	}
	EXPECT_EQ(0, endless_stop());
	EXPECT_EQ(0, with_rights);
	EXPECT_EQ(0, changed);
}

/* Threads that want the same few keys: 4 for 3, so that they meet all the time. */
#define NR_RIVALS	4
#define NR_WANTED	3
#define NR_RIVAL_ROUNDS	200

struct rival {
	pthread_t thread;
	uint32_t pkru;
	int taken;
	int wrong_rights;
	int changed;
	int overlaps;
};

static int rivals_calling;

/* Bits of PKRU of the keys that are wanted: 1 to NR_WANTED. */
static uint32_t pkru_wanted(void)
{
	return (1u << 2 * (NR_WANTED + 1)) - 4;
}

static void *rival_rounds(void *arg)
{
	struct rival *rival = arg;
	unsigned int rights;
	int i, pkey;

	for (i = 0; i < NR_RIVAL_ROUNDS; i++) {
		/* It opens them all, to have something to lose. */
		wrpkru(rival->pkru & ~pkru_wanted());
		rights = i % 4;
		if (__atomic_fetch_add(&rivals_calling, 1, __ATOMIC_SEQ_CST))
			rival->overlaps++;
		pkey = sys_pkey_alloc(0, rights);
		ADD(rivals_calling, -1);
		if ((rdpkru() & ~pkru_wanted()) != (rival->pkru & ~pkru_wanted()))
			rival->changed++;
		if (pkey < 0)
			continue;
		rival->taken++;
		if (pkru_get_rights(pkey) != rights)
			rival->wrong_rights++;
		sched_yield();
		if (pkru_get_rights(pkey) != rights)
			rival->wrong_rights++;
		sys_pkey_free(pkey);
	}
	return NULL;
}

/* A5, F4: a thread has just the rights to a key that it asks for, whoever had it before. */
TEST_F(full, rivals_have_the_rights_they_ask_for)
{
	struct rival rivals[NR_RIVALS] = {};
	int i, pkey, taken = 0, overlaps = 0;

	for (pkey = 1; pkey <= NR_WANTED; pkey++)
		ASSERT_EQ(0, sys_pkey_free(pkey));
	for (i = 0; i < NR_RIVALS; i++) {
		rivals[i].pkru = pkru_patterns[i + 2];
		ASSERT_EQ(0, pthread_create(&rivals[i].thread, NULL, rival_rounds, &rivals[i]));
	}
	for (i = 0; i < NR_RIVALS; i++) {
		ASSERT_EQ(0, pthread_join(rivals[i].thread, NULL));
		ASSERT_EQ(0, rivals[i].wrong_rights);
		ASSERT_EQ(0, rivals[i].changed);
		taken += rivals[i].taken;
		overlaps += rivals[i].overlaps;
	}
	/* One of the threads may get no key at all, but not each of them. */
	ASSERT_LT(0, taken);
	ASSERT_EQ(NR_WANTED, pkey_take_all(NULL));
	if (!overlaps)
		SKIP(return, "the race did not happen: no two calls overlapped");
}

/*
 * Two threads that re-issue keys 4 and 5 at the same moment. Who frees one of
 * them may get the other; each is re-issued once in every round.
 */
#define NR_DUELS	100
#define DUEL_KEYS	(4 + 5)

struct duellist {
	pthread_t thread;
	int mine;
	int wrong_key;
	int wrong_rights;
	int kept_rights;
	int changed;
};

static pthread_barrier_t duel_barrier;

static void *duel_thread(void *arg)
{
	const uint32_t both = PKEY_RIGHTS_MASK << 2 * 4 | PKEY_RIGHTS_MASK << 2 * 5;
	struct duellist *self = arg;
	uint32_t pkru;
	int i;

	for (i = 0; i < NR_DUELS; i++) {
		wrpkru(0x33333330 & ~both);
		pthread_barrier_wait(&duel_barrier);
		sys_pkey_free(self->mine);
		self->mine = sys_pkey_alloc(0, PKEY_DISABLE_WRITE);
		pthread_barrier_wait(&duel_barrier);
		pkru = rdpkru();
		if (self->mine != 4 && self->mine != 5) {
			self->wrong_key++;
			continue;
		}
		if ((pkru >> 2 * self->mine & PKEY_RIGHTS_MASK) != PKEY_DISABLE_WRITE)
			self->wrong_rights++;
		if (!pkru_denies(pkru, DUEL_KEYS - self->mine))
			self->kept_rights++;
		if ((pkru & ~both) != (0x33333330 & ~both))
			self->changed++;
	}
	return NULL;
}

/* F4, A5: each of two re-issues at once revokes the rights of the other caller. */
TEST_F(full, two_reissues_at_once)
{
	struct duellist duellists[2] = { { .mine = 4 }, { .mine = 5 } };
	struct holder holder = { .doing = SPIN };
	int i;

	ASSERT_EQ(0, pthread_barrier_init(&duel_barrier, NULL, 2));
	ASSERT_TRUE(holder_start(&holder));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&duellists[i].thread, NULL, duel_thread,
					    &duellists[i]));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_join(duellists[i].thread, NULL));
	ASSERT_TRUE(holder_finish(&holder));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, duellists[i].wrong_key);
		EXPECT_EQ(0, duellists[i].wrong_rights);
		EXPECT_EQ(0, duellists[i].kept_rights);
		EXPECT_EQ(0, duellists[i].changed);
	}
	EXPECT_TRUE(pkru_denies(holder.seen, 4));
	EXPECT_TRUE(pkru_denies(holder.seen, 5));
}

/* A thread that frees the key as soon as somebody has it. */
struct thief {
	pthread_t thread;
	bool stop;
	int freed;
};

static void *thief_thread(void *arg)
{
	struct thief *thief = arg;

	while (!LOAD(thief->stop))
		if (!sys_pkey_free(KEY))
			thief->freed++;
	return NULL;
}

/* F4, A5: a key may be freed by another thread while it is being re-issued. */
TEST_F(full, freed_while_reissued)
{
	struct holder holder = { .doing = SPIN };
	struct thief thief = {};
	int pkey, taken = 1, wrong_key = 0, wrong_rights = 0;
	unsigned int rights;

	ASSERT_TRUE(holder_start(&holder));
	ASSERT_EQ(0, pthread_create(&thief.thread, NULL, thief_thread, &thief));
	while (taken < 2 * NR_DUELS) {
		rights = taken & PKEY_RIGHTS_MASK;
		pkey = sys_pkey_alloc(0, rights);
		if (pkey < 0) {
			sched_yield();
			continue;
		}
		taken++;
		if (pkey != KEY)
			wrong_key++;
		else if (pkru_get_rights(pkey) != rights)
			wrong_rights++;
	}
	STORE(thief.stop, true);
	ASSERT_EQ(0, pthread_join(thief.thread, NULL));
	ASSERT_TRUE(holder_finish(&holder));
	ASSERT_EQ(0, wrong_key);
	ASSERT_EQ(0, wrong_rights);
	/* The last one may not have been freed. */
	ASSERT_LE(thief.freed, taken);
	ASSERT_GE(thief.freed + 1, taken);
	ASSERT_TRUE(pkru_denies(holder.seen, KEY));
}

/*
 * pkey_alloc() that is overtaken: the takers call it until each has got a key, while
 * the main thread frees keys that are not its own, as fast as it can. So a key may be
 * freed and issued again before the call that took it has returned. Every taker closes
 * all keys before. When all calls have returned, the caller of the last issue of a
 * key has rights to it, and nobody else.
 *
 * Two takers would do on two processors. With four of them one is preempted within
 * its call more often.
 */
#define NR_TAKERS	4
#define NR_TAKES	150
#define NR_FIRST_TAKES	40

struct taker {
	pthread_t thread;
	int pkey;
	uint32_t pkru;
};

static struct {
	pthread_barrier_t barrier;
	struct taker taker[NR_TAKERS];
	int rounds;
	int returned;
	/* Results: keys that two calls returned in one round, and what is wrong. */
	int overtaken;
	int wrong;
} takers;

static void *taker_thread(void *arg)
{
	struct taker *taker = arg;
	int i;

	for (i = 0; i < takers.rounds; i++) {
		wrpkru(PKRU_INIT);
		pthread_barrier_wait(&takers.barrier);
		do {
			taker->pkey = pkey_raw_syscall(__NR_pkey_alloc, 0, 0, 0, 0);
		} while (taker->pkey < 0);
		ADD(takers.returned, 1);
		pthread_barrier_wait(&takers.barrier);
		taker->pkru = rdpkru();
		pthread_barrier_wait(&takers.barrier);
	}
	return NULL;
}

static void judge_takers(void)
{
	int pkey, i, returned, with_rights, with_wrong_rights;
	struct taker *taker;

	for (pkey = 1; pkey <= PKEY_MAX; pkey++) {
		returned = 0;
		with_rights = 0;
		with_wrong_rights = 0;
		for (i = 0; i < NR_TAKERS; i++) {
			taker = &takers.taker[i];
			returned += taker->pkey == pkey;
			if (pkru_denies(taker->pkru, pkey))
				continue;
			with_rights++;
			with_wrong_rights += taker->pkey != pkey;
		}
		takers.overtaken += returned > 1;
		takers.wrong += with_rights != (returned > 0) || with_wrong_rights;
	}
}

/* Free the keys from @first to @last until all takers have got one. */
static bool run_takers(int rounds, void (*prepare)(void), int first, int last)
{
	int i, pkey, freed;

	takers.rounds = rounds;
	if (pthread_barrier_init(&takers.barrier, NULL, NR_TAKERS + 1))
		return false;
	for (i = 0; i < NR_TAKERS; i++)
		if (pthread_create(&takers.taker[i].thread, NULL, taker_thread,
				   &takers.taker[i]))
			return false;

	for (i = 0; i < rounds; i++) {
		prepare();
		STORE(takers.returned, 0);
		pthread_barrier_wait(&takers.barrier);
		while (LOAD(takers.returned) < NR_TAKERS) {
			freed = 0;
			for (pkey = first; pkey <= last; pkey++)
				freed += !sys_pkey_free(pkey);
			/* The takers may have no other processor. */
			if (!freed)
				sched_yield();
		}
		pthread_barrier_wait(&takers.barrier);
		pthread_barrier_wait(&takers.barrier);
		judge_takers();
	}
	for (i = 0; i < NR_TAKERS; i++)
		pthread_join(takers.taker[i].thread, NULL);
	return true;
}

static void take_all_but_one(void)
{
	pkey_take_all(NULL);
	sys_pkey_free(KEY);
}

/* F4, A5: the only key that is free is freed and issued again all the time. */
TEST_F(full, overtaken_alloc_of_one_key)
{
	ASSERT_TRUE(run_takers(NR_TAKES, take_all_but_one, KEY, KEY));
	ASSERT_EQ(0, takers.wrong);
	if (!takers.overtaken)
		SKIP(return, "the race did not happen: no key was issued twice in a round");
}

static void free_all(void)
{
	int pkey;

	for (pkey = 1; pkey <= PKEY_MAX; pkey++)
		sys_pkey_free(pkey);
}

/* F4, A5: the loop that frees goes over all keys. */
TEST_F(full, overtaken_alloc_of_all_keys)
{
	ASSERT_TRUE(run_takers(NR_TAKES, free_all, 1, PKEY_MAX));
	ASSERT_EQ(0, takers.wrong);
	if (!takers.overtaken)
		SKIP(return, "the race did not happen: no key was issued twice in a round");
}

static void prepare_nothing(void)
{
}

/* F4, A5: the call that is overtaken has taken a key that was never used. */
TEST_F(none_used, overtaken_first_alloc)
{
	int i, pkey, *overtaken;

	overtaken = pkey_map_shared(sizeof(*overtaken));
	ASSERT_TRUE(!!overtaken);
	for (i = 0; i < NR_FIRST_TAKES; i++) {
		IN_CHILD {
			for (pkey = 1; pkey < PKEY_MAX; pkey++)
				ASSERT_EQ(pkey, sys_pkey_alloc(0, 0));
			ASSERT_TRUE(run_takers(1, prepare_nothing, PKEY_MAX, PKEY_MAX));
			ASSERT_EQ(0, takers.wrong);
			*overtaken += takers.overtaken;
		}
	}
	if (!*overtaken)
		SKIP(return, "the race did not happen: no key was issued twice in a round");
}

/*
 * Does the caller lose its rights to @pkey, and no others, when a thread of its own
 * that runs @reissuer hands it out again?
 */
static bool thread_takes_rights(void *(*reissuer)(void *), int pkey)
{
	pthread_t thread;
	uint32_t pkru;
	bool done;

	wrpkru(0);
	if (pthread_create(&thread, NULL, reissuer, &done) || pthread_join(thread, NULL))
		return false;

	pkru = rdpkru();
	return done && pkru_denies(pkru, pkey) && !pkru_without(pkru, pkey);
}

/* The state of a program after execve(), before it does anything. */
struct report {
	uint32_t pkru;
	int nr;
	int keys[PKEY_NR];
	/* The program loses its rights when a thread of its own re-issues a key. */
	bool lost_rights;
};

/* Run in the program after execve(): store the report in a pipe. */
static int report_to(int fd)
{
	struct report report = { .pkru = pkru_at_start };

	report.nr = pkey_take_all(report.keys);
	report.lost_rights = thread_takes_rights(reissue_thread, KEY);
	return write(fd, &report, sizeof(report)) != (ssize_t)sizeof(report);
}

static int exec_report(void *arg)
{
	const int *fd = arg;
	char number[16];

	snprintf(number, sizeof(number), "%d", *fd);
	execl("/proc/self/exe", "pkey_revoke_test", REPORT_ARG, number, NULL);
	return 1;
}

/* The task that does it has a thread that re-issues, until execve() ends it. */
static int exec_report_beside_reissue(void *arg)
{
	if (!endless_start(reissue, 0))
		return 1;

	while (LOAD(endless.end) < 10)
		sched_yield();
	return exec_report(arg);
}

/* Each execve() takes as long as hundreds of re-issues. */
#define NR_EXECS	10

/* F4, E3: execve() in a task that shares memory starts over while a key is re-issued. */
TEST_F(full, execve_meanwhile)
{
	struct report report;
	int i, k, fds[2];
	pid_t pid;

	ASSERT_TRUE(endless_start(reissue, 0));
	for (i = 0; i < NR_EXECS; i++) {
		wrpkru(0);
		ASSERT_EQ(0, pipe(fds));
		pid = start_process(exec_report, &fds[1], i & 1 ? CLONE_VFORK : 0);
		ASSERT_TRUE(read_report(pid, fds, &report, sizeof(report)));
		EXPECT_EQ(pkru_at_start, report.pkru);
		EXPECT_TRUE(report.lost_rights);
		ASSERT_EQ(PKEY_MAX, report.nr);
		for (k = 0; k < report.nr; k++)
			EXPECT_EQ(k + 1, report.keys[k]);
	}
	EXPECT_EQ(0, endless_stop());
}

/* F4, E3: execve() may end the thread that is re-issuing a key. */
TEST_F(full, execve_ends_reissue)
{
	struct report report;
	int i, fds[2];
	pid_t pid;

	for (i = 0; i < NR_EXECS; i++) {
		ASSERT_EQ(0, pipe(fds));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			wrpkru(0);
			_exit(exec_report_beside_reissue(&fds[1]));
		}
		ASSERT_TRUE(read_report(pid, fds, &report, sizeof(report)));
		EXPECT_EQ(pkru_at_start, report.pkru);
		EXPECT_EQ(PKEY_MAX, report.nr);
		EXPECT_TRUE(report.lost_rights);
	}
}

#define NR_FORKS	200

/* The lowest key comes back whether KEY is free or not. */
#define LOWEST		1

static void *reissue_lowest_thread(void *arg)
{
	bool *done = arg;

	*done = pkey_reissue(LOWEST);
	return NULL;
}

static bool keys_work_in_child(void)
{
	int pkey;

	if (!thread_takes_rights(reissue_lowest_thread, LOWEST))
		return false;

	/* KEY is free, or allocated. */
	pkey = sys_pkey_alloc(0, 0);
	return (pkey == KEY || (pkey == -1 && errno == ENOSPC)) &&
	       thread_takes_rights(reissue_thread, KEY);
}

/* E1, F4: keys work in a child that is born while KEY is re-issued. */
TEST_F(full, fork_meanwhile)
{
	int i;

	ASSERT_TRUE(endless_start(reissue, 0));
	for (i = 0; i < NR_FORKS; i++) {
		IN_CHILD {
			EXPECT_TRUE(keys_work_in_child());
		}
	}
	EXPECT_EQ(0, endless_stop());
}

/* F4: a process with holders of all kinds may end while a key is re-issued. */
TEST_F(full, exit_meanwhile)
{
	const enum doing doing[] = { SPIN, READ, FUTEX, POLL };
	static struct holder holders[ARRAY_SIZE(doing)];
	size_t h;
	int i;

	for (i = 0; i < NR_EXECS; i++) {
		IN_CHILD {
			for (h = 0; h < ARRAY_SIZE(doing); h++) {
				holders[h].doing = doing[h];
				ASSERT_TRUE(holder_start(&holders[h]));
			}
			ASSERT_TRUE(endless_start(reissue, 0));
			while (LOAD(endless.end) < 10)
				sched_yield();
		}
	}
	/* The keys of this process have not changed. */
	EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
	EXPECT_EQ(ENOSPC, errno);
}

/* F4: tasks come and go; the one that stays loses its rights none the less. */
TEST_F(full, tasks_that_exit_hide_no_other)
{
	struct holder coming = {}, staying = { .process = true, .doing = SPIN };
	int i, kept = 0;

	ASSERT_EQ(0, pthread_create(&coming.thread, NULL, exit_endlessly, &coming));
	for (i = 0; i < 50; i++) {
		holder_reset(&staying, 0);
		ASSERT_TRUE(holder_start(&staying));
		ASSERT_TRUE(pkey_reissue(KEY));
		ASSERT_TRUE(holder_finish(&staying));
		if (!pkru_denies(staying.seen, KEY))
			kept++;
	}
	STORE(coming.go, 1);
	ASSERT_EQ(0, pthread_join(coming.thread, NULL));
	EXPECT_EQ(0, kept);
}

/*
 * Memory that the kernel writes for a task, with the rights of the task.
 *
 * @tid: Written when a task begins or ends (set_child_tid, clear_child_tid).
 * @futex: A robust futex.
 */
struct written {
	int tid;
	int futex;
};

static struct {
	struct robust_list_head head;
	struct robust_list entry;
} robust;

static int ends(void *arg)
{
	return 0;
}

/* Own a robust futex, and stop. The task that waits for this one does not let it go on. */
static int stops_with_futex(void *arg)
{
	struct written *written = arg;
	pid_t pid = pkey_gettid();

	robust.entry.next = &robust.head.list;
	robust.head.list.next = &robust.entry;
	robust.head.futex_offset = (char *)&written->futex - (char *)&robust.entry;
	STORE(written->futex, pid);
	pkey_raw_syscall(__NR_set_robust_list, (uintptr_t)&robust.head, sizeof(robust.head), 0, 0);
	pkey_raw_syscall(__NR_kill, pid, SIGSTOP, 0, 0);
	return 0;
}

FIXTURE(beginning_and_end)
{
	struct written *written;
	char *stack;
};

FIXTURE_VARIANT(beginning_and_end)
{
	bool reissue;
};

FIXTURE_VARIANT_ADD(beginning_and_end, with_rights) { .reissue = false };
FIXTURE_VARIANT_ADD(beginning_and_end, without_rights) { .reissue = true };

FIXTURE_SETUP(beginning_and_end)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	self->written = pkey_map(1, RW);
	ASSERT_TRUE(!!self->written);
	self->stack = pkey_map_stack();
	ASSERT_TRUE(!!self->stack);
}

FIXTURE_TEARDOWN(beginning_and_end)
{
}

/* Give the memory to KEY, of which the other task has lost the rights if @reissue. */
static bool protect_written(struct written *written, bool reissue)
{
	return (!reissue || pkey_reissue(KEY)) &&
	       !sys_pkey_mprotect(written, pkey_page_size(), RW, KEY);
}

/* F4: the kernel stores the number of a new task with the rights that are left to it. */
TEST_F(beginning_and_end, set_child_tid)
{
	struct sched_param first_in_first_out = { .sched_priority = 1 };
	pid_t pid;

	/* On one processor the child does not run before this task waits for it. */
	if (!pkey_stay_on(sched_getcpu()) ||
	    sched_setscheduler(0, SCHED_FIFO, &first_in_first_out))
		SKIP(return, "needs CAP_SYS_NICE");

	pid = clone(ends, self->stack, CLONE_VM | CLONE_CHILD_SETTID | SIGCHLD, NULL, NULL, NULL,
		    &self->written->tid);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, LOAD(self->written->tid));
	ASSERT_TRUE(protect_written(self->written, variant->reissue));
	ASSERT_EQ(0, pkey_wait_for(pid));
	EXPECT_EQ(variant->reissue ? 0 : pid, self->written->tid);
}

/* F4: what the kernel writes for a stopped task that is killed, it writes with the rights left. */
TEST_F(beginning_and_end, killed_while_stopped)
{
	pid_t pid;
	int status;

	pid = clone(stops_with_futex, self->stack, CLONE_VM | CLONE_CHILD_CLEARTID | SIGCHLD,
		    self->written, NULL, NULL, &self->written->tid);
	ASSERT_LT(0, pid);
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	ASSERT_TRUE(WIFSTOPPED(status));
	self->written->tid = pid;
	ASSERT_TRUE(protect_written(self->written, variant->reissue));
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(variant->reissue ? pid : 0, self->written->tid);
	EXPECT_EQ(variant->reissue ? pid : FUTEX_OWNER_DIED, self->written->futex & ~FUTEX_WAITERS);
}

int main(int argc, char **argv)
{
	pkru_at_start = pkru_save();
	if (argc == 3 && !strcmp(argv[1], REPORT_ARG))
		return report_to(atoi(argv[2]));
	if (argc == 2 && !strcmp(argv[1], LOSE_RIGHTS_ARG))
		return !new_program_loses_rights();

	return test_harness_run(argc, argv);
}
