// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of execute-only memory on x86, with the key that the kernel reserves
 * for it and without one.
 *
 * The harness runs each test in a child of fork() of a process without
 * execute-only memory, so in each no key is reserved at first.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <stdlib.h>

#include "../kselftest_harness.h"
#include "pkey_util.h"

/* Return a descriptor of a file whose first page is pkey_code, or -1. */
static int code_file(void)
{
	const size_t size = pkey_page_size();
	int fd;

	fd = memfd_create("pkey_code", 0);
	if (fd < 0)
		return -1;

	if (!ftruncate(fd, size) &&
	    write(fd, pkey_code, sizeof(pkey_code)) == (ssize_t)sizeof(pkey_code))
		return fd;

	close(fd);
	return -1;
}

/* Map pkey_code by one mmap(), with no mprotect() after it. Return NULL on failure. */
static void *map_code_file(int prot, int flags)
{
	void *code;
	int fd;

	fd = code_file();
	if (fd < 0)
		return NULL;

	code = pkey_mmap(NULL, pkey_page_size(), prot, flags, fd);
	close(fd);
	return code;
}

/* Can the kernel read a byte at @addr for this process? If not, errno is set. */
static bool kernel_can_read(const void *addr)
{
	int fds[2], err;
	ssize_t ret;

	if (pipe(fds))
		return false;

	ret = write(fds[1], addr, 1);
	err = errno;
	close(fds[0]);
	close(fds[1]);
	errno = err;
	return ret == 1;
}

FIXTURE(execonly)
{
	void *code;
};

FIXTURE_VARIANT(execonly)
{
	/* The flags if mmap() made the memory execute-only; 0 if mprotect() did. */
	int mmap_flags;
};

FIXTURE_VARIANT_ADD(execonly, mprotect) { .mmap_flags = 0 };
FIXTURE_VARIANT_ADD(execonly, mmap_private) { .mmap_flags = MAP_PRIVATE };
FIXTURE_VARIANT_ADD(execonly, mmap_shared) { .mmap_flags = MAP_SHARED };

static void *make_execonly(int mmap_flags)
{
	if (mmap_flags)
		return map_code_file(PROT_EXEC, mmap_flags);

	return pkey_map_code(PROT_EXEC);
}

FIXTURE_SETUP(execonly)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);

	self->code = make_execonly(variant->mmap_flags);
	ASSERT_TRUE(!!self->code);
}

FIXTURE_TEARDOWN(execonly)
{
}

/* D1: the memory can be executed. */
TEST_F(execonly, executes)
{
	EXPECT_TRUE(pkey_can(PKEY_EXEC, self->code));
}

/* D1: it cannot be read, by a key that is not key 0. */
TEST_F(execonly, is_not_readable)
{
	const int pkey = pkey_of(self->code);
	struct pkey_fault fault;

	EXPECT_LE(1, pkey);
	EXPECT_GE(PKEY_MAX, pkey);
	fault = pkey_probe(PKEY_READ, self->code);
	ASSERT_TRUE(fault.hit);
	EXPECT_EQ(SEGV_PKUERR, fault.code);
	EXPECT_EQ(pkey, fault.pkey);
	EXPECT_EQ((uintptr_t)self->code, (uintptr_t)fault.addr);
}

/* D1: it cannot be written. */
TEST_F(execonly, is_not_writable)
{
	EXPECT_FALSE(pkey_can(PKEY_WRITE, self->code));
}

/* D1: executing it and failing to read it leave it as it was. */
TEST_F(execonly, stays_execute_only)
{
	int i;

	for (i = 0; i < 3; i++) {
		EXPECT_TRUE(pkey_can(PKEY_EXEC, self->code));
		EXPECT_FALSE(pkey_can(PKEY_READ, self->code));
	}
}

/* D1: the kernel does not read it on behalf of the process either. */
TEST_F(execonly, is_not_readable_by_kernel)
{
	EXPECT_FALSE(kernel_can_read(self->code));
	EXPECT_EQ(EFAULT, errno);
}

/* D1: the mapping has no permission but x, and the reserved key. */
TEST_F(execonly, looks_execute_only_in_smaps)
{
	struct pkey_vma vma;

	ASSERT_TRUE(pkey_find_vma(self->code, &vma));
	EXPECT_EQ('-', vma.perms[0]);
	EXPECT_EQ('-', vma.perms[1]);
	EXPECT_EQ('x', vma.perms[2]);
	EXPECT_LE(1, vma.pkey);
}

