// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of pkey_alloc() and pkey_free() on x86.
 *
 * The harness runs each test in a child of fork() of a process that made none
 * of these calls, so each starts with no key allocated and none ever used.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <sched.h>
#include <stdlib.h>

#include "../kselftest_harness.h"
#include "pkey_util.h"

/* A bit that is undefined in both arguments of pkey_alloc(), for combinations. */
#define UNKNOWN_BIT	((pkey_arg_t)1 << 5)

#define HIGHEST_BIT	((pkey_arg_t)1 << (PKEY_ARG_BITS - 1))

/* Values that no process ever gets from pkey_alloc(). */
static const int never_a_key[] = {
	INT_MIN, INT_MIN + 1, INT_MIN + 16, -65536, -256, -32, -16, -15, -2, -1,
	16, 17, 30, 31, 32, 63, 64, 127, 128, 255, 256, 65535, 65536,
	INT_MAX - 15, INT_MAX,
};

/* A1: each bit of flags is refused, whatever the rights are. */
TEST(alloc_rejects_each_flag)
{
	const uint32_t pkru = pkru_save();
	pkey_arg_t rights;
	int bit;

	for (bit = 0; bit < PKEY_ARG_BITS; bit++) {
		for (rights = 0; rights <= PKEY_RIGHTS_MASK; rights++) {
			EXPECT_EQ(-1, sys_pkey_alloc((pkey_arg_t)1 << bit, rights));
			EXPECT_EQ(EINVAL, errno) {
				TH_LOG("flags bit %d, rights %d", bit, (int)rights);
			}
		}
	}
	EXPECT_EQ(pkru, pkru_save());
}

/* A1: each unknown bit of access_rights is refused, also beside known ones. */
TEST(alloc_rejects_each_unknown_right)
{
	const uint32_t pkru = pkru_save();
	pkey_arg_t rights;
	int bit;

	for (bit = 2; bit < PKEY_ARG_BITS; bit++) {
		for (rights = 0; rights <= PKEY_RIGHTS_MASK; rights++) {
			EXPECT_EQ(-1, sys_pkey_alloc(0, rights | (pkey_arg_t)1 << bit));
			EXPECT_EQ(EINVAL, errno) {
				TH_LOG("rights bit %d beside %d", bit, (int)rights);
			}
		}
	}
	EXPECT_EQ(pkru, pkru_save());
}

/* A1: several unknown bits are refused, in either argument and in both. */
TEST(alloc_rejects_combined_garbage)
{
	const pkey_arg_t garbage[] = {
		~(pkey_arg_t)0, ~(pkey_arg_t)PKEY_RIGHTS_MASK, HIGHEST_BIT | 4,
		HIGHEST_BIT | UNKNOWN_BIT, (pkey_arg_t)INT_MIN, (pkey_arg_t)-4096,
	};
	size_t i, j;

	for (i = 0; i < ARRAY_SIZE(garbage); i++) {
		EXPECT_EQ(-1, sys_pkey_alloc(garbage[i], 0));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(-1, sys_pkey_alloc(0, garbage[i]));
		EXPECT_EQ(EINVAL, errno);
		for (j = 0; j < ARRAY_SIZE(garbage); j++) {
			EXPECT_EQ(-1, sys_pkey_alloc(garbage[i], garbage[j]));
			EXPECT_EQ(EINVAL, errno);
		}
	}
}

/* A1: bad arguments give EINVAL also when no key is left. */
TEST(alloc_checks_arguments_before_space)
{
	int bit;

	pkey_take_all(NULL);
	EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
	EXPECT_EQ(ENOSPC, errno);

	for (bit = 0; bit < PKEY_ARG_BITS; bit++) {
		EXPECT_EQ(-1, sys_pkey_alloc((pkey_arg_t)1 << bit, 0));
		EXPECT_EQ(EINVAL, errno) {
			TH_LOG("flags bit %d", bit);
		}
		if (bit < 2)
			continue;
		EXPECT_EQ(-1, sys_pkey_alloc(0, (pkey_arg_t)1 << bit));
		EXPECT_EQ(EINVAL, errno) {
			TH_LOG("rights bit %d", bit);
		}
	}
}

FIXTURE(alloc)
{
};

FIXTURE_SETUP(alloc)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);
}

FIXTURE_TEARDOWN(alloc)
{
}

