// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of which freed key pkey_alloc() hands out again on x86. A key that some
 * mapping still carries comes last, and with vm.pkey_reuse_mapped=0 it does not
 * come at all.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/wait.h>

#include "../kselftest_harness.h"
#include "pkey_util.h"

#define MAX_MAPPINGS	"/proc/sys/vm/max_map_count"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif

#ifndef __NR_mseal
#define __NR_mseal	(462 | (__NR_pkey_alloc & ~0xffff))
#endif

/*
 * Each test begins with all keys allocated. KEY is the one that a mapping
 * carries; it is lower than SPARE, which none does, so that KEY would be chosen
 * first if it had no mapping.
 */
#define KEY		7
#define SPARE		11
/* A key that stays allocated. */
#define OTHER		9

/* vm.pkey_reuse_mapped from before the tests; -1 if it cannot be read. */
static int setting_at_start = -1;

static void restore_setting(void)
{
	char value[16];

	if (setting_at_start < 0 || setting_at_start == pkey_read_setting(PKEY_SETTING))
		return;

	snprintf(value, sizeof(value), "%d", setting_at_start);
	pkey_write_setting(PKEY_SETTING, value);
}

/*
 * Part of a mapping of @pages pages is changed by @split, which makes several mappings
 * of it, and each page whose bit is set in @drop is unmapped. What is left is between
 * the pages @keep and @keep + @keep_nr.
 */
struct parts {
	int pages;
	bool (*split)(char *addr, size_t len);
	int first;
	int nr;
	unsigned int drop;
	int keep;
	int keep_nr;
};

/* A mapping, or what is left of one, that carries KEY. */
struct carrier {
	const struct parts *parts;
	char *addr;
	size_t len;
	/* Take the mapping away; munmap() if NULL. */
	bool (*drop)(struct carrier *carrier);
	/* Why this kind of mapping cannot be had here. */
	const char *skip;
};

static bool carrier_drop(struct carrier *carrier)
{
	if (carrier->drop)
		return carrier->drop(carrier);

	return !munmap(carrier->addr, carrier->len);
}

static bool carry(char *addr, size_t len)
{
	return !sys_pkey_mprotect(addr, len, RW, KEY);
}

/* Some pages with KEY and nothing around them that they could merge with. */
static char *map_pages(size_t pages)
{
	return pkey_map_isolated(pages, RW, KEY);
}

static bool make_private(struct carrier *carrier)
{
	carrier->len = pkey_page_size();
	carrier->addr = map_pages(1);
	return !!carrier->addr;
}

static bool make_touched(struct carrier *carrier)
{
	if (!make_private(carrier))
		return false;

	memset(carrier->addr, 1, carrier->len);
	return true;
}

static bool make_fixed_size(struct carrier *carrier, int flags, int fd)
{
	carrier->len = 4 * pkey_page_size();
	carrier->addr = pkey_mmap(NULL, carrier->len, PROT_READ, flags, fd);
	if (!carrier->addr)
		return false;

	return !sys_pkey_mprotect(carrier->addr, carrier->len, PROT_READ, KEY);
}

static bool make_shared(struct carrier *carrier)
{
	return make_fixed_size(carrier, MAP_SHARED | MAP_ANONYMOUS, -1);
}

static bool make_memfd(struct carrier *carrier, int flags)
{
	int fd;

	fd = memfd_create("pkey_reuse_test", 0);
	if (fd < 0 || ftruncate(fd, 4 * pkey_page_size()))
		return false;

	return make_fixed_size(carrier, flags, fd) && !close(fd);
}

static bool make_memfd_shared(struct carrier *carrier)
{
	return make_memfd(carrier, MAP_SHARED);
}

static bool make_memfd_private(struct carrier *carrier)
{
	return make_memfd(carrier, MAP_PRIVATE);
}

static bool make_file_private(struct carrier *carrier)
{
	int fd;

	fd = open("/proc/self/exe", O_RDONLY);
	if (fd < 0)
		return false;

	return make_fixed_size(carrier, MAP_PRIVATE, fd) && !close(fd);
}

static bool drop_shm(struct carrier *carrier)
{
	return !shmdt(carrier->addr);
}

static bool make_shm(struct carrier *carrier)
{
	int id;

	carrier->len = pkey_page_size();
	id = shmget(IPC_PRIVATE, carrier->len, IPC_CREAT | 0600);
	if (id < 0) {
		carrier->skip = "needs System V shared memory";
		return true;
	}

	carrier->addr = shmat(id, NULL, 0);
	carrier->drop = drop_shm;
	return !shmctl(id, IPC_RMID, NULL) && carrier->addr != (void *)-1 &&
	       carry(carrier->addr, carrier->len);
}

static bool drop_heap(struct carrier *carrier)
{
	return sbrk(-(intptr_t)carrier->len) != (void *)-1;
}

static bool make_heap(struct carrier *carrier)
{
	const size_t size = pkey_page_size();
	uintptr_t end = (uintptr_t)sbrk(0);

	carrier->len = size;
	carrier->drop = drop_heap;
	if (sbrk(size - end % size) == (void *)-1)
		return false;

	carrier->addr = sbrk(size);
	return carrier->addr != (void *)-1 && carry(carrier->addr, size);
}

static bool make_prot_none(struct carrier *carrier)
{
	if (!make_touched(carrier))
		return false;

	return !sys_mprotect(carrier->addr, carrier->len, PROT_NONE);
}

/* One call gives the key and PROT_NONE to memory that nobody has touched. */
static bool make_prot_none_at_once(struct carrier *carrier)
{
	carrier->len = pkey_page_size();
	carrier->addr = pkey_map(1, PROT_NONE);
	if (!carrier->addr)
		return false;

	return !sys_pkey_mprotect(carrier->addr, carrier->len, PROT_NONE, KEY);
}

static bool make_grows_down(struct carrier *carrier)
{
	carrier->len = pkey_page_size();
	carrier->addr = pkey_mmap(NULL, carrier->len, RW,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1);
	return carrier->addr && carry(carrier->addr, carrier->len);
}

static bool make_mlocked(struct carrier *carrier)
{
	if (!make_private(carrier))
		return false;

	if (mlock(carrier->addr, carrier->len))
		carrier->skip = "needs the right to lock memory";
	return true;
}

static bool split_by_mlock(char *addr, size_t len)
{
	return !mlock(addr, len);
}

static bool split_by_mprotect(char *addr, size_t len)
{
	return !sys_mprotect(addr, len, PROT_READ);
}

static bool split_by_key(char *addr, size_t len)
{
	return !sys_pkey_mprotect(addr, len, RW, 0);
}

static bool split_by_madvise(char *addr, size_t len)
{
	return !madvise(addr, len, MADV_DONTDUMP);
}

static bool make_parts(struct carrier *carrier)
{
	const struct parts *parts = carrier->parts;
	const size_t size = pkey_page_size();
	char *pages = map_pages(parts->pages);
	int i;

	if (!pages)
		return false;

	if (parts->split && !parts->split(pages + parts->first * size, parts->nr * size))
		carrier->skip = "needs the right to lock memory";
	for (i = 0; i < parts->pages; i++)
		if (parts->drop & 1u << i && munmap(pages + i * size, size))
			return false;

	carrier->addr = pages + parts->keep * size;
	carrier->len = parts->keep_nr * size;
	return true;
}

/* Each page gets the key on its own, the middle one last: one mapping of three. */
static bool make_merged(struct carrier *carrier)
{
	const size_t size = pkey_page_size();
	char *pages = pkey_map_isolated(3, RW, 0);

	carrier->addr = pages;
	carrier->len = 3 * size;
	return pages && carry(pages, size) && carry(pages + 2 * size, size) &&
	       carry(pages + size, size);
}

