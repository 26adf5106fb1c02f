// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of which freed key pkey_alloc() hands out again on x86: not one that
 * some mapping still carries, while there is any other, and with
 * vm.pkey_reuse_mapped 0 not at all.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/wait.h>

#include "../kselftest_harness.h"
#include "pkey_util.h"

#define RW		(PROT_READ | PROT_WRITE)

#define HUGE_SIZE	(2UL << 20)

#define SETTING		"/proc/sys/vm/pkey_reuse_mapped"
#define MAX_MAPPINGS	"/proc/sys/vm/max_map_count"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif

#ifndef __NR_mseal
#define __NR_mseal	(462 | (__NR_pkey_alloc & ~0xffff))
#endif

/*
 * Each test begins with all keys allocated. KEY is the one that a mapping
 * carries; it is lower than SPARE, which none does, so that nothing but the
 * mapping speaks against KEY when both are free.
 */
#define KEY		7
#define SPARE		11
/* One that stays allocated. */
#define OTHER		9

/* What vm.pkey_reuse_mapped was before the tests; -1 if it cannot be read. */
static int setting_at_start = -1;

static int read_setting(const char *path)
{
	int value = -1;
	FILE *file;

	file = fopen(path, "r");
	if (!file)
		return -1;

	if (fscanf(file, "%d", &value) != 1)
		value = -1;
	fclose(file);
	return value;
}

/* Gives 0 or errno. */
static int write_setting(const char *path, const char *value)
{
	int fd, err = 0;

	fd = open(path, O_WRONLY);
	if (fd < 0)
		return errno;

	if (write(fd, value, strlen(value)) < 0)
		err = errno;
	close(fd);
	return err;
}

static void restore_setting(void)
{
	char value[16];

	if (setting_at_start < 0 || setting_at_start == read_setting(SETTING))
		return;

	snprintf(value, sizeof(value), "%d", setting_at_start);
	write_setting(SETTING, value);
}

static int wait_for(pid_t pid)
{
	int status;

	return waitpid(pid, &status, __WALL) == pid ? status : -1;
}

