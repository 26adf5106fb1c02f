// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of pkey_mprotect() on x86: which keys it accepts, that it is mprotect()
 * in everything else, and what a key does to the memory that carries it.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/uio.h>

#include "../kselftest_harness.h"
#include "pkey_util.h"

#ifndef PROT_SEM
#define PROT_SEM	0x8
#endif

#define RWX		(RW | PROT_EXEC)

/* The most mappings that a test makes of one range. */
#define MAX_VMAS	16

/* Pages of an arena, see map_arena(). */
#define ARENA_PAGES	8

/* Values that are no key of any process. */
static const int never_a_key[] = {
	INT_MIN, INT_MIN + 16, -65536, -256, -32, -16, -15, -2,
	16, 17, 31, 32, 63, 64, 127, 128, 255, 256, 65535, 65536, INT_MAX,
};

/*
 * Write the mappings of a range as text, in pages from its start:
 * "0-2 rw-p 0; 2-3 r--p 1; ".
 */
static void describe(const void *start, size_t pages, char *text, size_t size)
{
	const size_t len = pages * pkey_page_size();
	const uint64_t base = (uintptr_t)start;
	struct pkey_vma vmas[MAX_VMAS];
	size_t used = 0;
	int nr, i;

	text[0] = '\0';
	nr = pkey_read_vmas(start, len, vmas, MAX_VMAS);
	for (i = 0; i < nr; i++)
		used += snprintf(text + used, size - used, "%d-%d %s %d; ",
				 (int)((vmas[i].start - base) / pkey_page_size()),
				 (int)((vmas[i].end - base) / pkey_page_size()),
				 vmas[i].perms, vmas[i].pkey);
}

#define EXPECT_LOOKS(_text, _start, _pages)					\
do {										\
	char _looks[512];							\
										\
	describe(_start, _pages, _looks, sizeof(_looks));			\
	EXPECT_STREQ(_text, _looks);						\
} while (0)

/* Map writable memory with key 0 that merges with no other mapping. */
static char *map_arena(void)
{
	const size_t size = pkey_page_size();
	char *around, *arena;

	around = pkey_map(ARENA_PAGES + 2, PROT_NONE);
	if (!around)
		return NULL;

	arena = pkey_mmap(around + size, ARENA_PAGES * size, RW,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1);
	munmap(around, size);
	munmap(around + (ARENA_PAGES + 1) * size, size);
	return arena;
}

/* Map a page with a key of its own, to which the caller has all rights. */
static char *map_with_key(int *pkey)
{
	char *page;

	page = pkey_map(1, RW);
	*pkey = sys_pkey_alloc(0, 0);
	if (!page || *pkey < 1)
		return NULL;

	if (sys_pkey_mprotect(page, pkey_page_size(), RW, *pkey))
		return NULL;

	return page;
}

FIXTURE(pkey)
{
};

FIXTURE_SETUP(pkey)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);
}

FIXTURE_TEARDOWN(pkey)
{
}

/* C1: -1 keeps the key that the mapping has. */
TEST_F(pkey, minus_1_is_mprotect)
{
	const size_t size = pkey_page_size();
	char *page;
	int pkey;

	page = map_with_key(&pkey);
	ASSERT_TRUE(!!page);
	ASSERT_EQ(0, sys_pkey_mprotect(page, size, PROT_READ, -1));
	EXPECT_EQ(pkey, pkey_of(page));
	EXPECT_FALSE(pkey_can(PKEY_WRITE, page));
	ASSERT_EQ(0, sys_pkey_mprotect(page, size, RW, -1));
	EXPECT_EQ(pkey, pkey_of(page));
	EXPECT_TRUE(pkey_can(PKEY_WRITE, page));
}

FIXTURE(memory)
{
};

FIXTURE_SETUP(memory)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);
}

FIXTURE_TEARDOWN(memory)
{
}

/* C1: mprotect() keeps the key, through PROT_NONE too. */
TEST_F(memory, mprotect_keeps_key)
{
	const size_t size = pkey_page_size();
	char *page;
	int pkey;

	page = map_with_key(&pkey);
	ASSERT_TRUE(!!page);
	ASSERT_EQ(0, sys_mprotect(page, size, PROT_NONE));
	EXPECT_EQ(pkey, pkey_of(page));
	EXPECT_FALSE(pkey_can(PKEY_READ, page));
	ASSERT_EQ(0, sys_mprotect(page, size, RW));
	EXPECT_EQ(pkey, pkey_of(page));
	EXPECT_TRUE(pkey_can(PKEY_WRITE, page));
	pkru_set_rights(pkey, PKEY_DISABLE_ACCESS);
	EXPECT_TRUE(pkey_refused(PKEY_READ, page, pkey));
}

/* C1: key 0 can always be attached, and takes another key away. */
TEST_F(pkey, 0_is_accepted)
{
	const size_t size = pkey_page_size();
	char *page;
	int pkey;

	page = map_with_key(&pkey);
	ASSERT_TRUE(!!page);
	pkru_set_rights(pkey, PKEY_DISABLE_ACCESS);
	EXPECT_FALSE(pkey_can(PKEY_WRITE, page));
	ASSERT_EQ(0, sys_pkey_mprotect(page, size, RW, 0));
	EXPECT_EQ(0, pkey_of(page));
	EXPECT_TRUE(pkey_can(PKEY_WRITE, page));
}