/* The mapping is split into five and merges again. */
static bool make_split_and_merged(struct carrier *carrier)
{
	const size_t size = pkey_page_size();
	char *pages = map_pages(5);
	int i;

	carrier->addr = pages;
	carrier->len = 5 * size;
	for (i = 1; pages && i < 5; i += 2)
		if (sys_mprotect(pages + i * size, size, PROT_READ))
			return false;

	return pages && !sys_mprotect(pages, 5 * size, RW);
}

static bool make_moved(struct carrier *carrier)
{
	const size_t size = pkey_page_size();
	char *room = pkey_map(2, PROT_NONE);

	if (!room || !make_touched(carrier))
		return false;

	carrier->addr = mremap(carrier->addr, size, size, MREMAP_MAYMOVE | MREMAP_FIXED,
			       room);
	return carrier->addr == room;
}

/* The two pages on the sides stay where they are, and are then unmapped. */
static bool make_moved_middle(struct carrier *carrier)
{
	const size_t size = pkey_page_size();
	char *room = pkey_map(2, PROT_NONE), *pages = map_pages(3);

	if (!room || !pages)
		return false;

	carrier->addr = mremap(pages + size, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, room);
	carrier->len = size;
	return carrier->addr == room && !munmap(pages, 3 * size);
}

static bool make_grown(struct carrier *carrier)
{
	const size_t size = pkey_page_size();
	char *pages = map_pages(4);

	if (!pages || munmap(pages + size, 3 * size))
		return false;

	carrier->addr = mremap(pages, size, 3 * size, 0);
	carrier->len = 3 * size;
	return carrier->addr == pages;
}

/* The mapping has no room to grow, so it moves. */
static bool make_grown_and_moved(struct carrier *carrier)
{
	const size_t size = pkey_page_size();
	char *pages = pkey_map_isolated(2, RW, 0);

	if (!pages || !carry(pages, size))
		return false;

	carrier->addr = mremap(pages, size, 3 * size, MREMAP_MAYMOVE);
	carrier->len = 3 * size;
	return carrier->addr != MAP_FAILED && carrier->addr != pages;
}

static bool make_shrunk(struct carrier *carrier)
{
	const size_t size = pkey_page_size();

	carrier->len = size;
	carrier->addr = map_pages(3);
	return carrier->addr && mremap(carrier->addr, 3 * size, size, 0) == carrier->addr;
}

/* There are two mappings afterwards: the old one, now empty, and the new one. */
static bool make_dontunmap(struct carrier *carrier, bool keep_old)
{
	const size_t size = pkey_page_size();
	char *old, *new;

	old = map_pages(1);
	if (!old)
		return false;

	new = mremap(old, size, size, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);
	if (new == MAP_FAILED) {
		carrier->skip = "needs MREMAP_DONTUNMAP";
		return errno == EINVAL;
	}

	carrier->addr = keep_old ? old : new;
	carrier->len = size;
	return !munmap(keep_old ? new : old, size);
}

static bool make_dontunmap_old(struct carrier *carrier)
{
	return make_dontunmap(carrier, true);
}

static bool make_dontunmap_new(struct carrier *carrier)
{
	return make_dontunmap(carrier, false);
}

/* mremap() of nothing makes a second mapping of shared memory. */
static bool make_duplicated(struct carrier *carrier)
{
	char *first;

	if (!make_shared(carrier))
		return false;

	first = carrier->addr;
	carrier->addr = mremap(first, 0, carrier->len, MREMAP_MAYMOVE);
	return carrier->addr != MAP_FAILED && !munmap(first, carrier->len);
}

static char *align_huge(char *addr)
{
	return (char *)(((uintptr_t)addr + HUGE_SIZE - 1) & ~(HUGE_SIZE - 1));
}

static bool make_huge_page(struct carrier *carrier)
{
	struct pkey_vma vma;
	char *room;

	room = pkey_mmap(NULL, 2 * HUGE_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (!room)
		return false;

	carrier->addr = align_huge(room);
	carrier->len = HUGE_SIZE;
	madvise(carrier->addr, HUGE_SIZE, MADV_HUGEPAGE);
	carrier->addr[0] = 1;
	if (!pkey_find_vma(carrier->addr, &vma) || !vma.anon_huge)
		carrier->skip = "needs transparent huge pages";
	return carry(carrier->addr, HUGE_SIZE);
}

static bool make_part_of_huge_page(struct carrier *carrier)
{
	const size_t size = pkey_page_size();

	if (!make_huge_page(carrier))
		return false;

	if (sys_pkey_mprotect(carrier->addr, HUGE_SIZE, RW, 0))
		return false;

	carrier->addr += 17 * size;
	carrier->len = size;
	return carry(carrier->addr, size);
}

static bool make_hugetlb(struct carrier *carrier)
{
	carrier->len = HUGE_SIZE;
	carrier->addr = pkey_mmap(NULL, HUGE_SIZE, RW,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1);
	if (!carrier->addr) {
		carrier->skip = "needs a huge page in the hugetlb pool";
		return true;
	}
	return carry(carrier->addr, HUGE_SIZE);
}

FIXTURE(carrier)
{
	struct carrier carrier;
};

FIXTURE_VARIANT(carrier)
{
	bool (*make)(struct carrier *carrier);
	/* The argument of make_parts(). */
	struct parts parts;
};

#define CARRIER(_name) FIXTURE_VARIANT_ADD(carrier, _name) { .make = make_##_name }

CARRIER(private);
CARRIER(touched);
CARRIER(shared);
CARRIER(memfd_shared);
CARRIER(memfd_private);
CARRIER(file_private);
CARRIER(shm);
CARRIER(heap);
CARRIER(prot_none);
CARRIER(prot_none_at_once);
CARRIER(grows_down);
CARRIER(mlocked);
CARRIER(merged);
CARRIER(split_and_merged);
CARRIER(moved);
CARRIER(moved_middle);
CARRIER(grown);
CARRIER(grown_and_moved);
CARRIER(shrunk);
CARRIER(dontunmap_old);
CARRIER(dontunmap_new);
CARRIER(duplicated);
CARRIER(huge_page);
CARRIER(part_of_huge_page);
CARRIER(hugetlb);

#define PARTS(_name, ...) \
	FIXTURE_VARIANT_ADD(carrier, _name) { .make = make_parts, .parts = { __VA_ARGS__ } }

/* pages; what changes, from which page, how many; unmapped; left, and how many. */
PARTS(split_by_mlock, 3, split_by_mlock, 1, 1, 0x05, 1, 1);
PARTS(split_by_mprotect, 3, split_by_mprotect, 1, 1, 0x05, 1, 1);
PARTS(split_by_key, 3, split_by_key, 1, 1, 0x01, 2, 1);
PARTS(split_by_madvise, 3, split_by_madvise, 1, 1, 0x06, 0, 1);
PARTS(unmapped_middle, 5, NULL, 0, 0, 0x0e, 0, 5);
PARTS(unmapped_head, 5, NULL, 0, 0, 0x0f, 4, 1);
PARTS(unmapped_tail, 5, NULL, 0, 0, 0x1e, 0, 1);

FIXTURE_SETUP(carrier)
{
	struct carrier *carrier = &self->carrier;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	carrier->parts = &variant->parts;
	ASSERT_TRUE(variant->make(carrier));
	if (carrier->skip)
		SKIP(return, "%s", carrier->skip);

	ASSERT_EQ(KEY, pkey_of(carrier->addr));
	ASSERT_EQ(0, sys_pkey_free(KEY));
}

FIXTURE_TEARDOWN(carrier)
{
}

/* F1, F2: a key that a mapping carries comes after one that none does. */
TEST_F(carrier, key_is_held_back)
{
	int i;

	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, sys_pkey_free(SPARE));
		EXPECT_EQ(SPARE, sys_pkey_alloc(0, 0));
	}
}