/* D1: the call disables access to the reserved key and changes no other bit of PKRU. */
TEST_F(execonly, denies_only_its_key)
{
	const int pkey = pkey_of(self->code);
	uint32_t pkru, others;
	void *again;
	size_t p;

	ASSERT_LE(1, pkey);
	others = pkru_with_rights(0xffffffff, pkey, 0);
	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		wrpkru(pkru_patterns[p]);
		again = make_execonly(variant->mmap_flags);
		pkru = rdpkru();
		ASSERT_TRUE(!!again);
		EXPECT_EQ(pkru_patterns[p] & others, pkru & others);
		EXPECT_TRUE(pkru_denies(pkru, pkey));
		EXPECT_TRUE(pkey_refused(PKEY_READ, again, pkey));
	}
}

/* H4: where access is disabled already, the write-disable bit stays as it is. */
TEST_F(execonly, leaves_write_bit_where_access_is_disabled)
{
	const int pkey = pkey_of(self->code);
	unsigned int rights, expected;

	ASSERT_LE(1, pkey);
	for (rights = 0; rights <= PKEY_RIGHTS_MASK; rights++) {
		expected = rights & PKEY_DISABLE_ACCESS ? rights : PKEY_DISABLE_ACCESS;
		pkru_set_rights(pkey, rights);
		ASSERT_TRUE(!!make_execonly(variant->mmap_flags));
		EXPECT_EQ(expected, pkru_get_rights(pkey)) {
			TH_LOG("the rights were %u", rights);
		}
	}
}

/* D1, B1: user space cannot free the reserved key. */
TEST_F(execonly, key_cannot_be_freed)
{
	const int pkey = pkey_of(self->code);

	ASSERT_LE(1, pkey);
	EXPECT_EQ(-1, sys_pkey_free(pkey));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_FALSE(pkey_can(PKEY_READ, self->code));
}

/* D1, C1: user space cannot attach the reserved key to any mapping. */
TEST_F(execonly, key_cannot_be_attached)
{
	const size_t size = pkey_page_size();
	const int pkey = pkey_of(self->code);
	void *page;

	ASSERT_LE(1, pkey);
	page = pkey_map(1, PROT_READ | PROT_WRITE);
	ASSERT_TRUE(!!page);

	EXPECT_EQ(-1, sys_pkey_mprotect(page, size, PROT_READ, pkey));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, sys_pkey_mprotect(page, size, PROT_EXEC, pkey));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_TRUE(pkey_can(PKEY_WRITE, page));
	EXPECT_EQ(0, pkey_of(page));

	EXPECT_EQ(-1, sys_pkey_mprotect(self->code, size, PROT_EXEC, pkey));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, sys_pkey_mprotect(self->code, size, PROT_READ, pkey));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_FALSE(pkey_can(PKEY_READ, self->code));
}

/* D1: pkey_alloc() does not hand the reserved key out. */
TEST_F(execonly, key_is_not_allocated)
{
	const int pkey = pkey_of(self->code);
	int keys[PKEY_NR];
	int i, nr;

	ASSERT_LE(1, pkey);
	nr = pkey_take_all(keys);
	EXPECT_EQ(PKEY_MAX - 1, nr);
	for (i = 0; i < nr; i++)
		EXPECT_NE(pkey, keys[i]);
}

/* D1: there is one key for all execute-only memory of a process. */
TEST_F(execonly, second_mapping_has_same_key)
{
	void *second, *third;

	second = pkey_map_code(PROT_EXEC);
	third = map_code_file(PROT_EXEC, MAP_PRIVATE);
	ASSERT_TRUE(!!second);
	ASSERT_TRUE(!!third);
	EXPECT_EQ(pkey_of(self->code), pkey_of(second));
	EXPECT_EQ(pkey_of(self->code), pkey_of(third));
	EXPECT_TRUE(pkey_can(PKEY_EXEC, second));
	EXPECT_FALSE(pkey_can(PKEY_READ, second));
	EXPECT_EQ(PKEY_MAX - 1, pkey_take_all(NULL));
}

/* D1: the reserved key is there also when all others are taken. */
TEST_F(execonly, second_mapping_when_others_taken)
{
	void *second;

	ASSERT_EQ(PKEY_MAX - 1, pkey_take_all(NULL));
	second = pkey_map_code(PROT_EXEC);
	ASSERT_TRUE(!!second);
	EXPECT_EQ(pkey_of(self->code), pkey_of(second));
	EXPECT_TRUE(pkey_can(PKEY_EXEC, second));
	EXPECT_FALSE(pkey_can(PKEY_READ, second));
}

