// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of what becomes of old rights when pkey_alloc() hands out a key again
 * on x86: no other task that shares the memory keeps any, whatever it is doing,
 * and no signal frame brings them back.
 *
 * A "holder" is a task that has opened a key for itself. A re-issue is the
 * pkey_free() and the pkey_alloc() that give a key, which no mapping carries,
 * to a new owner. All keys have been used before, or another would be taken.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "../kselftest_harness.h"
#include "pkey_util.h"

#define RW		(PROT_READ | PROT_WRITE)

/* The arguments that make this program report its state instead of testing. */
#define REPORT_ARG	"--report-to-fd"
#define LOSE_RIGHTS_ARG	"--lose-rights"

#define STACK_PAGES	8

/* The key that the tests re-issue, where one is enough. */
#define KEY		7

/* The calls without a timeout of 32 bits, which not every kernel has. */
#ifdef __NR_futex_time64
#define NR_FUTEX	__NR_futex_time64
#define NR_SLEEP	__NR_clock_nanosleep_time64
#else
#define NR_FUTEX	__NR_futex
#define NR_SLEEP	__NR_clock_nanosleep
#endif

#define FUTEX_OP_WAIT	0
#define FUTEX_OP_WAKE	1

struct wide_timespec {
	int64_t tv_sec;
	int64_t tv_nsec;
};

/* PKRU as execve() left it for this program, before anything changed it. */
static uint32_t pkru_at_start;

#define LOAD(_x)	__atomic_load_n(&(_x), __ATOMIC_SEQ_CST)
#define STORE(_x, _v)	__atomic_store_n(&(_x), _v, __ATOMIC_SEQ_CST)
#define ADD(_x, _v)	__atomic_add_fetch(&(_x), _v, __ATOMIC_SEQ_CST)

static bool reissue_with_rights(int pkey, unsigned int rights)
{
	return !sys_pkey_free(pkey) && sys_pkey_alloc(0, rights) == pkey;
}

static bool reissue(int pkey)
{
	return reissue_with_rights(pkey, 0);
}

/* PKRU without the bits of one key, to compare those of the others. */
static uint32_t pkru_without(uint32_t pkru, int pkey)
{
	return pkru_with_rights(pkru, pkey, 0);
}

static bool pkru_denies(uint32_t pkru, int pkey)
{
	return pkru >> 2 * pkey & PKEY_DISABLE_ACCESS;
}

/* Was access to the key taken away, and nothing else changed? */
static bool only_revoked(uint32_t before, int pkey, uint32_t after)
{
	return pkru_denies(after, pkey) &&
	       pkru_without(before, pkey) == pkru_without(after, pkey);
}

#define EXPECT_REVOKED(_before, _pkey, _after)					\
	EXPECT_TRUE(only_revoked(_before, _pkey, _after))			\
		TH_LOG("PKRU was %08x, is %08x", _before, _after)

/* Waits until *@word is not @value. Without errno, which is not every task's own. */
static void wait_while(unsigned int *word, unsigned int value)
{
	while (LOAD(*word) == value)
		pkey_raw_syscall(NR_FUTEX, (uintptr_t)word, FUTEX_OP_WAIT, value, 0);
}

static void set_and_wake(unsigned int *word, unsigned int value)
{
	STORE(*word, value);
	pkey_raw_syscall(NR_FUTEX, (uintptr_t)word, FUTEX_OP_WAKE, INT_MAX, 0);
}

static int wait_for(pid_t pid)
{
	int status;

	return waitpid(pid, &status, __WALL) == pid ? status : -1;
}

/* What a holder does while its key is re-issued. */
enum doing {
	SPIN,
	READ,
	FUTEX,
	POLL,
	SLEEP,
	PAUSE,
};

/* What keeps it from doing so. */
enum held {
	NOT_HELD,
	STOPPED,
	TRACED,
};

struct holder {
	/* A process that shares memory, instead of a thread. */
	bool process;
	enum doing doing;
	enum held held;
	/* PKRU that it sets before. */
	uint32_t pkru;
	/* A page to read afterwards, if not NULL. */
	char *secret;

	pthread_t thread;
	pid_t tid;
	int fds[2];
	bool ready;
	unsigned int go;

	/* Its results: what it found at once, what came of its system call. */
	uint32_t seen;
	int result;
	char byte;
	struct pkey_fault fault;
	/* PKRU after it has opened the key again and gone on for a while. */
	uint32_t seen_later;
};

static unsigned int handled;

/* Runs in holders too, and must not need the thread-local errno. */
static void count_signal(int sig)
{
	ADD(handled, 1);
}

static int holder_wait(struct holder *holder)
{
	const struct wide_timespec long_time = { .tv_sec = 1000 };
	struct pollfd pollfd = { .fd = holder->fds[0], .events = POLLIN };
	unsigned int go;

	switch (holder->doing) {
	case SPIN:
		do {
			go = LOAD(holder->go);
			holder->seen = rdpkru();
		} while (!go);
		return 0;
	case READ:
		return pkey_raw_syscall_pkru(__NR_read, holder->fds[0],
					     (uintptr_t)&holder->byte, 1, 0, &holder->seen);
	case FUTEX:
		return pkey_raw_syscall_pkru(NR_FUTEX, (uintptr_t)&holder->go, FUTEX_OP_WAIT,
					     0, 0, &holder->seen);
	case POLL:
		return pkey_raw_syscall_pkru(__NR_poll, (uintptr_t)&pollfd, 1, -1, 0,
					     &holder->seen);
	case SLEEP:
		return pkey_raw_syscall_pkru(NR_SLEEP, CLOCK_MONOTONIC, 0,
					     (uintptr_t)&long_time, 0, &holder->seen);
	case PAUSE:
		return pkey_raw_syscall_pkru(__NR_pause, 0, 0, 0, 0, &holder->seen);
	}
	return -1;
}

static int holder_run(void *arg)
{
	struct holder *holder = arg;
	int i;

	STORE(holder->tid, pkey_raw_syscall(__NR_gettid, 0, 0, 0, 0));
	wrpkru(holder->pkru);
	STORE(holder->ready, true);
	holder->result = holder_wait(holder);

	if (holder->secret)
		holder->fault = pkey_probe(PKEY_READ, holder->secret);

	/* As if the new owner had let it have the key. */
	wrpkru(holder->pkru);
	for (i = 0; i < 20; i++)
		pkey_raw_syscall(__NR_sched_yield, 0, 0, 0, 0);
	holder->seen_later = rdpkru();
	return 0;
}

static void *holder_thread(void *arg)
{
	holder_run(arg);
	return NULL;
}

/* Starts a task that shares memory and is no thread. Gives its number, or -1. */
static pid_t start_process(int (*fn)(void *arg), void *arg, int flags)
{
	char *stack;

	stack = pkey_map(STACK_PAGES, RW);
	if (!stack)
		return -1;

	return clone(fn, stack + STACK_PAGES * pkey_page_size(), CLONE_VM | flags | SIGCHLD, arg);
}