/* A mapping, or what is left of one, that carries KEY. */
struct carrier {
	char *addr;
	size_t len;
	/* Takes the mapping away; munmap() if NULL. */
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
static char *map_pages_with(int pkey, size_t pages)
{
	const size_t size = pkey_page_size();
	char *around;

	around = pkey_map(pages + 2, PROT_NONE);
	if (!around || sys_pkey_mprotect(around + size, pages * size, RW, pkey))
		return NULL;

	munmap(around, size);
	munmap(around + (pages + 1) * size, size);
	return around + size;
}

static char *map_pages(size_t pages)
{
	return map_pages_with(KEY, pages);
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
		carrier->skip = "no System V shared memory";
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

/* As above, but with one call, and never touched. */
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
		carrier->skip = "cannot lock memory";
	return true;
}

/* One page is locked: three mappings of one. The middle one is left. */
static bool make_split_by_mlock(struct carrier *carrier)
{
	const size_t size = pkey_page_size();
	char *pages = map_pages(3);

	if (!pages)
		return false;

	if (mlock(pages + size, size))
		carrier->skip = "cannot lock memory";
	carrier->addr = pages + size;
	carrier->len = size;
	return !munmap(pages, size) && !munmap(pages + 2 * size, size);
}

static bool make_split_by_mprotect(struct carrier *carrier)
{
	const size_t size = pkey_page_size();
	char *pages = map_pages(3);

	if (!pages || sys_mprotect(pages + size, size, PROT_READ))
		return false;

	carrier->addr = pages + size;
	carrier->len = size;
	return !munmap(pages, size) && !munmap(pages + 2 * size, size);
}

/* The middle gets key 0 back: the first and the last page are mappings. */
static bool make_split_by_key(struct carrier *carrier)
{
	const size_t size = pkey_page_size();
	char *pages = map_pages(3);

	if (!pages || sys_pkey_mprotect(pages + size, size, RW, 0))
		return false;

	carrier->addr = pages + 2 * size;
	carrier->len = size;
	return !munmap(pages, size);
}

static bool make_split_by_madvise(struct carrier *carrier)
{
	const size_t size = pkey_page_size();
	char *pages = map_pages(3);

	if (!pages || madvise(pages + size, size, MADV_DONTDUMP))
		return false;

	carrier->addr = pages;
	carrier->len = size;
	return !munmap(pages + size, 2 * size);
}

static bool make_unmapped_middle(struct carrier *carrier)
{
	const size_t size = pkey_page_size();
	char *pages = map_pages(5);

	if (!pages || munmap(pages + size, 3 * size))
		return false;

	carrier->addr = pages;
	carrier->len = 5 * size;
	return true;
}

static bool make_unmapped_head(struct carrier *carrier)
{
	const size_t size = pkey_page_size();
	char *pages = map_pages(5);

	carrier->addr = pages + 4 * size;
	carrier->len = size;
	return pages && !munmap(pages, 4 * size);
}

static bool make_unmapped_tail(struct carrier *carrier)
{
	const size_t size = pkey_page_size();

	carrier->len = size;
	carrier->addr = map_pages(5);
	return carrier->addr && !munmap(carrier->addr + size, 4 * size);
}

/* Each page gets the key on its own, the middle one last: one mapping of three. */
static bool make_merged(struct carrier *carrier)
{
	const size_t size = pkey_page_size();
	char *pages = map_pages_with(0, 3);

	carrier->addr = pages;
	carrier->len = 3 * size;
	return pages && carry(pages, size) && carry(pages + 2 * size, size) &&
	       carry(pages + size, size);
}

/* Split into five and put together again. */
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

/* There is no room, so that it moves. */
static bool make_grown_and_moved(struct carrier *carrier)
{
	const size_t size = pkey_page_size();
	char *pages = map_pages_with(0, 2);

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

/* Two mappings afterwards: the old one, now empty, and the new one. */
static bool make_dontunmap(struct carrier *carrier, bool keep_old)
{
	const size_t size = pkey_page_size();
	char *old, *new;

	old = map_pages(1);
	if (!old)
		return false;

	new = mremap(old, size, size, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);
	if (new == MAP_FAILED) {
		carrier->skip = "no MREMAP_DONTUNMAP";
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
		carrier->skip = "no transparent huge page";
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
		carrier->skip = "no hugetlb page";
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
};

FIXTURE_VARIANT_ADD(carrier, private) {
	.make = make_private,
};

FIXTURE_VARIANT_ADD(carrier, touched) {
	.make = make_touched,
};

FIXTURE_VARIANT_ADD(carrier, shared) {
	.make = make_shared,
};

FIXTURE_VARIANT_ADD(carrier, memfd_shared) {
	.make = make_memfd_shared,
};

FIXTURE_VARIANT_ADD(carrier, memfd_private) {
	.make = make_memfd_private,
};

FIXTURE_VARIANT_ADD(carrier, file_private) {
	.make = make_file_private,
};

FIXTURE_VARIANT_ADD(carrier, shm) {
	.make = make_shm,
};

FIXTURE_VARIANT_ADD(carrier, heap) {
	.make = make_heap,
};

FIXTURE_VARIANT_ADD(carrier, prot_none) {
	.make = make_prot_none,
};

FIXTURE_VARIANT_ADD(carrier, prot_none_at_once) {
	.make = make_prot_none_at_once,
};

FIXTURE_VARIANT_ADD(carrier, grows_down) {
	.make = make_grows_down,
};

FIXTURE_VARIANT_ADD(carrier, mlocked) {
	.make = make_mlocked,
};

FIXTURE_VARIANT_ADD(carrier, split_by_mlock) {
	.make = make_split_by_mlock,
};

FIXTURE_VARIANT_ADD(carrier, split_by_mprotect) {
	.make = make_split_by_mprotect,
};

FIXTURE_VARIANT_ADD(carrier, split_by_key) {
	.make = make_split_by_key,
};

FIXTURE_VARIANT_ADD(carrier, split_by_madvise) {
	.make = make_split_by_madvise,
};

FIXTURE_VARIANT_ADD(carrier, unmapped_middle) {
	.make = make_unmapped_middle,
};

FIXTURE_VARIANT_ADD(carrier, unmapped_head) {
	.make = make_unmapped_head,
};

FIXTURE_VARIANT_ADD(carrier, unmapped_tail) {
	.make = make_unmapped_tail,
};

FIXTURE_VARIANT_ADD(carrier, merged) {
	.make = make_merged,
};

FIXTURE_VARIANT_ADD(carrier, split_and_merged) {
	.make = make_split_and_merged,
};

FIXTURE_VARIANT_ADD(carrier, moved) {
	.make = make_moved,
};

FIXTURE_VARIANT_ADD(carrier, moved_middle) {
	.make = make_moved_middle,
};

FIXTURE_VARIANT_ADD(carrier, grown) {
	.make = make_grown,
};

FIXTURE_VARIANT_ADD(carrier, grown_and_moved) {
	.make = make_grown_and_moved,
};

FIXTURE_VARIANT_ADD(carrier, shrunk) {
	.make = make_shrunk,
};

FIXTURE_VARIANT_ADD(carrier, dontunmap_old) {
	.make = make_dontunmap_old,
};

FIXTURE_VARIANT_ADD(carrier, dontunmap_new) {
	.make = make_dontunmap_new,
};

FIXTURE_VARIANT_ADD(carrier, duplicated) {
	.make = make_duplicated,
};

FIXTURE_VARIANT_ADD(carrier, huge_page) {
	.make = make_huge_page,
};

FIXTURE_VARIANT_ADD(carrier, part_of_huge_page) {
	.make = make_part_of_huge_page,
};

FIXTURE_VARIANT_ADD(carrier, hugetlb) {
	.make = make_hugetlb,
};

FIXTURE_SETUP(carrier)
{
	struct carrier *carrier = &self->carrier;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
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

/* F1, F2: and is as good as any other when the mapping is gone. */
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

/* F1: nothing is left over of it for the next owner's mappings. */
TEST_F(carrier, next_owner_starts_over)
{
	ASSERT_TRUE(carrier_drop(&self->carrier));
	ASSERT_EQ(KEY, sys_pkey_alloc(0, 0));
	memset(&self->carrier, 0, sizeof(self->carrier));
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
	pid_t pid;

	ASSERT_EQ(0, sys_pkey_free(SPARE));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		EXPECT_EQ(SPARE, sys_pkey_alloc(0, 0));
		EXPECT_EQ(0, sys_pkey_free(SPARE));
		EXPECT_TRUE(carrier_drop(&self->carrier));
		EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
		EXPECT_EQ(SPARE, sys_pkey_alloc(0, 0));
		_exit(0);
	}
	EXPECT_EQ(0, wait_for(pid));
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
		_exit(0);
	}
	ASSERT_TRUE(carrier_drop(&self->carrier));
	EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
	close(fds[1]);
	EXPECT_EQ(0, wait_for(pid));
}

/* F1: a mapping that the child does not get does not count there. */
TEST_F(carrier, dontfork_is_clean_in_child)
{
	pid_t pid;

	/* The ends of a range with a hole are both advised, in spite of ENOMEM. */
	if (madvise(self->carrier.addr, self->carrier.len, MADV_DONTFORK))
		ASSERT_EQ(ENOMEM, errno);
	ASSERT_EQ(0, sys_pkey_free(SPARE));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
		EXPECT_EQ(SPARE, sys_pkey_alloc(0, 0));
		_exit(0);
	}
	EXPECT_EQ(0, wait_for(pid));
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

FIXTURE_VARIANT_ADD(way_out, munmap) {
	.leave = leave_munmap,
};

FIXTURE_VARIANT_ADD(way_out, map_fixed) {
	.leave = leave_map_fixed,
};

FIXTURE_VARIANT_ADD(way_out, map_file_fixed) {
	.leave = leave_map_file_fixed,
};

FIXTURE_VARIANT_ADD(way_out, mremap_over) {
	.leave = leave_mremap_over,
};

FIXTURE_VARIANT_ADD(way_out, key_0) {
	.leave = leave_key_0,
};

FIXTURE_VARIANT_ADD(way_out, other_key) {
	.leave = leave_other_key,
};

FIXTURE_VARIANT_ADD(way_out, other_key_and_prot) {
	.leave = leave_other_key_and_prot,
};

FIXTURE_VARIANT_ADD(way_out, execute_only) {
	.leave = leave_execute_only,
};

FIXTURE_VARIANT_ADD(way_out, shmat_over) {
	.leave = leave_shmat_over,
};

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

/* F1: one call for mappings of different kinds. */
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

/* F1, E1: also what fork() has copied, in the child. */
TEST_F(way_out, makes_key_clean_in_child)
{
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		EXPECT_TRUE(variant->leave(self->pages, 5 * self->size));
		EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
		_exit(0);
	}
	EXPECT_EQ(0, wait_for(pid));
	EXPECT_EQ(SPARE, sys_pkey_alloc(0, 0));
}

/*
 * Calls that fail, and may have given the key to a part of the range. Each gets
 * three pages with key 0 and gives errno, or -1 if there is no such failure here.
 */

static int fail_hole_first(char *pages, size_t size)
{
	munmap(pages, size);
	return sys_pkey_mprotect(pages, 3 * size, RW, KEY) ? errno : 0;
}

static int fail_hole_in_the_middle(char *pages, size_t size)
{
	munmap(pages + size, size);
	return sys_pkey_mprotect(pages, 3 * size, RW, KEY) ? errno : 0;
}

static int fail_hole_last(char *pages, size_t size)
{
	munmap(pages + 2 * size, size);
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

static int fail_access_first(char *pages, size_t size)
{
	return fail_access(pages, size, 0);
}

static int fail_access_last(char *pages, size_t size)
{
	return fail_access(pages, size, 2);
}

static int fail_sealed(char *pages, size_t size, int page)
{
	if (syscall(__NR_mseal, pages + page * size, size, 0))
		return -1;

	return sys_pkey_mprotect(pages, 3 * size, RW, KEY) ? errno : 0;
}

static int fail_sealed_first(char *pages, size_t size)
{
	return fail_sealed(pages, size, 0);
}

static int fail_sealed_last(char *pages, size_t size)
{
	return fail_sealed(pages, size, 2);
}

static int fail_protection(char *pages, size_t size)
{
	return sys_pkey_mprotect(pages, 3 * size, RW | PROT_GROWSDOWN | PROT_GROWSUP, KEY) ?
	       errno : 0;
}

static int fail_alignment(char *pages, size_t size)
{
	return sys_pkey_mprotect(pages + 1, size, RW, KEY) ? errno : 0;
}

static int fail_growsdown(char *pages, size_t size)
{
	return sys_pkey_mprotect(pages, 3 * size, RW | PROT_GROWSDOWN, KEY) ? errno : 0;
}

static int fail_length(char *pages, size_t size)
{
	return sys_pkey_mprotect(pages, -(uintptr_t)pages, RW, KEY) ? errno : 0;
}

/* More mappings than the default of vm.max_map_count allows. */
#define MANY_MAPPINGS	70000

/* Makes so many mappings that no other can be split; gives them, or NULL. */
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

/* Fewer mappings are made more quickly; for root only, the test needs it not. */
static int fail_to_split_one(char *first, size_t len)
{
	int error = 0;
	char old[16];
	char *many;

	snprintf(old, sizeof(old), "%d", read_setting(MAX_MAPPINGS));
	write_setting(MAX_MAPPINGS, "1000");
	many = exhaust_mappings();
	if (many && sys_pkey_mprotect(first, len, RW, KEY))
		error = errno;
	write_setting(MAX_MAPPINGS, old);
	if (many)
		munmap(many, MANY_MAPPINGS * pkey_page_size());
	return error;
}

static int fail_to_split(char *pages, size_t size)
{
	return fail_to_split_one(pages + size, size);
}

/* The last page needs a split, the first is a mapping of its own. */
static int fail_to_split_last(char *pages, size_t size)
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
	int (*fail)(char *pages, size_t size);
	int error;
	/* If it is not the same on all kernels this is not looked at. */
	bool either;
	bool changes_something;
};

FIXTURE_VARIANT_ADD(failing, hole_first) {
	.fail = fail_hole_first,
	.error = ENOMEM,
};

FIXTURE_VARIANT_ADD(failing, hole_in_the_middle) {
	.fail = fail_hole_in_the_middle,
	.error = ENOMEM,
	.changes_something = true,
};

FIXTURE_VARIANT_ADD(failing, hole_last) {
	.fail = fail_hole_last,
	.error = ENOMEM,
	.changes_something = true,
};

FIXTURE_VARIANT_ADD(failing, access_first) {
	.fail = fail_access_first,
	.error = EACCES,
};

FIXTURE_VARIANT_ADD(failing, access_last) {
	.fail = fail_access_last,
	.error = EACCES,
	.changes_something = true,
};

FIXTURE_VARIANT_ADD(failing, sealed_first) {
	.fail = fail_sealed_first,
	.error = EPERM,
};

FIXTURE_VARIANT_ADD(failing, sealed_last) {
	.fail = fail_sealed_last,
	.error = EPERM,
	.either = true,
};

FIXTURE_VARIANT_ADD(failing, protection) {
	.fail = fail_protection,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failing, alignment) {
	.fail = fail_alignment,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failing, growsdown) {
	.fail = fail_growsdown,
	.error = EINVAL,
};

FIXTURE_VARIANT_ADD(failing, length) {
	.fail = fail_length,
	.error = ENOMEM,
	.either = true,
};

FIXTURE_VARIANT_ADD(failing, to_split) {
	.fail = fail_to_split,
	.error = ENOMEM,
};

FIXTURE_VARIANT_ADD(failing, to_split_last) {
	.fail = fail_to_split_last,
	.error = ENOMEM,
	.changes_something = true,
};

FIXTURE_SETUP(failing)
{
	int error;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	self->size = pkey_page_size();
	self->pages = map_pages_with(0, 3);
	ASSERT_TRUE(!!self->pages);
	error = variant->fail(self->pages, self->size);
	if (error < 0)
		SKIP(return, "no mseal()");
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
		EXPECT_EQ(variant->changes_something, changed);
	EXPECT_EQ(changed ? SPARE : KEY, sys_pkey_alloc(0, 0));
}

/* F1: and counts no more when it is unmapped. */
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

/* F1: the same for munmap() and mlock() where nothing can be split. */
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

