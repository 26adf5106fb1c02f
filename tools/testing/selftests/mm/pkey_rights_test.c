// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of prctl(PR_PKEY) on x86: PR_PKEY_SET_RIGHTS gives all tasks of an address
 * space the same rights to a key (I1 to I4), and in scope process pkey_alloc() has
 * the same effect (I5, I6).
 *
 * Each test of the harness runs in a process of its own, with no key allocated and
 * in scope thread. The verdict of a child process is its exit status, because on
 * some kernels EXPECT_ in a child does not reach the parent.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <ucontext.h>

#include "../kselftest_harness.h"
#include "pkey_birth.h"
#include "pkey_holder.h"
#include "pkey_prctl.h"

/* The argument that makes this program report its state instead of testing. */
#define REPORT_ARG	"--report-to-fd"

/* The argument that makes it end with a status that tells its scope. */
#define SCOPE_ARG	"--end-with-scope"
#define STATUS_OF(_scope)	(40 + (_scope))

/* The key whose rights the tests set, where one is enough. */
#define KEY		7

/* A user and group other than root. */
#define NOBODY		65534

/* PKRU as execve() left it for this program, before anything changed it. */
static uint32_t pkru_at_start;

static char path_of_this[512];

static unsigned int rights_in(uint32_t pkru, int pkey)
{
	return pkru >> 2 * pkey & PKEY_RIGHTS_MASK;
}

/*
 * Arguments (I1, I5)
 */

FIXTURE(arguments)
{
};

FIXTURE_SETUP(arguments)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(1, sys_pkey_alloc(0, 0));
	ASSERT_EQ(2, sys_pkey_alloc(0, 0));
}

FIXTURE_TEARDOWN(arguments)
{
}

/* Each call below is refused with EINVAL, and changes neither rights nor scope. */
#define EXPECT_REFUSED(_call)						\
	do {								\
		uint32_t before_ = rdpkru();				\
									\
		EXPECT_EQ(-1, _call);					\
		EXPECT_EQ(EINVAL, errno);				\
		EXPECT_EQ(before_, rdpkru());				\
		EXPECT_EQ(PR_PKEY_SCOPE_THREAD, pkey_get_scope());	\
	} while (0)

TEST_F(arguments, unknown_operation)
{
	static const int ops[] = { 0, 4, 5, 255, 256, -1, INT_MAX, INT_MIN };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		EXPECT_REFUSED(sys_pkey_prctl(ops[i], 0, 0, 0));
		EXPECT_REFUSED(sys_pkey_prctl(ops[i], 1, 0, 0));
	}
}

/* The operation is the whole argument, not its lower half. */
TEST_F(arguments, high_bits_of_operation)
{
	int bit;

	for (bit = 8; bit < PKEY_ARG_BITS; bit++) {
		EXPECT_REFUSED(sys_pkey_prctl((pkey_arg_t)1 << bit | PR_PKEY_SET_RIGHTS, 1, 1, 0));
		EXPECT_REFUSED(sys_pkey_prctl((pkey_arg_t)1 << bit | PR_PKEY_SET_SCOPE,
					      PR_PKEY_SCOPE_PROCESS, 0, 0));
	}
}

TEST_F(arguments, set_rights_unused_argument)
{
	int bit;

	for (bit = 0; bit < PKEY_ARG_BITS; bit++)
		EXPECT_REFUSED(sys_pkey_prctl(PR_PKEY_SET_RIGHTS, 1, PKEY_DISABLE_WRITE,
					      (pkey_arg_t)1 << bit));
}

/* I1: keys that pkey_free() refuses. */
TEST_F(arguments, set_rights_bad_key)
{
	static const int keys[] = { 0, -1, 16, 17, 31, 32, 63, 64, 256, INT_MIN, INT_MAX, -16 };
	unsigned int rights;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(keys); i++)
		for (rights = 0; rights <= PKEY_RIGHTS_MASK; rights++)
			EXPECT_REFUSED(pkey_set_rights_everywhere(keys[i], rights));
}

/* I1: keys that are not allocated, never used or freed, with and without mappings. */
TEST_F(arguments, set_rights_free_key)
{
	const size_t size = pkey_page_size();
	void *page = pkey_map(1, RW);
	int pkey;

	ASSERT_TRUE(!!page);
	ASSERT_EQ(0, sys_pkey_mprotect(page, size, RW, 2));
	ASSERT_EQ(0, sys_pkey_free(1));
	ASSERT_EQ(0, sys_pkey_free(2));
	for (pkey = 1; pkey < PKEY_NR; pkey++) {
		EXPECT_REFUSED(pkey_set_rights_everywhere(pkey, 0));
		EXPECT_REFUSED(pkey_set_rights_everywhere(pkey, PKEY_DISABLE_ACCESS));
	}
	/* The refused calls have used no key. */
	EXPECT_EQ(1, sys_pkey_alloc(0, 0));
}

/* I1, D1: the execute-only key is the kernel's. */
TEST_F(arguments, set_rights_execute_only_key)
{
	char *code = pkey_map_code(PROT_EXEC);
	unsigned int rights;
	int pkey;

	ASSERT_TRUE(!!code);
	pkey = pkey_of(code);
	ASSERT_EQ(3, pkey);
	for (rights = 0; rights <= PKEY_RIGHTS_MASK; rights++)
		EXPECT_REFUSED(pkey_set_rights_everywhere(pkey, rights));
	EXPECT_TRUE(pkey_refused(PKEY_READ, code, pkey));
}

/* I1: rights that pkey_alloc() refuses, looking at the whole argument. */
TEST_F(arguments, set_rights_bad_rights)
{
	int bit;

	for (bit = 2; bit < PKEY_ARG_BITS; bit++) {
		EXPECT_REFUSED(sys_pkey_prctl(PR_PKEY_SET_RIGHTS, 1, (pkey_arg_t)1 << bit, 0));
		EXPECT_REFUSED(sys_pkey_prctl(PR_PKEY_SET_RIGHTS, 1,
					      (pkey_arg_t)1 << bit | PKEY_RIGHTS_MASK, 0));
	}
	EXPECT_REFUSED(sys_pkey_prctl(PR_PKEY_SET_RIGHTS, 1, (pkey_arg_t)-1, 0));
}

/* A1: pkey_alloc() has no flag for any of this. */
TEST_F(arguments, alloc_flags_stay_refused)
{
	int bit;

	for (bit = 0; bit < PKEY_ARG_BITS; bit++) {
		EXPECT_EQ(-1, sys_pkey_alloc((pkey_arg_t)1 << bit, 0));
		EXPECT_EQ(EINVAL, errno);
	}
}

/* I5: there are two scopes. */
TEST_F(arguments, set_scope_bad_scope)
{
	int bit;

	for (bit = 1; bit < PKEY_ARG_BITS; bit++) {
		EXPECT_REFUSED(sys_pkey_prctl(PR_PKEY_SET_SCOPE, (pkey_arg_t)1 << bit, 0, 0));
		EXPECT_REFUSED(sys_pkey_prctl(PR_PKEY_SET_SCOPE, (pkey_arg_t)1 << bit | 1, 0, 0));
	}
	EXPECT_REFUSED(sys_pkey_prctl(PR_PKEY_SET_SCOPE, (pkey_arg_t)-1, 0, 0));
}

TEST_F(arguments, set_scope_unused_arguments)
{
	int bit;

	for (bit = 0; bit < PKEY_ARG_BITS; bit++) {
		EXPECT_REFUSED(sys_pkey_prctl(PR_PKEY_SET_SCOPE, PR_PKEY_SCOPE_PROCESS,
					      (pkey_arg_t)1 << bit, 0));
		EXPECT_REFUSED(sys_pkey_prctl(PR_PKEY_SET_SCOPE, PR_PKEY_SCOPE_PROCESS, 0,
					      (pkey_arg_t)1 << bit));
	}
}

TEST_F(arguments, get_scope_unused_arguments)
{
	int bit;

	for (bit = 0; bit < PKEY_ARG_BITS; bit++) {
		EXPECT_REFUSED(sys_pkey_prctl(PR_PKEY_GET_SCOPE, (pkey_arg_t)1 << bit, 0, 0));
		EXPECT_REFUSED(sys_pkey_prctl(PR_PKEY_GET_SCOPE, 0, (pkey_arg_t)1 << bit, 0));
		EXPECT_REFUSED(sys_pkey_prctl(PR_PKEY_GET_SCOPE, 0, 0, (pkey_arg_t)1 << bit));
	}
}

/* I1: each allocated key, with all rights, in a process with one thread. */
TEST_F(arguments, set_rights_accepts_each_key)
{
	unsigned int rights;
	uint32_t pkru;
	int pkey;
	size_t p;

	ASSERT_EQ(PKEY_MAX - 2, pkey_take_all(NULL));
	for (pkey = 1; pkey < PKEY_NR; pkey++) {
		for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
			for (rights = 0; rights <= PKEY_RIGHTS_MASK; rights++) {
				pkru = pkru_patterns[p];
				wrpkru(pkru);
				ASSERT_EQ(0, pkey_set_rights_everywhere(pkey, rights));
				EXPECT_EQ(pkru_with_rights(pkru, pkey, rights), rdpkru());
			}
		}
	}
}

/* Where there are no keys, only PR_PKEY_GET_SCOPE succeeds. */
TEST(nohw_set_rights_gives_einval)
{
	unsigned int rights;
	int pkey;

	if (pku_enabled())
		SKIP(return, HAS_PKU);

	for (pkey = -1; pkey <= PKEY_NR; pkey++) {
		for (rights = 0; rights <= PKEY_RIGHTS_MASK + 1; rights++) {
			EXPECT_EQ(-1, pkey_set_rights_everywhere(pkey, rights));
			EXPECT_EQ(EINVAL, errno);
		}
	}
}

TEST(nohw_scope_is_thread)
{
	if (pku_enabled())
		SKIP(return, HAS_PKU);

	EXPECT_EQ(PR_PKEY_SCOPE_THREAD, pkey_get_scope());
	EXPECT_EQ(-1, pkey_set_scope(PR_PKEY_SCOPE_PROCESS));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, pkey_set_scope(PR_PKEY_SCOPE_THREAD));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(PR_PKEY_SCOPE_THREAD, pkey_get_scope());
}