static bool holder_stop(struct holder *holder)
{
	int status;

	switch (holder->held) {
	case NOT_HELD:
		return true;
	case STOPPED:
		return !kill(holder->tid, SIGSTOP) &&
		       waitpid(holder->tid, &status, __WALL | WUNTRACED) == holder->tid &&
		       WIFSTOPPED(status);
	case TRACED:
		return !ptrace(PTRACE_SEIZE, holder->tid, 0, 0) &&
		       !ptrace(PTRACE_INTERRUPT, holder->tid, 0, 0) &&
		       waitpid(holder->tid, &status, __WALL) == holder->tid &&
		       WIFSTOPPED(status);
	}
	return false;
}

/* Starts a holder and returns when it does what it is to do. */
static bool holder_start(struct holder *holder)
{
	const struct sigaction action = { .sa_handler = count_signal };

	sigaction(SIGUSR1, &action, NULL);
	if (pipe(holder->fds))
		return false;

	if (holder->process) {
		if (start_process(holder_run, holder, 0) < 0)
			return false;
	} else if (pthread_create(&holder->thread, NULL, holder_thread, holder)) {
		return false;
	}

	while (!LOAD(holder->ready))
		sched_yield();
	while (holder->doing != SPIN && pkey_task_state(holder->tid) != 'S')
		sched_yield();
	return holder_stop(holder);
}

static void holder_wake(struct holder *holder)
{
	switch (holder->held) {
	case NOT_HELD:
		break;
	case STOPPED:
		kill(holder->tid, SIGCONT);
		break;
	case TRACED:
		ptrace(PTRACE_DETACH, holder->tid, 0, 0);
		break;
	}

	STORE(holder->go, 1);
	if (write(holder->fds[1], "x", 1) != 1)
		return;
	if (holder->doing == FUTEX)
		pkey_raw_syscall(NR_FUTEX, (uintptr_t)&holder->go, FUTEX_OP_WAKE, 1, 0);
	else if (holder->doing == SLEEP || holder->doing == PAUSE)
		syscall(__NR_tgkill, holder->process ? holder->tid : getpid(), holder->tid,
			SIGUSR1);
}

/* Tells the holder to go on, and returns when it has ended. */
static bool holder_finish(struct holder *holder)
{
	bool done;

	holder_wake(holder);
	if (holder->process)
		done = wait_for(holder->tid) == 0;
	else
		done = !pthread_join(holder->thread, NULL);
	close(holder->fds[0]);
	close(holder->fds[1]);
	return done;
}

/* What the holder's system call gives if nothing but holder_wake() ends it. */
static int holder_expected_result(const struct holder *holder)
{
	switch (holder->doing) {
	case READ:
	case POLL:
		return 1;
	case SLEEP:
	case PAUSE:
		return -EINTR;
	default:
		return 0;
	}
}

FIXTURE(holder)
{
	struct holder *holder;
};

FIXTURE_VARIANT(holder)
{
	bool process;
	enum doing doing;
	enum held held;
};

FIXTURE_VARIANT_ADD(holder, thread_in_user_mode) {
	.doing = SPIN,
};

FIXTURE_VARIANT_ADD(holder, thread_in_read) {
	.doing = READ,
};

FIXTURE_VARIANT_ADD(holder, thread_in_futex) {
	.doing = FUTEX,
};

FIXTURE_VARIANT_ADD(holder, thread_in_poll) {
	.doing = POLL,
};

FIXTURE_VARIANT_ADD(holder, thread_in_nanosleep) {
	.doing = SLEEP,
};

FIXTURE_VARIANT_ADD(holder, thread_in_pause) {
	.doing = PAUSE,
};

FIXTURE_VARIANT_ADD(holder, process_in_user_mode) {
	.process = true,
	.doing = SPIN,
};

FIXTURE_VARIANT_ADD(holder, process_in_read) {
	.process = true,
	.doing = READ,
};

FIXTURE_VARIANT_ADD(holder, process_in_futex) {
	.process = true,
	.doing = FUTEX,
};

FIXTURE_VARIANT_ADD(holder, process_in_nanosleep) {
	.process = true,
	.doing = SLEEP,
};

FIXTURE_VARIANT_ADD(holder, process_stopped_in_user_mode) {
	.process = true,
	.doing = SPIN,
	.held = STOPPED,
};

FIXTURE_VARIANT_ADD(holder, process_stopped_in_read) {
	.process = true,
	.doing = READ,
	.held = STOPPED,
};

FIXTURE_VARIANT_ADD(holder, process_traced_in_user_mode) {
	.process = true,
	.doing = SPIN,
	.held = TRACED,
};

FIXTURE_VARIANT_ADD(holder, process_traced_in_read) {
	.process = true,
	.doing = READ,
	.held = TRACED,
};

FIXTURE_SETUP(holder)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	self->holder = pkey_mmap(NULL, sizeof(*self->holder), RW,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1);
	ASSERT_TRUE(!!self->holder);
	self->holder->process = variant->process;
	self->holder->doing = variant->doing;
	self->holder->held = variant->held;
}

FIXTURE_TEARDOWN(holder)
{
}

/* Gets ready for the next round with the same holder. */
static void holder_reset(struct holder *holder, uint32_t pkru)
{
	holder->pkru = pkru;
	holder->ready = false;
	holder->go = 0;
	holder->byte = 0;
	holder->seen = 0;
	holder->seen_later = 0;
}

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

	for (p = 0; p < 2 * ARRAY_SIZE(pkru_patterns); p++) {
		pkey = 1 + p * 5 % PKEY_MAX;
		/* All rights, and none but to read. */
		holder_reset(holder, pkru_with_rights(pkru_patterns[p / 2], pkey,
						      p & 1 ? PKEY_DISABLE_WRITE : 0));
		handled = 0;
		ASSERT_TRUE(holder_start(holder));
		mine = ~pkru_patterns[p / 2] & ~PKRU_KEY0_MASK;
		wrpkru(mine);
		ASSERT_TRUE(reissue_with_rights(pkey, p % 4));
		EXPECT_EQ(pkru_with_rights(mine, pkey, p % 4), rdpkru());
		EXPECT_EQ(0, LOAD(handled));
		ASSERT_TRUE(holder_finish(holder));

		EXPECT_REVOKED(holder->pkru, pkey, holder->seen);
		EXPECT_EQ(holder_expected_result(holder), holder->result);
		if (holder->doing == READ)
			EXPECT_EQ('x', holder->byte);
		/* What the new owner gives it, it keeps. */
		EXPECT_EQ(holder->pkru, holder->seen_later);
	}
}

/* F4: the data of the new owner is closed to the holder. */
TEST_F(holder, cannot_read_data_of_new_owner)
{
	struct holder *holder = self->holder;
	char *secret;

	holder_reset(holder, 0);
	secret = pkey_map(1, RW);
	ASSERT_TRUE(!!secret);
	holder->secret = secret;
	ASSERT_TRUE(holder_start(holder));
	ASSERT_TRUE(reissue(KEY));
	ASSERT_EQ(0, sys_pkey_mprotect(secret, pkey_page_size(), RW, KEY));
	secret[0] = 42;
	ASSERT_TRUE(holder_finish(holder));

	EXPECT_TRUE(holder->fault.hit);
	EXPECT_EQ(SEGV_PKUERR, holder->fault.code);
	EXPECT_EQ(KEY, holder->fault.pkey);
	EXPECT_TRUE(holder->fault.addr == secret);
	EXPECT_EQ(42, secret[0]);
}