/* C1: each allocated key can be attached. */
TEST_F(pkey, allocated_is_accepted)
{
	const size_t size = pkey_page_size();
	char *page;
	int pkey;

	page = pkey_map(1, RW);
	ASSERT_TRUE(!!page);
	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	for (pkey = 0; pkey <= PKEY_MAX; pkey++) {
		EXPECT_EQ(0, sys_pkey_mprotect(page, size, RW, pkey));
		EXPECT_EQ(pkey, pkey_of(page));
	}
}

/* C1: what is no key is refused, and the mappings stay as they are. */
TEST_F(pkey, out_of_range_is_rejected)
{
	const size_t size = pkey_page_size();
	char *arena;
	size_t i;

	arena = map_arena();
	ASSERT_TRUE(!!arena);
	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	ASSERT_EQ(0, sys_pkey_mprotect(arena + size, size, PROT_READ, 3));
	for (i = 0; i < ARRAY_SIZE(never_a_key); i++) {
		EXPECT_EQ(-1, sys_pkey_mprotect(arena, 3 * size, PROT_NONE,
						never_a_key[i]));
		EXPECT_EQ(EINVAL, errno) {
			TH_LOG("pkey %d", never_a_key[i]);
		}
	}
	EXPECT_LOOKS("0-1 rw-p 0; 1-2 r--p 3; 2-8 rw-p 0; ", arena, ARENA_PAGES);
	EXPECT_TRUE(pkey_can(PKEY_WRITE, arena));
}

/* C1: each key that is not allocated is refused. */
TEST_F(pkey, unallocated_is_rejected)
{
	const size_t size = pkey_page_size();
	char *arena;
	int pkey;

	arena = map_arena();
	ASSERT_TRUE(!!arena);
	for (pkey = 1; pkey <= PKEY_MAX; pkey++) {
		EXPECT_EQ(-1, sys_pkey_mprotect(arena, size, PROT_READ, pkey));
		EXPECT_EQ(EINVAL, errno);
	}
	EXPECT_LOOKS("0-8 rw-p 0; ", arena, ARENA_PAGES);
	/* None of them has become allocated or used by that. */
	EXPECT_TRUE(pkey_state_is(1, "-"));
	EXPECT_EQ(1, sys_pkey_alloc(0, 0));
}

/* C1: keys that were freed are refused. */
TEST_F(pkey, freed_is_rejected)
{
	const size_t size = pkey_page_size();
	char *arena;
	int pkey;

	arena = map_arena();
	ASSERT_TRUE(!!arena);
	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	for (pkey = 1; pkey <= PKEY_MAX; pkey++) {
		ASSERT_EQ(0, sys_pkey_free(pkey));
		EXPECT_EQ(-1, sys_pkey_mprotect(arena, size, PROT_READ, pkey));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_TRUE(pkey_state_is(pkey, "clean"));
	}
	EXPECT_LOOKS("0-8 rw-p 0; ", arena, ARENA_PAGES);
	/* C3: a refused call does not change what is handed out next. */
	for (pkey = 1; pkey <= PKEY_MAX; pkey++)
		EXPECT_EQ(pkey, sys_pkey_alloc(0, 0));
}

/* C1: the execute-only key is refused. */
TEST_F(pkey, execute_only_is_rejected)
{
	const size_t size = pkey_page_size();
	char *arena, *code;
	int pkey;

	arena = map_arena();
	code = pkey_map_code(PROT_EXEC);
	ASSERT_TRUE(!!arena);
	ASSERT_TRUE(!!code);
	pkey = pkey_of(code);
	ASSERT_LE(1, pkey);
	EXPECT_EQ(-1, sys_pkey_mprotect(arena, size, PROT_READ, pkey));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, sys_pkey_mprotect(arena, size, PROT_EXEC, pkey));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_LOOKS("0-8 rw-p 0; ", arena, ARENA_PAGES);
}

/* C1: pkey_mprotect() touches neither PKRU nor what is allocated. */
TEST_F(pkey, mprotect_leaves_pkru_and_keys)
{
	const unsigned int mask = 1u << 0 | 1u << 1 | 1u << 2;
	const size_t size = pkey_page_size();
	char *page;
	size_t p;

	page = pkey_map(1, RW);
	ASSERT_TRUE(!!page);
	ASSERT_EQ(1, sys_pkey_alloc(0, 0));
	ASSERT_EQ(2, sys_pkey_alloc(0, 0));
	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		wrpkru(pkru_patterns[p]);
		EXPECT_EQ(0, sys_pkey_mprotect(page, size, RW, 1));
		EXPECT_EQ(0, sys_pkey_mprotect(page, size, PROT_EXEC, 2));
		EXPECT_EQ(0, sys_pkey_mprotect(page, size, PROT_READ, 0));
		EXPECT_EQ(-1, sys_pkey_mprotect(page, size, RW, 3));
		EXPECT_EQ(pkru_patterns[p], rdpkru());
	}
	EXPECT_EQ(mask, pkey_attachable_mask());
}

FIXTURE(same_as_mprotect)
{
	int pkey;
	int file;
};

/* The range starts at @page of an arena whose page 4 is missing. */
FIXTURE_VARIANT(same_as_mprotect)
{
	int page;
	int offset;
	pkey_arg_t len;
	int prot;
	int err;
	/* The call returns before it checks the key. */
	bool before_key;
	/* Page 6 is a read-only file, mapped shared. */
	bool file;
};