TEST(nohw_unknown_operation)
{
	if (pku_enabled())
		SKIP(return, HAS_PKU);

	EXPECT_EQ(-1, sys_pkey_prctl(0, 0, 0, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, sys_pkey_prctl(4, 0, 0, 0));
	EXPECT_EQ(EINVAL, errno);
}

/*
 * All kinds of tasks (I2, I5)
 */

/* The holder has @pkru at its next instruction, and its system call went on. */
#define EXPECT_HOLDER(_holder, _pkru)						\
	do {									\
		EXPECT_EQ(_pkru, (_holder)->seen);				\
		EXPECT_EQ(holder_expected_result(_holder), (_holder)->result);	\
		if ((_holder)->doing == READ)					\
			EXPECT_EQ('x', (_holder)->byte);			\
		EXPECT_EQ((_holder)->pkru, (_holder)->seen_later);		\
	} while (0)

/*
 * I2: grants and revocations, from all rights to all rights. No other key's bits
 * change, in the caller and in the holder.
 */
TEST_F(holder, has_exactly_these_rights)
{
	struct holder *holder = self->holder;
	unsigned int rights;
	uint32_t mine;
	size_t p;
	int pkey;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	for (p = 0; p < 2 * ARRAY_SIZE(pkru_patterns); p++) {
		pkey = 1 + p * 7 % PKEY_MAX;
		rights = p % 4;
		holder_reset(holder, pkru_patterns[p / 2]);
		handled = 0;
		ASSERT_TRUE(holder_start(holder));
		mine = ~pkru_patterns[p / 2] & ~PKRU_KEY0_MASK;
		wrpkru(mine);
		ASSERT_EQ(0, pkey_set_rights_everywhere(pkey, rights));
		EXPECT_EQ(pkru_with_rights(mine, pkey, rights), rdpkru());
		EXPECT_EQ(0, LOAD(handled));
		ASSERT_TRUE(holder_finish(holder));
		EXPECT_HOLDER(holder, pkru_with_rights(holder->pkru, pkey, rights));
	}
}

/* I2: several calls before the holder runs again; the last one of a key counts. */
TEST_F(holder, has_the_rights_that_were_set_last)
{
	static const struct {
		int pkey;
		unsigned int rights;
	} calls[] = {
		{ 3, 0 }, { 15, 3 }, { 1, 1 }, { 15, 2 }, { 8, 0 }, { 3, 1 }, { 8, 3 }, { 8, 0 },
	};
	struct holder *holder = self->holder;
	uint32_t expected;
	size_t p, i;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	for (p = 0; p < 4; p++) {
		expected = pkru_patterns[p];
		holder_reset(holder, expected);
		ASSERT_TRUE(holder_start(holder));
		for (i = 0; i < ARRAY_SIZE(calls); i++) {
			ASSERT_EQ(0, pkey_set_rights_everywhere(calls[i].pkey, calls[i].rights));
			expected = pkru_with_rights(expected, calls[i].pkey, calls[i].rights);
		}
		ASSERT_TRUE(holder_finish(holder));
		EXPECT_HOLDER(holder, expected);
	}
}

/* I2: the holder reads memory that was closed to it when it began to wait. */
TEST_F(holder, reads_after_a_grant)
{
	struct holder *holder = self->holder;
	char *secret = pkey_map(1, RW);

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	ASSERT_TRUE(!!secret);
	ASSERT_EQ(0, sys_pkey_mprotect(secret, pkey_page_size(), RW, KEY));
	holder_reset(holder, PKRU_INIT);
	holder->secret = secret;
	ASSERT_TRUE(holder_start(holder));
	ASSERT_EQ(0, pkey_set_rights_everywhere(KEY, PKEY_DISABLE_WRITE));
	ASSERT_TRUE(holder_finish(holder));
	EXPECT_FALSE(holder->fault.hit);
}

/* I2: the holder does not read memory that was open to it when it began to wait. */
TEST_F(holder, is_refused_after_a_revocation)
{
	struct holder *holder = self->holder;
	char *secret = pkey_map(1, RW);

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	ASSERT_TRUE(!!secret);
	ASSERT_EQ(0, sys_pkey_mprotect(secret, pkey_page_size(), RW, KEY));
	holder_reset(holder, 0);
	holder->secret = secret;
	ASSERT_TRUE(holder_start(holder));
	ASSERT_EQ(0, pkey_set_rights_everywhere(KEY, PKEY_DISABLE_ACCESS));
	ASSERT_TRUE(holder_finish(holder));
	EXPECT_TRUE(holder->fault.hit);
	EXPECT_EQ(SEGV_PKUERR, holder->fault.code);
	EXPECT_EQ(KEY, holder->fault.pkey);
	EXPECT_TRUE(holder->fault.addr == secret);
}

/* I2, F4: a re-issue takes what was granted; a grant after it counts. */
TEST_F(holder, grants_and_reissues)
{
	struct holder *holder = self->holder;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	holder_reset(holder, PKRU_INIT);
	ASSERT_TRUE(holder_start(holder));
	ASSERT_EQ(0, pkey_set_rights_everywhere(KEY, 0));
	ASSERT_TRUE(pkey_reissue_with_rights(KEY, 0));
	ASSERT_TRUE(holder_finish(holder));
	EXPECT_TRUE(pkru_denies(holder->seen, KEY));
	EXPECT_EQ(pkru_without(PKRU_INIT, KEY), pkru_without(holder->seen, KEY));

	holder_reset(holder, 0);
	ASSERT_TRUE(holder_start(holder));
	ASSERT_TRUE(pkey_reissue_with_rights(KEY, 0));
	ASSERT_EQ(0, pkey_set_rights_everywhere(KEY, PKEY_DISABLE_WRITE));
	ASSERT_TRUE(holder_finish(holder));
	EXPECT_HOLDER(holder, pkru_with_rights(0, KEY, PKEY_DISABLE_WRITE));
}

/* I1: a call that is refused changes nothing in other tasks either. */
TEST_F(holder, keeps_rights_when_the_call_is_refused)
{
	struct holder *holder = self->holder;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	ASSERT_EQ(0, sys_pkey_free(KEY));
	holder_reset(holder, 0x33333330);
	ASSERT_TRUE(holder_start(holder));
	EXPECT_EQ(-1, pkey_set_rights_everywhere(KEY, 0));
	EXPECT_EQ(-1, pkey_set_rights_everywhere(0, PKEY_DISABLE_ACCESS));
	EXPECT_EQ(-1, pkey_set_rights_everywhere(3, 4));
	EXPECT_EQ(-1, sys_pkey_prctl(PR_PKEY_SET_RIGHTS, 3, 1, 1));
	ASSERT_TRUE(holder_finish(holder));
	EXPECT_HOLDER(holder, 0x33333330u);
}

/* I2, E1: a process with an address space of its own is left alone. */
TEST_F(holder, keeps_rights_in_another_address_space)
{
	struct holder *holder = self->holder;
	pid_t pid;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	holder_reset(holder, 0x0f0f0f0c);
	ASSERT_TRUE(holder_start(holder));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(pkey_set_rights_everywhere(KEY, 0) ||
		      pkey_set_rights_everywhere(KEY + 1, PKEY_DISABLE_ACCESS));
	EXPECT_EQ(0, pkey_wait_for(pid));
	ASSERT_TRUE(holder_finish(holder));
	EXPECT_HOLDER(holder, 0x0f0f0f0cu);
}

/* One pkey_alloc(0, @rights) beside the holder, which is to return @pkey. */
static bool alloc_beside(struct holder *holder, int pkey, unsigned int rights, uint32_t pkru)
{
	const uint32_t mine = ~pkru & ~PKRU_KEY0_MASK;
	bool done;

	holder_reset(holder, pkru);
	handled = 0;
	if (!holder_start(holder))
		return false;

	wrpkru(mine);
	done = sys_pkey_alloc(0, rights) == pkey;
	done = done && rdpkru() == pkru_with_rights(mine, pkey, rights) && !LOAD(handled);
	return holder_finish(holder) && done;
}

/* I5: a key that was never used, one that is clean, and one that is mapped. */
TEST_F(holder, has_the_rights_of_pkey_alloc_in_scope_process)
{
	const size_t size = pkey_page_size();
	struct holder *holder = self->holder;
	char *page = pkey_map(1, RW);
	uint32_t pkru;
	size_t p;

	ASSERT_TRUE(!!page);
	ASSERT_EQ(0, pkey_set_scope(PR_PKEY_SCOPE_PROCESS));
	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		pkru = pkru_patterns[p];
		ASSERT_TRUE(alloc_beside(holder, 1 + p, p % 4, pkru));
		EXPECT_HOLDER(holder, pkru_with_rights(pkru, 1 + p, p % 4));
	}
	ASSERT_EQ(PKEY_MAX - (int)p, pkey_take_all(NULL));
	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		pkru = pkru_patterns[p];
		ASSERT_EQ(0, sys_pkey_free(KEY));
		ASSERT_TRUE(alloc_beside(holder, KEY, (p + 1) % 4, pkru));
		EXPECT_HOLDER(holder, pkru_with_rights(pkru, KEY, (p + 1) % 4));
	}
	if (pkey_read_setting(PKEY_SETTING) != 1)
		return;

	for (p = 0; p < 4; p++) {
		pkru = pkru_patterns[p];
		ASSERT_EQ(0, sys_pkey_mprotect(page, size, RW, KEY));
		ASSERT_EQ(0, sys_pkey_free(KEY));
		ASSERT_TRUE(alloc_beside(holder, KEY, p, pkru));
		EXPECT_HOLDER(holder, pkru_with_rights(pkru, KEY, p));
	}
}

/* I5: a call without a key to hand out changes nothing. */
TEST_F(holder, keeps_rights_when_pkey_alloc_fails)
{
	struct holder *holder = self->holder;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	ASSERT_EQ(0, pkey_set_scope(PR_PKEY_SCOPE_PROCESS));
	holder_reset(holder, 0x0f0f0f0c);
	ASSERT_TRUE(holder_start(holder));
	wrpkru(0x33333330);
	EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
	EXPECT_EQ(ENOSPC, errno);
	EXPECT_EQ(-1, sys_pkey_alloc(0, 4));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0x33333330, rdpkru());
	ASSERT_TRUE(holder_finish(holder));
	EXPECT_HOLDER(holder, 0x0f0f0f0cu);
}

/* I5: thread is the default, and can be had back. */
TEST_F(holder, has_no_rights_by_pkey_alloc_in_scope_thread)
{
	struct holder *holder = self->holder;

	ASSERT_TRUE(alloc_beside(holder, 1, 0, PKRU_INIT));
	EXPECT_HOLDER(holder, PKRU_INIT);
	ASSERT_EQ(0, pkey_set_scope(PR_PKEY_SCOPE_PROCESS));
	ASSERT_EQ(0, pkey_set_scope(PR_PKEY_SCOPE_THREAD));
	ASSERT_TRUE(alloc_beside(holder, 2, 0, PKRU_INIT));
	EXPECT_HOLDER(holder, PKRU_INIT);
}