/* F1, F2: the key is as good as any other when the mapping is gone. */
TEST_F(carrier, key_is_clean_when_unmapped)
{
	ASSERT_EQ(0, sys_pkey_free(SPARE));
	ASSERT_EQ(SPARE, sys_pkey_alloc(0, 0));
	ASSERT_EQ(0, sys_pkey_free(SPARE));
	ASSERT_TRUE(carrier_drop(&self->carrier));
	EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
	EXPECT_EQ(SPARE, sys_pkey_alloc(0, 0));
	EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
	EXPECT_EQ(ENOSPC, errno);
}

/* F1: the count of the next owner's mappings starts at 0. */
TEST_F(carrier, next_owner_starts_over)
{
	ASSERT_TRUE(carrier_drop(&self->carrier));
	ASSERT_EQ(KEY, sys_pkey_alloc(0, 0));
	self->carrier = (struct carrier){ .parts = &variant->parts };
	ASSERT_TRUE(variant->make(&self->carrier));
	ASSERT_EQ(0, sys_pkey_free(KEY));
	ASSERT_EQ(0, sys_pkey_free(SPARE));
	EXPECT_EQ(SPARE, sys_pkey_alloc(0, 0));
	ASSERT_EQ(0, sys_pkey_free(SPARE));
	ASSERT_TRUE(carrier_drop(&self->carrier));
	EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
}

/* F1, E1: the child's copy of the mapping counts in the child, and there only. */
TEST_F(carrier, child_has_its_own_count)
{
	ASSERT_EQ(0, sys_pkey_free(SPARE));
	IN_CHILD {
		EXPECT_EQ(SPARE, sys_pkey_alloc(0, 0));
		EXPECT_EQ(0, sys_pkey_free(SPARE));
		EXPECT_TRUE(carrier_drop(&self->carrier));
		EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
		EXPECT_EQ(SPARE, sys_pkey_alloc(0, 0));
	}
	EXPECT_EQ(SPARE, sys_pkey_alloc(0, 0));
}

/* F1, E1: what is unmapped here stays in the child, which was there before. */
TEST_F(carrier, child_keeps_what_parent_unmaps)
{
	int fds[2];
	char byte;
	pid_t pid;

	ASSERT_EQ(0, sys_pkey_free(SPARE));
	ASSERT_EQ(0, pipe(fds));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(fds[1]);
		EXPECT_EQ(0, read(fds[0], &byte, 1));
		EXPECT_EQ(SPARE, sys_pkey_alloc(0, 0));
		EXPECT_EQ(0, sys_pkey_free(SPARE));
		EXPECT_TRUE(carrier_drop(&self->carrier));
		EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
		pkey_child_end(_metadata);
	}
	ASSERT_TRUE(carrier_drop(&self->carrier));
	EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
	close(fds[1]);
	EXPECT_CHILD_PASSED(pid);
}

/* F1: a mapping that the child does not get does not count there. */
TEST_F(carrier, dontfork_is_clean_in_child)
{
	/* The ends of a range with a hole are both advised, in spite of ENOMEM. */
	if (madvise(self->carrier.addr, self->carrier.len, MADV_DONTFORK))
		ASSERT_EQ(ENOMEM, errno);
	ASSERT_EQ(0, sys_pkey_free(SPARE));
	IN_CHILD {
		EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
		EXPECT_EQ(SPARE, sys_pkey_alloc(0, 0));
	}
	EXPECT_EQ(SPARE, sys_pkey_alloc(0, 0));
}

/* The ways in which some pages cease to carry KEY. */

static bool leave_munmap(char *pages, size_t len)
{
	return !munmap(pages, len);
}

static bool leave_map_fixed(char *pages, size_t len)
{
	return !!pkey_mmap(pages, len, PROT_READ,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1);
}

static bool leave_map_file_fixed(char *pages, size_t len)
{
	bool done;
	int fd;

	fd = open("/proc/self/exe", O_RDONLY);
	if (fd < 0)
		return false;

	done = pkey_mmap(pages, len, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd);
	close(fd);
	return done;
}

static bool leave_mremap_over(char *pages, size_t len)
{
	char *source = pkey_map(len / pkey_page_size(), RW);

	return source && mremap(source, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, pages) == pages;
}

static bool leave_key_0(char *pages, size_t len)
{
	return !sys_pkey_mprotect(pages, len, RW, 0);
}

static bool leave_other_key(char *pages, size_t len)
{
	return !sys_pkey_mprotect(pages, len, RW, OTHER);
}

static bool leave_other_key_and_prot(char *pages, size_t len)
{
	return !sys_pkey_mprotect(pages, len, PROT_NONE, OTHER);
}

static bool leave_execute_only(char *pages, size_t len)
{
	return !sys_mprotect(pages, len, PROT_EXEC);
}

static bool leave_shmat_over(char *pages, size_t len)
{
	bool done;
	int id;

	id = shmget(IPC_PRIVATE, len, IPC_CREAT | 0600);
	if (id < 0)
		return leave_munmap(pages, len);

	done = shmat(id, pages, SHM_REMAP) == pages;
	return !shmctl(id, IPC_RMID, NULL) && done;
}

FIXTURE(way_out)
{
	char *pages;
	size_t size;
};

FIXTURE_VARIANT(way_out)
{
	bool (*leave)(char *pages, size_t len);
};

#define WAY_OUT(_name) FIXTURE_VARIANT_ADD(way_out, _name) { .leave = leave_##_name }

WAY_OUT(munmap);
WAY_OUT(map_fixed);
WAY_OUT(map_file_fixed);
WAY_OUT(mremap_over);
WAY_OUT(key_0);
WAY_OUT(other_key);
WAY_OUT(other_key_and_prot);
WAY_OUT(execute_only);
WAY_OUT(shmat_over);

FIXTURE_SETUP(way_out)
{
	void *code;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	/* The execute-only key must not be one of those that the tests free. */
	code = pkey_map_code(PROT_EXEC);
	ASSERT_TRUE(!!code);
	ASSERT_EQ(1, pkey_of(code));
	ASSERT_EQ(PKEY_MAX - 1, pkey_take_all(NULL));
	self->size = pkey_page_size();
	self->pages = map_pages(5);
	ASSERT_TRUE(!!self->pages);
	ASSERT_EQ(0, sys_pkey_free(KEY));
	ASSERT_EQ(0, sys_pkey_free(SPARE));
}

FIXTURE_TEARDOWN(way_out)
{
}

/* F1: a mapping that is gone, or has another key, counts no more. */
TEST_F(way_out, makes_key_clean)
{
	ASSERT_EQ(SPARE, sys_pkey_alloc(0, 0));
	ASSERT_EQ(0, sys_pkey_free(SPARE));
	ASSERT_TRUE(variant->leave(self->pages, 5 * self->size));
	EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
	EXPECT_EQ(SPARE, sys_pkey_alloc(0, 0));
}

/* F1: as long as one page is left, at whichever end, the key is mapped. */
TEST_F(way_out, counts_to_the_last_page)
{
	const int order[] = { 2, 0, 4, 1, 3 };
	int i;

	for (i = 0; i < 5; i++) {
		EXPECT_EQ(SPARE, sys_pkey_alloc(0, 0));
		ASSERT_EQ(0, sys_pkey_free(SPARE));
		ASSERT_TRUE(variant->leave(self->pages + order[i] * self->size, self->size));
	}
	EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
	EXPECT_EQ(SPARE, sys_pkey_alloc(0, 0));
}

