// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of what fork(), clone() and execve() do to protection keys on x86, of what a
 * debugger and a core dump see after execve(), and of tasks that allocate and free
 * keys at the same time.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "../kselftest_harness.h"
#include "pkey_util.h"

#define INIT_PKRU	"/sys/kernel/debug/x86/init_pkru"

/* The argument that makes this program report its state instead of testing. */
#define REPORT_ARG	"--report-to-fd"

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

/* Return a barrier for two that works between processes, or NULL. */
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
	ASSERT_TRUE(alloc_some());
	IN_CHILD {
		EXPECT_EQ(SOME_KEYS, pkey_attachable_mask());
		EXPECT_EQ(0, sys_pkey_free(1));
		EXPECT_EQ(0, sys_pkey_free(3));
		EXPECT_EQ(0, sys_pkey_free(5));
		EXPECT_EQ(-1, sys_pkey_free(2));
		EXPECT_EQ(EINVAL, errno);
	}
}

/* E1: the child knows which keys were used. */
TEST_F(fork, copies_used_keys)
{
	ASSERT_EQ(1, sys_pkey_alloc(0, 0));
	ASSERT_EQ(0, sys_pkey_free(1));
	IN_CHILD {
		EXPECT_TRUE(pkey_state_is(1, "clean"));
		EXPECT_TRUE(pkey_state_is(2, "-"));
		EXPECT_EQ(1, sys_pkey_alloc(0, 0));
		EXPECT_EQ(2, sys_pkey_alloc(0, 0));
		EXPECT_EQ(0, sys_pkey_free(2));
	}
	/* The key that the child used is unused here. */
	EXPECT_TRUE(pkey_state_is(2, "-"));
}

/* E1, A6: the child chooses as its parent would, with keys in all states. */
TEST_F(fork, copies_order_of_choice)
{
	const size_t size = pkey_page_size();
	const int order[] = { 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 2 };
	char *page;
	size_t i;

	page = pkey_map(1, RW);
	ASSERT_TRUE(!!page);
	ASSERT_TRUE(alloc_some());
	ASSERT_EQ(2, sys_pkey_alloc(0, 0));
	ASSERT_EQ(0, sys_pkey_mprotect(page, size, RW, 2));
	ASSERT_EQ(0, sys_pkey_free(2));
	IN_CHILD {
		EXPECT_TRUE(pkey_state_is(2, "mapped"));
		/* Key 2 comes last, if at all: a mapping carries it (F2, F3). */
		for (i = 0; i < ARRAY_SIZE(order) - 1; i++)
			EXPECT_EQ(order[i], sys_pkey_alloc(0, 0));
		if (pkey_read_setting(PKEY_SETTING) != 0)
			EXPECT_EQ(order[i], sys_pkey_alloc(0, 0));
		EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
		EXPECT_EQ(ENOSPC, errno);
	}
}

/* E1, A4: the child of a process without free keys has none either. */
TEST_F(fork, copies_full)
{
	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	IN_CHILD {
		EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
		EXPECT_EQ(ENOSPC, errno);
		EXPECT_EQ(0, sys_pkey_free(8));
		EXPECT_EQ(8, sys_pkey_alloc(0, 0));
		EXPECT_EQ(0, sys_pkey_free(9));
	}
	EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
	EXPECT_EQ(ENOSPC, errno);
}