/* I5, D1: the key of execute-only memory is closed in scope process too. */
TEST_F(holder, cannot_read_execute_only_memory_in_scope_process)
{
	struct holder *holder = self->holder;
	char *code;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	ASSERT_EQ(0, pkey_set_scope(PR_PKEY_SCOPE_PROCESS));
	holder_reset(holder, 0);
	ASSERT_TRUE(holder_start(holder));
	ASSERT_EQ(0, sys_pkey_free(KEY));
	code = pkey_map_code(PROT_EXEC);
	ASSERT_TRUE(!!code);
	ASSERT_EQ(KEY, pkey_of(code));
	holder->secret = code;
	ASSERT_TRUE(holder_finish(holder));
	EXPECT_TRUE(pkru_denies(holder->seen, KEY));
	EXPECT_EQ(0, pkru_without(holder->seen, KEY));
	EXPECT_TRUE(holder->fault.hit);
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

/* I2: many tasks of all kinds at once. */
TEST_F(full, many_holders)
{
	enum { NR = 24 };
	static struct holder holders[NR];
	unsigned int rights;
	int i;

	for (rights = 0; rights <= PKEY_RIGHTS_MASK; rights++) {
		for (i = 0; i < NR; i++) {
			holder_choose_kind(&holders[i], i);
			holders[i].pkru = pkru_patterns[i % ARRAY_SIZE(pkru_patterns)];
			ASSERT_TRUE(holder_start(&holders[i]));
		}
		ASSERT_EQ(0, pkey_set_rights_everywhere(KEY, rights));
		for (i = 0; i < NR; i++) {
			ASSERT_TRUE(holder_finish(&holders[i]));
			EXPECT_HOLDER(&holders[i],
				      pkru_with_rights(holders[i].pkru, KEY, rights));
		}
	}
}

/* I2: all threads of another process, also when its first thread has exited. */
TEST_F(full, threads_of_another_process)
{
	struct team team;
	pid_t pid;
	int i;

	for (i = 0; i < 4; i++) {
		memset(&team, 0, sizeof(team));
		team.first_exits = i & 1;
		team.holder.pkru = PKRU_INIT;
		pid = team_start(&team);
		ASSERT_LE(0, pid);
		ASSERT_EQ(0, pkey_set_rights_everywhere(KEY, i & 2));
		team_finish(&team);
		ASSERT_EQ(0, pkey_wait_for(pid));
		EXPECT_EQ(pkru_with_rights(PKRU_INIT, KEY, i & 2), team.holder.seen);
	}
}

/* One call that a task makes, and whether it had the effect. */
struct call {
	int pkey;
	unsigned int rights;
	uint32_t before;
	bool done;
};

static int call_run(void *arg)
{
	struct call *call = arg;

	wrpkru(call->before);
	call->done = !pkey_raw_prctl(PR_PKEY_SET_RIGHTS, call->pkey, call->rights, 0) &&
		     rdpkru() == pkru_with_rights(call->before, call->pkey, call->rights);
	return 0;
}

static void *call_thread(void *arg)
{
	call_run(arg);
	return NULL;
}

static bool set_in_thread(int pkey, unsigned int rights)
{
	struct call call = { .pkey = pkey, .rights = rights, .before = 0xfffffffc };
	pthread_t thread;

	return !pthread_create(&thread, NULL, call_thread, &call) &&
	       !pthread_join(thread, NULL) && call.done;
}

/* Does a call in a thread reach the calling task, and change nothing else of it? */
static bool thread_sets_rights(int pkey)
{
	unsigned int rights;
	uint32_t pkru;

	for (rights = 0; rights <= PKEY_RIGHTS_MASK; rights++) {
		pkru = pkru_patterns[1 + rights];
		wrpkru(pkru);
		if (!set_in_thread(pkey, rights) ||
		    rdpkru() != pkru_with_rights(pkru, pkey, rights))
			return false;
	}
	return true;
}

/* I2: the first thread of the process is a task as any other. */
TEST_F(full, main_thread)
{
	int pkey;

	for (pkey = 1; pkey < PKEY_NR; pkey++)
		EXPECT_TRUE(thread_sets_rights(pkey));
}

/* I2: a task has the rights that the child of its vfork() sets while the task waits. */
TEST_F(full, vfork_parent)
{
	struct call call = { .pkey = KEY, .before = 0xfffffffc };
	uint32_t pkru;
	pid_t pid;
	size_t p;

	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		pkru = pkru_patterns[p];
		call.rights = p % 4;
		call.done = false;
		wrpkru(pkru);
		pid = start_process(call_run, &call, CLONE_VFORK);
		EXPECT_EQ(pkru_with_rights(pkru, KEY, call.rights), rdpkru());
		ASSERT_EQ(0, pkey_wait_for(pid));
		EXPECT_TRUE(call.done);
	}
}

struct vfork {
	struct holder holder;
	uint32_t pkru;
	uint32_t after;
	int status;
};

static void *vfork_thread(void *arg)
{
	struct vfork *vfork = arg;
	pid_t pid;

	wrpkru(vfork->pkru);
	pid = start_process(holder_run, &vfork->holder, CLONE_VFORK);
	vfork->after = rdpkru();
	vfork->status = pkey_wait_for(pid);
	return NULL;
}

/* I2: a child of vfork() and its parent have the rights that a third task sets. */
TEST_F(full, vfork_child_and_parent)
{
	struct vfork vfork;
	pthread_t thread;
	size_t p;

	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		memset(&vfork, 0, sizeof(vfork));
		vfork.pkru = pkru_patterns[p];
		vfork.holder.pkru = ~pkru_patterns[p] & ~PKRU_KEY0_MASK;
		ASSERT_EQ(0, pthread_create(&thread, NULL, vfork_thread, &vfork));
		while (!LOAD(vfork.holder.ready))
			sched_yield();
		ASSERT_EQ(0, pkey_set_rights_everywhere(KEY, p % 4));
		STORE(vfork.holder.go, 1);
		ASSERT_EQ(0, pthread_join(thread, NULL));
		EXPECT_EQ(0, vfork.status);
		EXPECT_EQ(pkru_with_rights(vfork.holder.pkru, KEY, p % 4), vfork.holder.seen);
		EXPECT_EQ(pkru_with_rights(vfork.pkru, KEY, p % 4), vfork.after);
	}
}

/* E2: a task that is created after the call has the rights of its creator. */
TEST_F(full, tasks_created_later)
{
	uint32_t pkru, seen;
	pthread_t thread;
	pid_t pid;
	size_t p;

	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		ASSERT_EQ(0, pkey_set_rights_everywhere(KEY, p % 4));
		pkru = pkru_patterns[p];
		wrpkru(pkru);
		ASSERT_EQ(0, pthread_create(&thread, NULL, pkru_thread, &seen));
		ASSERT_EQ(0, pthread_join(thread, NULL));
		EXPECT_EQ(pkru, seen);

		pid = start_process(pkru_process, &seen, CLONE_VFORK);
		ASSERT_EQ(0, pkey_wait_for(pid));
		EXPECT_EQ(pkru, seen);

		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			_exit(rdpkru() != pkru);
		EXPECT_EQ(0, pkey_wait_for(pid));
	}
}

/* E1, I2: calls before fork() do not hide the next one from the child. */
TEST_F(full, calls_before_fork)
{
	pid_t pid;
	int i;

	for (i = 0; i < 10; i++)
		ASSERT_EQ(0, pkey_set_rights_everywhere(KEY, i % 4));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(!thread_sets_rights(KEY));
	EXPECT_EQ(0, pkey_wait_for(pid));
	EXPECT_TRUE(thread_sets_rights(KEY));
}

/*
 * Two calls at once (I3)
 *
 * The main thread and a second one make their calls at the same moment. A delay that
 * changes from round to round moves the one call through the other. Two witnesses, a
 * thread and a process, sleep through the calls and store PKRU when they are woken.
 */
#define NR_OVERLAPS	256
#define MAX_ROUNDS	1024
#define NR_DELAYS	16
#define DELAY_STEP	300

enum { MAIN, SECOND, WITNESS_THREAD, WITNESS_PROCESS, NR_PARTIES };

static struct {
	pthread_t thread, witness;
	pid_t witness_process;
	/* The call of the second thread. */
	void (*second_call)(unsigned int round);
	int result;

	/* The second thread has round @go to do and has done round @done. */
	unsigned int go;
	unsigned int done;
	/* The same for the witnesses: they look at the end of the round. */
	unsigned int look;
	unsigned int looked;
	bool stop;

	unsigned int calling;
	unsigned int overlaps;
	uint32_t pkru[NR_PARTIES];
} duel;

static void duel_call_begin(void)
{
	if (ADD(duel.calling, 1) > 1)
		ADD(duel.overlaps, 1);
}

static void duel_call_end(void)
{
	ADD(duel.calling, -1);
}

/* On a busy machine the calls of many a round do not overlap. */
static bool duel_goes_on(unsigned int round)
{
	return round <= MAX_ROUNDS && LOAD(duel.overlaps) < NR_OVERLAPS;
}

/* This does not use errno: one witness is a process that shares it. */
static void duel_looked(void)
{
	ADD(duel.looked, 1);
	pkey_raw_syscall(PKEY_NR_FUTEX, (uintptr_t)&duel.looked, FUTEX_OP_WAKE, 1, 0);
}

static void *duel_thread(void *arg)
{
	unsigned int round = 0;

	for (;;) {
		pkey_wait_while(&duel.go, round);
		if (LOAD(duel.stop))
			return NULL;
		round++;
		delay(round / NR_DELAYS % NR_DELAYS * DELAY_STEP);
		duel_call_begin();
		duel.second_call(round);
		duel_call_end();
		pkey_set_and_wake(&duel.done, round);
		/* The main thread has ended its call before it lets anybody look. */
		pkey_wait_while(&duel.look, round - 1);
		duel.pkru[SECOND] = rdpkru();
		duel_looked();
	}
}

static int duel_witness(void *arg)
{
	uint32_t *pkru = arg;
	unsigned int round = 0;

	if (pkru == &duel.pkru[WITNESS_PROCESS])
		pkey_die_with_parent();
	for (;;) {
		pkey_wait_while(&duel.look, round);
		if (LOAD(duel.stop))
			return 0;
		*pkru = rdpkru();
		round++;
		duel_looked();
	}
}

static void *duel_witness_thread(void *arg)
{
	duel_witness(arg);
	return NULL;
}

static bool duel_start(void (*second_call)(unsigned int round))
{
	memset(&duel, 0, sizeof(duel));
	duel.second_call = second_call;
	duel.witness_process = start_process(duel_witness, &duel.pkru[WITNESS_PROCESS], 0);
	return duel.witness_process > 0 &&
	       !pthread_create(&duel.witness, NULL, duel_witness_thread,
			       &duel.pkru[WITNESS_THREAD]) &&
	       !pthread_create(&duel.thread, NULL, duel_thread, NULL);
}

/* Begin a round; the caller then makes its own call. */
static void duel_begin(unsigned int round)
{
	pkey_set_and_wake(&duel.go, round);
	delay(round % NR_DELAYS * DELAY_STEP);
	duel_call_begin();
}

/* End the round: all have looked at their PKRU when this function returns. */
static void duel_end(unsigned int round)
{
	unsigned int looked;

	duel_call_end();
	pkey_wait_while(&duel.done, round - 1);
	duel.pkru[MAIN] = rdpkru();
	pkey_set_and_wake(&duel.look, round);
	while ((looked = LOAD(duel.looked)) != (NR_PARTIES - 1) * round)
		pkey_wait_while(&duel.looked, looked);
}