/* F1: one call takes mappings of different kinds away. */
TEST_F(way_out, takes_several_mappings_at_once)
{
	ASSERT_EQ(0, sys_mprotect(self->pages + self->size, self->size, PROT_READ));
	ASSERT_EQ(0, madvise(self->pages + 3 * self->size, self->size, MADV_DONTDUMP));
	ASSERT_EQ(SPARE, sys_pkey_alloc(0, 0));
	ASSERT_EQ(0, sys_pkey_free(SPARE));
	ASSERT_TRUE(variant->leave(self->pages, 5 * self->size));
	EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
	EXPECT_EQ(SPARE, sys_pkey_alloc(0, 0));
}

/* F1, E1: a mapping that fork() has copied counts no more when the child takes it away. */
TEST_F(way_out, makes_key_clean_in_child)
{
	IN_CHILD {
		EXPECT_TRUE(variant->leave(self->pages, 5 * self->size));
		EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
	}
	EXPECT_EQ(SPARE, sys_pkey_alloc(0, 0));
}

/*
 * Calls that fail, and may have given the key to a part of the range. Each gets
 * three pages with key 0, of which @page stands in the way, and returns errno, or -1 if
 * there is no such failure here.
 */

static int fail_hole(char *pages, size_t size, int page)
{
	munmap(pages + page * size, size);
	return sys_pkey_mprotect(pages, 3 * size, RW, KEY) ? errno : 0;
}

/* A mapping that cannot be made writable. */
static int fail_access(char *pages, size_t size, int page)
{
	int fd;

	fd = open("/proc/self/exe", O_RDONLY);
	if (fd < 0)
		return 0;

	pkey_mmap(pages + page * size, size, PROT_READ, MAP_SHARED | MAP_FIXED, fd);
	close(fd);
	return sys_pkey_mprotect(pages, 3 * size, RW, KEY) ? errno : 0;
}

static int fail_sealed(char *pages, size_t size, int page)
{
	if (syscall(__NR_mseal, pages + page * size, size, 0))
		return -1;

	return sys_pkey_mprotect(pages, 3 * size, RW, KEY) ? errno : 0;
}

static int fail_protection(char *pages, size_t size, int page)
{
	return sys_pkey_mprotect(pages, 3 * size, RW | PROT_GROWSDOWN | PROT_GROWSUP, KEY) ?
	       errno : 0;
}

static int fail_alignment(char *pages, size_t size, int page)
{
	return sys_pkey_mprotect(pages + 1, size, RW, KEY) ? errno : 0;
}

static int fail_growsdown(char *pages, size_t size, int page)
{
	return sys_pkey_mprotect(pages, 3 * size, RW | PROT_GROWSDOWN, KEY) ? errno : 0;
}

static int fail_length(char *pages, size_t size, int page)
{
	return sys_pkey_mprotect(pages, -(uintptr_t)pages, RW, KEY) ? errno : 0;
}

/* More mappings than the default of vm.max_map_count allows. */
#define MANY_MAPPINGS	70000

/* Make so many mappings that no other can be split; return them, or NULL. */
static char *exhaust_mappings(void)
{
	const size_t size = pkey_page_size();
	char *many;
	size_t i;

	many = pkey_mmap(NULL, MANY_MAPPINGS * size, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
	if (!many)
		return NULL;

	for (i = 1; i < MANY_MAPPINGS; i += 2)
		if (sys_mprotect(many + i * size, size, PROT_READ))
			return errno == ENOMEM ? many : NULL;
	return NULL;
}

/* Root can lower the limit, so that fewer mappings have to be made. */
static int fail_to_split_one(char *first, size_t len)
{
	int error = 0;
	char old[16];
	char *many;

	snprintf(old, sizeof(old), "%d", pkey_read_setting(MAX_MAPPINGS));
	pkey_write_setting(MAX_MAPPINGS, "1000");
	many = exhaust_mappings();
	if (many && sys_pkey_mprotect(first, len, RW, KEY))
		error = errno;
	pkey_write_setting(MAX_MAPPINGS, old);
	if (many)
		munmap(many, MANY_MAPPINGS * pkey_page_size());
	return error;
}

static int fail_to_split(char *pages, size_t size, int page)
{
	return fail_to_split_one(pages + size, size);
}

/* The last page needs a split. The first is a mapping of its own. */
static int fail_to_split_last(char *pages, size_t size, int page)
{
	if (madvise(pages, size, MADV_DONTDUMP))
		return 0;

	return fail_to_split_one(pages, 2 * size);
}

FIXTURE(failing)
{
	char *pages;
	size_t size;
};

FIXTURE_VARIANT(failing)
{
	int (*fail)(char *pages, size_t size, int page);
	int page;
	int error;
	/* The call gives the key to a part of the range. */
	bool changes;
	/* Kernels differ in that. */
	bool either;
};

#define FAILING(_name, ...) FIXTURE_VARIANT_ADD(failing, _name) { __VA_ARGS__ }

FAILING(hole_first, fail_hole, 0, ENOMEM);
FAILING(hole_in_the_middle, fail_hole, 1, ENOMEM, .changes = true);
FAILING(hole_last, fail_hole, 2, ENOMEM, .changes = true);
FAILING(access_first, fail_access, 0, EACCES);
FAILING(access_last, fail_access, 2, EACCES, .changes = true);
FAILING(sealed_first, fail_sealed, 0, EPERM);
FAILING(sealed_last, fail_sealed, 2, EPERM, .either = true);
FAILING(protection, fail_protection, 0, EINVAL);
FAILING(alignment, fail_alignment, 0, EINVAL);
FAILING(growsdown, fail_growsdown, 0, EINVAL);
FAILING(length, fail_length, 0, ENOMEM, .either = true);
FAILING(to_split, fail_to_split, 0, ENOMEM);
FAILING(to_split_last, fail_to_split_last, 0, ENOMEM, .changes = true);

FIXTURE_SETUP(failing)
{
	int error;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	self->size = pkey_page_size();
	self->pages = pkey_map_isolated(3, RW, 0);
	ASSERT_TRUE(!!self->pages);
	error = variant->fail(self->pages, self->size, variant->page);
	if (error < 0)
		SKIP(return, "needs mseal()");
	ASSERT_EQ(variant->error, error);
	ASSERT_EQ(0, sys_pkey_free(KEY));
	ASSERT_EQ(0, sys_pkey_free(SPARE));
}

FIXTURE_TEARDOWN(failing)
{
}

/* F1: what such a call has changed counts, and nothing else does. */
TEST_F(failing, counts_what_it_changed)
{
	bool changed = false;
	int i;

	for (i = 0; i < 3; i++)
		changed |= pkey_of(self->pages + i * self->size) == KEY;
	if (!variant->either)
		EXPECT_EQ(variant->changes, changed);
	EXPECT_EQ(changed ? SPARE : KEY, sys_pkey_alloc(0, 0));
}

/* F1: what such a call has changed counts no more when it is unmapped. */
TEST_F(failing, is_clean_when_unmapped)
{
	int i;

	for (i = 0; i < 3; i++)
		if (pkey_of(self->pages + i * self->size) == KEY)
			ASSERT_EQ(0, munmap(self->pages + i * self->size, self->size));
	EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
	EXPECT_EQ(SPARE, sys_pkey_alloc(0, 0));
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

/* F1: a call that cannot do its work leaves the count as it was. */
TEST_F(full, failed_mremap_changes_no_count)
{
	const size_t size = pkey_page_size();
	struct rlimit limit = { .rlim_cur = 1, .rlim_max = RLIM_INFINITY };
	char *page;

	page = map_pages(1);
	ASSERT_TRUE(!!page);
	ASSERT_EQ(0, setrlimit(RLIMIT_AS, &limit));
	EXPECT_TRUE(mremap(page, size, 2 * size, MREMAP_MAYMOVE) == MAP_FAILED);
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_TRUE(mremap(page + size, size, size, MREMAP_MAYMOVE) == MAP_FAILED);
	ASSERT_EQ(0, sys_pkey_free(KEY));
	ASSERT_EQ(0, sys_pkey_free(SPARE));
	EXPECT_EQ(SPARE, sys_pkey_alloc(0, 0));
	ASSERT_EQ(0, sys_pkey_free(SPARE));
	ASSERT_EQ(0, munmap(page, size));
	EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
}

/* F1: munmap() and mlock() leave the count as it was where nothing can be split. */
TEST_F(full, failed_split_changes_no_count)
{
	const size_t size = pkey_page_size();
	char *pages;

	pages = map_pages(3);
	ASSERT_TRUE(!!pages);
	ASSERT_TRUE(!!exhaust_mappings());
	EXPECT_EQ(-1, munmap(pages + size, size));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_EQ(-1, mlock(pages + size, size));
	EXPECT_EQ(-1, sys_pkey_mprotect(pages + size, size, RW, 0));
	EXPECT_EQ(ENOMEM, errno);
	ASSERT_EQ(0, sys_pkey_free(KEY));
	ASSERT_EQ(0, sys_pkey_free(SPARE));
	EXPECT_EQ(SPARE, sys_pkey_alloc(0, 0));
	ASSERT_EQ(0, sys_pkey_free(SPARE));
	ASSERT_EQ(0, munmap(pages, 3 * size));
	EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
}

/* F1: each mapping counts, however many there are of them. */
TEST_F(full, thousand_mappings_count)
{
	const size_t size = pkey_page_size();
	const int nr = 1000;
	char *pages;
	int i;

	/* Use every second page, so that they do not merge. */
	pages = pkey_map_isolated(2 * nr, RW, 0);
	ASSERT_TRUE(!!pages);
	for (i = 0; i < nr; i++)
		ASSERT_TRUE(carry(pages + 2 * i * size, size));
	ASSERT_EQ(0, sys_pkey_free(KEY));
	ASSERT_EQ(0, sys_pkey_free(SPARE));
	for (i = 0; i < nr; i++) {
		ASSERT_EQ(SPARE, sys_pkey_alloc(0, 0));
		ASSERT_EQ(0, sys_pkey_free(SPARE));
		ASSERT_EQ(0, munmap(pages + 2 * i * size, size));
	}
	EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
}

/* F1: a key whose mappings went while it was allocated is clean when it is freed. */
TEST_F(full, key_without_mappings_is_clean_at_once)
{
	const size_t size = pkey_page_size();
	char *page;

	page = map_pages(1);
	ASSERT_TRUE(!!page);
	ASSERT_EQ(0, munmap(page, size));
	ASSERT_EQ(0, sys_pkey_free(KEY));
	ASSERT_EQ(0, sys_pkey_free(SPARE));
	EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
}

FIXTURE(choice)
{
};

FIXTURE_SETUP(choice)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);
}