/* E1: mappings keep their keys, which guard them in the child as here. */
TEST_F(fork, copies_keys_of_mappings)
{
	const size_t size = pkey_page_size();
	char *pages;

	pages = pkey_map(3, RW);
	ASSERT_TRUE(!!pages);
	ASSERT_EQ(1, sys_pkey_alloc(0, PKEY_DISABLE_ACCESS));
	ASSERT_EQ(2, sys_pkey_alloc(0, PKEY_DISABLE_WRITE));
	ASSERT_EQ(0, sys_pkey_mprotect(pages, size, RW, 1));
	ASSERT_EQ(0, sys_pkey_mprotect(pages + size, size, RW, 2));
	IN_CHILD {
		EXPECT_EQ(1, pkey_of(pages));
		EXPECT_EQ(2, pkey_of(pages + size));
		EXPECT_EQ(0, pkey_of(pages + 2 * size));
		EXPECT_TRUE(pkey_refused(PKEY_READ, pages, 1));
		EXPECT_TRUE(pkey_can(PKEY_READ, pages + size));
		EXPECT_TRUE(pkey_refused(PKEY_WRITE, pages + size, 2));
		EXPECT_TRUE(pkey_can(PKEY_WRITE, pages + 2 * size));
		pkru_set_rights(1, 0);
		EXPECT_TRUE(pkey_can(PKEY_WRITE, pages));
	}
	EXPECT_TRUE(pkey_refused(PKEY_READ, pages, 1));
}

/* E1: the execute-only key is reserved in the child too, and is the same. */
TEST_F(fork, copies_execute_only_key)
{
	void *code, *second;
	int pkey;

	code = pkey_map_code(PROT_EXEC);
	ASSERT_TRUE(!!code);
	pkey = pkey_of(code);
	ASSERT_LE(1, pkey);
	IN_CHILD {
		EXPECT_EQ(-1, sys_pkey_free(pkey));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(PKEY_MASK_DEFAULT, pkey_attachable_mask());
		EXPECT_TRUE(pkey_refused(PKEY_READ, code, pkey));
		EXPECT_TRUE(pkey_can(PKEY_EXEC, code));
		second = pkey_map_code(PROT_EXEC);
		EXPECT_TRUE(!!second);
		EXPECT_EQ(pkey, pkey_of(second));
		EXPECT_EQ(PKEY_MAX - 1, pkey_take_all(NULL));
	}
}

/* E1: execute-only memory of the child reserves no key for the parent. */
TEST_F(fork, child_reserves_for_itself)
{
	IN_CHILD {
		EXPECT_TRUE(!!pkey_map_code(PROT_EXEC));
		EXPECT_EQ(PKEY_MAX - 1, pkey_take_all(NULL));
	}
	EXPECT_EQ(PKEY_MAX, pkey_take_all(NULL));
}

/* E1: what the child allocates, frees and attaches is not seen here. */
TEST_F(fork, child_changes_only_itself)
{
	const size_t size = pkey_page_size();
	uint32_t pkru;
	char *page;
	int pkey;

	page = pkey_map(1, RW);
	ASSERT_TRUE(!!page);
	ASSERT_TRUE(alloc_some());
	pkru = rdpkru();
	IN_CHILD {
		pkey = sys_pkey_alloc(0, PKEY_DISABLE_ACCESS);
		EXPECT_LE(1, pkey);
		EXPECT_EQ(0, sys_pkey_free(1));
		EXPECT_EQ(0, sys_pkey_mprotect(page, size, RW, pkey));
		EXPECT_TRUE(pkey_refused(PKEY_READ, page, pkey));
	}
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
		pkey_child_end(_metadata);
	}
	pkey = sys_pkey_alloc(0, PKEY_DISABLE_ACCESS);
	EXPECT_LE(1, pkey);
	EXPECT_EQ(0, sys_pkey_free(1));
	EXPECT_EQ(0, sys_pkey_mprotect(page, size, RW, pkey));
	EXPECT_TRUE(!!pkey_map_code(PROT_EXEC));
	pthread_barrier_wait(barrier);
	EXPECT_CHILD_PASSED(pid);
}

/* E1: memory that both share has the key that each gave it. */
TEST_F(fork, shared_memory_has_a_key_in_each)
{
	const size_t size = pkey_page_size();
	char *page;

	page = pkey_map_shared(size);
	ASSERT_TRUE(!!page);
	ASSERT_EQ(1, sys_pkey_alloc(0, PKEY_DISABLE_ACCESS));
	ASSERT_EQ(2, sys_pkey_alloc(0, 0));
	IN_CHILD {
		EXPECT_EQ(0, sys_pkey_mprotect(page, size, RW, 2));
		page[0] = 42;
		EXPECT_EQ(2, pkey_of(page));
	}
	EXPECT_EQ(0, pkey_of(page));
	EXPECT_EQ(42, page[0]);
}