/* F4: several keys are re-issued before it runs again, one of them twice. */
TEST_F(holder, loses_rights_to_several_keys)
{
	const int keys[] = { 3, 15, 1, 8, 15 };
	struct holder *holder = self->holder;
	uint32_t denied = 0;
	size_t i;

	holder_reset(holder, 0);
	ASSERT_TRUE(holder_start(holder));
	for (i = 0; i < ARRAY_SIZE(keys); i++) {
		ASSERT_TRUE(reissue(keys[i]));
		denied |= PKEY_DISABLE_ACCESS << 2 * keys[i];
	}
	ASSERT_TRUE(holder_finish(holder));
	EXPECT_EQ(denied, holder->seen & (denied | denied << 1));
	EXPECT_EQ(0, holder->seen & ~(denied | denied << 1));
	EXPECT_EQ(holder_expected_result(holder), holder->result);
}

/* F4, D1: the same if the kernel takes the key for execute-only memory. */
TEST_F(holder, loses_rights_to_execute_only_key)
{
	struct holder *holder = self->holder;
	void *code;

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

/* B2: a free alone takes no rights. */
TEST_F(holder, keeps_rights_when_key_is_freed)
{
	struct holder *holder = self->holder;

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
	pid_t pid;

	holder_reset(holder, 0x0f0f0f0c);
	ASSERT_TRUE(holder_start(holder));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		EXPECT_TRUE(reissue(KEY));
		_exit(0);
	}
	EXPECT_EQ(0, wait_for(pid));
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

/* F4: many holders of all kinds at once. */
TEST_F(full, many_holders_lose_rights)
{
	enum { NR = 24 };
	const enum doing doing[] = { READ, FUTEX, POLL, SPIN, PAUSE };
	static struct holder holders[NR];
	int i;

	for (i = 0; i < NR; i++) {
		holders[i].process = i % 3 == 2;
		holders[i].doing = doing[i % ARRAY_SIZE(doing)];
		/* Spinning ones cost the others their time: only a few. */
		if (i > 10 && holders[i].doing == SPIN)
			holders[i].doing = READ;
		/* A futex() that was stopped may find that it is too late. */
		if (holders[i].process && holders[i].doing != FUTEX)
			holders[i].held = STOPPED;
		holders[i].pkru = pkru_with_rights(pkru_patterns[i % ARRAY_SIZE(pkru_patterns)],
						   KEY, 0);
		ASSERT_TRUE(holder_start(&holders[i]));
	}
	ASSERT_TRUE(reissue(KEY));
	for (i = 0; i < NR; i++) {
		ASSERT_TRUE(holder_finish(&holders[i]));
		EXPECT_REVOKED(holders[i].pkru, KEY, holders[i].seen);
		EXPECT_EQ(holder_expected_result(&holders[i]), holders[i].result);
	}
}

/* A process that shares memory and has a thread of its own: that is the holder. */
struct team {
	struct holder holder;
	bool first_exits;
	unsigned int end;
};

static int team_run(void *arg)
{
	const int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
	char *stack = pkey_map(STACK_PAGES, RW);
	struct team *team = arg;

	if (!stack || clone(holder_run, stack + STACK_PAGES * pkey_page_size(), flags,
			    &team->holder) < 0)
		return 1;

	if (!team->first_exits)
		wait_while(&team->end, 0);
	return 0;
}

/* F4: all threads of another process, also when its first thread has exited. */
TEST_F(full, threads_of_another_process_lose_rights)
{
	struct team team;
	pid_t pid;
	int i;

	for (i = 0; i < 2; i++) {
		memset(&team, 0, sizeof(team));
		team.first_exits = i;
		pid = start_process(team_run, &team, 0);
		ASSERT_LE(0, pid);
		while (!LOAD(team.holder.ready))
			sched_yield();
		while (pkey_task_state(pid) != (team.first_exits ? 'Z' : 'S'))
			sched_yield();
		ASSERT_TRUE(reissue(KEY));
		STORE(team.holder.go, 1);
		set_and_wake(&team.end, 1);
		ASSERT_EQ(0, wait_for(pid));
		EXPECT_REVOKED(0, KEY, team.holder.seen);
	}
}

static void *reissue_thread(void *arg)
{
	bool *done = arg;

	wrpkru(0xffffffff & ~PKRU_KEY0_MASK);
	*done = reissue(KEY) && rdpkru() == pkru_without(0xfffffffc, KEY);
	return NULL;
}

/* F4: the first thread of the process is a holder as any other. */
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

	return done && only_revoked(0, KEY, rdpkru());
}

static bool reissue_often(void)
{
	int i;

	for (i = 0; i < 10; i++)
		if (!reissue(KEY))
			return false;
	return true;
}

/* E1, F4: re-issues before fork() do not hide the next one from the child. */
TEST_F(full, reissues_before_fork)
{
	pid_t pid;

	ASSERT_TRUE(reissue_often());
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(!rights_are_lost());
	EXPECT_EQ(0, wait_for(pid));
}

static void *take_all_thread(void *arg)
{
	*(int *)arg = pkey_take_all(NULL);
	return NULL;
}

/*
 * In a new program. Its first thread makes no call with keys: only execve() has
 * told it that the re-issues are counted anew.
 */
static bool new_program_loses_rights(void)
{
	pthread_t thread;
	int nr = 0;

	return !pthread_create(&thread, NULL, take_all_thread, &nr) &&
	       !pthread_join(thread, NULL) && nr == PKEY_MAX && rights_are_lost();
}

/* E3, F4: nor do those before execve() from the new program. */
TEST_F(full, reissues_before_execve)
{
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (reissue_often())
			execl("/proc/self/exe", "pkey_revoke_test", LOSE_RIGHTS_ARG, NULL);
		_exit(2);
	}
	EXPECT_EQ(0, wait_for(pid));
}

static int reissue_process(void *arg)
{
	reissue_thread(arg);
	return 0;
}

/* F4: so is one that waits for the child of its vfork(). */
TEST_F(full, vfork_parent_loses_rights)
{
	bool done;
	pid_t pid;
	size_t p;

	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		wrpkru(pkru_without(pkru_patterns[p], KEY));
		pid = start_process(reissue_process, &done, CLONE_VFORK);
		EXPECT_REVOKED(pkru_patterns[p], KEY, rdpkru());
		ASSERT_EQ(0, wait_for(pid));
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
		_exit(0);
	}
	ASSERT_TRUE(reissue(KEY));
	close(fds[1]);
	EXPECT_EQ(0, wait_for(pid));
}

static void *pkru_thread(void *arg)
{
	*(uint32_t *)arg = rdpkru();
	return NULL;
}

static int pkru_process(void *arg)
{
	pkru_thread(arg);
	return 0;
}

/* E2: rights to a key that was re-issued before are as good as others. */
TEST_F(full, new_tasks_have_rights_to_reissued_key)
{
	uint32_t seen = ~0u;
	pthread_t thread;
	pid_t pid;

	ASSERT_TRUE(reissue(KEY));
	wrpkru(0);
	ASSERT_EQ(0, pthread_create(&thread, NULL, pkru_thread, &seen));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, seen);

	seen = ~0u;
	pid = start_process(pkru_process, &seen, CLONE_VFORK);
	ASSERT_EQ(0, wait_for(pid));
	EXPECT_EQ(0, seen);

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(!!rdpkru());
	EXPECT_EQ(0, wait_for(pid));
}