FIXTURE_TEARDOWN(choice)
{
}

/* F2, A6: keys never used and clean ones by number, then mapped ones by number. */
TEST_F(choice, by_number_and_mapped_last)
{
	const int order[] = { 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 2, 4, 6 };
	const int mapped[] = { 2, 4, 6 }, clean[] = { 3, 5, 8 };
	size_t i, nr;
	int pkey;

	for (pkey = 1; pkey <= 8; pkey++)
		ASSERT_EQ(pkey, sys_pkey_alloc(0, 0));
	for (i = 0; i < ARRAY_SIZE(mapped); i++) {
		ASSERT_TRUE(!!pkey_map_isolated(1, RW, mapped[i]));
		ASSERT_EQ(0, sys_pkey_free(mapped[i]));
	}
	for (i = 0; i < ARRAY_SIZE(clean); i++)
		ASSERT_EQ(0, sys_pkey_free(clean[i]));
	/* With vm.pkey_reuse_mapped=0 the mapped ones do not come. */
	nr = ARRAY_SIZE(order);
	if (pkey_read_setting(PKEY_SETTING) == 0)
		nr -= ARRAY_SIZE(mapped);
	for (i = 0; i < nr; i++)
		EXPECT_EQ(order[i], sys_pkey_alloc(0, 0));
	EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
	EXPECT_EQ(ENOSPC, errno);
}

/* F2: whichever two keys are free, the clean one comes first. */
TEST_F(choice, clean_before_mapped_for_all_pairs)
{
	const size_t size = pkey_page_size();
	int mapped, clean;
	char *page;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	for (mapped = 1; mapped <= PKEY_MAX; mapped++) {
		page = pkey_map_isolated(1, RW, mapped);
		ASSERT_TRUE(!!page);
		ASSERT_EQ(0, sys_pkey_free(mapped));
		for (clean = 1; clean <= PKEY_MAX; clean++) {
			if (clean == mapped)
				continue;
			ASSERT_EQ(0, sys_pkey_free(clean));
			EXPECT_EQ(clean, sys_pkey_alloc(0, 0));
		}
		ASSERT_EQ(0, munmap(page, size));
		ASSERT_EQ(mapped, sys_pkey_alloc(0, 0));
	}
}

/* F2: whichever key is mapped, one that was never used comes first. */
TEST_F(choice, never_used_before_mapped_for_all_keys)
{
	int pkey;

	for (pkey = 1; pkey <= PKEY_MAX; pkey++) {
		EXPECT_EQ(pkey, sys_pkey_alloc(0, 0));
		ASSERT_TRUE(!!pkey_map_isolated(1, RW, pkey));
		ASSERT_EQ(0, sys_pkey_free(pkey));
	}
}

/* A thread that makes one call in each round. The test begins the rounds. */
static struct {
	pthread_t thread;
	pid_t tid;
	void (*call)(void);
	/* How many rounds have begun, and how many have ended. */
	unsigned int begun;
	unsigned int ended;
	bool stop;
} partner;

static void *partner_thread(void *arg)
{
	STORE(partner.tid, pkey_gettid());
	while (!LOAD(partner.stop)) {
		if (LOAD(partner.begun) == partner.ended) {
			sched_yield();
			continue;
		}
		partner.call();
		ADD(partner.ended, 1);
	}
	return NULL;
}

static bool partner_start(void (*call)(void))
{
	partner.call = call;
	if (pthread_create(&partner.thread, NULL, partner_thread, NULL))
		return false;

	while (!LOAD(partner.tid))
		sched_yield();
	return true;
}

static void partner_begin(void)
{
	ADD(partner.begun, 1);
}

static bool partner_has_ended(void)
{
	return LOAD(partner.ended) == partner.begun;
}

static void partner_wait(void)
{
	while (!partner_has_ended())
		sched_yield();
}

static bool partner_stop(void)
{
	STORE(partner.stop, true);
	return !pthread_join(partner.thread, NULL);
}

/*
 * A pkey_mprotect() is seen waiting for mmap_lock. Another thread holds the lock for
 * some milliseconds at a time, so the two meet in a few of so many rounds.
 */
#define NR_HOLDS	400
#define HOLD_PAGES	4096
#define ENOUGH_HOLDS	5

static struct {
	pthread_t holder;
	char *pages;
	/* The partner attaches KEY to it, with the result @error. */
	char *page;
	int error;
	/* In how many rounds was the partner seen waiting? */
	int seen;
	bool stop;
} hold;