/* A1: a refused call takes no key and marks none as used. */
TEST_F(alloc, refused_takes_no_key)
{
	int i;

	for (i = 0; i < 2 * PKEY_NR; i++) {
		EXPECT_EQ(-1, sys_pkey_alloc(UNKNOWN_BIT, 0));
		EXPECT_EQ(-1, sys_pkey_alloc(0, UNKNOWN_BIT));
		EXPECT_EQ(-1, sys_pkey_alloc(0, HIGHEST_BIT | PKEY_DISABLE_WRITE));
	}
	EXPECT_EQ(PKEY_MASK_DEFAULT, pkey_attachable_mask());
	EXPECT_EQ(1, sys_pkey_alloc(0, 0));
	EXPECT_EQ(2, sys_pkey_alloc(0, 0));
}

/* A2: good arguments give either a key or ENOSPC, on every machine. */
TEST(alloc_is_always_safe_to_call)
{
	pkey_arg_t rights;
	int pkey;

	for (rights = 0; rights <= PKEY_RIGHTS_MASK; rights++) {
		pkey = sys_pkey_alloc(0, rights);
		if (pku_enabled()) {
			EXPECT_LE(1, pkey);
			EXPECT_GE(PKEY_MAX, pkey);
		} else {
			EXPECT_EQ(-1, pkey);
			EXPECT_EQ(ENOSPC, errno);
		}
	}
}

/* A3: a process can hold 15 keys at once. None is returned twice, and 0 never. */
TEST_F(alloc, gives_15_keys_at_once)
{
	unsigned int mask = 0;
	int keys[PKEY_NR];
	int i, nr;

	nr = pkey_take_all(keys);
	ASSERT_EQ(PKEY_MAX, nr);
	for (i = 0; i < nr; i++) {
		EXPECT_LE(1, keys[i]);
		EXPECT_GE(PKEY_MAX, keys[i]);
		EXPECT_EQ(0, mask & 1u << keys[i]);
		mask |= 1u << keys[i];
	}
	EXPECT_EQ(PKEY_MASK_ALL, pkey_attachable_mask());
}

/* A3: a process that has an execute-only mapping can hold 14 keys. */
TEST_F(alloc, gives_14_keys_beside_execute_only)
{
	void *code;

	code = pkey_map_code(PROT_EXEC);
	ASSERT_TRUE(!!code);
	EXPECT_EQ(PKEY_MAX - 1, pkey_count_free());
	EXPECT_EQ(PKEY_MAX - 1, pkey_take_all(NULL));
	EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
	EXPECT_EQ(ENOSPC, errno);
}

/* A4: when all keys are taken each call fails with ENOSPC, for all rights. */
TEST_F(alloc, full_gives_enospc)
{
	pkey_arg_t rights;
	int i;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	for (i = 0; i < 3; i++) {
		for (rights = 0; rights <= PKEY_RIGHTS_MASK; rights++) {
			EXPECT_EQ(-1, sys_pkey_alloc(0, rights));
			EXPECT_EQ(ENOSPC, errno);
		}
	}
	EXPECT_EQ(PKEY_MASK_ALL, pkey_attachable_mask());
}

/* A4: when one key is freed, one call succeeds and the next does not. */
TEST_F(alloc, full_then_one_freed)
{
	int pkey;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	for (pkey = 1; pkey <= PKEY_MAX; pkey++) {
		ASSERT_EQ(0, sys_pkey_free(pkey));
		EXPECT_EQ(pkey, sys_pkey_alloc(0, 0));
		EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
		EXPECT_EQ(ENOSPC, errno);
	}
}

FIXTURE(rights)
{
};

FIXTURE_VARIANT(rights)
{
	pkey_arg_t value;
};

FIXTURE_VARIANT_ADD(rights, none_disabled) { .value = 0 };
FIXTURE_VARIANT_ADD(rights, access_disabled) { .value = PKEY_DISABLE_ACCESS };
FIXTURE_VARIANT_ADD(rights, write_disabled) { .value = PKEY_DISABLE_WRITE };
FIXTURE_VARIANT_ADD(rights, both_disabled) { .value = PKEY_RIGHTS_MASK };

FIXTURE_SETUP(rights)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);
}

FIXTURE_TEARDOWN(rights)
{
}

/* A5: the two bits of the new key become the rights, the other 30 stay. */
TEST_F(rights, alloc_sets_two_bits)
{
	uint32_t before, after;
	int i, pkey;
	size_t p;

	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		before = pkru_patterns[p];
		for (i = 0; i < PKEY_MAX; i++) {
			wrpkru(before);
			pkey = sys_pkey_alloc(0, variant->value);
			after = rdpkru();
			ASSERT_LE(1, pkey);
			EXPECT_EQ(pkru_with_rights(before, pkey, variant->value), after) {
				TH_LOG("PKRU %08x became %08x for key %d", before, after,
				       pkey);
			}
		}
		for (pkey = 1; pkey <= PKEY_MAX; pkey++)
			ASSERT_EQ(0, sys_pkey_free(pkey));
	}
}