#define SAME(_name, ...) FIXTURE_VARIANT_ADD(same_as_mprotect, _name) { __VA_ARGS__ }

SAME(one_page, .page = 1, .len = 4096, .prot = PROT_READ);
SAME(one_byte, .page = 1, .len = 1, .prot = PROT_READ);
SAME(page_and_a_byte, .page = 1, .len = 4097, .prot = PROT_READ);
SAME(prot_none, .page = 0, .len = 8192, .prot = PROT_NONE);
SAME(prot_sem, .page = 0, .len = 8192, .prot = PROT_READ | PROT_SEM);
SAME(length_0, .page = 1, .len = 0, .prot = PROT_NONE, .before_key = true);
SAME(length_0_bad_prot, .page = 1, .len = 0, .prot = 0x100, .before_key = true);
SAME(length_0_of_nothing, .page = 4, .len = 0, .prot = PROT_NONE, .before_key = true);
SAME(unaligned, .page = 1, .offset = 1, .len = 4096, .prot = PROT_READ, .err = EINVAL,
     .before_key = true);
SAME(unaligned_length_0, .page = 1, .offset = 8, .len = 0, .prot = PROT_READ, .err = EINVAL,
     .before_key = true);
SAME(unaligned_hole, .page = 4, .offset = 4095, .len = 4096, .prot = PROT_READ, .err = EINVAL,
     .before_key = true);
SAME(wraps, .page = 1, .len = (pkey_arg_t)-8192, .prot = PROT_READ, .err = ENOMEM,
     .before_key = PKEY_ARG_BITS == 64);
SAME(wraps_by_rounding, .page = 1, .len = (pkey_arg_t)-1, .prot = PROT_READ, .err = ENOMEM,
     .before_key = PKEY_ARG_BITS == 64);

/* For a 32-bit program the kernel adds without wrapping, and looks at prot. */
SAME(wraps_bad_prot, .page = 1, .len = (pkey_arg_t)-8192, .prot = 0x100,
     .err = PKEY_ARG_BITS == 64 ? ENOMEM : EINVAL, .before_key = true);
SAME(starts_in_hole, .page = 4, .len = 4096, .prot = PROT_READ, .err = ENOMEM);
SAME(hole_in_the_middle, .page = 2, .len = 4 * 4096, .prot = PROT_READ, .err = ENOMEM);
SAME(hole_at_the_end, .page = 2, .len = 3 * 4096, .prot = PROT_READ, .err = ENOMEM);
SAME(unknown_prot, .page = 1, .len = 4096, .prot = PROT_READ | 0x10, .err = EINVAL,
     .before_key = true);
SAME(unknown_prot_high, .page = 1, .len = 4096, .prot = INT_MIN, .err = EINVAL,
     .before_key = true);
SAME(unknown_prot_hole, .page = 4, .len = 4096, .prot = 0x100, .err = EINVAL, .before_key = true);
SAME(grows_both_ways, .page = 1, .len = 4096,
     .prot = PROT_READ | PROT_GROWSDOWN | PROT_GROWSUP, .err = EINVAL, .before_key = true);
SAME(grows_both_ways_length_0, .page = 1, .len = 0, .prot = PROT_GROWSDOWN | PROT_GROWSUP,
     .err = EINVAL, .before_key = true);
SAME(grows_down_not_a_stack, .page = 1, .len = 4096, .prot = PROT_READ | PROT_GROWSDOWN,
     .err = EINVAL);
SAME(grows_up_not_a_stack, .page = 1, .len = 4096, .prot = PROT_READ | PROT_GROWSUP,
     .err = EINVAL);
SAME(file_read, .page = 6, .len = 4096, .prot = PROT_READ | PROT_EXEC, .file = true);
SAME(file_write, .page = 6, .len = 4096, .prot = RW, .file = true, .err = EACCES);
SAME(file_write_after_others, .page = 5, .len = 3 * 4096, .prot = RWX, .file = true,
     .err = EACCES);
SAME(file_write_unknown_prot, .page = 6, .len = 4096, .prot = RW | 0x10, .file = true,
     .err = EINVAL, .before_key = true);

FIXTURE_SETUP(same_as_mprotect)
{
	self->pkey = pku_enabled() ? sys_pkey_alloc(0, 0) : 0;
	ASSERT_LE(0, self->pkey);
	self->file = open("/proc/self/exe", O_RDONLY);
	ASSERT_LE(0, self->file);
	/* The variants count in pages of this size. */
	ASSERT_EQ(4096, pkey_page_size());
}

FIXTURE_TEARDOWN(same_as_mprotect)
{
}

static char *map_damaged_arena(int file)
{
	const size_t size = pkey_page_size();
	char *arena;

	arena = map_arena();
	if (!arena)
		return NULL;

	if (file >= 0 &&
	    !pkey_mmap(arena + 6 * size, size, PROT_READ, MAP_SHARED | MAP_FIXED, file))
		return NULL;

	munmap(arena + 4 * size, size);
	return arena;
}