/* D1: access that a task gave itself by WRPKRU goes with the next mapping. */
TEST_F(execonly, second_mapping_denies_again)
{
	const int pkey = pkey_of(self->code);
	void *second;

	ASSERT_LE(1, pkey);
	pkru_set_rights(pkey, 0);
	EXPECT_TRUE(pkey_can(PKEY_READ, self->code));
	second = pkey_map_code(PROT_EXEC);
	ASSERT_TRUE(!!second);
	EXPECT_FALSE(pkey_can(PKEY_READ, second));
	EXPECT_FALSE(pkey_can(PKEY_READ, self->code));
}

/* D1: unmapping all of it does not give the key away. */
TEST_F(execonly, key_stays_reserved_after_munmap)
{
	const int pkey = pkey_of(self->code);
	void *again;

	ASSERT_LE(1, pkey);
	ASSERT_EQ(0, munmap(self->code, pkey_page_size()));
	EXPECT_EQ(-1, sys_pkey_free(pkey));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(PKEY_MAX - 1, pkey_take_all(NULL));

	again = make_execonly(variant->mmap_flags);
	ASSERT_TRUE(!!again);
	EXPECT_EQ(pkey, pkey_of(again));
	EXPECT_FALSE(pkey_can(PKEY_READ, again));
}

/* D3: memory that becomes readable gets key 0 again. */
TEST_F(execonly, read_exec_goes_back_to_key_0)
{
	ASSERT_EQ(0, sys_mprotect(self->code, pkey_page_size(), PROT_READ | PROT_EXEC));
	EXPECT_EQ(0, pkey_of(self->code));
	EXPECT_TRUE(pkey_can(PKEY_READ, self->code));
	EXPECT_TRUE(pkey_can(PKEY_EXEC, self->code));
	EXPECT_TRUE(kernel_can_read(self->code));
}

/* D3: memory gets key 0 again with each other protection that is not execute-only. */
TEST_F(execonly, other_protections_go_back_to_key_0)
{
	const int prots[] = {
		PROT_NONE, PROT_READ, PROT_WRITE, PROT_READ | PROT_WRITE,
		PROT_READ | PROT_WRITE | PROT_EXEC, PROT_WRITE | PROT_EXEC,
	};
	const size_t size = pkey_page_size();
	size_t i;

	for (i = 0; i < ARRAY_SIZE(prots); i++) {
		ASSERT_EQ(0, sys_mprotect(self->code, size, PROT_EXEC));
		ASSERT_LE(1, pkey_of(self->code));
		EXPECT_EQ(0, sys_mprotect(self->code, size, prots[i]));
		EXPECT_EQ(0, pkey_of(self->code)) {
			TH_LOG("protection %d", prots[i]);
		}
	}
}

/* D3: memory that becomes execute-only again gets the same key. */
TEST_F(execonly, back_and_forth)
{
	const size_t size = pkey_page_size();
	const int pkey = pkey_of(self->code);
	int i;

	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, sys_mprotect(self->code, size, PROT_READ));
		EXPECT_TRUE(pkey_can(PKEY_READ, self->code));
		EXPECT_FALSE(pkey_can(PKEY_EXEC, self->code));
		ASSERT_EQ(0, sys_mprotect(self->code, size, PROT_EXEC));
		EXPECT_TRUE(pkey_refused(PKEY_READ, self->code, pkey));
		EXPECT_TRUE(pkey_can(PKEY_EXEC, self->code));
	}
	EXPECT_EQ(PKEY_MAX - 1, pkey_take_all(NULL));
}

/* D3: only the part whose protection changes gets key 0 again. */
TEST_F(execonly, part_goes_back_to_key_0)
{
	const size_t size = pkey_page_size();
	char *code;

	code = pkey_map(3, PROT_EXEC);
	ASSERT_TRUE(!!code);
	ASSERT_EQ(0, sys_mprotect(code + size, size, PROT_READ | PROT_EXEC));
	EXPECT_FALSE(pkey_can(PKEY_READ, code));
	EXPECT_TRUE(pkey_can(PKEY_READ, code + size));
	EXPECT_FALSE(pkey_can(PKEY_READ, code + 2 * size));
	EXPECT_EQ(pkey_of(self->code), pkey_of(code));
	EXPECT_EQ(0, pkey_of(code + size));
	EXPECT_EQ(pkey_of(self->code), pkey_of(code + 2 * size));
}

