// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of what fork(), clone() and execve() do to protection keys on x86, and
 * of tasks that allocate and free them at the same time.
 *
 * Tests whose child processes check something use a fixture, because only then
 * does the harness learn of failures in a child.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "../kselftest_harness.h"
#include "pkey_util.h"

#define INIT_PKRU	"/sys/kernel/debug/x86/init_pkru"

#define RW		(PROT_READ | PROT_WRITE)

/* The argument that makes this program report its state instead of testing. */
#define REPORT_ARG	"--report-to-fd"

#define STACK_PAGES	16

/* Keys 0, 1, 3 and 5: alloc_some() leaves them allocated, 2 and 4 freed. */
#define SOME_KEYS	0x002bu

/* PKRU as execve() left it for this program, before anything changed it. */
static uint32_t pkru_at_start;

static bool alloc_some(void)
{
	int pkey;

	for (pkey = 1; pkey <= 5; pkey++)
		if (sys_pkey_alloc(0, 0) != pkey)
			return false;

	return !sys_pkey_free(2) && !sys_pkey_free(4);
}

/* Waits for a child of any kind; gives its status, or -1. */
static int wait_for(pid_t pid)
{
	int status;

	return waitpid(pid, &status, __WALL) == pid ? status : -1;
}

/* A barrier for two that works between processes, or NULL. */
static pthread_barrier_t *new_barrier(void)
{
	pthread_barrier_t *barrier;
	pthread_barrierattr_t attr;

	barrier = pkey_map_shared(sizeof(*barrier));
	if (!barrier)
		return NULL;

	pthread_barrierattr_init(&attr);
	pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	if (pthread_barrier_init(barrier, &attr, 2))
		return NULL;

	return barrier;
}

FIXTURE(fork)
{
};

FIXTURE_SETUP(fork)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);
}

FIXTURE_TEARDOWN(fork)
{
}

/* E1: the child has the allocated keys of its parent and no others. */
TEST_F(fork, copies_allocated_keys)
{
	pid_t pid;

	ASSERT_TRUE(alloc_some());
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		EXPECT_EQ(SOME_KEYS, pkey_attachable_mask());
		EXPECT_EQ(0, sys_pkey_free(1));
		EXPECT_EQ(0, sys_pkey_free(3));
		EXPECT_EQ(0, sys_pkey_free(5));
		EXPECT_EQ(-1, sys_pkey_free(2));
		EXPECT_EQ(EINVAL, errno);
		_exit(0);
	}
	EXPECT_EQ(0, wait_for(pid));
}

/* E1, A6: the child knows which keys were used. */
TEST_F(fork, copies_used_keys)
{
	pid_t pid;

	ASSERT_EQ(1, sys_pkey_alloc(0, 0));
	ASSERT_EQ(0, sys_pkey_free(1));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		EXPECT_EQ(2, sys_pkey_alloc(0, 0));
		_exit(0);
	}
	EXPECT_EQ(0, wait_for(pid));
	/* What the child used is unused here. */
	EXPECT_EQ(2, sys_pkey_alloc(0, 0));
}

/* E1, A6: the same with keys in all states: unused first, then the freed. */
TEST_F(fork, copies_order_of_choice)
{
	int pkey;
	pid_t pid;

	ASSERT_TRUE(alloc_some());
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		for (pkey = 6; pkey <= PKEY_MAX; pkey++)
			EXPECT_EQ(pkey, sys_pkey_alloc(0, 0));
		EXPECT_EQ(2, sys_pkey_alloc(0, 0));
		EXPECT_EQ(4, sys_pkey_alloc(0, 0));
		EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
		EXPECT_EQ(ENOSPC, errno);
		_exit(0);
	}
	EXPECT_EQ(0, wait_for(pid));
}

/* E1, A4: the child of a process without free keys has none either. */
TEST_F(fork, copies_full)
{
	pid_t pid;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
		EXPECT_EQ(ENOSPC, errno);
		EXPECT_EQ(0, sys_pkey_free(8));
		EXPECT_EQ(8, sys_pkey_alloc(0, 0));
		EXPECT_EQ(0, sys_pkey_free(9));
		_exit(0);
	}
	EXPECT_EQ(0, wait_for(pid));
	EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
	EXPECT_EQ(ENOSPC, errno);
}