/* C2: the error and the mappings afterwards are those of mprotect(). */
TEST_F(same_as_mprotect, error_and_effect)
{
	/* Key 0 is a bad key where there are none. */
	const int pkeys[] = { -1, pku_enabled() ? 0 : -1 };
	char expected[512];
	char *arena, *addr;
	size_t i;
	int ret;

	arena = map_damaged_arena(variant->file ? self->file : -1);
	ASSERT_TRUE(!!arena);
	addr = arena + variant->page * pkey_page_size() + variant->offset;
	errno = 0;
	ret = sys_mprotect(addr, variant->len, variant->prot);
	EXPECT_EQ(variant->err ? -1 : 0, ret);
	EXPECT_EQ(variant->err, errno);
	describe(arena, ARENA_PAGES, expected, sizeof(expected));

	for (i = 0; i < ARRAY_SIZE(pkeys); i++) {
		munmap(arena, ARENA_PAGES * pkey_page_size());
		arena = map_damaged_arena(variant->file ? self->file : -1);
		ASSERT_TRUE(!!arena);
		addr = arena + variant->page * pkey_page_size() + variant->offset;
		errno = 0;
		ret = sys_pkey_mprotect(addr, variant->len, variant->prot, pkeys[i]);
		EXPECT_EQ(variant->err ? -1 : 0, ret);
		EXPECT_EQ(variant->err, errno);
		EXPECT_LOOKS(expected, arena, ARENA_PAGES);
	}
}

/* C2: with an allocated key the error is the same too. */
TEST_F(same_as_mprotect, error_with_key)
{
	char *arena, *addr;
	int ret;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	arena = map_damaged_arena(variant->file ? self->file : -1);
	ASSERT_TRUE(!!arena);
	addr = arena + variant->page * pkey_page_size() + variant->offset;
	errno = 0;
	ret = sys_pkey_mprotect(addr, variant->len, variant->prot, self->pkey);
	EXPECT_EQ(variant->err ? -1 : 0, ret);
	EXPECT_EQ(variant->err, errno);
}

/*
 * C1, C2: with a key that is not allocated the error is EINVAL, except where mprotect()
 * has its result before it looks at mappings. Nothing changes.
 */
TEST_F(same_as_mprotect, error_with_bad_key)
{
	const int pkeys[] = { -2, 2, 15, 16, INT_MAX };
	char before[512];
	char *arena, *addr;
	size_t i;

	arena = map_damaged_arena(variant->file ? self->file : -1);
	ASSERT_TRUE(!!arena);
	addr = arena + variant->page * pkey_page_size() + variant->offset;
	describe(arena, ARENA_PAGES, before, sizeof(before));
	for (i = 0; i < ARRAY_SIZE(pkeys); i++) {
		errno = 0;
		sys_pkey_mprotect(addr, variant->len, variant->prot, pkeys[i]);
		EXPECT_EQ(variant->before_key ? variant->err : EINVAL, errno) {
			TH_LOG("pkey %d", pkeys[i]);
		}
		EXPECT_LOOKS(before, arena, ARENA_PAGES);
	}
}

/* C2: with PROT_GROWSDOWN the whole of a mapping that grows down changes. */
TEST_F(memory, grows_down_like_mprotect)
{
	const size_t size = pkey_page_size();
	char *around, *stack;
	int pkey;

	pkey = sys_pkey_alloc(0, 0);
	ASSERT_LE(1, pkey);
	/* Leave room below it for the gap that the kernel requires there. */
	around = pkey_map(1024, PROT_NONE);
	ASSERT_TRUE(!!around);
	ASSERT_EQ(0, munmap(around, 1024 * size));
	stack = pkey_mmap(around + 1020 * size, 4 * size, RW,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1);
	ASSERT_TRUE(!!stack);

	ASSERT_EQ(0, sys_pkey_mprotect(stack + 2 * size, size,
				       PROT_READ | PROT_GROWSDOWN, pkey));
	EXPECT_EQ(pkey, pkey_of(stack));
	EXPECT_EQ(pkey, pkey_of(stack + 2 * size));
	EXPECT_EQ(0, pkey_of(stack + 3 * size));
	EXPECT_FALSE(pkey_can(PKEY_WRITE, stack));
	EXPECT_TRUE(pkey_can(PKEY_WRITE, stack + 3 * size));
}

/* C2: a range that fails in its middle has changed up to there. */
TEST_F(memory, hole_changes_what_is_before_it)
{
	const size_t size = pkey_page_size();
	char *arena;

	arena = map_damaged_arena(-1);
	ASSERT_TRUE(!!arena);
	ASSERT_EQ(1, sys_pkey_alloc(0, 0));
	EXPECT_EQ(-1, sys_pkey_mprotect(arena + 2 * size, 4 * size, PROT_READ, 1));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_LOOKS("0-2 rw-p 0; 2-4 r--p 1; 5-8 rw-p 0; ", arena, ARENA_PAGES);
}