/* D3: a key that user space attaches takes the place of the reserved key, and is kept. */
TEST_F(execonly, user_key_replaces_reserved_key)
{
	const size_t size = pkey_page_size();
	int pkey;

	pkey = sys_pkey_alloc(0, 0);
	ASSERT_LE(1, pkey);
	ASSERT_EQ(0, sys_pkey_mprotect(self->code, size, PROT_READ | PROT_EXEC, pkey));
	EXPECT_EQ(pkey, pkey_of(self->code));
	EXPECT_TRUE(pkey_can(PKEY_READ, self->code));
	ASSERT_EQ(0, sys_mprotect(self->code, size, PROT_READ));
	EXPECT_EQ(pkey, pkey_of(self->code));
}

/* E1: fork() hands on the memory and its key; it is execute-only in the child. */
TEST_F(execonly, fork_child_has_it)
{
	const int pkey = pkey_of(self->code);

	IN_CHILD {
		EXPECT_EQ(pkey, pkey_of(self->code));
		EXPECT_TRUE(pkey_can(PKEY_EXEC, self->code));
		EXPECT_TRUE(pkey_refused(PKEY_READ, self->code, pkey));
		EXPECT_EQ(-1, sys_pkey_free(pkey));
		EXPECT_EQ(EINVAL, errno);
	}
}

FIXTURE(first)
{
};

FIXTURE_SETUP(first)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);
}

FIXTURE_TEARDOWN(first)
{
}

/* D1: PROT_EXEC takes the place of a key that the mapping carried. */
TEST_F(first, replaces_user_key)
{
	const size_t size = pkey_page_size();
	void *code;
	int pkey;

	code = pkey_map_code(PROT_READ | PROT_EXEC);
	ASSERT_TRUE(!!code);
	pkey = sys_pkey_alloc(0, 0);
	ASSERT_EQ(1, pkey);
	ASSERT_EQ(0, sys_pkey_mprotect(code, size, PROT_READ | PROT_EXEC, pkey));

	ASSERT_EQ(0, sys_mprotect(code, size, PROT_EXEC));
	EXPECT_LE(1, pkey_of(code));
	EXPECT_NE(pkey, pkey_of(code));
	EXPECT_FALSE(pkey_can(PKEY_READ, code));
	EXPECT_TRUE(pkey_can(PKEY_EXEC, code));

	ASSERT_EQ(0, sys_mprotect(code, size, PROT_READ | PROT_EXEC));
	EXPECT_EQ(0, pkey_of(code));
}

/* D1, C1: pkey_mprotect() attaches the key that it is asked for, with PROT_EXEC too. */
TEST_F(first, not_by_pkey_mprotect)
{
	const size_t size = pkey_page_size();
	void *code;
	int pkey;

	code = pkey_map_code(PROT_READ | PROT_EXEC);
	ASSERT_TRUE(!!code);
	ASSERT_EQ(0, sys_pkey_mprotect(code, size, PROT_EXEC, 0));
	EXPECT_EQ(0, pkey_of(code));
	EXPECT_TRUE(pkey_can(PKEY_READ, code));

	pkey = sys_pkey_alloc(0, 0);
	ASSERT_LE(1, pkey);
	ASSERT_EQ(0, sys_pkey_mprotect(code, size, PROT_EXEC, pkey));
	EXPECT_EQ(pkey, pkey_of(code));
	EXPECT_TRUE(pkey_can(PKEY_READ, code));
	pkru_set_rights(pkey, PKEY_DISABLE_ACCESS);
	EXPECT_FALSE(pkey_can(PKEY_READ, code));
	EXPECT_TRUE(pkey_can(PKEY_EXEC, code));

	/* The kernel has reserved no key. */
	EXPECT_EQ(PKEY_MAX - 1, pkey_take_all(NULL));
}

/* D1, C1: pkey_mprotect() with -1 is mprotect() here too. */
TEST_F(first, by_pkey_mprotect_minus_1)
{
	void *code;

	code = pkey_map_code(PROT_READ | PROT_EXEC);
	ASSERT_TRUE(!!code);
	ASSERT_EQ(0, sys_pkey_mprotect(code, pkey_page_size(), PROT_EXEC, -1));
	EXPECT_LE(1, pkey_of(code));
	EXPECT_FALSE(pkey_can(PKEY_READ, code));
	EXPECT_EQ(PKEY_MAX - 1, pkey_take_all(NULL));
}

/* D1: no key is reserved before there is execute-only memory. */
TEST_F(first, reserves_on_first_use)
{
	void *code;

	ASSERT_TRUE(!!pkey_map_code(PROT_READ | PROT_EXEC));
	EXPECT_EQ(PKEY_MAX, pkey_count_free());
	code = pkey_map_code(PROT_EXEC);
	ASSERT_TRUE(!!code);
	EXPECT_LE(1, pkey_of(code));
	EXPECT_EQ(PKEY_MAX - 1, pkey_count_free());
}