/* E1: mappings keep their keys, which guard them in the child as here. */
TEST_F(fork, copies_keys_of_mappings)
{
	const size_t size = pkey_page_size();
	char *pages;
	pid_t pid;

	pages = pkey_map(3, RW);
	ASSERT_TRUE(!!pages);
	ASSERT_EQ(1, sys_pkey_alloc(0, PKEY_DISABLE_ACCESS));
	ASSERT_EQ(2, sys_pkey_alloc(0, PKEY_DISABLE_WRITE));
	ASSERT_EQ(0, sys_pkey_mprotect(pages, size, RW, 1));
	ASSERT_EQ(0, sys_pkey_mprotect(pages + size, size, RW, 2));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		EXPECT_EQ(1, pkey_of(pages));
		EXPECT_EQ(2, pkey_of(pages + size));
		EXPECT_EQ(0, pkey_of(pages + 2 * size));
		EXPECT_TRUE(pkey_refused(PKEY_READ, pages, 1));
		EXPECT_TRUE(pkey_can(PKEY_READ, pages + size));
		EXPECT_TRUE(pkey_refused(PKEY_WRITE, pages + size, 2));
		EXPECT_TRUE(pkey_can(PKEY_WRITE, pages + 2 * size));
		pkru_set_rights(1, 0);
		EXPECT_TRUE(pkey_can(PKEY_WRITE, pages));
		_exit(0);
	}
	EXPECT_EQ(0, wait_for(pid));
	EXPECT_TRUE(pkey_refused(PKEY_READ, pages, 1));
}

/* E1: the execute-only key is reserved in the child too, and is the same. */
TEST_F(fork, copies_execute_only_key)
{
	void *code, *second;
	int pkey;
	pid_t pid;

	code = pkey_map_code(PROT_EXEC);
	ASSERT_TRUE(!!code);
	pkey = pkey_of(code);
	ASSERT_LE(1, pkey);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		EXPECT_EQ(-1, sys_pkey_free(pkey));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(PKEY_MASK_DEFAULT, pkey_attachable_mask());
		EXPECT_TRUE(pkey_refused(PKEY_READ, code, pkey));
		EXPECT_TRUE(pkey_can(PKEY_EXEC, code));
		second = pkey_map_code(PROT_EXEC);
		EXPECT_TRUE(!!second);
		EXPECT_EQ(pkey, pkey_of(second));
		EXPECT_EQ(PKEY_MAX - 1, pkey_take_all(NULL));
		_exit(0);
	}
	EXPECT_EQ(0, wait_for(pid));
}

/* E1: execute-only memory of the child reserves no key for the parent. */
TEST_F(fork, child_reserves_for_itself)
{
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		EXPECT_TRUE(!!pkey_map_code(PROT_EXEC));
		EXPECT_EQ(PKEY_MAX - 1, pkey_take_all(NULL));
		_exit(0);
	}
	EXPECT_EQ(0, wait_for(pid));
	EXPECT_EQ(PKEY_MAX, pkey_take_all(NULL));
}

/* E1: what the child allocates, frees and attaches is not seen here. */
TEST_F(fork, child_changes_only_itself)
{
	const size_t size = pkey_page_size();
	uint32_t pkru;
	char *page;
	pid_t pid;
	int pkey;

	page = pkey_map(1, RW);
	ASSERT_TRUE(!!page);
	ASSERT_TRUE(alloc_some());
	pkru = rdpkru();
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		pkey = sys_pkey_alloc(0, PKEY_DISABLE_ACCESS);
		EXPECT_LE(1, pkey);
		EXPECT_EQ(0, sys_pkey_free(1));
		EXPECT_EQ(0, sys_pkey_mprotect(page, size, RW, pkey));
		EXPECT_TRUE(pkey_refused(PKEY_READ, page, pkey));
		_exit(0);
	}
	EXPECT_EQ(0, wait_for(pid));
	EXPECT_EQ(SOME_KEYS, pkey_attachable_mask());
	EXPECT_EQ(pkru, rdpkru());
	EXPECT_EQ(0, pkey_of(page));
	EXPECT_TRUE(pkey_can(PKEY_WRITE, page));
}

/* E1: what the parent does after the fork is not seen in the child. */
TEST_F(fork, parent_changes_only_itself)
{
	const size_t size = pkey_page_size();
	pthread_barrier_t *barrier;
	char *page;
	pid_t pid;
	int pkey;

	page = pkey_map(1, RW);
	barrier = new_barrier();
	ASSERT_TRUE(!!page);
	ASSERT_TRUE(!!barrier);
	ASSERT_TRUE(alloc_some());
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		pthread_barrier_wait(barrier);
		EXPECT_EQ(SOME_KEYS, pkey_attachable_mask());
		EXPECT_EQ(0, pkey_of(page));
		EXPECT_TRUE(pkey_can(PKEY_WRITE, page));
		EXPECT_EQ(0, sys_pkey_free(1));
		_exit(0);
	}
	pkey = sys_pkey_alloc(0, PKEY_DISABLE_ACCESS);
	EXPECT_LE(1, pkey);
	EXPECT_EQ(0, sys_pkey_free(1));
	EXPECT_EQ(0, sys_pkey_mprotect(page, size, RW, pkey));
	EXPECT_TRUE(!!pkey_map_code(PROT_EXEC));
	pthread_barrier_wait(barrier);
	EXPECT_EQ(0, wait_for(pid));
}