static void *hold_mmap_lock(void *arg)
{
	const size_t len = HOLD_PAGES * pkey_page_size();
	int prot = PROT_READ;

	while (!LOAD(hold.stop)) {
		sys_mprotect(hold.pages, len, prot);
		prot ^= PROT_WRITE;
		sched_yield();
	}
	return NULL;
}

static void attach_key(void)
{
	hold.error = sys_pkey_mprotect(hold.page, pkey_page_size(), RW, KEY) ? errno : 0;
}

static bool hold_start(void)
{
	const size_t len = HOLD_PAGES * pkey_page_size();

	hold.page = pkey_map_isolated(1, RW, 0);
	hold.pages = pkey_map(HOLD_PAGES, RW);
	if (!hold.page || !hold.pages)
		return false;

	madvise(hold.pages, len, MADV_NOHUGEPAGE);
	memset(hold.pages, 1, len);
	return !pthread_create(&hold.holder, NULL, hold_mmap_lock, NULL) &&
	       partner_start(attach_key);
}

static bool hold_stop(void)
{
	STORE(hold.stop, true);
	return !pthread_join(hold.holder, NULL) && partner_stop();
}

/*
 * Call @fn while the partner waits for the lock. Return false if the partner was not
 * seen waiting both before and after. It mostly waits once in a round. But with the
 * lock it may have to wait for other locks, of mappings: what is expected holds in
 * most rounds, not in each.
 */
static bool beside_waiter(void (*fn)(int *result), int *result)
{
	bool waited = false;

	partner_begin();
	while (!partner_has_ended()) {
		if (pkey_task_state(partner.tid) != 'D')
			continue;
		hold.seen++;
		fn(result);
		waited = pkey_task_state(partner.tid) == 'D';
		break;
	}
	partner_wait();
	return waited;
}

static void free_two_and_take_one(int *result)
{
	sys_pkey_free(KEY);
	sys_pkey_free(SPARE);
	*result = sys_pkey_alloc(0, 0);
}

/*
 * C3: a pkey_mprotect() that waits for mmap_lock has not happened yet: it does not
 * keep pkey_alloc() from choosing the key as a clean one.
 */
TEST_F(full, waiting_pkey_mprotect_does_not_count)
{
	int i, pkey = 0, found = 0, clean = 0;

	ASSERT_TRUE(hold_start());
	for (i = 0; i < NR_HOLDS && found < ENOUGH_HOLDS; i++) {
		if (beside_waiter(free_two_and_take_one, &pkey)) {
			found++;
			clean += pkey == KEY;
		}
		/* Both are allocated again, whichever came first. */
		sys_pkey_alloc(0, 0);
		sys_pkey_mprotect(hold.page, pkey_page_size(), RW, 0);
	}
	ASSERT_TRUE(hold_stop());
	/* G1: if the calls had waited too, the wait would have been over each time. */
	if (!found && hold.seen < NR_HOLDS / 4)
		SKIP(return, "the race did not happen: pkey_mprotect() was not seen waiting");
	EXPECT_LT(0, found);
	/* What holds in most rounds may not hold in a few. */
	if (found == ENOUGH_HOLDS || hold.seen >= NR_HOLDS / 4)
		EXPECT_LE(found, 2 * clean);
}

static void free_key(int *result)
{
	*result = sys_pkey_free(KEY);
}

/* C3: a key that is freed while the call waits is refused, and no mapping gets it. */
TEST_F(full, key_is_judged_under_mmap_lock)
{
	int i, ret = 0, found = 0, refused = 0;

	ASSERT_TRUE(hold_start());
	for (i = 0; i < NR_HOLDS && found < ENOUGH_HOLDS; i++) {
		if (beside_waiter(free_key, &ret)) {
			found++;
			EXPECT_EQ(0, ret);
			refused += hold.error == EINVAL;
			EXPECT_EQ(hold.error ? 0 : KEY, pkey_of(hold.page));
			EXPECT_TRUE(pkey_state_is(KEY, hold.error ? "clean" : "mapped"));
		}
		sys_pkey_alloc(0, 0);
		sys_pkey_mprotect(hold.page, pkey_page_size(), RW, 0);
	}
	ASSERT_TRUE(hold_stop());
	/* G1: if the calls had waited too, the wait would have been over each time. */
	if (!found && hold.seen < NR_HOLDS / 4)
		SKIP(return, "the race did not happen: pkey_mprotect() was not seen waiting");
	EXPECT_LT(0, found);
	/* What holds in most rounds may not hold in a few. */
	if (found == ENOUGH_HOLDS || hold.seen >= NR_HOLDS / 4)
		EXPECT_LE(found, 2 * refused);
}

/* A thread whose calls of pkey_mprotect() all fail. */
struct refused {
	void *page;
	int error;
	unsigned int calls;
	bool wrong;
	bool stop;
};

static void *attach_in_vain(void *arg)
{
	struct refused *refused = arg;

	while (!LOAD(refused->stop)) {
		if (!sys_pkey_mprotect(refused->page, pkey_page_size(), RW, KEY) ||
		    (errno != refused->error && errno != EINVAL))
			STORE(refused->wrong, true);
		ADD(refused->calls, 1);
	}
	return NULL;
}

/*
 * C3: a pkey_mprotect() that is refused has no effect on what pkey_alloc() chooses, not
 * even while it is under way. It returns EINVAL where the key is free.
 */
static void choose_beside_refused(struct __test_metadata *_metadata, void *page, int error)
{
	struct refused refused = { .page = page, .error = error };
	pthread_t thread;
	int i, pkey = KEY;

	ASSERT_EQ(0, pthread_create(&thread, NULL, attach_in_vain, &refused));
	for (i = 0; pkey == KEY && (i < 2000 || LOAD(refused.calls) < 2000); i++) {
		sys_pkey_free(KEY);
		sys_pkey_free(SPARE);
		pkey = sys_pkey_alloc(0, 0);
		EXPECT_EQ(KEY, pkey);
		sys_pkey_alloc(0, 0);
	}
	STORE(refused.stop, true);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_FALSE(refused.wrong);
}

TEST_F(full, refused_pkey_mprotect_without_mapping)
{
	/* Nothing is ever mapped there. */
	choose_beside_refused(_metadata, (void *)pkey_page_size(), ENOMEM);
}

TEST_F(full, refused_pkey_mprotect_of_read_only_file)
{
	int fd = open("/proc/self/exe", O_RDONLY);
	void *page = pkey_mmap(NULL, pkey_page_size(), PROT_READ, MAP_SHARED, fd);

	ASSERT_TRUE(!!page);
	choose_beside_refused(_metadata, page, EACCES);
}

TEST_F(full, refused_pkey_mprotect_of_sealed_memory)
{
	void *page = pkey_map(1, RW);

	ASSERT_TRUE(!!page);
	if (syscall(__NR_mseal, page, pkey_page_size(), 0))
		SKIP(return, "needs mseal()");

	choose_beside_refused(_metadata, page, EPERM);
}

/* Free the key while pkey_mprotect() attaches it to many mappings. */
#define NR_PARTS	256

/* Free the key a little later in each round, then start over. */
static void free_key_later(void)
{
	static unsigned int spin;

	delay(spin);
	spin = (spin + 193) % 20000;
	sys_pkey_free(KEY);
}

/*
 * C1, C3: the call is refused, and then no mapping is changed, or it succeeds for all
 * mappings, whenever the key is freed.
 */