static bool duel_stop(void)
{
	STORE(duel.stop, true);
	pkey_set_and_wake(&duel.go, ~0u);
	pkey_set_and_wake(&duel.look, ~0u);
	return !pthread_join(duel.thread, NULL) && !pthread_join(duel.witness, NULL) &&
	       !pkey_wait_for(duel.witness_process);
}

/* Return the rights of the second thread, which differ from those of the main thread. */
static unsigned int second_rights(unsigned int round)
{
	return (round + 1 + round / 4 % 3) % 4;
}

static void second_sets_same_key(unsigned int round)
{
	duel.result = pkey_raw_prctl(PR_PKEY_SET_RIGHTS, KEY, second_rights(round), 0);
}

/* I3: all tasks end with the rights of the same one of the two calls. */
TEST_F(full, two_calls_with_one_key)
{
	int i, different = 0, neither = 0, changed = 0, won[2] = {};
	unsigned int round, result, rights;

	/* All have PKRU 0 to begin with, and change it only by these calls. */
	wrpkru(0);
	ASSERT_TRUE(duel_start(second_sets_same_key));
	for (round = 1; duel_goes_on(round); round++) {
		duel_begin(round);
		result = pkey_raw_prctl(PR_PKEY_SET_RIGHTS, KEY, round % 4, 0);
		duel_end(round);
		ASSERT_EQ(0, result);
		ASSERT_EQ(0, duel.result);
		rights = rights_in(duel.pkru[MAIN], KEY);
		if (rights == round % 4)
			won[0]++;
		else if (rights == second_rights(round))
			won[1]++;
		else
			neither++;
		for (i = 0; i < NR_PARTIES; i++) {
			if (rights_in(duel.pkru[i], KEY) != rights)
				different++;
			if (pkru_without(duel.pkru[i], KEY))
				changed++;
		}
	}
	ASSERT_TRUE(duel_stop());
	EXPECT_EQ(0, different);
	EXPECT_EQ(0, neither);
	EXPECT_EQ(0, changed);
	TH_LOG("%u overlaps, %d and %d rounds won", duel.overlaps, won[0], won[1]);
	if (!duel.overlaps)
		SKIP(return, "the race did not happen: no two calls overlapped");
}

static void second_sets_next_key(unsigned int round)
{
	duel.result = pkey_raw_prctl(PR_PKEY_SET_RIGHTS, KEY + 1, second_rights(round), 0);
}

/* I2: two calls with different keys: everybody has the rights of both. */
TEST_F(full, two_calls_with_two_keys)
{
	unsigned int round;
	int i, wrong = 0;
	uint32_t pkru;

	wrpkru(0);
	ASSERT_TRUE(duel_start(second_sets_next_key));
	for (round = 1; duel_goes_on(round); round++) {
		duel_begin(round);
		ASSERT_EQ(0, pkey_raw_prctl(PR_PKEY_SET_RIGHTS, KEY, round % 4, 0));
		duel_end(round);
		ASSERT_EQ(0, duel.result);
		pkru = pkru_with_rights(0, KEY, round % 4);
		pkru = pkru_with_rights(pkru, KEY + 1, second_rights(round));
		for (i = 0; i < NR_PARTIES; i++)
			if (duel.pkru[i] != pkru)
				wrong++;
	}
	ASSERT_TRUE(duel_stop());
	EXPECT_EQ(0, wrong);
	if (!duel.overlaps)
		SKIP(return, "the race did not happen: no two calls overlapped");
}

static void second_sets_read_only(unsigned int round)
{
	duel.result = pkey_raw_prctl(PR_PKEY_SET_RIGHTS, KEY, PKEY_DISABLE_WRITE, 0);
}

/*
 * I3: the call against a re-issue of its key. If the call comes before the re-issue,
 * only the new owner has rights. If it comes after, all have those of the call. If
 * it comes between pkey_free() and pkey_alloc(), it is refused.
 */
TEST_F(full, call_against_reissue)
{
	int i, mixed = 0, changed = 0, refused = 0, before = 0, after = 0;
	unsigned int round, nr_denied, nr_read_only;
	bool reissued;

	wrpkru(0);
	ASSERT_TRUE(duel_start(second_sets_read_only));
	for (round = 1; duel_goes_on(round); round++) {
		duel_begin(round);
		reissued = pkey_reissue_with_rights(KEY, 0);
		duel_end(round);
		ASSERT_TRUE(reissued);
		ASSERT_TRUE(duel.result == 0 || duel.result == -EINVAL);
		nr_denied = 0;
		nr_read_only = 0;
		for (i = 0; i < NR_PARTIES; i++) {
			nr_denied += pkru_denies(duel.pkru[i], KEY);
			nr_read_only += rights_in(duel.pkru[i], KEY) == PKEY_DISABLE_WRITE;
			if (pkru_without(duel.pkru[i], KEY))
				changed++;
		}
		if (nr_denied == NR_PARTIES - 1 && !rights_in(duel.pkru[MAIN], KEY)) {
			if (duel.result)
				refused++;
			else
				before++;
		} else if (nr_read_only == NR_PARTIES && !duel.result) {
			after++;
		} else {
			mixed++;
		}
	}
	ASSERT_TRUE(duel_stop());
	EXPECT_EQ(0, mixed);
	EXPECT_EQ(0, changed);
	TH_LOG("call before %d, after %d, refused %d", before, after, refused);
	if (!duel.overlaps)
		SKIP(return, "the race did not happen: no two calls overlapped");
}

static void second_reissues_next_key(unsigned int round)
{
	duel.result = pkey_raw_syscall(__NR_pkey_free, KEY + 1, 0, 0, 0);
	if (!duel.result)
		duel.result = pkey_raw_syscall(__NR_pkey_alloc, 0, 0, 0, 0) - (KEY + 1);
}

/* I2, F4: the call against a re-issue of another key: both have their effect. */
TEST_F(full, call_against_reissue_of_other_key)
{
	unsigned int round;
	int i, wrong = 0;

	wrpkru(0);
	ASSERT_TRUE(duel_start(second_reissues_next_key));
	for (round = 1; duel_goes_on(round); round++) {
		duel_begin(round);
		ASSERT_EQ(0, pkey_raw_prctl(PR_PKEY_SET_RIGHTS, KEY, round % 4, 0));
		duel_end(round);
		ASSERT_EQ(0, duel.result);
		for (i = 0; i < NR_PARTIES; i++) {
			if (rights_in(duel.pkru[i], KEY) != round % 4)
				wrong++;
			if (pkru_denies(duel.pkru[i], KEY + 1) != (i != SECOND))
				wrong++;
		}
	}
	ASSERT_TRUE(duel_stop());
	EXPECT_EQ(0, wrong);
	if (!duel.overlaps)
		SKIP(return, "the race did not happen: no two calls overlapped");
}

static void *open_until_refused(void *arg)
{
	unsigned int *calls = arg;

	while (!pkey_raw_prctl(PR_PKEY_SET_RIGHTS, KEY, 0, 0))
		pkey_set_and_wake(calls, 1);
	return NULL;
}

/*
 * I1, D1: the call against pkey_free(), after which execute-only memory takes the key.
 * The call comes before the pkey_free(), or is refused: it does not open the memory.
 */
TEST_F(full, call_against_execute_only_memory)
{
	unsigned int round, calls;
	pthread_t thread;
	char *code;

	for (round = 1; round <= 32; round++) {
		/* An address space keeps its execute-only key: each round has its own. */
		IN_CHILD {
			calls = 0;
			code = pkey_map_code(PROT_READ | PROT_EXEC);
			ASSERT_TRUE(!!code);
			ASSERT_EQ(0, pthread_create(&thread, NULL, open_until_refused, &calls));
			pkey_wait_while(&calls, 0);
			ASSERT_EQ(0, sys_pkey_free(KEY));
			ASSERT_EQ(0, sys_mprotect(code, pkey_page_size(), PROT_EXEC));
			ASSERT_EQ(0, pthread_join(thread, NULL));
			EXPECT_TRUE(pkey_refused(PKEY_READ, code, KEY));
		}
	}
}

static void second_allocates(unsigned int round)
{
	duel.result = pkey_raw_syscall(__NR_pkey_alloc, 0, second_rights(round), 0, 0);
}

/*
 * I3, I5: two calls of pkey_alloc() in scope process, and a pkey_free() between
 * them: both may return KEY. All tasks end with the rights of the same one.
 */
TEST_F(full, two_allocs_of_one_key_in_scope_process)
{
	int i, first, freed, both = 0, wrong = 0;
	unsigned int round, rights;

	ASSERT_EQ(0, pkey_set_scope(PR_PKEY_SCOPE_PROCESS));
	wrpkru(0);
	ASSERT_TRUE(duel_start(second_allocates));
	for (round = 1; duel_goes_on(round); round++) {
		ASSERT_EQ(0, sys_pkey_free(KEY));
		duel_begin(round);
		first = pkey_raw_syscall(__NR_pkey_alloc, 0, round % 4, 0, 0);
		/* This may be the key of the other call, which may not have returned. */
		freed = pkey_raw_syscall(__NR_pkey_free, KEY, 0, 0, 0);
		duel_end(round);
		ASSERT_EQ(0, freed);
		ASSERT_TRUE(first == KEY || duel.result == KEY);
		both += first == KEY && duel.result == KEY;
		/* If the second call got KEY, it ran after pkey_free(). */
		rights = duel.result == KEY ? second_rights(round) : round % 4;
		for (i = 0; i < NR_PARTIES; i++)
			if (rights_in(duel.pkru[i], KEY) != rights)
				wrong++;
		/* All keys are allocated at the end of a round. */
		sys_pkey_alloc(0, 0);
		ASSERT_EQ(-1, sys_pkey_alloc(0, 0));
	}
	ASSERT_TRUE(duel_stop());
	EXPECT_EQ(0, wrong);
	TH_LOG("%u overlaps, both calls returned the key %d times", duel.overlaps, both);
	if (!duel.overlaps)
		SKIP(return, "the race did not happen: no two calls overlapped");
}

static bool set_here(unsigned int rights)
{
	return !pkey_set_rights_everywhere(KEY, rights);
}

/* A task does one of these while calls come. */
enum between {
	NOTHING,
	YIELD,
	SYSTEM_CALL,
	SIGNAL,
	NR_BETWEEN,
};

/* Rounds in which the calling task did not have the rights of the call. */
static int rounds_without(enum between between, unsigned int rights, int *changed)
{
	uint32_t mine, pkru;
	unsigned int begin;
	int i, without = 0;
	bool hit;

	for (i = 0; i < 100; i++) {
		mine = pkru_with_rights(pkru_patterns[i % ARRAY_SIZE(pkru_patterns)], KEY,
					rights ^ PKEY_RIGHTS_MASK);
		wrpkru(mine);
		begin = LOAD(endless.begin);
		do {
			if (between == YIELD)
				sched_yield();
			else if (between == SYSTEM_CALL)
				getppid();
			else if (between == SIGNAL)
				raise(SIGUSR2);
			hit = endless_hit(begin);
			pkru = rdpkru();
		} while (!hit);
		if (rights_in(pkru, KEY) != rights)
			without++;
		if (pkru_without(pkru, KEY) != pkru_without(mine, KEY))
			(*changed)++;
	}
	return without;
}