/* D1, H4: the first use disables access alone, whatever the rights were before. */
TEST_F(first, use_disables_access_alone)
{
	unsigned int rights;
	void *code;

	for (rights = 0; rights <= PKEY_RIGHTS_MASK; rights++) {
		IN_CHILD {
			pkru_set_rights(1, rights);
			code = pkey_map_code(PROT_EXEC);
			ASSERT_TRUE(!!code);
			ASSERT_EQ(1, pkey_of(code));
			EXPECT_EQ(PKEY_DISABLE_ACCESS, pkru_get_rights(1));
		}
	}
}

/* D1: a failed mprotect() to PROT_EXEC leaves the mapping readable. */
TEST_F(first, failed_mprotect)
{
	const size_t size = pkey_page_size();
	char *code;

	code = pkey_map_code(PROT_READ);
	ASSERT_TRUE(!!code);
	EXPECT_EQ(-1, sys_mprotect(code + 1, size, PROT_EXEC));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, pkey_of(code));
	EXPECT_TRUE(pkey_can(PKEY_READ, code));
}

/* D2: when no key is left execute-only memory is readable, and no call fails. */
TEST_F(first, without_key_is_readable)
{
	void *by_mprotect, *by_mmap;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	by_mprotect = pkey_map_code(PROT_EXEC);
	by_mmap = map_code_file(PROT_EXEC, MAP_PRIVATE);
	ASSERT_TRUE(!!by_mprotect);
	ASSERT_TRUE(!!by_mmap);

	EXPECT_TRUE(pkey_can(PKEY_EXEC, by_mprotect));
	EXPECT_TRUE(pkey_can(PKEY_READ, by_mprotect));
	EXPECT_TRUE(kernel_can_read(by_mprotect));
	EXPECT_EQ(0, pkey_of(by_mprotect));
	EXPECT_TRUE(pkey_can(PKEY_EXEC, by_mmap));
	EXPECT_TRUE(pkey_can(PKEY_READ, by_mmap));
	EXPECT_TRUE(kernel_can_read(by_mmap));
	EXPECT_EQ(0, pkey_of(by_mmap));
}

/* D2: such memory takes no key from user space, and changes no rights. */
TEST_F(first, without_key_changes_nothing_else)
{
	uint32_t pkru;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	pkru = rdpkru();
	ASSERT_TRUE(!!pkey_map_code(PROT_EXEC));
	ASSERT_TRUE(!!map_code_file(PROT_EXEC, MAP_PRIVATE));
	EXPECT_EQ(pkru, rdpkru());
	EXPECT_EQ(PKEY_MASK_ALL, pkey_attachable_mask());
}

/* D2: a mapping that has a key keeps it when no key is left. */
TEST_F(first, without_key_leaves_user_key)
{
	const size_t size = pkey_page_size();
	void *code = pkey_map_code(PROT_READ | PROT_EXEC);

	ASSERT_TRUE(!!code);
	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	ASSERT_EQ(0, sys_pkey_mprotect(code, size, PROT_READ | PROT_EXEC, 7));
	ASSERT_EQ(0, sys_mprotect(code, size, PROT_EXEC));
	EXPECT_EQ(7, pkey_of(code));
	EXPECT_TRUE(pkey_can(PKEY_READ, code));
	pkru_set_rights(7, PKEY_DISABLE_ACCESS);
	EXPECT_TRUE(pkey_refused(PKEY_READ, code, 7));
}

/* D1, D2: a key that is freed later serves the execute-only memory after it. */
TEST_F(first, when_a_key_was_freed)
{
	const size_t size = pkey_page_size();
	void *code;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	code = pkey_map_code(PROT_EXEC);
	ASSERT_TRUE(!!code);
	ASSERT_TRUE(pkey_can(PKEY_READ, code));

	ASSERT_EQ(0, sys_pkey_free(7));
	ASSERT_EQ(0, sys_mprotect(code, size, PROT_READ));
	ASSERT_EQ(0, sys_mprotect(code, size, PROT_EXEC));
	EXPECT_TRUE(pkey_refused(PKEY_READ, code, 7));
	EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
	EXPECT_EQ(ENOSPC, errno);
	EXPECT_EQ(-1, sys_pkey_free(7));
	EXPECT_EQ(EINVAL, errno);
}

TEST_HARNESS_MAIN