/* E1: the child of a child has the keys too. */
TEST_F(fork, grandchild_has_it_all)
{
	ASSERT_TRUE(alloc_some());
	ASSERT_TRUE(!!pkey_map_code(PROT_EXEC));
	IN_CHILD {
		EXPECT_EQ(0, sys_pkey_free(5));
		IN_CHILD {
			EXPECT_EQ(SOME_KEYS & ~(1u << 5), pkey_attachable_mask());
			/* 14 beside the execute-only key, less 1 and 3. */
			EXPECT_EQ(PKEY_MAX - 3, pkey_take_all(NULL));
		}
	}
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
	if (task->kind == TASK_THREAD)
		return !pthread_create(&task->thread, NULL, task_thread, task);

	task->pid = pkey_clone(task->fn, task->arg, task_clone_flags(task->kind));
	return task->pid > 0;
}

static bool task_finish(struct task *task)
{
	if (task->kind == TASK_THREAD)
		return !pthread_join(task->thread, NULL);

	return pkey_wait_for(task->pid) == 0;
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

/* Results of a task. They are in shared memory, so that each kind can store them. */
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

FIXTURE_VARIANT_ADD(new_task, fork) { .kind = TASK_FORK, .shares = false };
FIXTURE_VARIANT_ADD(new_task, vfork) { .kind = TASK_VFORK, .shares = true };
FIXTURE_VARIANT_ADD(new_task, clone_vm) { .kind = TASK_CLONE_VM, .shares = true };
FIXTURE_VARIANT_ADD(new_task, thread) { .kind = TASK_THREAD, .shares = true };

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

/* E1, E2: a new task starts with the PKRU of its creator. */
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

/* E1, E2: a new task has the rights that pkey_alloc() has just given to its creator. */
TEST_F(new_task, starts_with_rights_to_new_keys)
{
	int i;

	for (i = 0; i < PKEY_MAX; i++) {
		ASSERT_LE(1, sys_pkey_alloc(0, i & PKEY_RIGHTS_MASK));
		ASSERT_TRUE(task_run(variant->kind, task_look, self->view));
		EXPECT_EQ(rdpkru(), self->view->pkru);
	}
}

/* E1, E2: a new task has the keys of its creator. */
TEST_F(new_task, has_keys_of_creator)
{
	ASSERT_TRUE(alloc_some());
	ASSERT_TRUE(task_run(variant->kind, task_look, self->view));
	EXPECT_EQ(SOME_KEYS, self->view->mask);
}

/* E1, E2: tasks that share memory share the keys, others do not. */
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

/* E1, E2: a key that a task has used is used for all that share its memory. */
TEST_F(new_task, shares_used_keys_if_memory)
{
	ASSERT_TRUE(task_run(variant->kind, task_alloc_and_free, self->view));
	ASSERT_EQ(1, self->view->new_key);
	ASSERT_EQ(0, self->view->free_1);
	EXPECT_TRUE(pkey_state_is(1, variant->shares ? "clean" : "-"));
}

/* E2, A5: each task has its own PKRU, whatever is shared. */
TEST_F(new_task, has_its_own_pkru)
{
	uint32_t pkru;
	int pkey;

	ASSERT_TRUE(alloc_some());
	pkru = rdpkru();
	ASSERT_TRUE(task_run(variant->kind, task_set_pkru, self->view));
	EXPECT_NE(pkru, self->view->pkru);
	EXPECT_EQ(pkru, rdpkru());

	/* The rights that the task gets from pkey_alloc() do not come here. */
	ASSERT_TRUE(task_run(variant->kind, task_alloc_and_free, self->view));
	pkey = self->view->new_key;
	ASSERT_LE(1, pkey);
	EXPECT_EQ(pkru_with_rights(pkru, pkey, 0), pkru_with_rights(rdpkru(), pkey, 0));
}

/* E1, E2: tasks that share memory share the execute-only key, others do not. */
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

FIXTURE_VARIANT_ADD(running_task, fork) { .kind = TASK_FORK, .shares = false };
FIXTURE_VARIANT_ADD(running_task, clone_vm) { .kind = TASK_CLONE_VM, .shares = true };
FIXTURE_VARIANT_ADD(running_task, thread) { .kind = TASK_THREAD, .shares = true };

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

/* E1, E2: a task sees what its creator does later if they share memory. */
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

/* The state of a program after execve(), before it does anything. */
struct report {
	uint32_t pkru;
	/* Keys that can be attached before the program allocates any. */
	unsigned int mask;
	/* Is key 1 one that was never used? */
	bool unused;
	/* The keys that it could allocate, in their order. */
	int nr;
	int keys[PKEY_NR];
};

/* After execve(): write the report to a pipe. */
static int report_to(int fd)
{
	struct report report = {};

	report.pkru = pkru_at_start;
	report.mask = pkey_attachable_mask();
	report.unused = pkey_state_is(1, "-");
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

	/* The execve() in the thread ends this task. */
	pthread_join(thread, NULL);
	return 1;
}

/* Run @fn in a new task and read the report of its program. */
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
	/* Key 1 was used and freed: clean if execve() kept that. */
	bool used_key;
	bool execonly;
	bool from_thread;
	uint32_t pkru;
};