/* I2, I4: no call is missed in user mode, in system calls or in signal frames. */
TEST_F(full, calls_on_and_on)
{
	enum between between;
	unsigned int rights;
	int changed = 0;

	signal(SIGUSR2, ignore_signal);
	for (rights = 0; rights <= PKEY_RIGHTS_MASK; rights++) {
		ASSERT_TRUE(endless_start(set_here, rights));
		for (between = NOTHING; between < NR_BETWEEN; between++)
			EXPECT_EQ(0, rounds_without(between, rights, &changed));
		EXPECT_EQ(0, endless_stop());
	}
	EXPECT_EQ(0, changed);
}

/* I2: no task is born without the rights that were set meanwhile. */
TEST_F(birth, has_exactly_these_rights)
{
	const uint32_t both = PKEY_RIGHTS_MASK << 2 * KEY | PKEY_RIGHTS_MASK << 2 * MARK;
	int i, hits = 0, wrong = 0, changed = 0;
	struct birth *birth = &self->birth;
	unsigned int rights;
	uint32_t pkru;

	ASSERT_TRUE(birth_start(birth, set_here));
	for (i = 1; i <= NR_BIRTHS; i++) {
		rights = i % 4;
		pkru = pkru_patterns[i % ARRAY_SIZE(pkru_patterns)] & ~both;
		ASSERT_TRUE(birth_round(birth, variant->kind, i,
					pkru_with_rights(pkru, KEY, rights ^ PKEY_RIGHTS_MASK),
					rights));
		EXPECT_EQ(rights, rights_in(rdpkru(), KEY));
		ASSERT_EQ(MARK, sys_pkey_alloc(0, 0));
		if ((birth->task->pkru & ~both) != pkru)
			changed++;
		if (!birth->task->after_call)
			continue;
		hits++;
		if (rights_in(birth->task->pkru, KEY) != rights)
			wrong++;
	}
	ASSERT_EQ(0, pthread_join(birth->other, NULL));
	ASSERT_EQ(0, birth->failed);
	ASSERT_EQ(0, wrong);
	ASSERT_EQ(0, changed);
	if (!hits)
		SKIP(return, "the race did not happen: no task was born after a call");
}

/*
 * fork(), execve() and exit() (I2, I6)
 */

/* The state of a program after execve(), before it does anything. */
struct report {
	uint32_t pkru;
	int scope;
	bool secure;
	int nr;
	/* A pkey_alloc(0, 0) gives the rights to a thread that is older. */
	bool alloc_reaches_threads;
	/* After that, PR_PKEY_SET_RIGHTS gives rights to a thread that is older. */
	bool set_reaches_threads;
};

/* Run in the program after execve(): store the report in a pipe. */
static int report_to(int fd)
{
	struct report report = { .pkru = pkru_at_start };
	struct holder holder = { .doing = SPIN, .pkru = PKRU_INIT };

	report.scope = pkey_get_scope();
	report.secure = getauxval(AT_SECURE);
	if (!holder_start(&holder) || sys_pkey_alloc(0, 0) != 1 || !holder_finish(&holder))
		return 1;

	report.alloc_reaches_threads = !pkru_denies(holder.seen, 1);
	report.nr = 1 + pkey_take_all(NULL);
	report.set_reaches_threads = thread_sets_rights(KEY);
	return write(fd, &report, sizeof(report)) != (ssize_t)sizeof(report);
}

static int exec_report(const char *path, int fd)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", fd);
	execl(path, "pkey_rights_test", REPORT_ARG, number, NULL);
	return 1;
}

static int exec_report_process(void *arg)
{
	const int *fd = arg;

	return exec_report("/proc/self/exe", *fd);
}

#define NR_EXECS	10

/* I2, E3: execve() in a task that shares memory, while calls come. */
TEST_F(full, execve_meanwhile)
{
	struct report report;
	int i, fds[2];
	pid_t pid;

	ASSERT_TRUE(endless_start(set_here, 0));
	for (i = 0; i < NR_EXECS; i++) {
		wrpkru(0x33333330);
		ASSERT_EQ(0, pipe(fds));
		pid = start_process(exec_report_process, &fds[1], i & 1 ? CLONE_VFORK : 0);
		ASSERT_TRUE(read_report(pid, fds, &report, sizeof(report)));
		EXPECT_EQ(pkru_at_start, report.pkru);
		EXPECT_EQ(PR_PKEY_SCOPE_THREAD, report.scope);
		EXPECT_EQ(PKEY_MAX, report.nr);
		EXPECT_TRUE(report.set_reaches_threads);
	}
	EXPECT_EQ(0, endless_stop());
}

/* I2, E3: execve() that ends the thread which makes the calls. */
TEST_F(full, execve_ends_calls)
{
	struct report report;
	int i, fds[2];
	pid_t pid;

	for (i = 0; i < NR_EXECS; i++) {
		ASSERT_EQ(0, pipe(fds));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			if (!endless_start(set_here, i % 4))
				_exit(1);
			while (LOAD(endless.end) < 10)
				sched_yield();
			_exit(exec_report("/proc/self/exe", fds[1]));
		}
		ASSERT_TRUE(read_report(pid, fds, &report, sizeof(report)));
		EXPECT_EQ(pkru_at_start, report.pkru);
		EXPECT_EQ(PKEY_MAX, report.nr);
		EXPECT_TRUE(report.set_reaches_threads);
	}
}

#define NR_FORKS	100

/* I2, E1: fork() while calls come: the keys of the child work. */
TEST_F(full, fork_meanwhile)
{
	pid_t pid;
	int i;

	ASSERT_TRUE(endless_start(set_here, PKEY_DISABLE_WRITE));
	for (i = 0; i < NR_FORKS; i++) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			_exit(!thread_sets_rights(KEY) || !thread_sets_rights(1));
		EXPECT_EQ(0, pkey_wait_for(pid));
	}
	EXPECT_EQ(0, endless_stop());
}

/* I2: a process that ends in the middle, with tasks of all kinds. */
TEST_F(full, exit_meanwhile)
{
	const enum doing doing[] = { SPIN, READ, FUTEX, POLL };
	static struct holder holders[ARRAY_SIZE(doing)];
	pid_t pid;
	size_t h;
	int i;

	wrpkru(0x33333330);
	for (i = 0; i < NR_EXECS; i++) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			for (h = 0; h < ARRAY_SIZE(doing); h++) {
				holders[h].doing = doing[h];
				if (!holder_start(&holders[h]))
					_exit(1);
			}
			if (!endless_start(set_here, i % 4))
				_exit(1);
			while (LOAD(endless.end) < 10)
				sched_yield();
			_exit(0);
		}
		EXPECT_EQ(0, pkey_wait_for(pid));
	}
	/* Nothing has changed here. */
	EXPECT_EQ(0x33333330, rdpkru());
}

/* I2: tasks come and go; the one that stays is reached all the same. */
TEST_F(full, tasks_that_exit_hide_no_other)
{
	struct holder coming = {}, staying = { .process = true, .doing = SPIN };
	int i, wrong = 0;

	ASSERT_EQ(0, pthread_create(&coming.thread, NULL, exit_endlessly, &coming));
	for (i = 0; i < 50; i++) {
		holder_reset(&staying, pkru_with_rights(0, KEY, ~i & 3));
		ASSERT_TRUE(holder_start(&staying));
		ASSERT_EQ(0, pkey_set_rights_everywhere(KEY, i % 4));
		ASSERT_TRUE(holder_finish(&staying));
		if (staying.seen != pkru_with_rights(0, KEY, i % 4))
			wrong++;
	}
	STORE(coming.go, 1);
	ASSERT_EQ(0, pthread_join(coming.thread, NULL));
	EXPECT_EQ(0, wrong);
}

/*
 * Signal frames (I4)
 *
 * The main thread sends itself a signal. In the handler the rights are set, by the
 * handler itself or by a thread. Then sigreturn loads PKRU from the frame, which is
 * older.
 */

struct frame_plan {
	/* The handler calls it, if it is not NULL. */
	bool (*call)(unsigned int rights);
	unsigned int rights;
	/* The bits that the handler changes in the frame. */
	uint32_t change;
	/* How many handlers run inside each other; the innermost calls. */
	int depth;
	bool fork;
};

static struct {
	struct frame_plan plan;
	int depth;
	int failed;
	/* PKRU in the handler after the call, and in the one outside of it. */
	uint32_t pkru_in_handler;
	uint32_t pkru_outside;
	pid_t child;
} frames;

static bool set_twice_here(unsigned int rights)
{
	return !pkey_set_rights_everywhere(KEY, rights ^ PKEY_RIGHTS_MASK) &&
	       !pkey_set_rights_everywhere(KEY, rights);
}

static bool set_in_a_thread(unsigned int rights)
{
	return set_in_thread(KEY, rights);
}

static bool reissue_and_set(unsigned int rights)
{
	return pkey_reissue_with_rights(KEY, 0) && set_here(rights);
}

static bool set_and_reissue(unsigned int rights)
{
	return set_here(0) && pkey_reissue_with_rights(KEY, rights);
}

static bool set_others(unsigned int rights)
{
	return !pkey_set_rights_everywhere(KEY - 1, rights) &&
	       !pkey_set_rights_everywhere(KEY + 1, rights);
}

static bool alloc_in_scope_process(unsigned int rights)
{
	bool done = !pkey_set_scope(PR_PKEY_SCOPE_PROCESS) && pkey_reissue_with_rights(KEY, rights);

	return !pkey_set_scope(PR_PKEY_SCOPE_THREAD) && done;
}

static void on_signal(ucontext_t *ucontext)
{
	const struct frame_plan *plan = &frames.plan;
	int depth = ++frames.depth;
	char *fpregs;

	if (depth < plan->depth && pkey_raise(SIGUSR2, &frames.pkru_outside))
		frames.failed++;
	if (depth == plan->depth && plan->call) {
		if (!plan->call(plan->rights))
			frames.failed++;
		frames.pkru_in_handler = rdpkru();
	}
	if (depth == plan->depth && plan->fork)
		frames.child = fork();
	if (ucontext && depth == plan->depth && plan->change) {
		fpregs = (char *)ucontext->uc_mcontext.fpregs;
		*(uint32_t *)(fpregs + FX_OFFSET + xsave_pkru_offset()) ^= plan->change;
	}
}