/* E1: memory that both share has the key that each gave it. */
TEST_F(fork, shared_memory_has_a_key_in_each)
{
	const size_t size = pkey_page_size();
	char *page;
	pid_t pid;

	page = pkey_map_shared(size);
	ASSERT_TRUE(!!page);
	ASSERT_EQ(1, sys_pkey_alloc(0, PKEY_DISABLE_ACCESS));
	ASSERT_EQ(2, sys_pkey_alloc(0, 0));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		EXPECT_EQ(0, sys_pkey_mprotect(page, size, RW, 2));
		page[0] = 42;
		EXPECT_EQ(2, pkey_of(page));
		_exit(0);
	}
	EXPECT_EQ(0, wait_for(pid));
	EXPECT_EQ(0, pkey_of(page));
	EXPECT_EQ(42, page[0]);
}

/* E1: the same once more for the child of a child. */
TEST_F(fork, grandchild_has_it_all)
{
	pid_t pid;

	ASSERT_TRUE(alloc_some());
	ASSERT_TRUE(!!pkey_map_code(PROT_EXEC));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		EXPECT_EQ(0, sys_pkey_free(5));
		pid = fork();
		if (!pid) {
			EXPECT_EQ(SOME_KEYS & ~(1u << 5), pkey_attachable_mask());
			/* 14 beside the execute-only key, less 1 and 3. */
			EXPECT_EQ(PKEY_MAX - 3, pkey_take_all(NULL));
			_exit(0);
		}
		EXPECT_EQ(0, wait_for(pid));
		_exit(0);
	}
	EXPECT_EQ(0, wait_for(pid));
	EXPECT_EQ(SOME_KEYS, pkey_attachable_mask());
}

/* How a task comes to be, and whether it shares its creator's memory. */
enum task_kind {
	TASK_FORK,
	TASK_VFORK,
	TASK_CLONE_VM,
	TASK_THREAD,
};

struct task {
	enum task_kind kind;
	int (*fn)(void *arg);
	void *arg;
	pid_t pid;
	pthread_t thread;
};

static void *task_thread(void *arg)
{
	struct task *task = arg;

	task->fn(task->arg);
	return NULL;
}

static int task_clone_flags(enum task_kind kind)
{
	switch (kind) {
	case TASK_VFORK:
		return CLONE_VM | CLONE_VFORK | SIGCHLD;
	case TASK_CLONE_VM:
		return CLONE_VM | SIGCHLD;
	default:
		return SIGCHLD;
	}
}

static bool task_start(struct task *task)
{
	char *stack;

	if (task->kind == TASK_THREAD)
		return !pthread_create(&task->thread, NULL, task_thread, task);

	stack = pkey_map(STACK_PAGES, RW);
	if (!stack)
		return false;

	task->pid = clone(task->fn, stack + STACK_PAGES * pkey_page_size(),
			  task_clone_flags(task->kind), task->arg);
	return task->pid > 0;
}

static bool task_finish(struct task *task)
{
	if (task->kind == TASK_THREAD)
		return !pthread_join(task->thread, NULL);

	return wait_for(task->pid) == 0;
}

static bool task_run(enum task_kind kind, int (*fn)(void *arg), void *arg)
{
	struct task task = {
		.kind = kind,
		.fn = fn,
		.arg = arg,
	};

	return task_start(&task) && task_finish(&task);
}

/* What a task sees; in shared memory, so that each kind can store it. */
struct view {
	uint32_t pkru;
	unsigned int mask;
	int new_key;
	int free_1;
	void *code;
};

static int task_look(void *arg)
{
	struct view *view = arg;

	view->pkru = rdpkru();
	view->mask = pkey_attachable_mask();
	return 0;
}

static int task_alloc_and_free(void *arg)
{
	struct view *view = arg;

	view->new_key = sys_pkey_alloc(0, PKEY_DISABLE_WRITE);
	view->free_1 = sys_pkey_free(1);
	return 0;
}

static int task_set_pkru(void *arg)
{
	struct view *view = arg;

	wrpkru(~rdpkru() & ~PKRU_KEY0_MASK);
	view->pkru = rdpkru();
	return 0;
}

static int task_map_code(void *arg)
{
	struct view *view = arg;

	view->code = pkey_map_code(PROT_EXEC);
	return 0;
}

FIXTURE(new_task)
{
	struct view *view;
};

FIXTURE_VARIANT(new_task)
{
	enum task_kind kind;
	bool shares;
};

FIXTURE_VARIANT_ADD(new_task, fork) {
	.kind = TASK_FORK,
	.shares = false,
};

FIXTURE_VARIANT_ADD(new_task, vfork) {
	.kind = TASK_VFORK,
	.shares = true,
};