/* A5: the rights are those of user space's own view of the key. */
TEST_F(rights, alloc_rights_of_each_key)
{
	int pkey, i;

	for (i = 0; i < PKEY_MAX; i++) {
		pkey = sys_pkey_alloc(0, variant->value);
		ASSERT_LE(1, pkey);
		EXPECT_EQ(variant->value, pkru_get_rights(pkey));
	}
	/* The rights to the first key have not been lost meanwhile. */
	for (pkey = 1; pkey <= PKEY_MAX; pkey++)
		EXPECT_EQ(variant->value, pkru_get_rights(pkey));
}

/* A5: a call that finds no key leaves PKRU alone. */
TEST_F(rights, alloc_full_leaves_pkru)
{
	size_t p;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		wrpkru(pkru_patterns[p]);
		EXPECT_EQ(-1, sys_pkey_alloc(0, variant->value));
		EXPECT_EQ(ENOSPC, errno);
		EXPECT_EQ(pkru_patterns[p], rdpkru());
	}
}

/* A5: a call with bad arguments leaves PKRU alone. */
TEST_F(rights, alloc_rejected_leaves_pkru)
{
	size_t p;

	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		wrpkru(pkru_patterns[p]);
		EXPECT_EQ(-1, sys_pkey_alloc(1, variant->value));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(-1, sys_pkey_alloc(HIGHEST_BIT, variant->value));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(-1, sys_pkey_alloc(0, variant->value | UNKNOWN_BIT));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(-1, sys_pkey_alloc(0, variant->value | HIGHEST_BIT));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(pkru_patterns[p], rdpkru());
	}
}

struct key0_call {
	uint32_t before;
	uint32_t after;
	int pkey;
};

#ifdef __x86_64__
#define SYSCALL_INSN	"syscall\n\t"
#define SYSCALL_CLOBBER	"r11",
#else
#define SYSCALL_INSN	"int $0x80\n\t"
#define SYSCALL_CLOBBER
#endif

/*
 * From the first WRPKRU to the last, key 0 is denied and no memory may be
 * touched. Nor may the kernel: a task of clone(CLONE_VM) has no registered rseq
 * area, which the kernel writes when it preempts a task.
 *
 * flags are in the registers of both system call conventions (ebx and edi),
 * access_rights come to theirs (ecx and esi). ecx, edx and edi end as they began.
 */
static int alloc_with_key0_denied(void *arg)
{
	const uint32_t saved = rdpkru();
	struct key0_call *call = arg;
	pkey_arg_t ret, after, unused;

	call->before = saved | PKRU_KEY0_MASK;
	asm volatile(".byte 0x0f, 0x01, 0xef\n\t"
		     "movl %[nr], %%eax\n\t"
		     "movl %%esi, %%ecx\n\t"
		     SYSCALL_INSN
		     "movl %%eax, %%esi\n\t"
		     "xorl %%ecx, %%ecx\n\t"
		     ".byte 0x0f, 0x01, 0xee\n\t"
		     "movl %%eax, %%ebx\n\t"
		     "andl %[allow], %%eax\n\t"
		     ".byte 0x0f, 0x01, 0xef"
		     : "=S" (ret), "=b" (after), "=a" (unused)
		     : [nr] "i" (__NR_pkey_alloc), [allow] "i" (~PKRU_KEY0_MASK),
		       "a" (call->before), "b" (0), "c" (0), "d" (0),
		       "S" (PKEY_DISABLE_WRITE), "D" (0)
		     : SYSCALL_CLOBBER "memory");
	wrpkru(saved);

	call->after = after;
	call->pkey = (int)ret;
	return 0;
}

/* A5: pkey_alloc() does not change the bits of key 0 either. */
TEST_F(alloc, leaves_the_bits_of_key_0)
{
	static struct key0_call call;
	const size_t pages = 16;
	int status;
	char *stack;
	pid_t pid;

	stack = pkey_map(pages, PROT_READ | PROT_WRITE);
	ASSERT_TRUE(!!stack);
	pid = clone(alloc_with_key0_denied, stack + pages * pkey_page_size(),
		    CLONE_VM | SIGCHLD, &call);
	ASSERT_LT(0, pid);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	ASSERT_EQ(1, call.pkey);
	EXPECT_EQ(pkru_with_rights(call.before, 1, PKEY_DISABLE_WRITE), call.after);
}