/* C2: a key of its own splits a mapping, the former key merges it again. */
TEST_F(memory, key_splits_and_merges)
{
	const size_t size = pkey_page_size();
	char *arena;

	arena = map_arena();
	ASSERT_TRUE(!!arena);
	ASSERT_EQ(1, sys_pkey_alloc(0, 0));
	ASSERT_EQ(2, sys_pkey_alloc(0, 0));
	EXPECT_LOOKS("0-8 rw-p 0; ", arena, ARENA_PAGES);

	/* Pages in the middle, at the start and at the end get a key. */
	ASSERT_EQ(0, sys_pkey_mprotect(arena + 3 * size, size, RW, 1));
	EXPECT_LOOKS("0-3 rw-p 0; 3-4 rw-p 1; 4-8 rw-p 0; ", arena, ARENA_PAGES);
	ASSERT_EQ(0, sys_pkey_mprotect(arena, size, RW, 1));
	EXPECT_LOOKS("0-1 rw-p 1; 1-3 rw-p 0; 3-4 rw-p 1; 4-8 rw-p 0; ", arena,
		     ARENA_PAGES);
	ASSERT_EQ(0, sys_pkey_mprotect(arena + 7 * size, size, RW, 2));
	EXPECT_LOOKS("0-1 rw-p 1; 1-3 rw-p 0; 3-4 rw-p 1; 4-7 rw-p 0; 7-8 rw-p 2; ",
		     arena, ARENA_PAGES);

	/* Neighbours merge when key and protection are the same, not before. */
	ASSERT_EQ(0, sys_pkey_mprotect(arena + size, 2 * size, RW, 2));
	EXPECT_LOOKS("0-1 rw-p 1; 1-3 rw-p 2; 3-4 rw-p 1; 4-7 rw-p 0; 7-8 rw-p 2; ",
		     arena, ARENA_PAGES);
	ASSERT_EQ(0, sys_pkey_mprotect(arena + size, 2 * size, PROT_READ, 1));
	EXPECT_LOOKS("0-1 rw-p 1; 1-3 r--p 1; 3-4 rw-p 1; 4-7 rw-p 0; 7-8 rw-p 2; ",
		     arena, ARENA_PAGES);
	ASSERT_EQ(0, sys_pkey_mprotect(arena + size, 2 * size, RW, 1));
	EXPECT_LOOKS("0-4 rw-p 1; 4-7 rw-p 0; 7-8 rw-p 2; ", arena, ARENA_PAGES);

	/* One call changes all of them. */
	ASSERT_EQ(0, sys_pkey_mprotect(arena, ARENA_PAGES * size, RW, 0));
	EXPECT_LOOKS("0-8 rw-p 0; ", arena, ARENA_PAGES);
}

/* C2: mprotect() over mappings with several keys leaves each its own. */
TEST_F(memory, mprotect_over_several_keys)
{
	const size_t size = pkey_page_size();
	char *arena;

	arena = map_arena();
	ASSERT_TRUE(!!arena);
	ASSERT_EQ(1, sys_pkey_alloc(0, 0));
	ASSERT_EQ(2, sys_pkey_alloc(0, 0));
	ASSERT_EQ(0, sys_pkey_mprotect(arena + 2 * size, 2 * size, RW, 1));
	ASSERT_EQ(0, sys_pkey_mprotect(arena + 4 * size, 2 * size, RW, 2));
	ASSERT_EQ(0, sys_mprotect(arena + size, 6 * size, PROT_READ));
	EXPECT_LOOKS("0-1 rw-p 0; 1-2 r--p 0; 2-4 r--p 1; 4-6 r--p 2; 6-7 r--p 0; 7-8 rw-p 0; ",
		     arena, ARENA_PAGES);
	ASSERT_EQ(0, sys_pkey_mprotect(arena + size, 6 * size, RW, -1));
	EXPECT_LOOKS("0-2 rw-p 0; 2-4 rw-p 1; 4-6 rw-p 2; 6-8 rw-p 0; ", arena,
		     ARENA_PAGES);
}

FIXTURE(access)
{
	char *page;
	int pkey;
};

FIXTURE_VARIANT(access)
{
	unsigned int rights;
	bool reads;
	bool writes;
	/* Was the page there before it got its key? */
	bool populated;
};

#define ACCESS(_name, ...) FIXTURE_VARIANT_ADD(access, _name) { __VA_ARGS__ }

ACCESS(all, .rights = 0, .reads = true, .writes = true, .populated = true);
ACCESS(no_write, .rights = PKEY_DISABLE_WRITE, .reads = true, .populated = true);
ACCESS(none, .rights = PKEY_DISABLE_ACCESS, .populated = true);
ACCESS(none_both_bits, .rights = PKEY_DISABLE_ACCESS | PKEY_DISABLE_WRITE, .populated = true);
ACCESS(all_not_populated, .rights = 0, .reads = true, .writes = true);
ACCESS(no_write_not_populated, .rights = PKEY_DISABLE_WRITE, .reads = true);
ACCESS(none_not_populated, .rights = PKEY_DISABLE_ACCESS);

/* pkey_alloc() sets the rights of the variant. */
FIXTURE_SETUP(access)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);

	self->page = pkey_map(1, RWX);
	ASSERT_TRUE(!!self->page);
	if (variant->populated)
		memcpy(self->page, pkey_code, sizeof(pkey_code));
	self->pkey = sys_pkey_alloc(0, variant->rights);
	ASSERT_LE(1, self->pkey);
	ASSERT_EQ(0, sys_pkey_mprotect(self->page, pkey_page_size(), RWX, self->pkey));
}

FIXTURE_TEARDOWN(access)
{
}

/* A5, C2: reads and writes succeed as the rights to the key say. */
TEST_F(access, by_user)
{
	EXPECT_EQ(variant->reads, pkey_can(PKEY_READ, self->page));
	if (!variant->reads)
		EXPECT_TRUE(pkey_refused(PKEY_READ, self->page, self->pkey));
	EXPECT_EQ(variant->writes, pkey_can(PKEY_WRITE, self->page));
	if (!variant->writes)
		EXPECT_TRUE(pkey_refused(PKEY_WRITE, self->page, self->pkey));
}