/* F5: a key that was never used has no holders, whatever PKRU says of it. */
TEST(first_use_takes_no_rights)
{
	static struct holder holder;
	int i;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	holder.doing = READ;
	ASSERT_TRUE(holder_start(&holder));
	for (i = 1; i <= PKEY_MAX; i++)
		ASSERT_EQ(i, sys_pkey_alloc(0, 0));
	ASSERT_TRUE(holder_finish(&holder));
	EXPECT_EQ(0, holder.seen);
	EXPECT_EQ(1, holder.result);
}

/*
 * A re-issue that goes on and on, in a thread of its own. Two counters tell the
 * others, who cannot stop it, what has happened: re-issues up to number @end
 * have been completed; those after number @begin have not begun. So a task that
 *
 *	opens the key, reads @begin, ..., reads @end, reads PKRU
 *
 * must find the key closed if @end is greater than @begin was.
 */
static struct {
	pthread_t thread;
	unsigned int begin;
	unsigned int end;
	bool stop;
	int failed;
} endless;

static void *reissue_endlessly(void *arg)
{
	while (!LOAD(endless.stop)) {
		ADD(endless.begin, 1);
		if (!reissue(KEY))
			endless.failed++;
		ADD(endless.end, 1);
	}
	return NULL;
}

static bool start_endless(void)
{
	endless.stop = false;
	return !pthread_create(&endless.thread, NULL, reissue_endlessly, NULL);
}

/* Has a re-issue been completed that had not begun when @begin was read? */
static bool endless_hit(unsigned int begin)
{
	return (int)(LOAD(endless.end) - begin) > 0;
}

/* Gives how many times the re-issue failed. */
static int stop_endless(void)
{
	STORE(endless.stop, true);
	pthread_join(endless.thread, NULL);
	return endless.failed;
}

/*
 * Births: the creator opens the key and creates a task while another thread
 * re-issues the key, once. Whoever is created has no rights when the re-issue
 * is over. The race is for the moment between the copy of PKRU and the end of
 * clone(); the other thread begins a little later each time, up to about the
 * time that clone() takes.
 */
#define NR_BIRTHS	128
#define NR_DELAYS	64
#define DELAY_STEP	300

enum birth_kind {
	BIRTH_THREAD,
	BIRTH_PROCESS,
	BIRTH_FORK,
};

/* A key that is freed as soon as the other has been re-issued. */
#define MARK		9

struct birth {
	pthread_t other;
	/* The other thread has round @go to do, and has done round @done. */
	unsigned int go;
	unsigned int done;
	int failed;
	/* What the new task finds; it may not share the rest. */
	struct {
		uint32_t pkru;
		bool after_reissue;
		/* Cleared by the kernel when a thread is gone. */
		unsigned int tid;
	} *task;
};

static void *reissue_once_a_round(void *arg)
{
	struct birth *birth = arg;
	unsigned int round = 0;
	int i;

	while (round < NR_BIRTHS) {
		wait_while(&birth->go, round);
		for (i = 0; i < (int)(round % NR_DELAYS * DELAY_STEP); i++)
			asm volatile("pause");
		if (!reissue(KEY))
			birth->failed++;
		/* This the child of fork() finds in its copy of the keys. */
		if (sys_pkey_free(MARK))
			birth->failed++;
		set_and_wake(&birth->done, ++round);
	}
	return NULL;
}

static int birth_run(void *arg)
{
	struct birth *birth = arg;

	wait_while(&birth->done, birth->go - 1);
	birth->task->pkru = rdpkru();
	birth->task->after_reissue = true;
	return 0;
}

/* In its own copy of the memory: the keys are what they were at the fork. */
static void birth_run_forked(struct birth *birth)
{
	birth->task->pkru = rdpkru();
	birth->task->after_reissue = !!sys_pkey_free(MARK);
}

/* Creates a task and waits until it is gone. */
static bool give_birth(enum birth_kind kind, char *stack, struct birth *birth)
{
	const int thread_flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND |
				 CLONE_THREAD | CLONE_SYSVSEM | CLONE_CHILD_CLEARTID;
	pid_t pid;

	switch (kind) {
	case BIRTH_THREAD:
		birth->task->tid = 1;
		pid = clone(birth_run, stack, thread_flags, birth, NULL, NULL,
			    &birth->task->tid);
		if (pid > 0)
			wait_while(&birth->task->tid, 1);
		return pid > 0;
	case BIRTH_PROCESS:
		pid = clone(birth_run, stack, CLONE_VM | SIGCHLD, birth);
		return pid > 0 && wait_for(pid) == 0;
	case BIRTH_FORK:
		pid = fork();
		if (!pid) {
			birth_run_forked(birth);
			_exit(0);
		}
		return pid > 0 && wait_for(pid) == 0;
	}
	return false;
}

FIXTURE(birth)
{
	struct birth birth;
	char *stack;
};

FIXTURE_VARIANT(birth)
{
	enum birth_kind kind;
};

FIXTURE_VARIANT_ADD(birth, thread) {
	.kind = BIRTH_THREAD,
};

FIXTURE_VARIANT_ADD(birth, process) {
	.kind = BIRTH_PROCESS,
};

FIXTURE_VARIANT_ADD(birth, fork) {
	.kind = BIRTH_FORK,
};

FIXTURE_SETUP(birth)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	self->birth.task = pkey_map_shared(sizeof(*self->birth.task));
	ASSERT_TRUE(!!self->birth.task);
	self->stack = pkey_map(STACK_PAGES, RW);
	ASSERT_TRUE(!!self->stack);
	self->stack += STACK_PAGES * pkey_page_size();
}

FIXTURE_TEARDOWN(birth)
{
}