TEST_F(full, key_freed_meanwhile_goes_to_all_or_none)
{
	const size_t size = pkey_page_size();
	char *parts = pkey_map(NR_PARTS, RW);
	int i, ret, round;

	ASSERT_TRUE(!!parts);
	ASSERT_TRUE(partner_start(free_key_later));
	for (round = 0; round < 200; round++) {
		for (i = 0; i < NR_PARTS; i += 2)
			ASSERT_EQ(0, mprotect(parts + i * size, size, PROT_READ));
		partner_begin();
		ret = sys_pkey_mprotect(parts, NR_PARTS * size, RW, KEY);
		partner_wait();
		EXPECT_TRUE(!ret || errno == EINVAL);
		EXPECT_TRUE(pkey_state_is(KEY, ret ? "clean" : "mapped"));
		EXPECT_EQ(ret ? 0 : KEY, pkey_of(parts + (NR_PARTS - 1) * size));

		ASSERT_EQ(0, sys_pkey_mprotect(parts, NR_PARTS * size, RW, 0));
		ASSERT_EQ(KEY, sys_pkey_alloc(0, 0));
	}
	ASSERT_TRUE(partner_stop());
}

static void take_key_away(void)
{
	sys_pkey_mprotect(hold.pages, HOLD_PAGES * pkey_page_size(), RW, 0);
}

/*
 * F1: a mapping that gets another key counts until its last page has that. KEY
 * and SPARE are free; while KEY counts, SPARE is the one to be had.
 */
TEST_F(full, key_is_held_until_its_last_page_lost_it)
{
	const size_t size = pkey_page_size();
	int i, pkey, early = 0;

	hold.pages = pkey_map_isolated(HOLD_PAGES, RW, 0);
	ASSERT_TRUE(!!hold.pages);
	madvise(hold.pages, HOLD_PAGES * size, MADV_NOHUGEPAGE);
	memset(hold.pages, 1, HOLD_PAGES * size);
	ASSERT_TRUE(partner_start(take_key_away));

	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, sys_pkey_mprotect(hold.pages, HOLD_PAGES * size, RW, KEY));
		ASSERT_EQ(0, sys_pkey_free(KEY));
		ASSERT_EQ(0, sys_pkey_free(SPARE));
		partner_begin();
		for (;;) {
			pkey = sys_pkey_alloc(0, PKEY_DISABLE_ACCESS);
			if (pkey == KEY)
				break;
			ASSERT_EQ(SPARE, pkey);
			ASSERT_EQ(0, sys_pkey_free(SPARE));
		}
		if (!pkey_can(PKEY_READ, hold.pages + (HOLD_PAGES - 1) * size))
			early++;
		partner_wait();
		ASSERT_EQ(SPARE, sys_pkey_alloc(0, 0));
	}
	ASSERT_TRUE(partner_stop());
	EXPECT_EQ(0, early);
}

/* A page that carries KEY until the partner gives it the key OTHER. */
static struct {
	char *page;
	int reads;
	sigjmp_buf env;
} stale;

/* Give the page its other key a little later in each round, then start over. */
static void give_other_key_later(void)
{
	static unsigned int spin;
	unsigned int i;

	for (i = 0; i < spin; i++)
		asm volatile("");
	spin = (spin + 7) % 250;
	sys_pkey_mprotect(stale.page, pkey_page_size(), RW, OTHER);
}

static void on_refused_read(ucontext_t *ucontext)
{
	siglongjmp(stale.env, 1);
}

/* Take KEY as soon as it can be had, and read the page at once. */
static void read_page_of_former_owner(void)
{
	if (sigsetjmp(stale.env, 0))
		return;

	while (sys_pkey_alloc(0, 0) == SPARE)
		sys_pkey_free(SPARE);
	LOAD(*stale.page);
	stale.reads++;
}

/*
 * F1: when KEY is handed out, no TLB has the page with KEY any more. The new owner's
 * PKRU does not change, because QEMU flushes the TLB when PKRU is written.
 */
TEST_F_TIMEOUT(full, key_is_held_until_the_tlb_is_flushed, 120)
{
	const uint32_t pkru = pkru_with_rights(0, OTHER, PKEY_DISABLE_ACCESS);
	const size_t size = pkey_page_size();
	int round;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "needs two processors");

	stale.page = pkey_map(1, RW);
	ASSERT_TRUE(!!stale.page);
	ASSERT_TRUE(pkey_handle_signal(SIGSEGV, 0, on_refused_read));
	ASSERT_TRUE(partner_start(give_other_key_later));
	for (round = 0; round < 10000; round++) {
		ASSERT_EQ(0, sys_pkey_mprotect(stale.page, size, RW, KEY));
		ASSERT_EQ(0, sys_pkey_free(KEY));
		ASSERT_EQ(0, sys_pkey_free(SPARE));
		wrpkru(pkru);
		LOAD(*stale.page);
		partner_begin();
		read_page_of_former_owner();
		wrpkru(pkru);
		partner_wait();
		ASSERT_EQ(SPARE, sys_pkey_alloc(0, 0));
	}
	ASSERT_TRUE(partner_stop());
	EXPECT_EQ(0, stale.reads);
}

FIXTURE(setting)
{
	char *page;
	size_t size;
};

FIXTURE_VARIANT(setting)
{
	const char *value;
	bool reuse;
};

FIXTURE_VARIANT_ADD(setting, 0) { .value = "0", .reuse = false };
FIXTURE_VARIANT_ADD(setting, 1) { .value = "1", .reuse = true };

/* KEY is free and mapped, all others are allocated. */
FIXTURE_SETUP(setting)
{
	int err;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(0, access(PKEY_SETTING, F_OK));
	err = pkey_write_setting(PKEY_SETTING, variant->value);
	if (err == EACCES || err == EPERM || err == EROFS)
		SKIP(return, "needs the right to write " PKEY_SETTING);
	ASSERT_EQ(0, err);
	ASSERT_EQ(atoi(variant->value), pkey_read_setting(PKEY_SETTING));

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	self->size = pkey_page_size();
	self->page = map_pages(1);
	ASSERT_TRUE(!!self->page);
	ASSERT_EQ(0, sys_pkey_free(KEY));
}

FIXTURE_TEARDOWN(setting)
{
	restore_setting();
}

/* F3: the last key, which a mapping carries, is handed out with 1 and not with 0. */
TEST_F(setting, decides_over_mapped_key)
{
	if (variant->reuse) {
		EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
	} else {
		EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
		EXPECT_EQ(ENOSPC, errno);
	}
}

/* F3, A5: rights are as asked for on success and as they were on failure. */
TEST_F(setting, keeps_to_rights)
{
	uint32_t expected;
	size_t p;
	int pkey;

	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		wrpkru(pkru_patterns[p]);
		pkey = sys_pkey_alloc(0, p & PKEY_RIGHTS_MASK);
		expected = pkru_patterns[p];
		if (variant->reuse)
			expected = pkru_with_rights(expected, KEY, p & PKEY_RIGHTS_MASK);
		EXPECT_EQ(expected, rdpkru());
		wrpkru(0);
		if (pkey > 0)
			ASSERT_EQ(0, sys_pkey_free(pkey));
	}
}

/* F3: a clean key is handed out with 0 and with 1. */
TEST_F(setting, gives_key_when_clean)
{
	ASSERT_EQ(0, munmap(self->page, self->size));
	EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
	EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
	EXPECT_EQ(ENOSPC, errno);
}

/* F3: a refused call does not spoil the key for later. */
TEST_F(setting, refusal_is_not_for_ever)
{
	int i;

	if (variant->reuse)
		SKIP(return, "needs vm.pkey_reuse_mapped=0");

	for (i = 0; i < 3; i++) {
		EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
		EXPECT_EQ(ENOSPC, errno);
	}
	ASSERT_EQ(0, sys_pkey_mprotect(self->page, self->size, RW, 0));
	EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
}