#define EXEC(_name, ...) FIXTURE_VARIANT_ADD(exec, _name) { __VA_ARGS__ }

EXEC(plain, .pkru = 0x55555554);
EXEC(with_keys, .keys = true, .pkru = 0);
EXEC(with_used_key, .used_key = true, .pkru = 0x0f0f0f0c);
EXEC(with_execute_only, .execonly = true, .pkru = 0xfffffffc);
EXEC(with_both, .keys = true, .execonly = true, .pkru = 0xaaaaaaa8);
EXEC(with_both_from_thread, .keys = true, .execonly = true, .from_thread = true,
     .pkru = 0x12345678);

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

/* E3: the new program has only key 0 and can allocate all others, 1 to 15. */
TEST_F(exec, starts_over)
{
	struct report report = {};
	int i;

	ASSERT_TRUE(task_report(TASK_FORK, variant->from_thread ? exec_report_from_thread :
								  exec_report, &report));
	EXPECT_EQ(PKEY_MASK_DEFAULT, report.mask);
	EXPECT_TRUE(report.unused);
	ASSERT_EQ(PKEY_MAX, report.nr);
	for (i = 0; i < report.nr; i++)
		EXPECT_EQ(i + 1, report.keys[i]);
}

/* E3: the new program starts with the PKRU that this one has started with. */
TEST_F(exec, starts_with_initial_pkru)
{
	struct report report = {};

	ASSERT_TRUE(task_report(TASK_FORK, variant->from_thread ? exec_report_from_thread :
								  exec_report, &report));
	EXPECT_EQ(pkru_at_start, report.pkru);
}

FIXTURE(exec_of_task)
{
};

FIXTURE_SETUP(exec_of_task)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);
}

FIXTURE_TEARDOWN(exec_of_task)
{
}

/* E3, E2: execve() in a task that shares memory does not take keys from the others. */
TEST_F(exec_of_task, leaves_creator_alone)
{
	const enum task_kind kinds[] = { TASK_VFORK, TASK_CLONE_VM };
	struct report report;
	uint32_t pkru;
	void *code;
	size_t i;

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

/* E3: without init_pkru= a program starts with all keys but key 0 closed. */
TEST_F(exec_of_task, pkru_closes_all_keys)
{
	char cmdline[4096];

	if (!pkey_read_file("/proc/cmdline", cmdline, sizeof(cmdline)) ||
	    strstr(cmdline, "init_pkru="))
		SKIP(return, "needs a kernel without init_pkru=");

	EXPECT_EQ(PKRU_INIT, pkru_at_start);
}

/* E3: the initial value is the one in debugfs, which init_pkru= sets. */
TEST_F(exec_of_task, pkru_is_init_pkru)
{
	unsigned int init_pkru;
	FILE *file;

	file = fopen(INIT_PKRU, "r");
	if (!file)
		SKIP(return, "needs " INIT_PKRU);

	ASSERT_EQ(1, fscanf(file, "%x", &init_pkru));
	fclose(file);
	EXPECT_EQ(init_pkru, pkru_at_start);
}

FIXTURE(init_pkru)
{
};

FIXTURE_SETUP(init_pkru)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);
}