FIXTURE_VARIANT_ADD(new_task, clone_vm) {
	.kind = TASK_CLONE_VM,
	.shares = true,
};

FIXTURE_VARIANT_ADD(new_task, thread) {
	.kind = TASK_THREAD,
	.shares = true,
};

FIXTURE_SETUP(new_task)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);

	self->view = pkey_map_shared(sizeof(*self->view));
	ASSERT_TRUE(!!self->view);
}

FIXTURE_TEARDOWN(new_task)
{
}

/* E1, E2: it starts with the PKRU of its creator. */
TEST_F(new_task, starts_with_pkru_of_creator)
{
	size_t p;

	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		wrpkru(pkru_patterns[p]);
		ASSERT_TRUE(task_run(variant->kind, task_look, self->view));
		EXPECT_EQ(pkru_patterns[p], self->view->pkru);
		EXPECT_EQ(pkru_patterns[p], rdpkru());
	}
}

/* E1, E2: also the rights that pkey_alloc() gave its creator just now. */
TEST_F(new_task, starts_with_rights_to_new_keys)
{
	int i;

	for (i = 0; i < PKEY_MAX; i++) {
		ASSERT_LE(1, sys_pkey_alloc(0, i & PKEY_RIGHTS_MASK));
		ASSERT_TRUE(task_run(variant->kind, task_look, self->view));
		EXPECT_EQ(rdpkru(), self->view->pkru);
	}
}

/* E1, E2: it has the keys of its creator. */
TEST_F(new_task, has_keys_of_creator)
{
	ASSERT_TRUE(alloc_some());
	ASSERT_TRUE(task_run(variant->kind, task_look, self->view));
	EXPECT_EQ(SOME_KEYS, self->view->mask);
}

/* E1, E2: its keys are the creator's if they share memory, else its own. */
TEST_F(new_task, shares_changes_if_memory)
{
	unsigned int changed;

	ASSERT_TRUE(alloc_some());
	ASSERT_TRUE(task_run(variant->kind, task_alloc_and_free, self->view));
	ASSERT_LE(1, self->view->new_key);
	EXPECT_EQ(0, SOME_KEYS & 1u << self->view->new_key);
	EXPECT_EQ(0, self->view->free_1);
	changed = (SOME_KEYS | 1u << self->view->new_key) & ~(1u << 1);
	EXPECT_EQ(variant->shares ? changed : SOME_KEYS, pkey_attachable_mask());
}

/* E1, E2, A6: and what it used is used for its creator if they share memory. */
TEST_F(new_task, shares_used_keys_if_memory)
{
	ASSERT_TRUE(task_run(variant->kind, task_alloc_and_free, self->view));
	ASSERT_EQ(1, self->view->new_key);
	ASSERT_EQ(0, self->view->free_1);
	EXPECT_EQ(variant->shares ? 2 : 1, sys_pkey_alloc(0, 0));
}

/* E2, A5: its PKRU is its own, whatever is shared. */
TEST_F(new_task, has_its_own_pkru)
{
	uint32_t pkru;
	int pkey;

	ASSERT_TRUE(alloc_some());
	pkru = rdpkru();
	ASSERT_TRUE(task_run(variant->kind, task_set_pkru, self->view));
	EXPECT_NE(pkru, self->view->pkru);
	EXPECT_EQ(pkru, rdpkru());

	/* Nor do the rights that it gets from pkey_alloc() come here. */
	ASSERT_TRUE(task_run(variant->kind, task_alloc_and_free, self->view));
	pkey = self->view->new_key;
	ASSERT_LE(1, pkey);
	EXPECT_EQ(pkru_with_rights(pkru, pkey, 0), pkru_with_rights(rdpkru(), pkey, 0));
}

/* E1, E2: so is execute-only memory and the key that is reserved for it. */
TEST_F(new_task, shares_execute_only_key_if_memory)
{
	ASSERT_TRUE(task_run(variant->kind, task_map_code, self->view));
	ASSERT_TRUE(!!self->view->code);
	if (variant->shares) {
		EXPECT_LE(1, pkey_of(self->view->code));
		EXPECT_EQ(-1, sys_pkey_free(pkey_of(self->view->code)));
		EXPECT_EQ(EINVAL, errno);
	}
	EXPECT_EQ(variant->shares ? PKEY_MAX - 1 : PKEY_MAX, pkey_take_all(NULL));
}

struct later_view {
	pthread_barrier_t *barrier;
	struct view before;
	struct view after;
};

static int task_look_twice(void *arg)
{
	struct later_view *later = arg;

	task_look(&later->before);
	pthread_barrier_wait(later->barrier);
	pthread_barrier_wait(later->barrier);
	task_look(&later->after);
	return 0;
}

