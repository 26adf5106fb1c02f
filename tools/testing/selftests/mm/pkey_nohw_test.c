// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of pkey_alloc(), pkey_free() and pkey_mprotect() where there are no
 * protection keys: the processor has none, its XSAVE does not save PKRU, nopku
 * switches them off, or they are configured out. With keys all these tests are
 * skipped.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <stdlib.h>

#include "../kselftest_harness.h"
#include "pkey_util.h"

static const int some_pkeys[] = {
	INT_MIN, -65536, -16, -2, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
	16, 17, 31, 32, 63, 64, 255, 256, 65536, INT_MAX,
};

FIXTURE(nohw)
{
};

FIXTURE_SETUP(nohw)
{
	if (pku_enabled())
		SKIP(return, HAS_PKU);
}

FIXTURE_TEARDOWN(nohw)
{
}

/* A2: good arguments give ENOSPC and not ENOSYS, each time. */
TEST_F(nohw, alloc_gives_enospc)
{
	pkey_arg_t rights;
	int i;

	for (i = 0; i < PKEY_NR; i++) {
		for (rights = 0; rights <= PKEY_RIGHTS_MASK; rights++) {
			EXPECT_EQ(-1, sys_pkey_alloc(0, rights));
			EXPECT_EQ(ENOSPC, errno);
		}
	}
}

/* A1: bad arguments give EINVAL all the same. */
TEST_F(nohw, alloc_checks_arguments_first)
{
	int bit;

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
TEST_F(nohw, free_gives_einval)
{
	size_t i;

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
TEST_F(nohw, free_rejects_key_0)
{
	EXPECT_EQ(-1, sys_pkey_free(0));
	EXPECT_EQ(EINVAL, errno);
}

/* A2, C1: -1 does what mprotect() does. */
TEST_F(nohw, pkey_mprotect_accepts_minus_1)
{
	const size_t size = pkey_page_size();
	void *page;

	page = pkey_map(1, RW);
	ASSERT_TRUE(!!page);
	EXPECT_EQ(0, sys_pkey_mprotect(page, size, PROT_READ, -1));
	EXPECT_TRUE(pkey_can(PKEY_READ, page));
	EXPECT_FALSE(pkey_can(PKEY_WRITE, page));
	EXPECT_EQ(0, sys_pkey_mprotect(page, size, PROT_NONE, -1));
	EXPECT_FALSE(pkey_can(PKEY_READ, page));
	EXPECT_EQ(0, sys_pkey_mprotect(page, size, RW, -1));
	EXPECT_TRUE(pkey_can(PKEY_WRITE, page));
}

/* A2, C1: every other key, key 0 too, is EINVAL, and the mapping stays as it is. */
TEST_F(nohw, pkey_mprotect_rejects_keys)
{
	const size_t size = pkey_page_size();
	struct pkey_vma vma;
	void *page;
	size_t i;

	page = pkey_map(1, RW);
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

/* C2: length 0 is 0 and a range that wraps is ENOMEM, whatever the key. */
TEST_F(nohw, pkey_mprotect_checks_range_before_key)
{
	const pkey_arg_t wraps = (pkey_arg_t)-1 << 12;
	const size_t size = pkey_page_size();
	void *page;
	size_t i;

	page = pkey_map(1, RW);
	ASSERT_TRUE(!!page);
	for (i = 0; i < ARRAY_SIZE(some_pkeys); i++) {
		EXPECT_EQ(0, sys_pkey_mprotect(page, 0, PROT_NONE, some_pkeys[i]));
		EXPECT_EQ(-1, sys_pkey_mprotect((char *)page + 1, 0, PROT_NONE, some_pkeys[i]));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(-1, sys_pkey_mprotect(page, wraps, PROT_NONE, some_pkeys[i]));
		/* The sum of 32-bit arguments does not wrap. */
		EXPECT_EQ(PKEY_ARG_BITS == 64 ? ENOMEM : EINVAL, errno);
		/* The key is checked before the mappings. */
		EXPECT_EQ(-1, sys_pkey_mprotect(NULL, size, PROT_NONE, some_pkeys[i]));
		EXPECT_EQ(EINVAL, errno);
	}
	EXPECT_TRUE(pkey_can(PKEY_WRITE, page));
}

/* A2: a kernel that cannot save PKRU with XSAVE leaves protection keys off. */
TEST_F(nohw, processor_without_xsave_of_pkru)
{
	if (!cpu_pku() || cpu_xsaves_pkru())
		SKIP(return, "needs a processor whose XSAVE does not save PKRU");

	EXPECT_FALSE(cpu_ospke());
	EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
	EXPECT_EQ(ENOSPC, errno);
}

/* D2: execute-only memory by mprotect() is executable and readable. */
TEST_F(nohw, execute_only_mprotect_is_readable)
{
	struct pkey_vma vma;
	void *code;

	code = pkey_map_code(PROT_EXEC);
	ASSERT_TRUE(!!code);
	EXPECT_TRUE(pkey_can(PKEY_EXEC, code));
	EXPECT_TRUE(pkey_can(PKEY_READ, code));
	ASSERT_TRUE(pkey_find_vma(code, &vma));
	EXPECT_STREQ("--xp", vma.perms);
	EXPECT_EQ(0, vma.pkey);
}

/* D2: execute-only memory by mmap() is readable. */
TEST_F(nohw, execute_only_mmap_is_readable)
{
	void *page;

	page = pkey_map(1, PROT_EXEC);
	ASSERT_TRUE(!!page);
	EXPECT_TRUE(pkey_can(PKEY_READ, page));
	EXPECT_FALSE(pkey_can(PKEY_WRITE, page));
}

TEST_HARNESS_MAIN