/* F4, E1, E2: no task is born with rights that were taken meanwhile. */
TEST_F(birth, brings_no_rights_back)
{
	int i, hits = 0, with_rights = 0, changed = 0;
	const uint32_t both = PKEY_RIGHTS_MASK << 2 * KEY | PKEY_RIGHTS_MASK << 2 * MARK;
	struct birth *birth = &self->birth;
	uint32_t pkru;

	ASSERT_EQ(0, pthread_create(&birth->other, NULL, reissue_once_a_round, birth));
	for (i = 0; i < NR_BIRTHS; i++) {
		pkru = pkru_patterns[i % ARRAY_SIZE(pkru_patterns)] & ~both;
		wrpkru(pkru);
		set_and_wake(&birth->go, i + 1);
		ASSERT_TRUE(give_birth(variant->kind, self->stack, birth));
		wait_while(&birth->done, i);
		ASSERT_EQ(MARK, sys_pkey_alloc(0, 0));
		if ((birth->task->pkru & ~both) != pkru)
			changed++;
		if (!birth->task->after_reissue)
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
		SKIP(return, "no task was born after a re-issue");
}

/* Each round lasts until a re-issue has come and gone. */
#define NR_ROUNDS	200

/*
 * F4: the same for a task that is not new, and does this and that: system calls
 * that give the processor away, that do not, and none.
 */
TEST_F(full, no_rights_after_reissue_in_any_round)
{
	int i, with_rights = 0, changed = 0;
	uint32_t opened, pkru;
	unsigned int begin;
	bool hit;

	ASSERT_TRUE(start_endless());
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
	EXPECT_EQ(0, stop_endless());
	EXPECT_EQ(0, with_rights);
	EXPECT_EQ(0, changed);
}

/* Threads that want the same few keys: 4 for 3, so that they meet all the time. */
#define NR_RIVALS	4
#define NR_WANTED	3
#define NR_RIVAL_ROUNDS	1000

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

/* A5, F4: who gets a key has just the rights asked for, whoever had it before. */
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
	/* One of them may come away empty-handed, but not all. */
	ASSERT_LT(0, taken);
	ASSERT_EQ(NR_WANTED, pkey_take_all(NULL));
	if (!overlaps)
		SKIP(return, "no two calls ever overlapped");
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

/* F4, A5: two re-issues at once: each takes the rights that the other leaves. */
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

/* F4, A5: a key that is freed by another thread while it is being re-issued. */
TEST_F(full, freed_while_reissued)
{
	struct holder holder = { .doing = SPIN };
	struct thief thief = {};
	int i, pkey, taken = 1, wrong_key = 0, wrong_rights = 0;

	ASSERT_TRUE(holder_start(&holder));
	ASSERT_EQ(0, pthread_create(&thief.thread, NULL, thief_thread, &thief));
	for (i = 0; i < 10 * NR_DUELS; i++) {
		pkey = sys_pkey_alloc(0, i & PKEY_RIGHTS_MASK);
		if (pkey < 0)
			continue;
		taken++;
		if (pkey != KEY)
			wrong_key++;
		else if (pkru_get_rights(pkey) != (i & PKEY_RIGHTS_MASK))
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
	if (taken > 1)
		ASSERT_TRUE(pkru_denies(holder.seen, KEY));
	if (taken < 3)
		SKIP(return, "the key was hardly ever freed");
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

/* What a program finds after execve(), before it does anything. */
struct report {
	uint32_t pkru;
	int nr;
	int keys[PKEY_NR];
	/* Then a thread of its own re-issues a key. */
	bool lost_rights;
};

/* The program after execve(): stores the report in a pipe. */
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
	if (!start_endless())
		return 1;

	while (LOAD(endless.end) < 10)
		sched_yield();
	return exec_report(arg);
}

/* Each execve() takes as long as hundreds of re-issues. */
#define NR_EXECS	10

/* F4, E3: execve() in a task that shares memory, while a key is re-issued. */
TEST_F(full, execve_meanwhile)
{
	struct report report;
	int i, k, fds[2];
	pid_t pid;

	ASSERT_TRUE(start_endless());
	for (i = 0; i < NR_EXECS; i++) {
		wrpkru(0);
		ASSERT_EQ(0, pipe(fds));
		pid = start_process(exec_report, &fds[1], i & 1 ? CLONE_VFORK : 0);
		ASSERT_LE(0, pid);
		ASSERT_EQ((ssize_t)sizeof(report), read(fds[0], &report, sizeof(report)));
		ASSERT_EQ(0, wait_for(pid));
		close(fds[0]);
		close(fds[1]);
		EXPECT_EQ(pkru_at_start, report.pkru);
		EXPECT_TRUE(report.lost_rights);
		ASSERT_EQ(PKEY_MAX, report.nr);
		for (k = 0; k < report.nr; k++)
			EXPECT_EQ(k + 1, report.keys[k]);
	}
	EXPECT_EQ(0, stop_endless());
}

/* F4, E3: execve() that ends the thread which is re-issuing. */
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
		ASSERT_EQ((ssize_t)sizeof(report), read(fds[0], &report, sizeof(report)));
		ASSERT_EQ(0, wait_for(pid));
		close(fds[0]);
		close(fds[1]);
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

	*done = reissue(LOWEST);
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

/* E1, F4: fork() while KEY is re-issued. */
TEST_F(full, fork_meanwhile)
{
	pid_t pid;
	int i;

	ASSERT_TRUE(start_endless());
	for (i = 0; i < NR_FORKS; i++) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			_exit(!keys_work_in_child());
		EXPECT_EQ(0, wait_for(pid));
	}
	EXPECT_EQ(0, stop_endless());
}

/* F4: a process that ends in the middle, with holders of all kinds. */
TEST_F(full, exit_meanwhile)
{
	const enum doing doing[] = { SPIN, READ, FUTEX, POLL };
	static struct holder holders[ARRAY_SIZE(doing)];
	pid_t pid;
	size_t h;
	int i;

	for (i = 0; i < NR_EXECS; i++) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			for (h = 0; h < ARRAY_SIZE(doing); h++) {
				holders[h].doing = doing[h];
				if (!holder_start(&holders[h]))
					_exit(1);
			}
			if (!start_endless())
				_exit(1);
			while (LOAD(endless.end) < 10)
				sched_yield();
			_exit(0);
		}
		EXPECT_EQ(0, wait_for(pid));
	}
	/* And here nothing has changed. */
	EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
	EXPECT_EQ(ENOSPC, errno);
}

/* A holder that opens the key and ends, over and over. */
static int open_and_exit(void *arg)
{
	wrpkru(0);
	return 0;
}

static void *exit_endlessly(void *arg)
{
	const struct holder *holder = arg;
	char *stack = pkey_map(STACK_PAGES, RW);
	pid_t pid;

	while (stack && !LOAD(holder->go)) {
		pid = clone(open_and_exit, stack + STACK_PAGES * pkey_page_size(),
			    CLONE_VM | SIGCHLD, NULL);
		waitpid(pid, NULL, __WALL);
	}
	return NULL;
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
		ASSERT_TRUE(reissue(KEY));
		ASSERT_TRUE(holder_finish(&staying));
		if (!pkru_denies(staying.seen, KEY))
			kept++;
	}
	STORE(coming.go, 1);
	ASSERT_EQ(0, pthread_join(coming.thread, NULL));
	EXPECT_EQ(0, kept);
}

/*
 * Signal frames
 *
 * The main thread sends itself a signal, with the key open. What happens in the
 * handler is told by struct frame_plan; then sigreturn loads PKRU from the frame
 * that is as old as the signal.
 */

/* Where the software-reserved bytes of FXSAVE are, from what fpregs points to. */
#ifdef __x86_64__
#define FX_OFFSET	0
#else
#define FX_OFFSET	112
#endif
#define SW_OFFSET	(FX_OFFSET + 464)

/* What makes a frame that begins behind it aligned for XSAVE. */
#define FX_PADDING	((64 - FX_OFFSET % 64) % 64)

/*
 * The words there: magic, size, features (2), XSAVE size, then those that tell
 * about PKRU and those that are not used.
 */
#define SW_EXTENDED_SIZE	1
#define SW_PKRU			5
#define SW_STAMP_HIGH		7
#define SW_NR			12

#define MAX_FRAME	16384

enum frame_change {
	FRAME_AS_IT_IS,
	FRAME_WITHOUT_STAMP,
	FRAME_COPIED,
	FRAME_OPENED,
	FRAME_OPENED_LAST,
	FRAME_NARROWED,
	FRAME_LEGACY,
	FRAME_FOREIGN,
};

struct frame_plan {
	/* How the key changes its owner in the handler: not at all if NULL. */
	bool (*reissue)(void);
	enum frame_change change;
	/* How many handlers run inside each other, and which of them does it. */
	int depth;
	int reissue_at;
	/* The owner is this thread, which opens the key in the handler. */
	bool open_again;
	/* Gives the second of two processes a look at the frame. */
	bool fork;
};