FIXTURE_TEARDOWN(init_pkru)
{
}

/* E3: a value that closes key 0 is refused, since programs need their memory. */
TEST_F(init_pkru, init_pkru_leaves_key_0_open)
{
	static const char * const bad[] = { "0x1", "0x2", "0x55555557", "0x100000000" };
	char before[32], after[32];
	size_t i;

	if (!pkey_read_file(INIT_PKRU, before, sizeof(before)))
		SKIP(return, "needs " INIT_PKRU);

	EXPECT_TRUE(pkey_write_file(INIT_PKRU, before));
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_FALSE(pkey_write_file(INIT_PKRU, bad[i]));
		EXPECT_EQ(EINVAL, errno);
	}
	ASSERT_TRUE(pkey_read_file(INIT_PKRU, after, sizeof(after)));
	EXPECT_STREQ(before, after);
}

/*
 * Start this program again, traced, with all keys taken and PKRU changed before. Return
 * its PID when it has stopped because of the execve(), or -1.
 */
static pid_t exec_traced(int fd)
{
	const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	int status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		setrlimit(RLIMIT_CORE, &unlimited);
		pkey_take_all(NULL);
		wrpkru(0x30);
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		_exit(exec_report(&fd));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		return -1;
	return pid;
}

FIXTURE(exec_stop)
{
};

FIXTURE_VARIANT(exec_stop)
{
	/* How the debugger changes the registers that it has read. */
	bool set;
	bool clear_header_bit;
	uint32_t pkru;
};

#define EXEC_STOP(_name, ...) FIXTURE_VARIANT_ADD(exec_stop, _name) { __VA_ARGS__ }

EXEC_STOP(put_back);
EXEC_STOP(header_bit_cleared, .clear_header_bit = true, .pkru = 0);
EXEC_STOP(set_to_0, .set = true, .pkru = 0);
EXEC_STOP(set_to_closed, .set = true, .pkru = 0xfffffffc);
EXEC_STOP(set_to_pattern, .set = true, .pkru = 0x5555000c);

FIXTURE_SETUP(exec_stop)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);
}

FIXTURE_TEARDOWN(exec_stop)
{
}

/* E4: a debugger sees the PKRU that the program starts with, and can change it. */
TEST_F(exec_stop, registers_read_and_written)
{
	static struct pkey_xstate xstate;
	struct report report = {};
	uint32_t expected = pkru_at_start;
	uint64_t features;
	int fds[2];
	pid_t pid;

	ASSERT_EQ(0, pipe(fds));
	pid = exec_traced(fds[1]);
	ASSERT_LT(0, pid);
	close(fds[1]);
	ASSERT_TRUE(pkey_get_xstate(pid, &xstate));
	EXPECT_EQ(pkru_at_start, xsave_get_pkru(xstate.bytes));

	if (variant->set) {
		expected = variant->pkru;
		xsave_set_pkru(xstate.bytes, variant->pkru);
	}
	if (variant->clear_header_bit) {
		expected = 0;
		memcpy(&features, xstate.bytes + XSAVE_HEADER, sizeof(features));
		features &= ~(1ull << XFEATURE_PKRU);
		memcpy(xstate.bytes + XSAVE_HEADER, &features, sizeof(features));
	}
	ASSERT_TRUE(pkey_set_xstate(pid, &xstate));
	ASSERT_EQ(0, ptrace(PTRACE_CONT, pid, NULL, NULL));
	ASSERT_EQ((ssize_t)sizeof(report), read(fds[0], &report, sizeof(report)));
	EXPECT_EQ(0, pkey_wait_for(pid));
	EXPECT_EQ(expected, report.pkru);
	EXPECT_EQ(PKEY_MAX, report.nr);
}