/* Send the signal with @pkru, and return PKRU after the handler. */
static uint32_t run_frame(const struct frame_plan *plan, int flags, uint32_t pkru)
{
	uint32_t after;

	memset(&frames, 0, sizeof(frames));
	frames.plan = *plan;
	if (!pkey_handle_signal(SIGUSR2, flags, on_signal))
		frames.failed++;

	wrpkru(pkru);
	if (pkey_raise(SIGUSR2, &after))
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

/* All patterns, with all rights before and after. */
#define NR_FRAMES	(4 * ARRAY_SIZE(pkru_patterns))

static uint32_t frame_pkru(size_t i)
{
	return pkru_with_rights(pkru_patterns[i / 4], KEY, (i + i / 4) % 4);
}

/* I4: the thread has the rights that the last call gave, whoever made it. */
TEST_F(frame, older_than_call)
{
	static bool (*const calls[])(unsigned int rights) = {
		set_here, set_twice_here, set_in_a_thread, reissue_and_set,
		alloc_in_scope_process,
	};
	struct frame_plan plan = { .depth = 1 };
	size_t c, i;

	for (c = 0; c < ARRAY_SIZE(calls); c++) {
		plan.call = calls[c];
		for (i = 0; i < NR_FRAMES; i++) {
			plan.rights = i % 4;
			EXPECT_EQ(pkru_with_rights(frame_pkru(i), KEY, plan.rights),
				  run_frame(&plan, variant->flags, frame_pkru(i)));
			/* The handler runs with the initial rights, and is a task as any other. */
			EXPECT_EQ(pkru_with_rights(pkru_at_start, KEY, plan.rights),
				  frames.pkru_in_handler);
			EXPECT_EQ(0, frames.failed);
		}
	}
}

/* F6, I4: a re-issue after the call overrides it. */
TEST_F(frame, older_than_call_and_reissue)
{
	const struct frame_plan plan = { .depth = 1, .call = set_and_reissue };
	uint32_t after;
	size_t i;

	for (i = 0; i < NR_FRAMES; i++) {
		after = run_frame(&plan, variant->flags, frame_pkru(i));
		EXPECT_EQ(0, frames.failed);
		EXPECT_TRUE(pkru_denies(after, KEY));
		EXPECT_EQ(pkru_without(frame_pkru(i), KEY),
			  pkru_without(after, KEY));
	}
}

/* I4: a call for other keys leaves the bits of this one. */
TEST_F(frame, older_than_call_for_other_keys)
{
	struct frame_plan plan = { .depth = 1, .call = set_others };
	uint32_t expected;
	size_t i;

	for (i = 0; i < NR_FRAMES; i++) {
		plan.rights = i % 4;
		expected = pkru_with_rights(frame_pkru(i), KEY - 1, plan.rights);
		expected = pkru_with_rights(expected, KEY + 1, plan.rights);
		EXPECT_EQ(expected, run_frame(&plan, variant->flags, frame_pkru(i)));
		EXPECT_EQ(0, frames.failed);
	}
}

/* I4: a frame that is younger than the call brings back what was there. */
TEST_F(frame, younger_than_call)
{
	const struct frame_plan plan = { .depth = 1 };
	size_t i;

	for (i = 0; i < NR_FRAMES; i++) {
		ASSERT_TRUE(set_here(i % 4));
		EXPECT_EQ(frame_pkru(i), run_frame(&plan, variant->flags, frame_pkru(i)));
		ASSERT_TRUE(set_in_a_thread(~i & 3));
		EXPECT_EQ(frame_pkru(i), run_frame(&plan, variant->flags, frame_pkru(i)));
		EXPECT_EQ(0, frames.failed);
	}
}

/* I4: the innermost of several handlers makes the call: all frames are older. */
TEST_F(frame, nested_all_older)
{
	struct frame_plan plan = { .depth = 4, .call = set_in_a_thread };
	size_t i;

	for (i = 0; i < NR_FRAMES; i++) {
		plan.rights = i % 4;
		EXPECT_EQ(pkru_with_rights(frame_pkru(i), KEY, plan.rights),
			  run_frame(&plan, variant->flags, frame_pkru(i)));
		EXPECT_EQ(pkru_with_rights(pkru_at_start, KEY, plan.rights),
			  frames.pkru_outside);
		EXPECT_EQ(0, frames.failed);
	}
}

/* I4: bits that the handler changed in the frame stay. */
TEST_F(frame, changed_by_handler)
{
	struct frame_plan plan = { .depth = 1, .call = set_in_a_thread };
	size_t i;

	if (!(variant->flags & SA_SIGINFO))
		SKIP(return, "needs SA_SIGINFO to find the frame");

	for (i = 0; i < NR_FRAMES; i++) {
		plan.rights = i % 4;
		plan.change = (uint32_t)(1 + i / 4 % 3) << 2 * KEY;
		EXPECT_EQ(frame_pkru(i) ^ plan.change,
			  run_frame(&plan, variant->flags, frame_pkru(i))) {
			TH_LOG("rights %u, changed %08x", plan.rights, plan.change);
		}
		EXPECT_EQ(0, frames.failed);
	}
}

/* F6, I4: if the key was re-issued since, only the bits that the handler changed stay. */
TEST_F(frame, older_than_reissue_and_changed_by_handler)
{
	bool (*const calls[])(unsigned int rights) = { alloc_in_scope_process, reissue_and_set };
	struct frame_plan plan = { .depth = 1 };
	uint32_t expected, after, bits;
	size_t c, i;

	if (!(variant->flags & SA_SIGINFO))
		SKIP(return, "needs SA_SIGINFO to find the frame");

	for (c = 0; c < ARRAY_SIZE(calls); c++) {
		plan.call = calls[c];
		for (i = 0; i < NR_FRAMES; i++) {
			plan.rights = i % 4;
			plan.change = (uint32_t)(1 + i / 4 % 3) << 2 * KEY;
			plan.fork = i < 8;
			bits = (PKEY_RIGHTS_MASK << 2 * KEY) & ~plan.change;
			expected = ((frame_pkru(i) ^ plan.change) & ~bits) |
				   (plan.rights << 2 * KEY & bits);
			after = run_frame(&plan, variant->flags, frame_pkru(i));
			if (plan.fork && !frames.child)
				_exit(after != expected);
			EXPECT_EQ(expected, after) {
				TH_LOG("rights %u, changed %08x", plan.rights, plan.change);
			}
			EXPECT_EQ(0, frames.failed);
			if (plan.fork)
				EXPECT_EQ(0, pkey_wait_for(frames.child));
		}
	}
}

/* I4: what the handler changes for another key does not matter, and stays. */
TEST_F(frame, other_key_changed_by_handler)
{
	struct frame_plan plan = { .depth = 1, .call = set_in_a_thread };
	uint32_t expected;
	size_t i;

	if (!(variant->flags & SA_SIGINFO))
		SKIP(return, "needs SA_SIGINFO to find the frame");

	for (i = 0; i < NR_FRAMES; i++) {
		plan.rights = i % 4;
		plan.change = (uint32_t)(1 + i / 4 % 3) << 2 * (KEY + 1);
		expected = pkru_with_rights(frame_pkru(i), KEY, plan.rights) ^ plan.change;
		EXPECT_EQ(expected, run_frame(&plan, variant->flags, frame_pkru(i)));
		EXPECT_EQ(0, frames.failed);
	}
}

/* I4, E1: a child that leaves the handler of its parent. */
TEST_F(frame, older_in_forked_child)
{
	struct frame_plan plan = { .depth = 1, .call = set_here, .fork = true };
	uint32_t after, expected;
	size_t i;

	for (i = 0; i < 8; i++) {
		plan.rights = i % 4;
		expected = pkru_with_rights(frame_pkru(i), KEY, plan.rights);
		after = run_frame(&plan, variant->flags, frame_pkru(i));
		if (!frames.child)
			_exit(after != expected);
		EXPECT_EQ(expected, after);
		EXPECT_EQ(0, frames.failed);
		EXPECT_EQ(0, pkey_wait_for(frames.child));
	}
}

/* A thread that is in its handler, and waits there for the call. */
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

/* I2, I4: a signal has come to a system call; it goes on, with the new rights. */
TEST_F(full, frame_of_interrupted_read)
{
	const struct sigaction action = {
		.sa_handler = handler_that_waits,
		.sa_flags = SA_RESTART,
	};
	struct holder holder = { .doing = READ };
	size_t p;

	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		holder_reset(&holder, pkru_patterns[p]);
		waiter.in_handler = false;
		waiter.leave_handler = false;
		ASSERT_TRUE(holder_start(&holder));
		ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
		ASSERT_EQ(0, syscall(__NR_tgkill, getpid(), holder.tid, SIGUSR1));
		while (!LOAD(waiter.in_handler))
			sched_yield();
		ASSERT_EQ(0, pkey_set_rights_everywhere(KEY, p % 4));
		STORE(waiter.leave_handler, true);
		ASSERT_TRUE(holder_finish(&holder));
		EXPECT_HOLDER(&holder, pkru_with_rights(holder.pkru, KEY, p % 4));
	}
}

/*
 * The scope (I5, I6)
 */

FIXTURE(scope)
{
	char dir[32];
	char program[48];
};

FIXTURE_SETUP(scope)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);
}

FIXTURE_TEARDOWN(scope)
{
	if (!self->dir[0])
		return;

	unlink(self->program);
	rmdir(self->dir);
}

TEST_F(scope, is_thread_by_default)
{
	EXPECT_EQ(PR_PKEY_SCOPE_THREAD, pkey_get_scope());
}

TEST_F(scope, is_what_was_set)
{
	int i;

	for (i = 0; i < 3; i++) {
		EXPECT_EQ(0, pkey_set_scope(PR_PKEY_SCOPE_PROCESS));
		EXPECT_EQ(PR_PKEY_SCOPE_PROCESS, pkey_get_scope());
		EXPECT_EQ(0, pkey_set_scope(PR_PKEY_SCOPE_PROCESS));
		EXPECT_EQ(PR_PKEY_SCOPE_PROCESS, pkey_get_scope());
		EXPECT_EQ(0, pkey_set_scope(PR_PKEY_SCOPE_THREAD));
		EXPECT_EQ(PR_PKEY_SCOPE_THREAD, pkey_get_scope());
	}
}

/* I5: a change of the scope changes no rights, and no key. */
TEST_F(scope, changes_no_rights)
{
	wrpkru(0x33333330);
	ASSERT_EQ(0, pkey_set_scope(PR_PKEY_SCOPE_PROCESS));
	EXPECT_EQ(0x33333330, rdpkru());
	EXPECT_EQ(1, sys_pkey_alloc(0, 0));
}

/* I5: A5 holds for a process with one thread. */
TEST_F(scope, process_with_one_thread)
{
	size_t p;

	ASSERT_EQ(0, pkey_set_scope(PR_PKEY_SCOPE_PROCESS));
	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		wrpkru(pkru_patterns[p]);
		ASSERT_EQ(1 + (int)p, sys_pkey_alloc(0, p % 4));
		EXPECT_EQ(pkru_with_rights(pkru_patterns[p], 1 + p, p % 4), rdpkru());
	}
}

/* A task that stops, with its creator as debugger, before it allocates a key. */
struct late_owner {
	int pkey;
	uint32_t pkru;
};