	/* Every second page, so that they do not merge. */
	pages = map_pages_with(0, 2 * nr);
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

/* F1: a key is mapped while it is allocated; only a free one has to wait. */
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

/* F2, A6: never used, then clean, then mapped; each time the lowest number. */
TEST(order_of_choice)
{
	const int order[] = { 9, 10, 11, 12, 13, 14, 15, 3, 5, 8, 2, 4, 6 };
	const int mapped[] = { 2, 4, 6 }, clean[] = { 3, 5, 8 };
	size_t i;
	int pkey;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	for (pkey = 1; pkey <= 8; pkey++)
		ASSERT_EQ(pkey, sys_pkey_alloc(0, 0));
	for (i = 0; i < ARRAY_SIZE(mapped); i++) {
		ASSERT_TRUE(!!map_pages_with(mapped[i], 1));
		ASSERT_EQ(0, sys_pkey_free(mapped[i]));
	}
	for (i = 0; i < ARRAY_SIZE(clean); i++)
		ASSERT_EQ(0, sys_pkey_free(clean[i]));
	if (read_setting(SETTING) == 0)
		SKIP(return, "vm.pkey_reuse_mapped is 0");

	for (i = 0; i < ARRAY_SIZE(order); i++)
		EXPECT_EQ(order[i], sys_pkey_alloc(0, 0));
	EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
	EXPECT_EQ(ENOSPC, errno);
}

/* F2: whichever two keys are free, the clean one comes first. */
TEST(clean_before_mapped_for_all_pairs)
{
	const size_t size = pkey_page_size();
	int mapped, clean;
	char *page;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	for (mapped = 1; mapped <= PKEY_MAX; mapped++) {
		page = map_pages_with(mapped, 1);
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
TEST(never_used_before_mapped_for_all_keys)
{
	int pkey;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	for (pkey = 1; pkey <= PKEY_MAX; pkey++) {
		EXPECT_EQ(pkey, sys_pkey_alloc(0, 0));
		ASSERT_TRUE(!!map_pages_with(pkey, 1));
		ASSERT_EQ(0, sys_pkey_free(pkey));
	}
}

/*
 * A pkey_mprotect() that has to wait for mmap_lock, as it was found there; so
 * many times another thread is asked to hold the lock. It does so for some
 * milliseconds, so one time in a few all falls into place.
 */
#define NR_HOLDS	200
#define HOLD_PAGES	4096

struct hold {
	pthread_t holder;
	pthread_t waiter;
	char *pages;
	char *page;
	pid_t waiter_tid;
	bool stop;
	/* The waiter begins round @go, and has ended @done. */
	unsigned int go;
	unsigned int done;
	/* In how many rounds was it seen waiting? */
	int waited;
};

static void *hold_mmap_lock(void *arg)
{
	const size_t len = HOLD_PAGES * pkey_page_size();
	struct hold *hold = arg;
	int prot = PROT_READ;

	while (!__atomic_load_n(&hold->stop, __ATOMIC_SEQ_CST)) {
		sys_mprotect(hold->pages, len, prot);
		prot ^= PROT_WRITE;
		sched_yield();
	}
	return NULL;
}

static void *attach_key_when_told(void *arg)
{
	const size_t size = pkey_page_size();
	struct hold *hold = arg;
	unsigned int go;

	__atomic_store_n(&hold->waiter_tid, syscall(__NR_gettid), __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&hold->stop, __ATOMIC_SEQ_CST)) {
		go = __atomic_load_n(&hold->go, __ATOMIC_SEQ_CST);
		if (go == hold->done) {
			sched_yield();
			continue;
		}
		sys_pkey_mprotect(hold->page, size, RW, KEY);
		__atomic_store_n(&hold->done, go, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

/*
 * Frees KEY and SPARE and takes one of them while the waiter waits. Gives the
 * key that came, or 0 if the waiter was not waiting all the time: it waits once
 * in a round, so it is enough to look before and after.
 */
static int alloc_beside_waiter(struct hold *hold)
{
	int pkey = 0;

	__atomic_add_fetch(&hold->go, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&hold->done, __ATOMIC_SEQ_CST) != hold->go) {
		/* It waits for a lock. */
		if (pkey_task_state(hold->waiter_tid) != 'D')
			continue;
		hold->waited++;
		sys_pkey_free(KEY);
		sys_pkey_free(SPARE);
		pkey = sys_pkey_alloc(0, 0);
		if (pkey_task_state(hold->waiter_tid) != 'D')
			pkey = 0;
		/* Both are allocated again, whichever came first. */
		sys_pkey_alloc(0, 0);
		break;
	}
	while (__atomic_load_n(&hold->done, __ATOMIC_SEQ_CST) != hold->go)
		sched_yield();
	sys_pkey_mprotect(hold->page, pkey_page_size(), RW, 0);
	return pkey;
}

/*
 * F1: a pkey_mprotect() that found the key allocated holds it, although no
 * mapping carries it yet.
 */
TEST_F(full, pkey_mprotect_under_way_counts)
{
	static struct hold hold;
	int i, pkey, found = 0;

	hold.page = map_pages_with(0, 1);
	hold.pages = pkey_map(HOLD_PAGES, RW);
	ASSERT_TRUE(hold.page && hold.pages);
	madvise(hold.pages, HOLD_PAGES * pkey_page_size(), MADV_NOHUGEPAGE);
	memset(hold.pages, 1, HOLD_PAGES * pkey_page_size());
	ASSERT_EQ(0, pthread_create(&hold.holder, NULL, hold_mmap_lock, &hold));
	ASSERT_EQ(0, pthread_create(&hold.waiter, NULL, attach_key_when_told, &hold));
	while (!__atomic_load_n(&hold.waiter_tid, __ATOMIC_SEQ_CST))
		sched_yield();

	for (i = 0; i < NR_HOLDS && found < 5; i++) {
		pkey = alloc_beside_waiter(&hold);
		if (!pkey)
			continue;
		found++;
		EXPECT_EQ(SPARE, pkey);
	}
	__atomic_store_n(&hold.stop, true, __ATOMIC_SEQ_CST);
	ASSERT_EQ(0, pthread_join(hold.holder, NULL));
	ASSERT_EQ(0, pthread_join(hold.waiter, NULL));
	/* G1: if the calls had waited too, the wait would have been over each time. */
	if (!found && hold.waited < NR_HOLDS / 4)
		SKIP(return, "pkey_mprotect() was never seen waiting");
	EXPECT_LT(0, found);
}

static void *take_key_away_when_told(void *arg)
{
	const size_t len = HOLD_PAGES * pkey_page_size();
	struct hold *hold = arg;
	unsigned int go;

	while (!__atomic_load_n(&hold->stop, __ATOMIC_SEQ_CST)) {
		go = __atomic_load_n(&hold->go, __ATOMIC_SEQ_CST);
		if (go == hold->done) {
			sched_yield();
			continue;
		}
		sys_pkey_mprotect(hold->pages, len, RW, 0);
		__atomic_store_n(&hold->done, go, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

/*
 * F1: a mapping that gets another key counts until its last page has that. KEY
 * and SPARE are free; while KEY counts, SPARE is the one to be had.
 */
TEST_F(full, key_is_held_until_its_last_page_lost_it)
{
	const size_t size = pkey_page_size();
	static struct hold hold;
	int i, pkey, early = 0;

	hold.pages = map_pages_with(0, HOLD_PAGES);
	ASSERT_TRUE(!!hold.pages);
	madvise(hold.pages, HOLD_PAGES * size, MADV_NOHUGEPAGE);
	memset(hold.pages, 1, HOLD_PAGES * size);
	ASSERT_EQ(0, pthread_create(&hold.holder, NULL, take_key_away_when_told, &hold));

	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, sys_pkey_mprotect(hold.pages, HOLD_PAGES * size, RW, KEY));
		ASSERT_EQ(0, sys_pkey_free(KEY));
		ASSERT_EQ(0, sys_pkey_free(SPARE));
		__atomic_add_fetch(&hold.go, 1, __ATOMIC_SEQ_CST);
		for (;;) {
			pkey = sys_pkey_alloc(0, PKEY_DISABLE_ACCESS);
			if (pkey == KEY)
				break;
			ASSERT_EQ(SPARE, pkey);
			ASSERT_EQ(0, sys_pkey_free(SPARE));
		}
		if (!pkey_can(PKEY_READ, hold.pages + (HOLD_PAGES - 1) * size))
			early++;
		while (__atomic_load_n(&hold.done, __ATOMIC_SEQ_CST) != hold.go)
			sched_yield();
		ASSERT_EQ(SPARE, sys_pkey_alloc(0, 0));
	}
	__atomic_store_n(&hold.stop, true, __ATOMIC_SEQ_CST);
	ASSERT_EQ(0, pthread_join(hold.holder, NULL));
	EXPECT_EQ(0, early);
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

FIXTURE_VARIANT_ADD(setting, 0) {
	.value = "0",
	.reuse = false,
};

FIXTURE_VARIANT_ADD(setting, 1) {
	.value = "1",
	.reuse = true,
};

/* KEY is free and mapped, all others are allocated. */
FIXTURE_SETUP(setting)
{
	int err;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(0, access(SETTING, F_OK));
	err = write_setting(SETTING, variant->value);
	if (err == EACCES || err == EPERM || err == EROFS)
		SKIP(return, "cannot write " SETTING);
	ASSERT_EQ(0, err);
	ASSERT_EQ(atoi(variant->value), read_setting(SETTING));

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

/* F3: the last key, which a mapping carries, is had with 1 and not with 0. */
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

/* F3: with 0 as with 1 the key comes when it is clean. */
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
		SKIP(return, "nothing is refused");

	for (i = 0; i < 3; i++) {
		EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
		EXPECT_EQ(ENOSPC, errno);
	}
	ASSERT_EQ(0, sys_pkey_mprotect(self->page, self->size, RW, 0));
	EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
}

/* F2, F3: a key that was never used, or is clean, comes with both. */
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

	second = map_pages_with(OTHER, 1);
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

/* F3: it is looked at anew by each call. */
TEST_F(setting, takes_effect_at_once)
{
	ASSERT_EQ(0, write_setting(SETTING, variant->reuse ? "0" : "1"));
	EXPECT_EQ(variant->reuse ? -1 : KEY, sys_pkey_alloc(0, 0));
	ASSERT_EQ(0, write_setting(SETTING, variant->value));
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
		EXPECT_EQ(EINVAL, write_setting(SETTING, values[i]));
		EXPECT_EQ(atoi(variant->value), read_setting(SETTING));
	}
}

/* F3: only root changes it. */
TEST_F(setting, is_for_root)
{
	pid_t pid;
	int dir;

	dir = open("/proc/sys/vm", O_PATH);
	ASSERT_LE(0, dir);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		EXPECT_EQ(0, setresuid(65534, 65534, 65534));
		EXPECT_LE(0, openat(dir, "pkey_reuse_mapped", O_RDONLY));
		EXPECT_EQ(-1, openat(dir, "pkey_reuse_mapped", O_WRONLY));
		EXPECT_EQ(EACCES, errno);
		_exit(0);
	}
	EXPECT_EQ(0, wait_for(pid));
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
	/* Nor is it reserved in vain. */
	ASSERT_EQ(0, munmap(self->page, self->size));
	EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
}

/* F3, D2: nor one of several, nor with mprotect() of the mapping itself. */
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

/* F3, E1: the child of a process whose keys are mapped is no better off. */
TEST_F(setting, decides_in_child)
{
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		EXPECT_EQ(variant->reuse ? KEY : -1, sys_pkey_alloc(0, 0));
		if (variant->reuse)
			EXPECT_EQ(0, sys_pkey_free(KEY));
		EXPECT_EQ(0, munmap(self->page, self->size));
		EXPECT_EQ(KEY, sys_pkey_alloc(0, 0));
		_exit(0);
	}
	EXPECT_EQ(0, wait_for(pid));
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

/* F3: the last resort is what it always was: others keep their rights. */
TEST_F(setting, last_resort_takes_no_rights)
{
	struct looker looker = {};
	pthread_t thread;

	if (!variant->reuse)
		SKIP(return, "there is no last resort");

	ASSERT_EQ(0, pthread_barrier_init(&looker.barrier, NULL, 2));
	ASSERT_EQ(0, pthread_create(&thread, NULL, look_at_pkru, &looker));
	pthread_barrier_wait(&looker.barrier);
	EXPECT_EQ(KEY, sys_pkey_alloc(0, PKEY_DISABLE_ACCESS));
	pthread_barrier_wait(&looker.barrier);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(looker.pkru_before, looker.pkru_after);
	EXPECT_EQ(0, looker.pkru_after >> 2 * KEY & PKEY_RIGHTS_MASK);
	/* And the mapping answers to the new owner. */
	EXPECT_EQ(KEY, pkey_of(self->page));
	EXPECT_TRUE(pkey_refused(PKEY_READ, self->page, KEY));
	pkru_set_rights(KEY, 0);
	EXPECT_TRUE(pkey_can(PKEY_WRITE, self->page));
}

/* F2, F3: taken as the last resort and freed, it is the last resort again. */
TEST_F(setting, last_resort_stays_last)
{
	if (!variant->reuse)
		SKIP(return, "there is no last resort");

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
	setting_at_start = read_setting(SETTING);
	/* For a test that ran out of time and has not done so. */
	atexit(restore_setting);
	return test_harness_run(argc, argv);
}