/* E4: a debugger reads what it has written. */
TEST_F(exec_stop, registers_written_are_read)
{
	static struct pkey_xstate xstate;
	int fds[2];
	pid_t pid;

	ASSERT_EQ(0, pipe(fds));
	pid = exec_traced(fds[1]);
	ASSERT_LT(0, pid);
	ASSERT_TRUE(pkey_get_xstate(pid, &xstate));
	if (variant->set)
		xsave_set_pkru(xstate.bytes, variant->pkru);
	ASSERT_TRUE(pkey_set_xstate(pid, &xstate));
	memset(&xstate, 0, sizeof(xstate));
	ASSERT_TRUE(pkey_get_xstate(pid, &xstate));
	EXPECT_EQ(variant->set ? variant->pkru : pkru_at_start, xsave_get_pkru(xstate.bytes));
	ASSERT_EQ(0, ptrace(PTRACE_KILL, pid, NULL, NULL));
	pkey_wait_for(pid);
}

#define CORE_PATTERN	"/proc/sys/kernel/core_pattern"

static char core_pattern[256];

FIXTURE(core)
{
};

FIXTURE_SETUP(core)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);

	if (!pkey_read_file(CORE_PATTERN, core_pattern, sizeof(core_pattern)) ||
	    !pkey_write_file(CORE_PATTERN, "/tmp/pkey_process_test.%p"))
		SKIP(return, "needs core dumps and the right to write " CORE_PATTERN);
}

FIXTURE_TEARDOWN(core)
{
	pkey_write_file(CORE_PATTERN, core_pattern);
}

/* Find PKRU in a core dump's note of extended registers. Return false if none. */
static bool find_pkru(const char *notes, size_t size, uint32_t *pkru)
{
	const size_t end = XSAVE_HEADER + 64;
	const ElfW(Nhdr) *note;
	const char *desc;
	size_t pos = 0;

	while (pos + sizeof(*note) <= size) {
		note = (const ElfW(Nhdr) *)(notes + pos);
		desc = notes + pos + sizeof(*note) + ((note->n_namesz + 3) & ~3u);
		if (note->n_type == PKEY_NT_X86_XSTATE && note->n_descsz > end) {
			*pkru = xsave_get_pkru(desc);
			return true;
		}
		pos = desc - notes + ((note->n_descsz + 3) & ~3u);
	}
	return false;
}

static bool core_pkru(const char *path, uint32_t *pkru)
{
	bool found = false;
	ElfW(Phdr) phdr;
	ElfW(Ehdr) ehdr;
	char *notes;
	int fd, i;

	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, &ehdr, sizeof(ehdr)) != (ssize_t)sizeof(ehdr))
		return false;

	for (i = 0; i < ehdr.e_phnum && !found; i++) {
		if (pread(fd, &phdr, sizeof(phdr), ehdr.e_phoff + i * sizeof(phdr)) !=
		    (ssize_t)sizeof(phdr) || phdr.p_type != PT_NOTE)
			continue;
		notes = malloc(phdr.p_filesz);
		if (notes && pread(fd, notes, phdr.p_filesz, phdr.p_offset) ==
			     (ssize_t)phdr.p_filesz)
			found = find_pkru(notes, phdr.p_filesz, pkru);
		free(notes);
	}
	close(fd);
	return found;
}

/* Wait for the end of a process that dumps core, and read PKRU from the core. */
static bool core_pkru_of(pid_t pid, uint32_t *pkru)
{
	const int status = pkey_wait_for(pid);
	char path[64];
	bool found;

	snprintf(path, sizeof(path), "/tmp/pkey_process_test.%d", pid);
	found = WIFSIGNALED(status) && WCOREDUMP(status) && core_pkru(path, pkru);
	unlink(path);
	return found;
}

/* E4: a program that dies before its first instruction dumps the PKRU that it has. */
TEST_F(core, at_exec_stop)
{
	uint32_t pkru = 0;
	int fds[2];
	pid_t pid;

	ASSERT_EQ(0, pipe(fds));
	pid = exec_traced(fds[1]);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, ptrace(PTRACE_CONT, pid, NULL, (void *)(long)SIGQUIT));
	ASSERT_TRUE(core_pkru_of(pid, &pkru));
	EXPECT_EQ(pkru_at_start, pkru);
}