static int alloc_late(void *arg)
{
	struct late_owner *owner = arg;

	wrpkru(0);
	pkey_raw_syscall(__NR_ptrace, PTRACE_TRACEME, 0, 0, 0);
	pkey_raw_syscall(__NR_kill, pkey_gettid(), SIGSTOP, 0, 0);
	owner->pkey = pkey_raw_syscall_pkru(__NR_pkey_alloc, 0, 0, 0, 0, &owner->pkru);
	return 0;
}

static bool wait_until_stopped(pid_t pid, int sig)
{
	int status;

	return waitpid(pid, &status, 0) == pid && WIFSTOPPED(status) && WSTOPSIG(status) == sig;
}

/*
 * I5, F4: a task that is given a key that was never used loses its rights to one that was
 * re-issued after its call had begun.
 */
TEST_F(scope, first_use_hides_no_reissue)
{
	struct late_owner owner;
	int pkey;
	pid_t pid;

	ASSERT_EQ(0, pkey_set_scope(PR_PKEY_SCOPE_PROCESS));
	for (pkey = 1; pkey <= KEY; pkey++)
		ASSERT_EQ(pkey, sys_pkey_alloc(0, 0));
	pid = start_process(alloc_late, &owner, 0);
	ASSERT_LT(0, pid);
	ASSERT_TRUE(wait_until_stopped(pid, SIGSTOP));
	ASSERT_EQ(0, ptrace(PTRACE_SYSCALL, pid, 0, 0));
	ASSERT_TRUE(wait_until_stopped(pid, SIGTRAP));
	ASSERT_TRUE(pkey_reissue_with_rights(KEY, PKEY_DISABLE_ACCESS));
	ASSERT_EQ(0, ptrace(PTRACE_DETACH, pid, 0, 0));
	EXPECT_CHILD_PASSED(pid);
	EXPECT_EQ(KEY + 1, owner.pkey);
	EXPECT_EQ(PKEY_DISABLE_ACCESS << 2 * KEY, owner.pkru);
}

static void *set_process_thread(void *arg)
{
	*(int *)arg = pkey_raw_prctl(PR_PKEY_SET_SCOPE, PR_PKEY_SCOPE_PROCESS, 0, 0);
	return NULL;
}

static int set_process(void *arg)
{
	set_process_thread(arg);
	return 0;
}

/* I6: the scope belongs to the address space. */
TEST_F(scope, is_that_of_all_tasks_that_share_memory)
{
	pthread_t thread;
	int result = -1;
	pid_t pid;

	ASSERT_EQ(0, pthread_create(&thread, NULL, set_process_thread, &result));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, result);
	EXPECT_EQ(PR_PKEY_SCOPE_PROCESS, pkey_get_scope());

	ASSERT_EQ(0, pkey_set_scope(PR_PKEY_SCOPE_THREAD));
	result = -1;
	pid = start_process(set_process, &result, CLONE_VFORK);
	ASSERT_EQ(0, pkey_wait_for(pid));
	EXPECT_EQ(0, result);
	EXPECT_EQ(PR_PKEY_SCOPE_PROCESS, pkey_get_scope());
}

/* I6: fork() copies the scope; afterwards the two are independent. */
TEST_F(scope, fork_copies_it)
{
	int scope;
	pid_t pid;

	for (scope = PR_PKEY_SCOPE_THREAD; scope <= PR_PKEY_SCOPE_PROCESS; scope++) {
		ASSERT_EQ(0, pkey_set_scope(scope));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			_exit(pkey_get_scope() != scope || pkey_set_scope(!scope) ||
			      pkey_get_scope() != !scope);
		EXPECT_EQ(0, pkey_wait_for(pid));
		EXPECT_EQ(scope, pkey_get_scope());
	}
}

/* I6: the scope works in the child of fork(), which has not set it. */
TEST_F(scope, works_in_forked_child)
{
	struct holder holder = { .doing = READ, .pkru = PKRU_INIT };
	pid_t pid;

	ASSERT_EQ(0, pkey_set_scope(PR_PKEY_SCOPE_PROCESS));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (!holder_start(&holder) || sys_pkey_alloc(0, 0) != 1 ||
		    !holder_finish(&holder))
			_exit(1);
		_exit(holder.seen != pkru_with_rights(PKRU_INIT, 1, 0));
	}
	EXPECT_EQ(0, pkey_wait_for(pid));
}

/* A child sets these before it executes the program that reports. */
struct exec_plan {
	int scope;
	bool nobody;
	bool no_new_privs;
};

static bool report_of(const char *program, const struct exec_plan *plan, struct report *report)
{
	int fds[2];
	pid_t pid;

	if (pipe(fds))
		return false;

	pid = fork();
	if (!pid) {
		if (pkey_set_scope(plan->scope) ||
		    (plan->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) ||
		    (plan->nobody && (setresgid(NOBODY, NOBODY, NOBODY) ||
				      setresuid(NOBODY, NOBODY, NOBODY))))
			_exit(2);
		_exit(exec_report(program, fds[1]));
	}
	return read_report(pid, fds, report, sizeof(*report));
}

/* I6: execve() keeps the scope, which takes effect in the new program. */
TEST_F(scope, execve_keeps_it)
{
	struct exec_plan plan = {};
	struct report report;

	for (; plan.scope <= PR_PKEY_SCOPE_PROCESS; plan.scope++) {
		ASSERT_TRUE(report_of("/proc/self/exe", &plan, &report));
		EXPECT_FALSE(report.secure);
		EXPECT_EQ(plan.scope, report.scope);
		EXPECT_EQ(plan.scope == PR_PKEY_SCOPE_PROCESS, report.alloc_reaches_threads);
		EXPECT_EQ(pkru_at_start, report.pkru);
		EXPECT_EQ(PKEY_MAX, report.nr);
		EXPECT_TRUE(report.set_reaches_threads);
	}
}

/* I6: an execve() that fails keeps the scope too. */
TEST_F(scope, failed_execve_keeps_it)
{
	ASSERT_EQ(0, pkey_set_scope(PR_PKEY_SCOPE_PROCESS));
	EXPECT_EQ(-1, execl("/nonexistent", "nonexistent", NULL));
	EXPECT_EQ(-1, execl("/proc/self/mounts", "mounts", NULL));
	EXPECT_EQ(PR_PKEY_SCOPE_PROCESS, pkey_get_scope());
}

static bool copy_file(const char *from, const char *to)
{
	static char buffer[65536];
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_EXCL, 0755);
	ssize_t len;

	if (in < 0 || out < 0)
		return false;

	while ((len = read(in, buffer, sizeof(buffer))) > 0)
		if (write(out, buffer, len) != len)
			return false;
	close(in);
	return !close(out) && !len;
}

/* Return the reason if no program that gains privileges can be made here, or NULL. */
static const char *no_setuid_program(FIXTURE_DATA(scope) *self)
{
	struct statvfs fs;

	if (geteuid())
		return "needs root";
	if (statvfs("/tmp", &fs) || fs.f_flag & (ST_NOSUID | ST_NOEXEC))
		return "needs a /tmp without the mount options nosuid and noexec";

	snprintf(self->dir, sizeof(self->dir), "/tmp/pkey_rights_XXXXXX");
	if (!mkdtemp(self->dir)) {
		self->dir[0] = '\0';
		return "needs the right to make a directory in /tmp";
	}
	snprintf(self->program, sizeof(self->program), "%s/program", self->dir);
	if (chmod(self->dir, 0755) || !copy_file("/proc/self/exe", self->program))
		return "needs space in /tmp for a copy of this program";
	return NULL;
}

/* I6: an execve() that gains privileges sets the scope back to thread. */
TEST_F(scope, privileged_execve_drops_it)
{
	const struct exec_plan as_nobody = {
		.scope = PR_PKEY_SCOPE_PROCESS,
		.nobody = true,
	};
	const struct exec_plan as_root = { .scope = PR_PKEY_SCOPE_PROCESS };
	const struct exec_plan without_gain = {
		.scope = PR_PKEY_SCOPE_PROCESS,
		.nobody = true,
		.no_new_privs = true,
	};
	const char *reason = no_setuid_program(self);
	static const mode_t gains[] = { 04755, 02755 };
	struct report report;
	size_t i;

	if (reason)
		SKIP(return, "%s", reason);

	/* This execve() gains nothing: neither bit is set. */
	ASSERT_TRUE(report_of(self->program, &as_nobody, &report));
	EXPECT_FALSE(report.secure);
	EXPECT_EQ(PR_PKEY_SCOPE_PROCESS, report.scope);
	EXPECT_TRUE(report.alloc_reaches_threads);

	for (i = 0; i < ARRAY_SIZE(gains); i++) {
		ASSERT_EQ(0, chmod(self->program, gains[i]));
		ASSERT_TRUE(report_of(self->program, &as_nobody, &report));
		EXPECT_TRUE(report.secure);
		EXPECT_EQ(PR_PKEY_SCOPE_THREAD, report.scope);
		EXPECT_FALSE(report.alloc_reaches_threads);
		EXPECT_EQ(PKEY_MAX, report.nr);

		/* These gain nothing: root has it already, or no_new_privs is set. */
		ASSERT_TRUE(report_of(self->program, &as_root, &report));
		EXPECT_FALSE(report.secure);
		EXPECT_EQ(PR_PKEY_SCOPE_PROCESS, report.scope);
		ASSERT_TRUE(report_of(self->program, &without_gain, &report));
		EXPECT_FALSE(report.secure);
		EXPECT_EQ(PR_PKEY_SCOPE_PROCESS, report.scope);
	}
}

struct privileged {
	const char *program;
	int fd;
};

/* The call with 32-bit user numbers; not every kernel has the other one. */
#ifdef __NR_setresuid32
#define NR_SETRESUID	__NR_setresuid32
#else
#define NR_SETRESUID	__NR_setresuid
#endif

/* This task shares memory with the test: change the user of this task alone. */
static int exec_privileged(void *arg)
{
	const struct privileged *privileged = arg;

	if (pkey_raw_syscall(NR_SETRESUID, NOBODY, NOBODY, NOBODY, 0))
		return 1;
	return exec_report(privileged->program, privileged->fd);
}

/* I6: the address space that such an execve() leaves keeps its scope. */
TEST_F(scope, privileged_execve_of_vfork_child)
{
	const char *reason = no_setuid_program(self);
	struct privileged privileged = { .program = self->program };
	struct report report;
	int fds[2];
	pid_t pid;

	if (reason)
		SKIP(return, "%s", reason);

	ASSERT_EQ(0, pkey_set_scope(PR_PKEY_SCOPE_PROCESS));
	ASSERT_EQ(0, chmod(self->program, 04755));
	ASSERT_EQ(0, pipe(fds));
	privileged.fd = fds[1];
	pid = start_process(exec_privileged, &privileged, CLONE_VFORK);
	ASSERT_TRUE(read_report(pid, fds, &report, sizeof(report)));
	EXPECT_TRUE(report.secure);
	EXPECT_EQ(PR_PKEY_SCOPE_THREAD, report.scope);
	EXPECT_EQ(PR_PKEY_SCOPE_PROCESS, pkey_get_scope());
}