/* A6: a fresh process gets 1, 2, 3 and so on. */
TEST_F(alloc, fresh_process_counts_up)
{
	int pkey;

	for (pkey = 1; pkey <= PKEY_MAX; pkey++)
		EXPECT_EQ(pkey, sys_pkey_alloc(0, pkey & PKEY_RIGHTS_MASK));
}

/* A6: a key that was freed is the next one, before those that were never used. */
TEST_F(alloc, prefers_the_lowest_key)
{
	ASSERT_EQ(1, sys_pkey_alloc(0, 0));
	ASSERT_EQ(0, sys_pkey_free(1));
	EXPECT_EQ(1, sys_pkey_alloc(0, 0));
}

/* A6: this holds for each of the 15 keys. */
TEST_F(alloc, gives_each_key_again_at_once)
{
	int pkey;

	for (pkey = 1; pkey <= PKEY_MAX; pkey++) {
		ASSERT_EQ(pkey, sys_pkey_alloc(0, 0));
		ASSERT_EQ(0, sys_pkey_free(pkey));
		ASSERT_EQ(pkey, sys_pkey_alloc(0, 0));
	}
}

/* A6: freed keys come before higher ones that were never used, and by number. */
TEST_F(alloc, freed_and_never_used_by_number)
{
	const int order[] = { 2, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
	size_t i;
	int pkey;

	for (pkey = 1; pkey <= 6; pkey++)
		ASSERT_EQ(pkey, sys_pkey_alloc(0, 0));
	ASSERT_EQ(0, sys_pkey_free(6));
	ASSERT_EQ(0, sys_pkey_free(4));
	ASSERT_EQ(0, sys_pkey_free(2));
	for (i = 0; i < ARRAY_SIZE(order); i++)
		EXPECT_EQ(order[i], sys_pkey_alloc(0, 0));
}

/* A6: when all keys were used the lowest freed one comes, in whatever order freed. */
TEST_F(alloc, lowest_of_the_freed)
{
	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	ASSERT_EQ(0, sys_pkey_free(9));
	ASSERT_EQ(0, sys_pkey_free(15));
	ASSERT_EQ(0, sys_pkey_free(3));
	ASSERT_EQ(0, sys_pkey_free(12));
	EXPECT_EQ(3, sys_pkey_alloc(0, 0));
	EXPECT_EQ(9, sys_pkey_alloc(0, 0));
	EXPECT_EQ(12, sys_pkey_alloc(0, 0));
	EXPECT_EQ(15, sys_pkey_alloc(0, 0));
}

FIXTURE(free)
{
};

FIXTURE_SETUP(free)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);
}

FIXTURE_TEARDOWN(free)
{
}

/* B1: values out of range are refused, also those that a shift would wrap to a key. */
TEST_F(free, rejects_what_is_no_key)
{
	size_t i;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	for (i = 0; i < ARRAY_SIZE(never_a_key); i++) {
		EXPECT_EQ(-1, sys_pkey_free(never_a_key[i]));
		EXPECT_EQ(EINVAL, errno) {
			TH_LOG("pkey %d", never_a_key[i]);
		}
	}
	EXPECT_EQ(PKEY_MASK_ALL, pkey_attachable_mask());
}

/* B1: keys that were never allocated are refused. */
TEST_F(free, rejects_unallocated)
{
	int pkey;

	for (pkey = 1; pkey <= PKEY_MAX; pkey++) {
		EXPECT_EQ(-1, sys_pkey_free(pkey));
		EXPECT_EQ(EINVAL, errno);
	}
	EXPECT_TRUE(pkey_state_is(1, "-"));
	EXPECT_EQ(1, sys_pkey_alloc(0, 0));
}

/* B1: keys that have been freed before are refused. */
TEST_F(free, rejects_freed)
{
	int pkey;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	for (pkey = 1; pkey <= PKEY_MAX; pkey++) {
		EXPECT_EQ(0, sys_pkey_free(pkey));
		EXPECT_EQ(-1, sys_pkey_free(pkey));
		EXPECT_EQ(EINVAL, errno);
	}
	EXPECT_EQ(PKEY_MASK_DEFAULT, pkey_attachable_mask());
}