static struct {
	struct frame_plan plan;
	int depth;
	int failed;
	/* PKRU after the innermost handler has returned to the one outside. */
	uint32_t pkru_inside;
	pid_t child;
} frames;

/* With room to align it. */
static char frame_copy[MAX_FRAME + 128];

static bool reissue_here(void)
{
	return reissue_with_rights(KEY, 0);
}

static bool reissue_last_here(void)
{
	return reissue_with_rights(PKEY_MAX, 0);
}

static void *reissue_key_thread(void *arg)
{
	*(bool *)arg = reissue(KEY);
	return NULL;
}

static bool reissue_in_thread(void)
{
	pthread_t thread;
	bool done = false;

	return !pthread_create(&thread, NULL, reissue_key_thread, &done) &&
	       !pthread_join(thread, NULL) && done;
}

static bool reissue_for_execute_only(void)
{
	return !sys_pkey_free(KEY) && pkey_of(pkey_map_code(PROT_EXEC)) == KEY;
}

static bool free_only(void)
{
	return !sys_pkey_free(KEY);
}

/* Another key than the one that is looked at. */
static bool reissue_others(void)
{
	return reissue(KEY - 1) && reissue(KEY + 1);
}

/* Where XSAVE puts PKRU; 0 if it has no place for it. */
static uint32_t xsave_pkru_offset(void)
{
	uint32_t size, offset, ecx, edx;

	if (!__get_cpuid_count(0xd, 9, &size, &offset, &ecx, &edx))
		return 0;
	return offset;
}

static bool change_frame(ucontext_t *ucontext)
{
	char *fpregs = (char *)ucontext->uc_mcontext.fpregs;
	uint32_t *pkru = (uint32_t *)(fpregs + FX_OFFSET + xsave_pkru_offset());
	uint32_t *sw = (uint32_t *)(fpregs + SW_OFFSET);
	char *copy;

	switch (frames.plan.change) {
	case FRAME_AS_IT_IS:
		return true;
	case FRAME_WITHOUT_STAMP:
		memset(sw + SW_PKRU, 0, (SW_NR - SW_PKRU) * sizeof(*sw));
		return true;
	case FRAME_COPIED:
		copy = (char *)(((uintptr_t)frame_copy + 63) & ~63ul) + FX_PADDING;
		if (sw[SW_EXTENDED_SIZE] > MAX_FRAME)
			return false;
		memcpy(copy, fpregs, sw[SW_EXTENDED_SIZE]);
		memset(fpregs, 0, sw[SW_EXTENDED_SIZE]);
		ucontext->uc_mcontext.fpregs = (void *)copy;
		return true;
	case FRAME_OPENED:
		*pkru = pkru_with_rights(*pkru, KEY, 0);
		return true;
	case FRAME_OPENED_LAST:
		*pkru = pkru_with_rights(*pkru, PKEY_MAX, 0);
		return true;
	case FRAME_NARROWED:
		*pkru |= PKEY_DISABLE_WRITE << 2 * KEY;
		return true;
	case FRAME_LEGACY:
		/* The second magic number, behind all else. */
		memset(fpregs + sw[SW_EXTENDED_SIZE] - 4, 0, 4);
		return true;
	case FRAME_FOREIGN:
		sw[SW_STAMP_HIGH]++;
		return true;
	}
	return false;
}

static int send_signal(uint32_t *pkru)
{
	return pkey_raw_syscall_pkru(__NR_tgkill, getpid(),
				     pkey_raw_syscall(__NR_gettid, 0, 0, 0, 0), SIGUSR2, 0,
				     pkru);
}

static void on_signal(void *ucontext)
{
	const struct frame_plan *plan = &frames.plan;
	int depth = ++frames.depth;

	if (depth < plan->depth && send_signal(&frames.pkru_inside))
		frames.failed++;
	if (depth == plan->reissue_at && plan->reissue && !plan->reissue())
		frames.failed++;
	if (depth == plan->reissue_at && plan->open_again)
		pkru_set_rights(KEY, 0);
	if (depth == plan->reissue_at && plan->fork)
		frames.child = fork();
	if (ucontext && !change_frame(ucontext))
		frames.failed++;
}

static void handler_with_info(int sig, siginfo_t *info, void *ucontext)
{
	on_signal(ucontext);
}

static void handler_without_info(int sig)
{
	on_signal(NULL);
}

/* Sends the signal with @pkru, and gives PKRU after the handler. */
static uint32_t run_frame(const struct frame_plan *plan, int flags, uint32_t pkru)
{
	struct sigaction action = { .sa_flags = SA_NODEFER | flags };
	uint32_t after;

	if (flags & SA_SIGINFO)
		action.sa_sigaction = handler_with_info;
	else
		action.sa_handler = handler_without_info;
	memset(&frames, 0, sizeof(frames));
	frames.plan = *plan;
	if (sigaction(SIGUSR2, &action, NULL))
		frames.failed++;

	wrpkru(pkru);
	if (send_signal(&after))
		frames.failed++;
	if (frames.depth < plan->depth)
		frames.failed++;
	return after;
}

FIXTURE(frame)
{
};

FIXTURE_VARIANT(frame)
{
	int flags;
};

FIXTURE_VARIANT_ADD(frame, with_info) {
	.flags = SA_SIGINFO,
};

/* On 32-bit x86 this is another frame, and another sigreturn. */
FIXTURE_VARIANT_ADD(frame, without_info) {
	.flags = 0,
};

FIXTURE_VARIANT_ADD(frame, on_other_stack) {
	.flags = SA_SIGINFO | SA_ONSTACK,
};