FIXTURE(running_task)
{
	struct later_view *later;
};

FIXTURE_VARIANT(running_task)
{
	enum task_kind kind;
	bool shares;
};

FIXTURE_VARIANT_ADD(running_task, fork) {
	.kind = TASK_FORK,
	.shares = false,
};

FIXTURE_VARIANT_ADD(running_task, clone_vm) {
	.kind = TASK_CLONE_VM,
	.shares = true,
};

FIXTURE_VARIANT_ADD(running_task, thread) {
	.kind = TASK_THREAD,
	.shares = true,
};

FIXTURE_SETUP(running_task)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);

	self->later = pkey_map_shared(sizeof(*self->later));
	ASSERT_TRUE(!!self->later);
	self->later->barrier = new_barrier();
	ASSERT_TRUE(!!self->later->barrier);
}

FIXTURE_TEARDOWN(running_task)
{
}

/* E1, E2: what its creator does later it sees if they share memory. */
TEST_F(running_task, sees_changes_if_memory_is_shared)
{
	struct later_view *later = self->later;
	struct task task = {
		.kind = variant->kind,
		.fn = task_look_twice,
		.arg = later,
	};
	unsigned int changed;
	int pkey;

	ASSERT_TRUE(alloc_some());
	ASSERT_TRUE(task_start(&task));
	pthread_barrier_wait(later->barrier);
	pkey = sys_pkey_alloc(0, PKEY_DISABLE_ACCESS);
	EXPECT_LE(1, pkey);
	EXPECT_EQ(0, sys_pkey_free(1));
	pthread_barrier_wait(later->barrier);
	ASSERT_TRUE(task_finish(&task));

	EXPECT_EQ(SOME_KEYS, later->before.mask);
	changed = (SOME_KEYS | 1u << pkey) & ~(1u << 1);
	EXPECT_EQ(variant->shares ? changed : SOME_KEYS, later->after.mask);
	/* A5: the rights that came with the new key are the caller's alone. */
	EXPECT_EQ(pkru_with_rights(later->before.pkru, pkey, 0),
		  pkru_with_rights(later->after.pkru, pkey, 0));
}

/* What a program finds after execve(), before it does anything. */
struct report {
	uint32_t pkru;
	/* Keys that can be attached, as far as the program knows none. */
	unsigned int mask;
	/* The keys that it could allocate, in their order. */
	int nr;
	int keys[PKEY_NR];
};

/* The program after execve(): stores the report in a pipe. */
static int report_to(int fd)
{
	struct report report = {};

	report.pkru = pkru_at_start;
	report.mask = pkey_attachable_mask();
	report.nr = pkey_take_all(report.keys);
	return write(fd, &report, sizeof(report)) != (ssize_t)sizeof(report);
}

static int exec_report(void *arg)
{
	const int *fd = arg;
	char number[16];

	snprintf(number, sizeof(number), "%d", *fd);
	execl("/proc/self/exe", "pkey_process_test", REPORT_ARG, number, NULL);
	return 1;
}

static void *exec_report_thread(void *arg)
{
	_exit(exec_report(arg));
}

static int exec_report_from_thread(void *arg)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, exec_report_thread, arg))
		return 1;

	/* Execve() in the thread ends this task. */
	pthread_join(thread, NULL);
	return 1;
}

/* Runs @fn in a new task and reads the report that comes of it. */
static bool task_report(enum task_kind kind, int (*fn)(void *arg), struct report *report)
{
	struct task task = {
		.kind = kind,
		.fn = fn,
	};
	bool complete;
	int fds[2];

	if (pipe(fds))
		return false;

	task.arg = &fds[1];
	if (!task_start(&task))
		return false;

	close(fds[1]);
	complete = read(fds[0], report, sizeof(*report)) == (ssize_t)sizeof(*report);
	close(fds[0]);
	return task_finish(&task) && complete;
}

FIXTURE(exec)
{
};

FIXTURE_VARIANT(exec)
{
	bool keys;
	/* Key 1 was used and freed: it would come last, if that were kept. */
	bool used_key;
	bool execonly;
	bool from_thread;
	uint32_t pkru;
};

FIXTURE_VARIANT_ADD(exec, plain) {
	.pkru = 0x55555554,
};

FIXTURE_VARIANT_ADD(exec, with_keys) {
	.keys = true,
	.pkru = 0,
};

FIXTURE_VARIANT_ADD(exec, with_used_key) {
	.used_key = true,
	.pkru = 0x0f0f0f0c,
};

FIXTURE_VARIANT_ADD(exec, with_execute_only) {
	.execonly = true,
	.pkru = 0xfffffffc,
};

FIXTURE_VARIANT_ADD(exec, with_both) {
	.keys = true,
	.execonly = true,
	.pkru = 0xaaaaaaa8,
};