/* C2: a violation says SEGV_PKUERR, the key and the address. */
TEST_F(access, siginfo)
{
	char *const addr = self->page + 123;
	struct pkey_fault fault;

	fault = pkey_probe(PKEY_WRITE, addr);
	EXPECT_EQ(!variant->writes, fault.hit);
	if (!fault.hit)
		return;

	EXPECT_EQ(SEGV_PKUERR, fault.code);
	EXPECT_EQ(self->pkey, fault.pkey);
	EXPECT_EQ((uintptr_t)addr, (uintptr_t)fault.addr);
}

/* C2: read(2) into the page and write(2) from it heed the rights. */
TEST_F(access, by_kernel_pipe)
{
	ssize_t ret;
	int fds[2];

	ASSERT_EQ(0, pipe(fds));
	errno = 0;
	ret = write(fds[1], self->page, 16);
	EXPECT_EQ(variant->reads ? 16 : -1, ret);
	EXPECT_EQ(variant->reads ? 0 : EFAULT, errno);

	ASSERT_EQ(16, write(fds[1], "0123456789abcdef", 16));
	errno = 0;
	ret = read(fds[0], self->page, 16);
	EXPECT_EQ(variant->writes ? 16 : -1, ret);
	EXPECT_EQ(variant->writes ? 0 : EFAULT, errno);
}

/* C2: the same calls on a file heed the rights too. */
TEST_F(access, by_kernel_file)
{
	ssize_t ret;
	int fd;

	fd = memfd_create("pkey", 0);
	ASSERT_LE(0, fd);
	errno = 0;
	ret = pwrite(fd, self->page, 16, 0);
	EXPECT_EQ(variant->reads ? 16 : -1, ret);
	EXPECT_EQ(variant->reads ? 0 : EFAULT, errno);

	ASSERT_EQ(16, pwrite(fd, "0123456789abcdef", 16, 0));
	errno = 0;
	ret = pread(fd, self->page, 16, 0);
	EXPECT_EQ(variant->writes ? 16 : -1, ret);
	EXPECT_EQ(variant->writes ? 0 : EFAULT, errno);
}

/* C2: a call that finds the page in the middle of its buffers stops there. */
TEST_F(access, by_kernel_vector)
{
	char open_page[16] = "0123456789abcde";
	struct iovec iov[2] = {
		{ .iov_base = open_page, .iov_len = sizeof(open_page) },
		{ .iov_base = self->page, .iov_len = 16 },
	};
	ssize_t ret;
	int fd;

	fd = memfd_create("pkey", 0);
	ASSERT_LE(0, fd);
	ret = pwritev(fd, iov, 2, 0);
	EXPECT_EQ(variant->reads ? 32 : 16, ret);
	ASSERT_EQ(0, ftruncate(fd, 32));
	ret = preadv(fd, iov, 2, 0);
	EXPECT_EQ(variant->writes ? 32 : 16, ret);
}

/* C2: code that carries a key can be executed, whatever the rights are. */
TEST_F(memory, key_does_not_stop_execution)
{
	const size_t size = pkey_page_size();
	unsigned int rights;
	void *code;
	int pkey;

	code = pkey_map_code(PROT_READ | PROT_EXEC);
	ASSERT_TRUE(!!code);
	for (rights = 0; rights <= PKEY_RIGHTS_MASK; rights++) {
		pkey = sys_pkey_alloc(0, rights);
		ASSERT_LE(1, pkey);
		ASSERT_EQ(0, sys_pkey_mprotect(code, size, PROT_READ | PROT_EXEC, pkey));
		EXPECT_TRUE(pkey_can(PKEY_EXEC, code));
	}
}

/* C2: an access that the protection refuses and the key allows is SEGV_ACCERR. */
TEST_F(memory, prot_violation_is_not_a_key_violation)
{
	const size_t size = pkey_page_size();
	struct pkey_fault fault;
	char *page;
	int pkey;

	page = map_with_key(&pkey);
	ASSERT_TRUE(!!page);
	*page = 1;
	ASSERT_EQ(0, sys_pkey_mprotect(page, size, PROT_READ, pkey));
	fault = pkey_probe(PKEY_WRITE, page);
	ASSERT_TRUE(fault.hit);
	EXPECT_EQ(SEGV_ACCERR, fault.code);
	EXPECT_TRUE(pkey_can(PKEY_READ, page));

	ASSERT_EQ(0, sys_pkey_mprotect(page, size, PROT_NONE, pkey));
	fault = pkey_probe(PKEY_READ, page);
	ASSERT_TRUE(fault.hit);
	EXPECT_EQ(SEGV_ACCERR, fault.code);
}

/* C2: PROT_NONE by pkey_mprotect() keeps the contents and takes the key. */
TEST_F(memory, prot_none_and_back)
{
	const size_t size = pkey_page_size();
	char *page;
	int pkey;

	page = pkey_map(1, RW);
	ASSERT_TRUE(!!page);
	*page = 42;
	pkey = sys_pkey_alloc(0, PKEY_DISABLE_WRITE);
	ASSERT_LE(1, pkey);
	ASSERT_EQ(0, sys_pkey_mprotect(page, size, PROT_NONE, pkey));
	EXPECT_EQ(pkey, pkey_of(page));
	EXPECT_FALSE(pkey_can(PKEY_READ, page));
	ASSERT_EQ(0, sys_mprotect(page, size, RW));
	EXPECT_EQ(pkey, pkey_of(page));
	EXPECT_EQ(42, *page);
	EXPECT_TRUE(pkey_refused(PKEY_WRITE, page, pkey));
}

