/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Births: tasks that are created while the rights to a key change. The creator sets its
 * rights to the key and creates a task while another thread makes a call that sets the
 * rights of all others, once. The new task has the rights of the call when the call is
 * over.
 *
 * The race is for the moment between the copy of PKRU and the end of clone(). The other
 * thread begins a little later each time, up to about the time that clone() takes. Tests
 * of the fixture "birth" run with each kind of new task.
 *
 * To be included after kselftest_harness.h.
 */
#ifndef PKEY_BIRTH_H
#define PKEY_BIRTH_H

#include <pthread.h>

#include "pkey_holder.h"
#include "pkey_util.h"

#define NR_BIRTHS		128
#define NR_BIRTH_DELAYS		64
#define BIRTH_DELAY_STEP	300

/* A key that is freed as soon as the call has returned. */
#define MARK			9

enum birth_kind {
	BIRTH_THREAD,
	BIRTH_PROCESS,
	BIRTH_FORK,
};

struct birth {
	/* The call of the other thread, and its argument in this round. */
	bool (*call)(unsigned int rights);
	unsigned int rights;

	pthread_t other;
	char *stack;
	/* The other thread has round @go to do, and has done round @done. */
	unsigned int go;
	unsigned int done;
	int failed;
	/* Results of the new task; a child of fork() shares nothing else. */
	struct {
		uint32_t pkru;
		bool after_call;
		/* Cleared by the kernel when a thread is gone. */
		unsigned int tid;
	} *task;
};

static inline void *birth_other_thread(void *arg)
{
	struct birth *birth = arg;
	unsigned int round = 0;

	while (round < NR_BIRTHS) {
		pkey_wait_while(&birth->go, round);
		delay(round % NR_BIRTH_DELAYS * BIRTH_DELAY_STEP);
		if (!birth->call(birth->rights))
			birth->failed++;
		/* The child of fork() finds this in its copy of the keys. */
		if (sys_pkey_free(MARK))
			birth->failed++;
		pkey_set_and_wake(&birth->done, ++round);
	}
	return NULL;
}

static inline bool birth_start(struct birth *birth, bool (*call)(unsigned int rights))
{
	birth->call = call;
	return !pthread_create(&birth->other, NULL, birth_other_thread, birth);
}

static inline int birth_run(void *arg)
{
	struct birth *birth = arg;

	pkey_wait_while(&birth->done, birth->go - 1);
	birth->task->pkru = rdpkru();
	birth->task->after_call = true;
	return 0;
}

/* Run in the child of fork(): its keys are what they were at the fork. */
static inline void birth_run_forked(struct birth *birth)
{
	birth->task->pkru = rdpkru();
	birth->task->after_call = !!sys_pkey_free(MARK);
}

/* Create a task and wait until it is gone. */
static inline bool birth_create(struct birth *birth, enum birth_kind kind)
{
	const int thread_flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND |
				 CLONE_THREAD | CLONE_SYSVSEM | CLONE_CHILD_CLEARTID;
	pid_t pid;

	switch (kind) {
	case BIRTH_THREAD:
		birth->task->tid = 1;
		pid = clone(birth_run, birth->stack, thread_flags, birth, NULL, NULL,
			    &birth->task->tid);
		if (pid > 0)
			pkey_wait_while(&birth->task->tid, 1);
		return pid > 0;
	case BIRTH_PROCESS:
		pid = clone(birth_run, birth->stack, CLONE_VM | SIGCHLD, birth);
		return pid > 0 && pkey_wait_for(pid) == 0;
	case BIRTH_FORK:
		pid = fork();
		if (!pid) {
			birth_run_forked(birth);
			_exit(0);
		}
		return pid > 0 && pkey_wait_for(pid) == 0;
	}
	return false;
}

/* Run round @round, from 1: the creator has @pkru, and the call is made with @rights. */
static inline bool birth_round(struct birth *birth, enum birth_kind kind, unsigned int round,
			       uint32_t pkru, unsigned int rights)
{
	birth->rights = rights;
	wrpkru(pkru);
	pkey_set_and_wake(&birth->go, round);
	if (!birth_create(birth, kind))
		return false;

	pkey_wait_while(&birth->done, round - 1);
	return true;
}

FIXTURE(birth)
{
	struct birth birth;
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
	self->birth.stack = pkey_map_stack();
	ASSERT_TRUE(!!self->birth.stack);
}

FIXTURE_TEARDOWN(birth)
{
}

#endif /* PKEY_BIRTH_H */