FIXTURE_VARIANT_ADD(exec, with_both_from_thread) {
	.keys = true,
	.execonly = true,
	.from_thread = true,
	.pkru = 0x12345678,
};

FIXTURE_SETUP(exec)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);

	if (variant->execonly)
		ASSERT_TRUE(!!pkey_map_code(PROT_EXEC));
	if (variant->used_key) {
		ASSERT_EQ(1, sys_pkey_alloc(0, 0));
		ASSERT_EQ(0, sys_pkey_free(1));
	}
	if (variant->keys)
		ASSERT_LE(PKEY_MAX - 1, pkey_take_all(NULL));
	wrpkru(variant->pkru);
}

FIXTURE_TEARDOWN(exec)
{
}

/* E3: the new program has key 0 only, all others to be had, 1 to 15. */
TEST_F(exec, starts_over)
{
	struct report report = {};
	int i;

	ASSERT_TRUE(task_report(TASK_FORK, variant->from_thread ? exec_report_from_thread :
								  exec_report, &report));
	EXPECT_EQ(PKEY_MASK_DEFAULT, report.mask);
	ASSERT_EQ(PKEY_MAX, report.nr);
	for (i = 0; i < report.nr; i++)
		EXPECT_EQ(i + 1, report.keys[i]);
}

/* E3: its PKRU is what each program starts with, as this one did. */
TEST_F(exec, starts_with_initial_pkru)
{
	struct report report = {};

	ASSERT_TRUE(task_report(TASK_FORK, variant->from_thread ? exec_report_from_thread :
								  exec_report, &report));
	EXPECT_EQ(pkru_at_start, report.pkru);
}

/* E3, E2: execve() in a task that shares memory leaves the others their keys. */
TEST(exec_leaves_creator_alone)
{
	const enum task_kind kinds[] = { TASK_VFORK, TASK_CLONE_VM };
	struct report report;
	uint32_t pkru;
	void *code;
	size_t i;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_TRUE(alloc_some());
	code = pkey_map_code(PROT_EXEC);
	ASSERT_TRUE(!!code);
	pkru = rdpkru();
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		memset(&report, 0, sizeof(report));
		ASSERT_TRUE(task_report(kinds[i], exec_report, &report));
		EXPECT_EQ(PKEY_MASK_DEFAULT, report.mask);
		EXPECT_EQ(PKEY_MAX, report.nr);
		EXPECT_EQ(pkru_at_start, report.pkru);

		EXPECT_EQ(SOME_KEYS, pkey_attachable_mask());
		EXPECT_EQ(pkru, rdpkru());
		EXPECT_FALSE(pkey_can(PKEY_READ, code));
	}
	/* 14 beside the execute-only key, less 1, 3 and 5. */
	EXPECT_EQ(PKEY_MAX - 4, pkey_take_all(NULL));
}

/* E3: unless it was asked for something else, it closes all keys but 0. */
TEST(exec_pkru_closes_all_keys)
{
	char cmdline[4096];

	if (!pku_enabled())
		SKIP(return, NO_PKU);
	if (!pkey_read_file("/proc/cmdline", cmdline, sizeof(cmdline)) ||
	    strstr(cmdline, "init_pkru="))
		SKIP(return, "init_pkru= may say something else");

	EXPECT_EQ(0x55555554, pkru_at_start);
}

/* E3: the initial value is the one in debugfs, which init_pkru= sets. */
TEST(exec_pkru_is_init_pkru)
{
	unsigned int init_pkru;
	FILE *file;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	file = fopen(INIT_PKRU, "r");
	if (!file)
		SKIP(return, "cannot read " INIT_PKRU);

	ASSERT_EQ(1, fscanf(file, "%x", &init_pkru));
	fclose(file);
	EXPECT_EQ(init_pkru, pkru_at_start);
}

/* E3: it leaves a program its ordinary memory, whatever is written there. */
TEST(init_pkru_leaves_key_0_open)
{
	static const char * const bad[] = { "0x1", "0x2", "0x55555557", "0x100000000" };
	char before[32], after[32];
	size_t i;

	if (!pku_enabled())
		SKIP(return, NO_PKU);
	if (!pkey_read_file(INIT_PKRU, before, sizeof(before)))
		SKIP(return, "cannot read " INIT_PKRU);

	EXPECT_TRUE(pkey_write_file(INIT_PKRU, before));
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_FALSE(pkey_write_file(INIT_PKRU, bad[i]));
		EXPECT_EQ(EINVAL, errno);
	}
	ASSERT_TRUE(pkey_read_file(INIT_PKRU, after, sizeof(after)));
	EXPECT_STREQ(before, after);
}