/*
 * An embedder
 */

/* A pool thread that is older than the key of the runtime reads its memory. */
static void embedder(void)
{
	struct holder pool = { .doing = FUTEX, .pkru = PKRU_INIT };
	char *heap = pkey_map(1, RW);
	int pkey;

	if (!heap || !holder_start(&pool))
		_exit(1);

	pkey = sys_pkey_alloc(0, 0);
	if (sys_pkey_mprotect(heap, pkey_page_size(), RW, pkey))
		_exit(1);

	heap[0] = 42;
	pool.secret = heap;
	if (!holder_finish(&pool))
		_exit(1);

	_exit(pool.fault.hit ? 2 : 0);
}

/* I5: the read of the pool thread is refused in scope thread, and works in scope process. */
TEST_F(scope, embedder)
{
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		embedder();
	EXPECT_EQ(2 << 8, pkey_wait_for(pid));

	ASSERT_EQ(0, pkey_set_scope(PR_PKEY_SCOPE_PROCESS));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		embedder();
	EXPECT_EQ(0, pkey_wait_for(pid));
}

/* The status of a child that has found no program to execute. */
#define NOT_INSTALLED	99

/* The output of the last program that run_beside() ran. */
static char output[8192];

/* Store the path of a program beside this one, or its name for a search in the PATH. */
static void find_program(const char *name, char *path, size_t size)
{
	const char *slash = strrchr(path_of_this, '/');
	int dir_len = slash ? slash + 1 - path_of_this : 0;

	snprintf(path, size, "%.*s%s", dir_len, path_of_this, name);
	if (access(path, X_OK))
		snprintf(path, size, "%s", name);
}

/* Run a program that is installed beside this one, or in the PATH. Return its status. */
static int run_beside(int scope, const char *name, const char *const *args)
{
	int fd = memfd_create("output", 0), status, i;
	const char *argv[8] = { name };
	char path[sizeof(path_of_this)];
	ssize_t len;
	pid_t pid;

	find_program(name, path, sizeof(path));
	for (i = 0; args && args[i]; i++)
		argv[1 + i] = args[i];
	pid = fork();
	if (!pid) {
		if ((pkey_get_scope() != scope && pkey_set_scope(scope)) ||
		    dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0)
			_exit(1);
		execvp(path, (char **)argv);
		_exit(NOT_INSTALLED);
	}
	status = pkey_wait_for(pid);
	len = pread(fd, output, sizeof(output) - 1, 0);
	output[len > 0 ? len : 0] = '\0';
	close(fd);
	return status;
}

/* I6: the scope works for a program that does not use it. */
TEST_F(scope, embedder_program)
{
	int status;

	if (pkru_at_start != PKRU_INIT)
		SKIP(return, "needs a kernel without init_pkru=");
	status = run_beside(PR_PKEY_SCOPE_THREAD, "pkey_embedder", NULL);
	if (status == NOT_INSTALLED << 8)
		SKIP(return, "needs pkey_embedder beside this test");

	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGSEGV, WTERMSIG(status));
	EXPECT_EQ(0, run_beside(PR_PKEY_SCOPE_PROCESS, "pkey_embedder", NULL));
}

/*
 * pkey-run
 */

#define NO_PKEY_RUN	"needs pkey-run beside this test"

static int pkey_run(const char *const *args)
{
	return run_beside(PR_PKEY_SCOPE_THREAD, "pkey-run", args);
}

/* I6: the same holds if pkey-run starts the program. */
TEST_F(scope, embedder_program_with_pkey_run)
{
	char path[sizeof(path_of_this)];
	const char *const args[] = { path, NULL };
	int status;

	find_program("pkey_embedder", path, sizeof(path));
	status = run_beside(PR_PKEY_SCOPE_THREAD, "pkey_embedder", NULL);
	if (status == NOT_INSTALLED << 8)
		SKIP(return, "needs pkey_embedder beside this test");
	status = pkey_run(args);
	if (status == NOT_INSTALLED << 8)
		SKIP(return, NO_PKEY_RUN);

	EXPECT_EQ(0, status);
}

enum says {
	NO_WORD,
	/* One line, which begins with the name of pkey-run. */
	ONE_LINE,
	USAGE,
};

struct pkey_run_case {
	const char *args[5];
	int status;
	enum says says;
};

static bool output_is(enum says says)
{
	switch (says) {
	case NO_WORD:
		return !output[0];
	case ONE_LINE:
		return !strncmp(output, "pkey-run: ", 10) &&
		       strchr(output, '\n') == output + strlen(output) - 1;
	case USAGE:
		return !strncmp(output, "Usage: ", 7);
	}
	return false;
}

/* Run pkey-run with each set of arguments. Return false if it is not installed. */
static bool try_pkey_run(struct __test_metadata *_metadata, const struct pkey_run_case *cases,
			 size_t nr)
{
	int status;
	size_t i;

	for (i = 0; i < nr; i++) {
		status = pkey_run(cases[i].args);
		if (status == NOT_INSTALLED << 8)
			return false;

		EXPECT_EQ(cases[i].status << 8, status)
			TH_LOG("case %zu, output: %s", i, output);
		EXPECT_TRUE(output_is(cases[i].says))
			TH_LOG("case %zu, output: %s", i, output);
	}
	return true;
}

/* pkey-run: its status is that of the program, or 125, 126 or 127, as for env(1). */
TEST_F(scope, pkey_run_status)
{
	static const struct pkey_run_case cases[] = {
		{ { path_of_this, SCOPE_ARG }, STATUS_OF(PR_PKEY_SCOPE_PROCESS), NO_WORD },
		{ { "-f", path_of_this, SCOPE_ARG }, STATUS_OF(PR_PKEY_SCOPE_PROCESS), NO_WORD },
		{ { "--", path_of_this, SCOPE_ARG }, STATUS_OF(PR_PKEY_SCOPE_PROCESS), NO_WORD },
		/* The options end where the program begins. */
		{ { path_of_this, SCOPE_ARG, "-h" }, STATUS_OF(PR_PKEY_SCOPE_PROCESS), NO_WORD },
		{ { "/nonexistent" }, 127, ONE_LINE },
		{ { "" }, 127, ONE_LINE },
		{ { "-f", "/nonexistent" }, 127, ONE_LINE },
		{ { "/" }, 126, ONE_LINE },
		{ { "/proc/self/mounts" }, 126, ONE_LINE },
		{ { "-h" }, 0, USAGE },
		{ { NULL }, 125, USAGE },
		{ { "-f" }, 125, USAGE },
		{ { "-p", "1", path_of_this }, 125, USAGE },
		{ { "-f", "-p", "1" }, 125, USAGE },
		{ { "-p", "" }, 125, ONE_LINE },
		{ { "-p", "1x" }, 125, ONE_LINE },
		{ { "-p", "0" }, 125, ONE_LINE },
		{ { "-p", "-1" }, 125, ONE_LINE },
		{ { "-p", "99999999999999999999" }, 125, ONE_LINE },
		/* No process has the highest number. */
		{ { "-p", "2147483647" }, 125, ONE_LINE },
	};

	if (!try_pkey_run(_metadata, cases, ARRAY_SIZE(cases)))
		SKIP(return, NO_PKEY_RUN);
}

/* pkey-run: it refuses where there are no keys, and with -f it runs the program. */
TEST(nohw_pkey_run)
{
	char pid[16];
	const struct pkey_run_case cases[] = {
		{ { path_of_this, SCOPE_ARG }, 125, ONE_LINE },
		{ { "/nonexistent" }, 125, ONE_LINE },
		{ { "-f", path_of_this, SCOPE_ARG }, STATUS_OF(PR_PKEY_SCOPE_THREAD), ONE_LINE },
		{ { "-p", pid }, 125, ONE_LINE },
	};

	if (pku_enabled())
		SKIP(return, HAS_PKU);

	snprintf(pid, sizeof(pid), "%d", getpid());
	if (!try_pkey_run(_metadata, cases, ARRAY_SIZE(cases)))
		SKIP(return, NO_PKEY_RUN);
}

/* Does pkey-run print a line for the thread with these words for key 0 and key 1? */
static bool output_has_thread(pid_t tid, const char *words)
{
	char line[64], name[16] = "";

	prctl(PR_GET_NAME, name);
	snprintf(line, sizeof(line), "\n%7d  %-15s  %s\n", tid, name, words);
	return !!strstr(output, line);
}

/* pkey-run -p: the keys, the rights of each thread, and a mark if it is older than a key. */
TEST_F(scope, pkey_run_shows_a_process)
{
	struct holder older = { .doing = READ, .pkru = PKRU_INIT };
	struct holder younger = { .doing = READ, .pkru = PKRU_INIT };
	const char *legend = "\n*  the thread is older than ";
	char pid[16], line[64], *page = pkey_map(1, RW);
	const char *const args[] = { "-p", pid, NULL };
	int status;

	snprintf(pid, sizeof(pid), "%d", getpid());
	ASSERT_TRUE(!!page);
	ASSERT_TRUE(holder_start(&older));
	status = pkey_run(args);
	if (status == NOT_INSTALLED << 8) {
		holder_finish(&older);
		SKIP(return, NO_PKEY_RUN);
	}
	EXPECT_EQ(0, status);
	EXPECT_TRUE(output_has_thread(older.tid, "rw "));
	EXPECT_FALSE(!!strstr(output, legend));

	ASSERT_EQ(1, sys_pkey_alloc(0, PKEY_DISABLE_WRITE));
	ASSERT_EQ(0, sys_pkey_mprotect(page, pkey_page_size(), RW, 1));
	ASSERT_TRUE(holder_start(&younger));
	EXPECT_EQ(0, pkey_run(args));
	snprintf(line, sizeof(line), "\n%3d  %-12s  %8d  %14zu\n", 1, "allocated", 1,
		 pkey_page_size());
	EXPECT_TRUE(!!strstr(output, line));
	EXPECT_TRUE(output_has_thread(getpid(), "rw   r-*"));
	EXPECT_TRUE(output_has_thread(older.tid, "rw   --*"));
	EXPECT_TRUE(output_has_thread(younger.tid, "rw   -- "));
	EXPECT_TRUE(!!strstr(output, legend));
	if (!__test_passed(_metadata))
		TH_LOG("output: %s", output);
	ASSERT_TRUE(holder_finish(&older));
	ASSERT_TRUE(holder_finish(&younger));
}

int main(int argc, char **argv)
{
	pkru_at_start = pkru_save();
	if (argc == 3 && !strcmp(argv[1], REPORT_ARG))
		return report_to(atoi(argv[2]));
	if (argc > 1 && !strcmp(argv[1], SCOPE_ARG))
		return STATUS_OF(pkey_get_scope());

	if (readlink("/proc/self/exe", path_of_this, sizeof(path_of_this) - 1) < 0)
		return 1;
	return test_harness_run(argc, argv);
}