/* C2: a change of key takes effect at once, also for pages just accessed. */
TEST_F(memory, key_change_moves_rights_at_once)
{
	const size_t size = pkey_page_size();
	int open, closed, i;
	char *page;

	page = pkey_map(1, RW);
	ASSERT_TRUE(!!page);
	open = sys_pkey_alloc(0, 0);
	closed = sys_pkey_alloc(0, PKEY_DISABLE_ACCESS);
	ASSERT_LE(1, open);
	ASSERT_LE(1, closed);
	for (i = 0; i < 16; i++) {
		ASSERT_EQ(0, sys_pkey_mprotect(page, size, RW, open));
		EXPECT_TRUE(pkey_can(PKEY_WRITE, page));
		ASSERT_EQ(0, sys_pkey_mprotect(page, size, RW, closed));
		EXPECT_TRUE(pkey_refused(PKEY_READ, page, closed));
		EXPECT_TRUE(pkey_refused(PKEY_WRITE, page, closed));
		ASSERT_EQ(0, sys_pkey_mprotect(page, size, RW, 0));
		EXPECT_TRUE(pkey_can(PKEY_WRITE, page));
	}
}

/* C2: WRPKRU alone opens and closes the page, with no system call. */
TEST_F(memory, rights_change_at_once)
{
	char *page;
	int pkey, i;

	page = map_with_key(&pkey);
	ASSERT_TRUE(!!page);
	for (i = 0; i < 16; i++) {
		pkru_set_rights(pkey, PKEY_DISABLE_ACCESS);
		EXPECT_TRUE(pkey_refused(PKEY_READ, page, pkey));
		pkru_set_rights(pkey, PKEY_DISABLE_WRITE);
		EXPECT_TRUE(pkey_can(PKEY_READ, page));
		EXPECT_TRUE(pkey_refused(PKEY_WRITE, page, pkey));
		pkru_set_rights(pkey, 0);
		EXPECT_TRUE(pkey_can(PKEY_WRITE, page));
	}
}

/* C2: each of the 15 keys guards its page and no other. */
TEST_F(memory, keys_guard_their_own_pages)
{
	const size_t size = pkey_page_size();
	int pkey, other;
	char *pages;

	pages = pkey_map(PKEY_NR, RW);
	ASSERT_TRUE(!!pages);
	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	for (pkey = 0; pkey <= PKEY_MAX; pkey++)
		ASSERT_EQ(0, sys_pkey_mprotect(pages + pkey * size, size, RW, pkey));

	for (pkey = 1; pkey <= PKEY_MAX; pkey++) {
		pkru_set_rights(pkey, PKEY_DISABLE_ACCESS);
		for (other = 0; other <= PKEY_MAX; other++)
			EXPECT_EQ(other != pkey, pkey_can(PKEY_WRITE, pages + other * size));
		pkru_set_rights(pkey, 0);
	}
}

struct remote_reader {
	pthread_barrier_t barrier;
	char *page;
	int pkey;
	/* The results. */
	bool read_before;
	bool refused_after;
};

static void *remote_reader_thread(void *arg)
{
	struct remote_reader *reader = arg;

	pkru_set_rights(reader->pkey, PKEY_DISABLE_ACCESS);
	reader->read_before = pkey_can(PKEY_READ, reader->page);
	pthread_barrier_wait(&reader->barrier);
	pthread_barrier_wait(&reader->barrier);
	reader->refused_after = pkey_refused(PKEY_READ, reader->page, reader->pkey);
	return NULL;
}

/* C2: the new key counts for other threads too, which have the page in their TLB. */
TEST_F(memory, key_change_reaches_other_threads)
{
	static struct remote_reader reader;
	pthread_t thread;

	reader.page = pkey_map(1, RW);
	reader.pkey = sys_pkey_alloc(0, 0);
	ASSERT_TRUE(!!reader.page);
	ASSERT_LE(1, reader.pkey);
	*reader.page = 1;
	ASSERT_EQ(0, pthread_barrier_init(&reader.barrier, NULL, 2));
	ASSERT_EQ(0, pthread_create(&thread, NULL, remote_reader_thread, &reader));

	pthread_barrier_wait(&reader.barrier);
	EXPECT_EQ(0, sys_pkey_mprotect(reader.page, pkey_page_size(), RW, reader.pkey));
	pthread_barrier_wait(&reader.barrier);
	ASSERT_EQ(0, pthread_join(thread, NULL));

	EXPECT_TRUE(reader.read_before);
	EXPECT_TRUE(reader.refused_after);
	/* Each thread has its own rights. */
	EXPECT_TRUE(pkey_can(PKEY_READ, reader.page));
}