/*
 * Threads that want more keys than there are: 8 hold up to 3 each. On two
 * processors at least two of them run at once, the others make sure that each
 * is also preempted between the system calls. A key that changes hands costs an
 * interrupt on each processor that runs one of them, which an emulator is slow
 * at: hence no more rounds than it takes to have calls overlap a hundred times,
 * and much time for them.
 */
#define NR_WORKERS	8
#define KEYS_PER_WORKER	3
#define NR_ROUNDS	100
#define THREADS_TIMEOUT	180

struct worker {
	pthread_t thread;
	/* The results, for the main thread to look at after the join. */
	int taken;
	int not_free;
	int not_a_key;
	int key_twice;
	int free_failed;
	int overlaps;
};

/* What the workers share; changed by atomic operations only. */
static struct {
	pthread_barrier_t barrier;
	int owned[PKEY_NR];
	int calling;
	bool stop;
} workers;

FIXTURE(threads)
{
};

FIXTURE_SETUP(threads)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);
}

FIXTURE_TEARDOWN(threads)
{
}

/* Takes a key and notes what is wrong with it; gives 0 if there is none. */
static int worker_alloc(struct worker *worker)
{
	int pkey;

	if (__atomic_fetch_add(&workers.calling, 1, __ATOMIC_SEQ_CST))
		worker->overlaps++;
	pkey = sys_pkey_alloc(0, 0);
	__atomic_fetch_sub(&workers.calling, 1, __ATOMIC_SEQ_CST);

	if (pkey == -1 && errno == ENOSPC) {
		worker->not_free++;
		return 0;
	}
	if (pkey < 1 || pkey > PKEY_MAX) {
		worker->not_a_key++;
		return 0;
	}
	if (__atomic_exchange_n(&workers.owned[pkey], 1, __ATOMIC_SEQ_CST))
		worker->key_twice++;
	worker->taken++;
	return pkey;
}

static void worker_free(struct worker *worker, int pkey)
{
	if (!pkey)
		return;

	__atomic_store_n(&workers.owned[pkey], 0, __ATOMIC_SEQ_CST);
	if (sys_pkey_free(pkey))
		worker->free_failed++;
}

static void worker_round(struct worker *worker)
{
	int i, keys[KEYS_PER_WORKER];

	for (i = 0; i < KEYS_PER_WORKER; i++)
		keys[i] = worker_alloc(worker);
	for (i = 0; i < KEYS_PER_WORKER; i++)
		worker_free(worker, keys[i]);
}

static void *worker_rounds(void *arg)
{
	int i;

	pthread_barrier_wait(&workers.barrier);
	for (i = 0; i < NR_ROUNDS; i++)
		worker_round(arg);
	return NULL;
}

static void *worker_until_stopped(void *arg)
{
	pthread_barrier_wait(&workers.barrier);
	while (!__atomic_load_n(&workers.stop, __ATOMIC_SEQ_CST))
		worker_round(arg);
	return NULL;
}

/* Starts the workers, and returns when all of them are about to begin. */
static bool start_workers(struct worker *worker, void *(*fn)(void *arg))
{
	int i;

	if (pthread_barrier_init(&workers.barrier, NULL, NR_WORKERS + 1))
		return false;

	for (i = 0; i < NR_WORKERS; i++)
		if (pthread_create(&worker[i].thread, NULL, fn, &worker[i]))
			return false;

	pthread_barrier_wait(&workers.barrier);
	return true;
}

/* Waits for the workers and adds up their results. */
static struct worker join_workers(struct worker *worker)
{
	struct worker sum = {};
	int i;

	for (i = 0; i < NR_WORKERS; i++) {
		pthread_join(worker[i].thread, NULL);
		sum.taken += worker[i].taken;
		sum.not_free += worker[i].not_free;
		sum.not_a_key += worker[i].not_a_key;
		sum.key_twice += worker[i].key_twice;
		sum.free_failed += worker[i].free_failed;
		sum.overlaps += worker[i].overlaps;
	}
	return sum;
}

/* E2, A3: threads at once: no key is had by two, none is lost. */
TEST_F_TIMEOUT(threads, alloc_and_free_at_once, THREADS_TIMEOUT)
{
	static struct worker worker[NR_WORKERS];
	struct worker sum;

	ASSERT_TRUE(start_workers(worker, worker_rounds));
	sum = join_workers(worker);
	ASSERT_EQ(0, sum.key_twice);
	ASSERT_EQ(0, sum.free_failed);
	ASSERT_EQ(0, sum.not_a_key);
	ASSERT_EQ(NR_WORKERS * NR_ROUNDS * KEYS_PER_WORKER, sum.taken + sum.not_free);
	ASSERT_EQ(PKEY_MASK_DEFAULT, pkey_attachable_mask());
	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	if (!sum.overlaps)
		SKIP(return, "no two calls ever overlapped");
}

/* Two threads that do the same at the same moment, over and over. */
#define NR_DUELS	200