/* F2, F3: other keys that are clean are handed out with 0 and with 1. */
TEST_F(setting, leaves_other_keys_alone)
{
	ASSERT_EQ(0, sys_pkey_free(SPARE));
	ASSERT_EQ(0, sys_pkey_free(OTHER));
	EXPECT_EQ(OTHER, sys_pkey_alloc(0, 0));
	EXPECT_EQ(SPARE, sys_pkey_alloc(0, 0));
}

/* F3: the mapped keys are counted by all mappings that are left of them. */
TEST_F(setting, several_mapped_keys)
{
	char *second;

	second = pkey_map_isolated(1, RW, OTHER);
	ASSERT_TRUE(!!second);
	ASSERT_EQ(0, sys_pkey_free(OTHER));
	if (variant->reuse) {
		EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
		EXPECT_EQ(OTHER, sys_pkey_alloc(0, 0));
		return;
	}
	EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
	EXPECT_EQ(ENOSPC, errno);
	ASSERT_EQ(0, munmap(second, self->size));
	EXPECT_EQ(OTHER, sys_pkey_alloc(0, 0));
	EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
	EXPECT_EQ(ENOSPC, errno);
}

/* F3: each call looks at the setting. */
TEST_F(setting, takes_effect_at_once)
{
	ASSERT_EQ(0, pkey_write_setting(PKEY_SETTING, variant->reuse ? "0" : "1"));
	EXPECT_EQ(variant->reuse ? -1 : KEY, sys_pkey_alloc(0, 0));
	ASSERT_EQ(0, pkey_write_setting(PKEY_SETTING, variant->value));
	if (!variant->reuse)
		ASSERT_EQ(0, sys_pkey_free(KEY));
	EXPECT_EQ(variant->reuse ? KEY : -1, sys_pkey_alloc(0, 0));
}

/* F3: other values are refused. */
TEST_F(setting, has_two_values)
{
	const char *const values[] = { "2", "-1", "4294967297", "x", "-2147483648" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		EXPECT_EQ(EINVAL, pkey_write_setting(PKEY_SETTING, values[i]));
		EXPECT_EQ(atoi(variant->value), pkey_read_setting(PKEY_SETTING));
	}
}

/* F3: only root changes it. */
TEST_F(setting, is_for_root)
{
	int dir;

	dir = open("/proc/sys/vm", O_PATH);
	ASSERT_LE(0, dir);
	IN_CHILD {
		EXPECT_EQ(0, setresuid(65534, 65534, 65534));
		EXPECT_LE(0, openat(dir, "pkey_reuse_mapped", O_RDONLY));
		EXPECT_EQ(-1, openat(dir, "pkey_reuse_mapped", O_WRONLY));
		EXPECT_EQ(EACCES, errno);
	}
}

/* F3, D2: a mapped key does not become the execute-only key. */
TEST_F(setting, execute_only_takes_no_mapped_key)
{
	void *code;

	code = pkey_map_code(PROT_EXEC);
	ASSERT_TRUE(!!code);
	EXPECT_EQ(0, pkey_of(code));
	EXPECT_TRUE(pkey_can(PKEY_READ, code));
	EXPECT_TRUE(pkey_can(PKEY_EXEC, code));
	/* The kernel has not reserved the key. */
	ASSERT_EQ(0, munmap(self->page, self->size));
	EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
}

/* F3, D2: mprotect() does not reserve the mapped key that its memory carries. */
TEST_F(setting, execute_only_takes_no_key_of_its_own)
{
	ASSERT_EQ(0, sys_mprotect(self->page, self->size, PROT_EXEC));
	EXPECT_EQ(KEY, pkey_of(self->page));
	ASSERT_EQ(0, sys_pkey_free(SPARE));
	ASSERT_EQ(0, sys_mprotect(self->page, self->size, PROT_EXEC));
	EXPECT_EQ(SPARE, pkey_of(self->page));
	EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
}

/* F2, F3, D1: a clean key becomes the execute-only key. */
TEST_F(setting, execute_only_takes_clean_key)
{
	void *code;

	ASSERT_EQ(0, sys_pkey_free(SPARE));
	code = pkey_map_code(PROT_EXEC);
	ASSERT_TRUE(!!code);
	EXPECT_EQ(SPARE, pkey_of(code));
	EXPECT_TRUE(pkey_refused(PKEY_READ, code, SPARE));
	EXPECT_TRUE(pkey_can(PKEY_EXEC, code));
	EXPECT_EQ(-1, sys_pkey_free(SPARE));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(variant->reuse ? KEY : -1, sys_pkey_alloc(0, 0));
}

/* F3, E1: the same holds in the child of a process whose keys are mapped. */
TEST_F(setting, decides_in_child)
{
	IN_CHILD {
		EXPECT_EQ(variant->reuse ? KEY : -1, sys_pkey_alloc(0, 0));
		if (variant->reuse)
			EXPECT_EQ(0, sys_pkey_free(KEY));
		EXPECT_EQ(0, munmap(self->page, self->size));
		EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
	}
	EXPECT_EQ(variant->reuse ? KEY : -1, sys_pkey_alloc(0, 0));
}

/* A thread with rights to KEY, which looks at its PKRU when it is told. */
struct looker {
	pthread_barrier_t barrier;
	uint32_t pkru_before;
	uint32_t pkru_after;
};

static void *look_at_pkru(void *arg)
{
	struct looker *looker = arg;

	looker->pkru_before = rdpkru();
	pthread_barrier_wait(&looker->barrier);
	pthread_barrier_wait(&looker->barrier);
	looker->pkru_after = rdpkru();
	return NULL;
}

/* F3: when a mapped key is handed out other threads keep their rights. */
TEST_F(setting, last_resort_takes_no_rights)
{
	struct looker looker = {};
	pthread_t thread;

	if (!variant->reuse)
		SKIP(return, "needs vm.pkey_reuse_mapped=1");

	ASSERT_EQ(0, pthread_barrier_init(&looker.barrier, NULL, 2));
	ASSERT_EQ(0, pthread_create(&thread, NULL, look_at_pkru, &looker));
	pthread_barrier_wait(&looker.barrier);
	EXPECT_EQ(KEY, sys_pkey_alloc(0, PKEY_DISABLE_ACCESS));
	pthread_barrier_wait(&looker.barrier);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(looker.pkru_before, looker.pkru_after);
	EXPECT_EQ(0, looker.pkru_after >> 2 * KEY & PKEY_RIGHTS_MASK);
	/* The new owner's rights apply to it. */
	EXPECT_EQ(KEY, pkey_of(self->page));
	EXPECT_TRUE(pkey_refused(PKEY_READ, self->page, KEY));
	pkru_set_rights(KEY, 0);
	EXPECT_TRUE(pkey_can(PKEY_WRITE, self->page));
}

/* F2, F3: a mapped key that is handed out and freed is mapped again. */
TEST_F(setting, last_resort_stays_last)
{
	if (!variant->reuse)
		SKIP(return, "needs vm.pkey_reuse_mapped=1");

	ASSERT_EQ(KEY, sys_pkey_alloc(0, 0));
	ASSERT_EQ(0, sys_pkey_free(KEY));
	ASSERT_EQ(0, sys_pkey_free(SPARE));
	EXPECT_EQ(SPARE, sys_pkey_alloc(0, 0));
	EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
	ASSERT_EQ(0, sys_pkey_free(KEY));
	ASSERT_EQ(0, sys_pkey_free(SPARE));
	ASSERT_EQ(0, munmap(self->page, self->size));
	EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
}

int main(int argc, char **argv)
{
	setting_at_start = pkey_read_setting(PKEY_SETTING);
	/* A test that ran out of time has not restored the setting. */
	atexit(restore_setting);
	return test_harness_run(argc, argv);
}
