// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of pkey_alloc(), pkey_free() and pkey_mprotect() where there are no
 * protection keys: not in the processor, switched off with nopku, or configured
 * out. With keys all these tests are skipped.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <stdlib.h>

#include "../kselftest_harness.h"
#include "pkey_util.h"

static const int some_pkeys[] = {
	INT_MIN, -65536, -16, -2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
	16, 17, 31, 32, 63, 64, 255, 256, 65536, INT_MAX,
};

/* A2: good arguments give ENOSPC, not ENOSYS, however often. */
TEST(nohw_alloc_gives_enospc)
{
	pkey_arg_t rights;
	int i;

	if (pku_enabled())
		SKIP(return, HAS_PKU);

	for (i = 0; i < PKEY_NR; i++) {
		for (rights = 0; rights <= PKEY_RIGHTS_MASK; rights++) {
			EXPECT_EQ(-1, sys_pkey_alloc(0, rights));
			EXPECT_EQ(ENOSPC, errno);
		}
	}
}

/* A1: bad arguments give EINVAL all the same. */
TEST(nohw_alloc_checks_arguments_first)
{
	int bit;

	if (pku_enabled())
		SKIP(return, HAS_PKU);

	for (bit = 0; bit < PKEY_ARG_BITS; bit++) {
		EXPECT_EQ(-1, sys_pkey_alloc((pkey_arg_t)1 << bit, 0));
		EXPECT_EQ(EINVAL, errno);
		if (bit < 2)
			continue;
		EXPECT_EQ(-1, sys_pkey_alloc(0, (pkey_arg_t)1 << bit));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(-1, sys_pkey_alloc(0, (pkey_arg_t)1 << bit | PKEY_RIGHTS_MASK));
		EXPECT_EQ(EINVAL, errno);
	}
}

/* A2, B1: no key is allocated, so none can be freed. */
TEST(nohw_free_gives_einval)
{
	size_t i;

	if (pku_enabled())
		SKIP(return, HAS_PKU);

	for (i = 0; i < ARRAY_SIZE(some_pkeys); i++) {
		EXPECT_EQ(-1, sys_pkey_free(some_pkeys[i]));
		EXPECT_EQ(EINVAL, errno) {
			TH_LOG("pkey %d", some_pkeys[i]);
		}
	}
	EXPECT_EQ(-1, sys_pkey_free(-1));
	EXPECT_EQ(EINVAL, errno);
}

/* B1: key 0 cannot be freed here either. */
TEST(nohw_free_rejects_key_0)
{
	if (pku_enabled())
		SKIP(return, HAS_PKU);

	EXPECT_EQ(-1, sys_pkey_free(0));
	EXPECT_EQ(EINVAL, errno);
}

/* A2, C1: -1 and 0 do what mprotect() does. */
TEST(nohw_pkey_mprotect_accepts_default)
{
	const size_t size = pkey_page_size();
	const int pkeys[] = { -1, 0 };
	void *page;
	size_t i;

	if (pku_enabled())
		SKIP(return, HAS_PKU);

	page = pkey_map(1, PROT_READ | PROT_WRITE);
	ASSERT_TRUE(!!page);
	for (i = 0; i < ARRAY_SIZE(pkeys); i++) {
		EXPECT_EQ(0, sys_pkey_mprotect(page, size, PROT_READ, pkeys[i]));
		EXPECT_TRUE(pkey_can(PKEY_READ, page));
		EXPECT_FALSE(pkey_can(PKEY_WRITE, page));
		EXPECT_EQ(0, sys_pkey_mprotect(page, size, PROT_NONE, pkeys[i]));
		EXPECT_FALSE(pkey_can(PKEY_READ, page));
		EXPECT_EQ(0, sys_pkey_mprotect(page, size, PROT_READ | PROT_WRITE,
					       pkeys[i]));
		EXPECT_TRUE(pkey_can(PKEY_WRITE, page));
	}
}

/* A2, C1: each other key gives EINVAL, and the mapping stays as it is. */
TEST(nohw_pkey_mprotect_rejects_keys)
{
	const size_t size = pkey_page_size();
	struct pkey_vma vma;
	void *page;
	size_t i;

	if (pku_enabled())
		SKIP(return, HAS_PKU);

	page = pkey_map(1, PROT_READ | PROT_WRITE);
	ASSERT_TRUE(!!page);
	for (i = 0; i < ARRAY_SIZE(some_pkeys); i++) {
		EXPECT_EQ(-1, sys_pkey_mprotect(page, size, PROT_NONE, some_pkeys[i]));
		EXPECT_EQ(EINVAL, errno) {
			TH_LOG("pkey %d", some_pkeys[i]);
		}
		EXPECT_TRUE(pkey_can(PKEY_WRITE, page));
	}
	ASSERT_TRUE(pkey_find_vma(page, &vma));
	EXPECT_STREQ("rw-p", vma.perms);
}

/* D2: execute-only memory by mprotect() is executable and readable. */
TEST(nohw_execute_only_mprotect_is_readable)
{
	struct pkey_vma vma;
	void *code;

	if (pku_enabled())
		SKIP(return, HAS_PKU);

	code = pkey_map_code(PROT_EXEC);
	ASSERT_TRUE(!!code);
	EXPECT_TRUE(pkey_can(PKEY_EXEC, code));
	EXPECT_TRUE(pkey_can(PKEY_READ, code));
	ASSERT_TRUE(pkey_find_vma(code, &vma));
	EXPECT_STREQ("--xp", vma.perms);
	EXPECT_EQ(0, vma.pkey);
}

/* D2: the same by mmap(). */
TEST(nohw_execute_only_mmap_is_readable)
{
	void *page;

	if (pku_enabled())
		SKIP(return, HAS_PKU);

	page = pkey_map(1, PROT_EXEC);
	ASSERT_TRUE(!!page);
	EXPECT_TRUE(pkey_can(PKEY_READ, page));
	EXPECT_FALSE(pkey_can(PKEY_WRITE, page));
}

TEST_HARNESS_MAIN