struct duel {
	pthread_barrier_t barrier;
	/* What each got from each round's two calls. */
	int alloc[2][NR_DUELS];
	int free[2][NR_DUELS];
};

struct duellist {
	struct duel *duel;
	int number;
};

static void *duel_thread(void *arg)
{
	struct duellist *self = arg;
	struct duel *duel = self->duel;
	int i;

	for (i = 0; i < NR_DUELS; i++) {
		pthread_barrier_wait(&duel->barrier);
		duel->alloc[self->number][i] = sys_pkey_alloc(0, 0);
		pthread_barrier_wait(&duel->barrier);
		duel->free[self->number][i] = sys_pkey_free(7);
	}
	return NULL;
}

/* E2, A4, B1: of two that want the last key, or free it, one succeeds. */
TEST_F_TIMEOUT(threads, duel_for_one_key, THREADS_TIMEOUT)
{
	static struct duel duel;
	struct duellist duellist[2] = {
		{ .duel = &duel, .number = 0 },
		{ .duel = &duel, .number = 1 },
	};
	pthread_t thread[2];
	int i, winner;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	ASSERT_EQ(0, sys_pkey_free(7));
	ASSERT_EQ(0, pthread_barrier_init(&duel.barrier, NULL, 2));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, duel_thread, &duellist[i]));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_join(thread[i], NULL));

	for (i = 0; i < NR_DUELS; i++) {
		winner = duel.alloc[0][i] == 7 ? 0 : 1;
		ASSERT_EQ(7, duel.alloc[winner][i]);
		ASSERT_EQ(-1, duel.alloc[!winner][i]);
		winner = duel.free[0][i] == 0 ? 0 : 1;
		ASSERT_EQ(0, duel.free[winner][i]);
		ASSERT_EQ(-1, duel.free[!winner][i]);
	}
	EXPECT_EQ(7, sys_pkey_alloc(0, 0));
}

/* As many children as make it likely that some were born inside a call. */
#define NR_FORKS	16

struct fork_result {
	/* Allocated at birth, and had from pkey_alloc() after that. */
	unsigned int born_with;
	unsigned int added;
	int added_nr;
	/* Calls that failed while the child freed all of them. */
	int free_failed;
	int nr_at_last;
};

static void fork_child(struct fork_result *result)
{
	int i, keys[PKEY_NR];

	result->born_with = pkey_attachable_mask();
	result->added_nr = pkey_take_all(keys);
	for (i = 0; i < result->added_nr; i++)
		result->added |= 1u << keys[i];
	for (i = 1; i <= PKEY_MAX; i++)
		if (sys_pkey_free(i))
			result->free_failed++;
	result->nr_at_last = pkey_take_all(NULL);
}

/* E1: a child that is born while threads allocate and free has a sound state. */
TEST_F_TIMEOUT(threads, fork_meanwhile, THREADS_TIMEOUT)
{
	static struct worker worker[NR_WORKERS];
	unsigned int seen = 0, common = PKEY_MASK_ALL;
	struct fork_result *result;
	int i, forked = 0;
	struct worker sum;
	pid_t pid;

	result = pkey_map_shared(NR_FORKS * sizeof(*result));
	ASSERT_TRUE(!!result);
	ASSERT_TRUE(start_workers(worker, worker_until_stopped));
	for (i = 0; i < NR_FORKS; i++) {
		pid = fork();
		if (!pid) {
			fork_child(&result[i]);
			_exit(0);
		}
		if (wait_for(pid) == 0)
			forked++;
	}
	__atomic_store_n(&workers.stop, true, __ATOMIC_SEQ_CST);
	sum = join_workers(worker);

	ASSERT_EQ(NR_FORKS, forked);
	for (i = 0; i < NR_FORKS; i++) {
		ASSERT_EQ(0, result[i].born_with & result[i].added);
		ASSERT_EQ(PKEY_MASK_ALL, result[i].born_with | result[i].added);
		ASSERT_EQ(result[i].added_nr, __builtin_popcount(result[i].added));
		ASSERT_EQ(0, result[i].free_failed);
		ASSERT_EQ(PKEY_MAX, result[i].nr_at_last);
		seen |= result[i].born_with;
		common &= result[i].born_with;
	}

	/* Nor have the forks done harm here. */
	ASSERT_EQ(0, sum.key_twice);
	ASSERT_EQ(0, sum.free_failed);
	ASSERT_EQ(PKEY_MASK_DEFAULT, pkey_attachable_mask());
	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	if (seen == common)
		SKIP(return, "each child was born with the same keys");
}

int main(int argc, char **argv)
{
	pkru_at_start = pkru_save();
	if (argc == 3 && !strcmp(argv[1], REPORT_ARG))
		return report_to(atoi(argv[2]));

	return test_harness_run(argc, argv);
}