/* C2: two mappings of the same memory have each their own key. */
TEST_F(memory, shared_memory_two_mappings)
{
	const size_t size = pkey_page_size();
	char *first, *second;
	int fd, pkey;

	fd = memfd_create("pkey", 0);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, size));
	first = pkey_mmap(NULL, size, RW, MAP_SHARED, fd);
	second = pkey_mmap(NULL, size, RW, MAP_SHARED, fd);
	ASSERT_TRUE(!!first);
	ASSERT_TRUE(!!second);
	pkey = sys_pkey_alloc(0, PKEY_DISABLE_ACCESS);
	ASSERT_LE(1, pkey);
	ASSERT_EQ(0, sys_pkey_mprotect(first, size, RW, pkey));

	EXPECT_TRUE(pkey_refused(PKEY_WRITE, first, pkey));
	EXPECT_TRUE(pkey_can(PKEY_WRITE, second));
	*second = 42;
	pkru_set_rights(pkey, PKEY_DISABLE_WRITE);
	EXPECT_EQ(42, *first);
	EXPECT_EQ(0, pkey_of(second));
}

/* Is all of a range refused, or all of it open? Test one byte in 256 KiB. */
static bool all_refused(char *start, size_t len, int pkey)
{
	size_t pos;

	for (pos = 0; pos < len; pos += 256 * 1024)
		if (!pkey_refused(PKEY_WRITE, start + pos, pkey))
			return false;
	return true;
}

static bool all_open(char *start, size_t len)
{
	size_t pos;

	for (pos = 0; pos < len; pos += 256 * 1024)
		if (!pkey_can(PKEY_WRITE, start + pos))
			return false;
	return true;
}

/* Map two transparent huge pages. Return NULL if the kernel does not allocate them. */
static char *map_thp(void)
{
	struct pkey_vma vma;
	char *map, *huge;

	map = pkey_map(3 * HUGE_SIZE / pkey_page_size(), RW);
	if (!map)
		return NULL;

	huge = (char *)(((uintptr_t)map + HUGE_SIZE - 1) & ~(HUGE_SIZE - 1));
	if (madvise(huge, 2 * HUGE_SIZE, MADV_HUGEPAGE))
		return NULL;

	memset(huge, 1, 2 * HUGE_SIZE);
	if (!pkey_find_vma(huge, &vma) || vma.anon_huge < 2 * HUGE_SIZE / 1024)
		return NULL;

	return huge;
}

/* C2: a whole transparent huge page gets a key. */
TEST_F(memory, thp_whole)
{
	char *huge;
	int pkey;

	huge = map_thp();
	if (!huge)
		SKIP(return, "needs transparent huge pages");

	pkey = sys_pkey_alloc(0, PKEY_DISABLE_ACCESS);
	ASSERT_LE(1, pkey);
	ASSERT_EQ(0, sys_pkey_mprotect(huge, HUGE_SIZE, RW, pkey));
	EXPECT_TRUE(all_refused(huge, HUGE_SIZE, pkey));
	EXPECT_TRUE(all_open(huge + HUGE_SIZE, HUGE_SIZE));
	ASSERT_EQ(0, sys_pkey_mprotect(huge, 2 * HUGE_SIZE, RW, 0));
	EXPECT_TRUE(all_open(huge, 2 * HUGE_SIZE));
}

/* C2: a part of a transparent huge page gets a key, which splits it. */
TEST_F(memory, thp_part)
{
	const size_t half = HUGE_SIZE / 2;
	char *huge;
	int pkey;

	huge = map_thp();
	if (!huge)
		SKIP(return, "needs transparent huge pages");

	pkey = sys_pkey_alloc(0, PKEY_DISABLE_ACCESS);
	ASSERT_LE(1, pkey);
	ASSERT_EQ(0, sys_pkey_mprotect(huge + half, HUGE_SIZE, RW, pkey));
	EXPECT_TRUE(all_open(huge, half));
	EXPECT_TRUE(all_refused(huge + half, HUGE_SIZE, pkey));
	EXPECT_TRUE(all_open(huge + half + HUGE_SIZE, half));
	pkru_set_rights(pkey, 0);
	EXPECT_EQ(1, huge[half + pkey_page_size() + 1]);
}

/* C2: hugetlb pages get a key. */
TEST_F(memory, hugetlb)
{
	char *huge;
	int pkey;

	huge = pkey_mmap(NULL, 2 * HUGE_SIZE, RW,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB |
			 21 << MAP_HUGE_SHIFT, -1);
	if (!huge)
		SKIP(return, "needs two huge pages of 2 MiB in the hugetlb pool");

	memset(huge, 1, 2 * HUGE_SIZE);
	pkey = sys_pkey_alloc(0, PKEY_DISABLE_ACCESS);
	ASSERT_LE(1, pkey);
	ASSERT_EQ(0, sys_pkey_mprotect(huge, HUGE_SIZE, RW, pkey));
	EXPECT_TRUE(all_refused(huge, HUGE_SIZE, pkey));
	EXPECT_TRUE(all_open(huge + HUGE_SIZE, HUGE_SIZE));
	EXPECT_EQ(pkey, pkey_of(huge));

	/* mprotect() refuses a part of a huge page, too. */
	EXPECT_EQ(-1, sys_mprotect(huge, pkey_page_size(), PROT_READ));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, sys_pkey_mprotect(huge, pkey_page_size(), PROT_READ, pkey));
	EXPECT_EQ(EINVAL, errno);

	ASSERT_EQ(0, sys_pkey_mprotect(huge, 2 * HUGE_SIZE, RW, 0));
	EXPECT_TRUE(all_open(huge, 2 * HUGE_SIZE));
}

TEST_HARNESS_MAIN