/* B1: key 0 cannot be freed, and pkey_alloc() never returns it. */
TEST_F(free, rejects_key_0)
{
	EXPECT_EQ(-1, sys_pkey_free(0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(1, sys_pkey_alloc(0, 0));
	EXPECT_EQ(1u << 0 | 1u << 1, pkey_attachable_mask());
}

/* B1: key 0 cannot be freed when no other key is left. */
TEST_F(free, rejects_key_0_when_full)
{
	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	EXPECT_EQ(-1, sys_pkey_free(0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
	EXPECT_EQ(ENOSPC, errno);
}

/* B1: user space cannot free the execute-only key. */
TEST_F(free, rejects_execute_only_key)
{
	void *code;
	int pkey;

	code = pkey_map_code(PROT_EXEC);
	ASSERT_TRUE(!!code);
	pkey = pkey_of(code);
	ASSERT_LE(1, pkey);
	EXPECT_EQ(-1, sys_pkey_free(pkey));
	EXPECT_EQ(EINVAL, errno);
	/* Key 0 cannot be freed beside it. */
	EXPECT_EQ(-1, sys_pkey_free(0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(PKEY_MAX - 1, pkey_count_free());
	EXPECT_TRUE(pkey_refused(PKEY_READ, code, pkey));
}

/* B1: a refused call changes neither PKRU nor what is allocated. */
TEST_F(free, rejected_changes_nothing)
{
	const unsigned int mask = 1u << 0 | 1u << 1 | 1u << 3;
	size_t i, p;

	ASSERT_EQ(1, sys_pkey_alloc(0, 0));
	ASSERT_EQ(2, sys_pkey_alloc(0, 0));
	ASSERT_EQ(3, sys_pkey_alloc(0, 0));
	ASSERT_EQ(0, sys_pkey_free(2));

	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		wrpkru(pkru_patterns[p]);
		for (i = 0; i < ARRAY_SIZE(never_a_key); i++)
			EXPECT_EQ(-1, sys_pkey_free(never_a_key[i]));
		EXPECT_EQ(-1, sys_pkey_free(0));
		EXPECT_EQ(-1, sys_pkey_free(2));
		EXPECT_EQ(-1, sys_pkey_free(4));
		EXPECT_EQ(pkru_patterns[p], rdpkru());
	}
	EXPECT_EQ(mask, pkey_attachable_mask());
}

/* B2: a freed key cannot be attached, all others still can. */
TEST_F(free, makes_key_unattachable)
{
	unsigned int mask = PKEY_MASK_ALL;
	void *page;
	int pkey;

	page = pkey_map(1, PROT_READ);
	ASSERT_TRUE(!!page);
	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	for (pkey = PKEY_MAX; pkey >= 1; pkey--) {
		EXPECT_EQ(0, sys_pkey_free(pkey));
		EXPECT_EQ(-1, sys_pkey_mprotect(page, pkey_page_size(), PROT_READ, pkey));
		EXPECT_EQ(EINVAL, errno);
		mask &= ~(1u << pkey);
		EXPECT_EQ(mask, pkey_attachable_mask());
	}
}

/* B2: PKRU does not change at the free. */
TEST_F(free, leaves_pkru)
{
	int pkey;
	size_t p;

	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
		wrpkru(pkru_patterns[p]);
		for (pkey = 1; pkey <= PKEY_MAX; pkey++) {
			EXPECT_EQ(0, sys_pkey_free(pkey));
			EXPECT_EQ(pkru_patterns[p], rdpkru());
		}
	}
}

/* B2: mappings that carry the key do not keep it from being freed. */
TEST_F(free, succeeds_while_mapped)
{
	void *page;
	int pkey;

	page = pkey_map(1, PROT_READ | PROT_WRITE);
	ASSERT_TRUE(!!page);
	pkey = sys_pkey_alloc(0, PKEY_DISABLE_WRITE);
	ASSERT_EQ(1, pkey);
	ASSERT_EQ(0, sys_pkey_mprotect(page, pkey_page_size(), PROT_READ | PROT_WRITE, pkey));

	EXPECT_EQ(0, sys_pkey_free(pkey));
	EXPECT_EQ(-1, sys_pkey_free(pkey));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, sys_pkey_mprotect(page, pkey_page_size(), PROT_READ, pkey));
	EXPECT_EQ(EINVAL, errno);

	/* The mapping has not changed, and still has the key. */
	EXPECT_EQ(pkey, pkey_of(page));
	EXPECT_TRUE(pkey_can(PKEY_READ, page));
	EXPECT_TRUE(pkey_refused(PKEY_WRITE, page, pkey));
}

/* B2: all keys that were freed can be allocated again. */
TEST_F(free, all_then_alloc_all)
{
	int pkey, round;

	for (round = 0; round < 4; round++) {
		ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
		for (pkey = 1; pkey <= PKEY_MAX; pkey++)
			ASSERT_EQ(0, sys_pkey_free(pkey));
		EXPECT_EQ(PKEY_MASK_DEFAULT, pkey_attachable_mask());
	}
}

TEST_HARNESS_MAIN