/* E4: a core dump has the PKRU that the thread has. */
TEST_F(core, of_running_program)
{
	const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	uint32_t pkru;
	pid_t pid;
	size_t p;

	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			setrlimit(RLIMIT_CORE, &unlimited);
			wrpkru(pkru_patterns[p]);
			raise(SIGQUIT);
			_exit(0);
		}
		pkru = ~pkru_patterns[p];
		ASSERT_TRUE(core_pkru_of(pid, &pkru));
		EXPECT_EQ(pkru_patterns[p], pkru);
	}
}

/*
 * The threads want more keys than there are: 8 of them hold up to 3 each. On two
 * processors at least two of them run at once. The others make sure that each is also
 * preempted between the system calls. Nearly every pkey_alloc() hands out a key that
 * was used before, which costs an interrupt on each processor that runs one of them.
 * An emulator is slow at that, so there are no more rounds than it takes to have calls
 * overlap often.
 */
#define NR_WORKERS	8
#define KEYS_PER_WORKER	3
#define NR_ROUNDS	40
#define THREADS_TIMEOUT	180

struct worker {
	pthread_t thread;
	/* The results, which the main thread reads after the join. */
	int taken;
	int not_free;
	int not_a_key;
	int key_twice;
	int free_failed;
	int overlaps;
};

/* The workers share this, and change it by atomic operations only. */
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

/* Allocate a key and count what is wrong with it. Return 0 if there is none. */
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

/* Start the workers, and return when all of them are about to begin. */
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

/* Wait for the workers and add up their results. */
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

/* E2, A3: when threads allocate and free at once no key has two owners and none is lost. */
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
		SKIP(return, "the race did not happen: no two calls overlapped");
}

/* How often two threads do the same at the same moment. */
#define NR_DUELS	10000

struct duel {
	/* Counts both threads each time they meet. */
	unsigned int arrived;
	/* The results of the two calls of each thread in each round. */
	int alloc[2][NR_DUELS];
	int free[2][NR_DUELS];
};

struct duellist {
	struct duel *duel;
	int number;
};

/*
 * Wait for the other thread without sleeping, so that both go on at once. With one
 * processor it yields, because the other thread needs that processor.
 */
static void duel_meet(struct duel *duel, unsigned int meeting)
{
	unsigned int spins = 0;

	ADD(duel->arrived, 1);
	while (LOAD(duel->arrived) < 2 * meeting)
		if (++spins > 1000)
			sched_yield();
}

static void *duel_thread(void *arg)
{
	struct duellist *self = arg;
	struct duel *duel = self->duel;
	int i;

	for (i = 0; i < NR_DUELS; i++) {
		duel_meet(duel, 2 * i + 1);
		duel->alloc[self->number][i] = sys_pkey_alloc(0, 0);
		duel_meet(duel, 2 * i + 2);
		duel->free[self->number][i] = sys_pkey_free(7);
	}
	return NULL;
}

/* E2, A4, B1: of two threads that want the last key, or free it, one succeeds. */
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

/* With so many children it is likely that some are born inside a call. */
#define NR_FORKS	16

struct fork_result {
	/* Keys at the fork, and keys from pkey_alloc() after it. */
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
		if (pkey_wait_for(pid) == 0)
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

	/* The forks have not changed the keys of the parent. */
	ASSERT_EQ(0, sum.key_twice);
	ASSERT_EQ(0, sum.free_failed);
	ASSERT_EQ(PKEY_MASK_DEFAULT, pkey_attachable_mask());
	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	if (seen == common)
		SKIP(return, "the race did not happen: every child had the same keys");
}

int main(int argc, char **argv)
{
	pkru_at_start = pkru_save();
	if (argc == 3 && !strcmp(argv[1], REPORT_ARG))
		return report_to(atoi(argv[2]));

	return test_harness_run(argc, argv);
}