FIXTURE_SETUP(frame)
{
	const size_t size = 64 * pkey_page_size();
	stack_t stack = { .ss_size = size };

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	stack.ss_sp = pkey_mmap(NULL, size, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	ASSERT_TRUE(!!stack.ss_sp);
	ASSERT_EQ(0, sigaltstack(&stack, NULL));
}

FIXTURE_TEARDOWN(frame)
{
}

/* All patterns, with all rights to the key, and with those to read. */
#define NR_FRAMES	(2 * ARRAY_SIZE(pkru_patterns))

static uint32_t frame_pkru(size_t i)
{
	return pkru_with_rights(pkru_patterns[i / 2], KEY, i & 1 ? PKEY_DISABLE_WRITE : 0);
}

/* F6: without a re-issue sigreturn gives back what was there. */
TEST_F(frame, restores_rights)
{
	const struct frame_plan plan = { .depth = 1 };
	size_t i;

	for (i = 0; i < NR_FRAMES; i++) {
		EXPECT_EQ(frame_pkru(i), run_frame(&plan, variant->flags, frame_pkru(i)));
		EXPECT_EQ(0, frames.failed);
	}
}

/* F6: with one in the handler itself, no other thread needed, it does not. */
TEST_F(frame, older_than_reissue_in_handler)
{
	const struct frame_plan plan = {
		.depth = 1,
		.reissue = reissue_here,
		.reissue_at = 1,
	};
	uint32_t after;
	size_t i;

	for (i = 0; i < NR_FRAMES; i++) {
		after = run_frame(&plan, variant->flags, frame_pkru(i));
		EXPECT_EQ(0, frames.failed);
		EXPECT_REVOKED(frame_pkru(i), KEY, after);
	}
}

/* F6: the handler has the rights that it opens for itself, but only there. */
TEST_F(frame, older_than_rights_of_handler)
{
	const struct frame_plan plan = {
		.depth = 1,
		.reissue = reissue_here,
		.reissue_at = 1,
		.open_again = true,
	};
	uint32_t after;
	size_t i;

	for (i = 0; i < NR_FRAMES; i++) {
		after = run_frame(&plan, variant->flags, frame_pkru(i));
		EXPECT_EQ(0, frames.failed);
		EXPECT_REVOKED(frame_pkru(i), KEY, after);
	}
}

/* F6: nor if another thread re-issues while the handler runs. */
TEST_F(frame, older_than_reissue_in_thread)
{
	const struct frame_plan plan = {
		.depth = 1,
		.reissue = reissue_in_thread,
		.reissue_at = 1,
	};
	uint32_t after;
	size_t i;

	for (i = 0; i < NR_FRAMES; i++) {
		after = run_frame(&plan, variant->flags, frame_pkru(i));
		EXPECT_EQ(0, frames.failed);
		EXPECT_REVOKED(frame_pkru(i), KEY, after);
	}
}

/* F6, D1: nor if the kernel takes the key for execute-only memory. */
TEST_F(frame, older_than_execute_only_key)
{
	const struct frame_plan plan = {
		.depth = 1,
		.reissue = reissue_for_execute_only,
		.reissue_at = 1,
	};
	uint32_t after;

	after = run_frame(&plan, variant->flags, frame_pkru(8));
	EXPECT_EQ(0, frames.failed);
	EXPECT_REVOKED(frame_pkru(8), KEY, after);
}

/* F6: a free, or a re-issue of other keys, takes nothing away. */
TEST_F(frame, older_than_what_does_not_matter)
{
	struct frame_plan plan = {
		.depth = 1,
		.reissue = reissue_others,
		.reissue_at = 1,
	};
	uint32_t after;
	size_t i;

	for (i = 0; i < NR_FRAMES; i++) {
		after = run_frame(&plan, variant->flags, frame_pkru(i));
		EXPECT_EQ(0, frames.failed);
		EXPECT_EQ(0, (after ^ frame_pkru(i)) >> 2 * KEY & PKEY_RIGHTS_MASK);
		EXPECT_TRUE(pkru_denies(after, KEY - 1));
		EXPECT_TRUE(pkru_denies(after, KEY + 1));
	}
	plan.reissue = free_only;
	EXPECT_EQ(frame_pkru(6), run_frame(&plan, variant->flags, frame_pkru(6)));
	EXPECT_EQ(0, frames.failed);
}

/* F6: a re-issue before the signal has nothing to do with the frame. */
TEST_F(frame, younger_than_reissue)
{
	const struct frame_plan plan = { .depth = 1 };
	size_t i;

	for (i = 0; i < NR_FRAMES; i++) {
		ASSERT_TRUE(reissue(KEY));
		EXPECT_EQ(frame_pkru(i), run_frame(&plan, variant->flags, frame_pkru(i)));
		ASSERT_TRUE(reissue_in_thread());
		EXPECT_EQ(frame_pkru(i), run_frame(&plan, variant->flags, frame_pkru(i)));
		EXPECT_EQ(0, frames.failed);
	}
}

/* F6: handlers inside each other; the innermost does it: all frames are old. */
TEST_F(frame, nested_all_older)
{
	const struct frame_plan plan = {
		.depth = 4,
		.reissue = reissue_in_thread,
		.reissue_at = 4,
	};
	uint32_t after;
	size_t i;

	for (i = 0; i < NR_FRAMES; i++) {
		after = run_frame(&plan, variant->flags, frame_pkru(i));
		EXPECT_EQ(0, frames.failed);
		EXPECT_REVOKED(frame_pkru(i), KEY, after);
	}
}

static struct {
	uint32_t inner;
	uint32_t outer;
} newer;

static void handler_of_inner_signal(int sig)
{
}

/* Re-issues, opens the key as its new owner, and gets a second signal. */
static void handler_of_outer_signal(int sig)
{
	if (!reissue_here())
		frames.failed++;
	wrpkru(0x55555554 & ~(PKEY_RIGHTS_MASK << 2 * KEY));
	signal(SIGUSR2, handler_of_inner_signal);
	if (send_signal(&newer.inner))
		frames.failed++;
}

/* F6: the frame that is younger brings rights back, the one outside does not. */
TEST_F(frame, nested_inner_is_younger)
{
	const struct sigaction action = {
		.sa_handler = handler_of_outer_signal,
		.sa_flags = SA_NODEFER | (variant->flags & SA_ONSTACK),
	};

	memset(&frames, 0, sizeof(frames));
	ASSERT_EQ(0, sigaction(SIGUSR2, &action, NULL));
	wrpkru(0);
	ASSERT_EQ(0, send_signal(&newer.outer));
	EXPECT_EQ(0, frames.failed);
	EXPECT_EQ(0x55555554 & ~(PKEY_RIGHTS_MASK << 2 * KEY), newer.inner);
	EXPECT_REVOKED(0, KEY, newer.outer);
}

/* F6: a frame that does not tell its age is a program's: it is restored as is. */
TEST_F(frame, without_stamp_is_restored)
{
	const struct frame_plan plan = {
		.depth = 1,
		.reissue = reissue_in_thread,
		.reissue_at = 1,
		.change = FRAME_WITHOUT_STAMP,
	};
	size_t i;

	if (!(variant->flags & SA_SIGINFO))
		SKIP(return, "the handler does not get at the frame");

	for (i = 0; i < NR_FRAMES; i++) {
		EXPECT_EQ(frame_pkru(i), run_frame(&plan, variant->flags, frame_pkru(i)));
		EXPECT_EQ(0, frames.failed);
	}
}

/*
 * F6, H3: a handler that allocates a key, and gives the code that it interrupted
 * rights to it, in the frame. The kernel takes old rights only.
 */
TEST_F(frame, opened_by_handler)
{
	const struct frame_plan plan = {
		.depth = 1,
		.reissue = reissue_here,
		.reissue_at = 1,
		.change = FRAME_OPENED,
	};
	uint32_t before;
	size_t i;

	if (!(variant->flags & SA_SIGINFO))
		SKIP(return, "the handler does not get at the frame");

	for (i = 0; i < ARRAY_SIZE(pkru_patterns); i++) {
		before = pkru_with_rights(pkru_patterns[i], KEY, PKEY_DISABLE_ACCESS);
		EXPECT_EQ(pkru_with_rights(before, KEY, 0),
			  run_frame(&plan, variant->flags, before));
		EXPECT_EQ(0, frames.failed);
	}
}

/* F6: the same with the key that is last in PKRU. */
TEST_F(frame, last_key_opened_by_handler)
{
	const struct frame_plan plan = {
		.depth = 1,
		.reissue = reissue_last_here,
		.reissue_at = 1,
		.change = FRAME_OPENED_LAST,
	};
	const uint32_t before = pkru_with_rights(0, PKEY_MAX, PKEY_DISABLE_ACCESS);

	if (!(variant->flags & SA_SIGINFO))
		SKIP(return, "the handler does not get at the frame");

	EXPECT_EQ(0, run_frame(&plan, variant->flags, before));
	EXPECT_EQ(0, frames.failed);
}

/* F6: a handler that takes rights away in the frame has given none. */
TEST_F(frame, narrowed_by_handler)
{
	const struct frame_plan plan = {
		.depth = 1,
		.reissue = reissue_in_thread,
		.reissue_at = 1,
		.change = FRAME_NARROWED,
	};
	uint32_t before, after;
	size_t i;

	if (!(variant->flags & SA_SIGINFO))
		SKIP(return, "the handler does not get at the frame");

	for (i = 0; i < ARRAY_SIZE(pkru_patterns); i++) {
		before = pkru_with_rights(pkru_patterns[i], KEY, 0);
		after = run_frame(&plan, variant->flags, before);
		EXPECT_EQ(0, frames.failed);
		before = pkru_with_rights(before, KEY, PKEY_DISABLE_WRITE);
		EXPECT_REVOKED(before, KEY, after);
	}
}

/*
 * F6: a frame without its extended part, PKRU among it, opens all keys: but not
 * those that were re-issued.
 */
TEST_F(frame, without_extended_part)
{
	struct frame_plan plan = {
		.depth = 1,
		.change = FRAME_LEGACY,
	};
	uint32_t before, after;

	if (!(variant->flags & SA_SIGINFO))
		SKIP(return, "the handler does not get at the frame");

	before = run_frame(&plan, variant->flags, 0x55555554);
	plan.reissue = reissue_in_thread;
	plan.reissue_at = 1;
	after = run_frame(&plan, variant->flags, 0x55555554);
	EXPECT_EQ(0, frames.failed);
	EXPECT_REVOKED(before, KEY, after);
}

/* F6: a frame from another address space is older than every re-issue in this. */
TEST_F(frame, from_another_address_space)
{
	const struct frame_plan plan = {
		.depth = 1,
		.reissue = reissue_in_thread,
		.reissue_at = 1,
		.change = FRAME_FOREIGN,
	};
	uint32_t after;
	size_t i;

	if (!(variant->flags & SA_SIGINFO))
		SKIP(return, "the handler does not get at the frame");

	for (i = 0; i < NR_FRAMES; i++) {
		after = run_frame(&plan, variant->flags, frame_pkru(i));
		EXPECT_EQ(0, frames.failed);
		EXPECT_TRUE(pkru_denies(after, KEY));
	}
}

/* F6: a copy of a frame, at another place, is as good as the frame. */
TEST_F(frame, copied_restores_rights)
{
	const struct frame_plan plan = {
		.depth = 1,
		.change = FRAME_COPIED,
	};
	size_t i;

	if (!(variant->flags & SA_SIGINFO))
		SKIP(return, "the handler does not get at the frame");

	for (i = 0; i < NR_FRAMES; i++) {
		EXPECT_EQ(frame_pkru(i), run_frame(&plan, variant->flags, frame_pkru(i)));
		EXPECT_EQ(0, frames.failed);
	}
}

/* F6: and as old. */
TEST_F(frame, copied_is_as_old)
{
	const struct frame_plan plan = {
		.depth = 1,
		.reissue = reissue_in_thread,
		.reissue_at = 1,
		.change = FRAME_COPIED,
	};
	uint32_t after;
	size_t i;

	if (!(variant->flags & SA_SIGINFO))
		SKIP(return, "the handler does not get at the frame");

	for (i = 0; i < NR_FRAMES; i++) {
		after = run_frame(&plan, variant->flags, frame_pkru(i));
		EXPECT_EQ(0, frames.failed);
		EXPECT_REVOKED(frame_pkru(i), KEY, after);
	}
}

/* F6, E1: a child that leaves the handler of its parent. */
TEST_F(frame, older_in_forked_child)
{
	const struct frame_plan plan = {
		.depth = 1,
		.reissue = reissue_here,
		.reissue_at = 1,
		.fork = true,
	};
	uint32_t after;

	after = run_frame(&plan, variant->flags, frame_pkru(8));
	EXPECT_EQ(0, frames.failed);
	EXPECT_REVOKED(frame_pkru(8), KEY, after);
	if (!frames.child)
		_exit(0);
	EXPECT_EQ(0, wait_for(frames.child));
}

/* F6: in the handler a key is used for the first time: nobody had rights to it. */
static bool first_use(void)
{
	return sys_pkey_alloc(0, PKEY_DISABLE_ACCESS) > 0;
}

TEST(frame_older_than_first_use)
{
	const struct frame_plan plan = {
		.depth = 1,
		.reissue = first_use,
		.reissue_at = 1,
	};
	size_t i;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	for (i = 0; i < ARRAY_SIZE(pkru_patterns); i++) {
		EXPECT_EQ(pkru_patterns[i], run_frame(&plan, SA_SIGINFO, pkru_patterns[i]));
		EXPECT_EQ(0, frames.failed);
	}
}

/* A thread that is in its handler, and waits there for the re-issue. */
static struct {
	bool in_handler;
	bool leave_handler;
} waiter;

static void handler_that_waits(int sig)
{
	STORE(waiter.in_handler, true);
	while (!LOAD(waiter.leave_handler))
		pkey_raw_syscall(__NR_sched_yield, 0, 0, 0, 0);
}

/* F4, F6: a signal has come to a system call; it goes on, and has no rights. */
TEST_F(full, frame_of_interrupted_read)
{
	const struct sigaction action = {
		.sa_handler = handler_that_waits,
		.sa_flags = SA_RESTART,
	};
	struct holder holder = { .doing = READ };
	size_t p;

	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		holder_reset(&holder, pkru_without(pkru_patterns[p], KEY));
		waiter.in_handler = false;
		waiter.leave_handler = false;
		ASSERT_TRUE(holder_start(&holder));
		ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
		ASSERT_EQ(0, syscall(__NR_tgkill, getpid(), holder.tid, SIGUSR1));
		while (!LOAD(waiter.in_handler))
			sched_yield();
		ASSERT_TRUE(reissue(KEY));
		STORE(waiter.leave_handler, true);
		ASSERT_TRUE(holder_finish(&holder));
		EXPECT_EQ(1, holder.result);
		EXPECT_EQ('x', holder.byte);
		EXPECT_REVOKED(holder.pkru, KEY, holder.seen);
	}
}

/*
 * F6: signals and re-issues at any moment: between the signal and its frame, in
 * the handler, in sigreturn.
 */
TEST_F(full, frames_during_endless_reissue)
{
	int i, with_rights = 0, changed = 0;
	uint32_t opened, pkru;
	unsigned int begin;
	bool hit;

	signal(SIGUSR2, handler_of_inner_signal);
	ASSERT_TRUE(start_endless());
	for (i = 0; i < NR_ROUNDS; i++) {
		opened = pkru_without(pkru_patterns[i % ARRAY_SIZE(pkru_patterns)], KEY);
		wrpkru(opened);
		begin = LOAD(endless.begin);
		do {
			raise(SIGUSR2);
			hit = endless_hit(begin);
			pkru = rdpkru();
		} while (!hit);
		if (pkru_without(pkru, KEY) != opened)
			changed++;
		if (!pkru_denies(pkru, KEY))
			with_rights++;
	}
	EXPECT_EQ(0, stop_endless());
	EXPECT_EQ(0, with_rights);
	EXPECT_EQ(0, changed);
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
