// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of protection keys on x86 when memory runs out: of all allocations that
 * a call makes the first fails, then the second, and so on until it makes no
 * more. A call that fails returns the right error and has changed nothing: neither
 * mappings nor their contents, neither keys nor rights. It succeeds when it is
 * made again. After each call the mappings that the kernel counts for each key
 * are those that exist, and no key counts as mapped when they are unmapped.
 *
 * An allocation fails whose number is written to /proc/self/fail-nth, which
 * takes CONFIG_FAILSLAB, CONFIG_FAIL_PAGE_ALLOC and settings in debugfs.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>

#include "../kselftest_harness.h"
#include "pkey_util.h"

/*
 * The C library must not register memory for restartable sequences: the kernel kills a
 * task with SIGSEGV if an allocation fails when it writes there.
 */
#define TUNABLES	"GLIBC_TUNABLES"
#define NO_RSEQ		"glibc.pthread.rseq=0"

/* The argument that makes this program look at itself after execve(). */
#define REPORT_ARG	"--after-execve"

/* Nothing else is mapped here in any ABI: neither the heap nor what mmap() chooses. */
#define WINDOW		((char *)0x60000000)

/* The window is looked at in units: of pages, or of huge pages. */
#define NR_UNITS	6
/* Where mremap() moves to. */
#define TARGET		NR_UNITS
#define WINDOW_UNITS	(2 * NR_UNITS)

#define STACK_SIZE	(64 * 1024)

#define MAX_VMAS	128

/* The exit status after execve() if no allocation had to fail any more. */
#define EXIT_LAST	3

/* The exit status if the C library could not start the program. */
#define EXIT_LOADER	127

/* The key that is handed out again to see others lose their rights. */
#define REISSUED	5

/* Seconds: a fork() makes hundreds of allocations. */
#define TIMEOUT		1200

/* PKRU as execve() left it for this program. */
static uint32_t pkru_at_start;

static size_t unit_size;

static char *unit_at(int unit)
{
	return WINDOW + unit * unit_size;
}

/* Settings of the kernel's fault injection. */
static struct {
	const char *path;
	const char *wanted;
	char saved[16];
} knobs[] = {
	{ "/sys/kernel/debug/failslab/ignore-gfp-wait", "N" },
	{ "/sys/kernel/debug/failslab/verbose", "0" },
	{ "/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N" },
	{ "/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N" },
	{ "/sys/kernel/debug/fail_page_alloc/min-order", "0" },
	{ "/sys/kernel/debug/fail_page_alloc/verbose", "0" },
};

static bool set_knobs(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(knobs); i++)
		if (!pkey_read_file(knobs[i].path, knobs[i].saved, sizeof(knobs[i].saved)) ||
		    !pkey_write_file(knobs[i].path, knobs[i].wanted))
			return false;
	return true;
}

static void restore_knobs(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(knobs); i++)
		if (knobs[i].saved[0])
			pkey_write_file(knobs[i].path, knobs[i].saved);
}

/* Return the reason if no test can run here, otherwise NULL. */
static const char *set_up(void)
{
	if (!pku_enabled())
		return NO_PKU;
	if (access("/proc/self/fail-nth", W_OK))
		return "needs CONFIG_FAILSLAB and CONFIG_FAIL_PAGE_ALLOC";
	if (!set_knobs())
		return "needs failslab and fail_page_alloc in debugfs";
	return NULL;
}

/* The injection that is going on in this process. */
static struct {
	int fd;
	bool armed;
	bool hit;
} injection;

/* Make allocation number @nth fail, counted from 1; 0 means none. */
static bool arm(unsigned int nth)
{
	char text[16];
	int len;

	injection.fd = open("/proc/self/fail-nth", O_RDWR);
	len = snprintf(text, sizeof(text), "%u", nth);
	injection.hit = false;
	injection.armed = true;
	return write(injection.fd, text, len) == len;
}

/* End the injection if that has not been done. Return whether an allocation failed. */
static bool disarm(void)
{
	char text[16] = "";

	if (injection.armed) {
		injection.armed = false;
		injection.hit = pread(injection.fd, text, sizeof(text) - 1, 0) > 0 &&
				atoi(text) == 0;
		pwrite(injection.fd, "0", 1, 0);
		close(injection.fd);
	}
	return injection.hit;
}

/* The visible state of one unit of the window. */
struct unit {
	bool mapped;
	char perms[5];
	int pkey;
	/* The first byte; -1 if there is none. */
	int content;
};

struct state {
	struct unit unit[WINDOW_UNITS];
	unsigned int attachable;
	uint32_t pkru;
};

/* Read for each key how many mappings carry it, as the kernel counts them. */
static bool read_counts(unsigned int *counts)
{
	unsigned int pkey, nr;
	char line[80];
	FILE *file;

	memset(counts, 0, PKEY_NR * sizeof(*counts));
	file = fopen("/proc/self/pkeys", "r");
	if (!file)
		return false;

	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "%u %*s %u", &pkey, &nr) == 2 && pkey < PKEY_NR)
			counts[pkey] = nr;
	fclose(file);
	return true;
}

/* Are the counts of the kernel those that smaps shows? */
static bool counts_agree(const struct pkey_vma *vmas, int nr)
{
	unsigned int counted[PKEY_NR], found[PKEY_NR] = {};
	bool agree = true;
	int i;

	if (!nr || nr == MAX_VMAS || !read_counts(counted))
		return false;

	for (i = 0; i < nr; i++)
		found[vmas[i].pkey]++;
	for (i = 1; i < PKEY_NR; i++) {
		if (found[i] == counted[i])
			continue;
		printf("# key %d: %u mappings counted, %u found\n", i, counted[i], found[i]);
		agree = false;
	}
	return agree;
}

static void look_at_unit(struct unit *unit, char *addr, const struct pkey_vma *vmas,
			 int nr, int mem)
{
	unsigned char byte;
	int i;

	unit->content = -1;
	for (i = 0; i < nr; i++) {
		if ((uintptr_t)addr < vmas[i].start || (uintptr_t)addr >= vmas[i].end)
			continue;
		unit->mapped = true;
		memcpy(unit->perms, vmas[i].perms, sizeof(unit->perms));
		unit->pkey = vmas[i].pkey;
		/* Neither protection nor keys keep this from reading. */
		if (pread(mem, &byte, 1, (uintptr_t)addr) == 1)
			unit->content = byte;
	}
}

/* Read the whole state. Return whether the counts agree with the mappings found. */
static bool look(struct state *state)
{
	static struct pkey_vma vmas[MAX_VMAS];
	int mem, nr, i;

	memset(state, 0, sizeof(*state));
	state->pkru = rdpkru();
	state->attachable = pkey_attachable_mask();
	nr = pkey_read_vmas(NULL, SIZE_MAX, vmas, MAX_VMAS);
	mem = open("/proc/self/mem", O_RDONLY);
	for (i = 0; i < WINDOW_UNITS; i++)
		look_at_unit(&state->unit[i], unit_at(i), vmas, nr, mem);
	close(mem);
	return mem >= 0 && counts_agree(vmas, nr);
}

static bool same_unit(const struct unit *a, const struct unit *b)
{
	return a->mapped == b->mapped && !memcmp(a->perms, b->perms, sizeof(a->perms)) &&
	       a->pkey == b->pkey && a->content == b->content;
}

static bool same_keys(const struct state *a, const struct state *b)
{
	return a->attachable == b->attachable && a->pkru == b->pkru;
}

static bool same_state(const struct state *a, const struct state *b)
{
	int i;

	for (i = 0; i < WINDOW_UNITS; i++)
		if (!same_unit(&a->unit[i], &b->unit[i]))
			return false;
	return same_keys(a, b);
}

/* Is each unit as it was before or as it is afterwards? */
static bool partly_changed(const struct state *state, const struct state *before,
			   const struct state *after)
{
	int i;

	for (i = 0; i < WINDOW_UNITS; i++)
		if (!same_unit(&state->unit[i], &before->unit[i]) &&
		    !same_unit(&state->unit[i], &after->unit[i]))
			return false;
	return same_keys(state, before);
}

static void print_state(const char *text, const struct state *state)
{
	const struct unit *unit;
	int i;

	printf("# %s: attachable %04x, PKRU %08x", text, state->attachable, state->pkru);
	for (i = 0; i < WINDOW_UNITS; i++) {
		unit = &state->unit[i];
		if (unit->mapped)
			printf("; %d %s key %d, %d", i, unit->perms, unit->pkey, unit->content);
	}
	printf("\n");
	/* The process that calls this ends without exit(). */
	fflush(stdout);
}

/* Shared by the processes of a test. */
struct shared {
	struct state before;
	struct state after;
	int free_keys;
	unsigned int hits;
	unsigned int failures;
	/* The call made fewer allocations than that. */
	bool last;
};

static struct shared *shared;

FIXTURE(fault)
{
};

FIXTURE_VARIANT(fault)
{
	/* It sets up the state before the call. */
	bool (*prepare)(void);
	/* Like a system call: -1 and errno if it fails. */
	int (*call)(const struct _fixture_variant_fault *variant);
	/* Arguments of the call. */
	int first;
	int nr;
	int prot;
	int pkey;
	int flags;
	/* A call that fails does so with this error; ENOMEM if it is 0. */
	int error;
	/* Another error that is allowed. */
	int other_error;
	/* A call that fails may have changed some of its mappings. */
	bool partial;
	/*
	 * A call that fails may have unmapped what it was to replace. A call that
	 * succeeds may have left what it was to unmap.
	 */
	bool loose;
	/* The call succeeds although an allocation fails. */
	bool succeeds;
	/* A call that succeeds may have no key for execute-only memory. */
	bool may_lack_key;
	bool huge;
};

/* Before the call: keys 1 and 2 are allocated, the window has one mapping. */

static bool map_units(int first, int nr, int flags)
{
	int i;

	if (!pkey_mmap(unit_at(first), nr * unit_size, RW, MAP_FIXED | flags, -1))
		return false;

	for (i = first; i < first + nr; i++)
		*unit_at(i) = 'a' + i;
	return true;
}

static bool prepare_keys(void)
{
	return sys_pkey_alloc(0, 0) == 1 && sys_pkey_alloc(0, PKEY_DISABLE_WRITE) == 2;
}

static bool prepare_nothing(void)
{
	return true;
}

static bool prepare_no_keys(void)
{
	return map_units(0, NR_UNITS, MAP_PRIVATE | MAP_ANONYMOUS);
}

static bool prepare_plain(void)
{
	return prepare_keys() && map_units(0, NR_UNITS, MAP_PRIVATE | MAP_ANONYMOUS);
}

static bool prepare_shared(void)
{
	return prepare_keys() && map_units(0, NR_UNITS, MAP_SHARED | MAP_ANONYMOUS);
}

static bool prepare_hugetlb(void)
{
	return prepare_keys() &&
	       map_units(0, NR_UNITS, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB);
}

/* The units are the first pages of one huge page. */
static bool prepare_huge_page(void)
{
	if (!prepare_keys() ||
	    !pkey_mmap(WINDOW, HUGE_SIZE, RW, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1))
		return false;

	madvise(WINDOW, HUGE_SIZE, MADV_HUGEPAGE);
	memset(WINDOW, 'h', HUGE_SIZE);
	return true;
}

static bool prepare_tagged(void)
{
	return prepare_plain() && !sys_pkey_mprotect(WINDOW, NR_UNITS * unit_size, RW, 1);
}

static bool prepare_tagged_shared(void)
{
	return prepare_shared() && !sys_pkey_mprotect(WINDOW, NR_UNITS * unit_size, RW, 1);
}

/* Make three mappings, with key 1, without, with key 2. */
static bool prepare_striped(void)
{
	return prepare_plain() && !sys_pkey_mprotect(unit_at(0), 2 * unit_size, RW, 1) &&
	       !sys_pkey_mprotect(unit_at(4), 2 * unit_size, RW, 2);
}

/* The mapping in the middle can merge with both others if it gets key 1. */
static bool prepare_mergeable(void)
{
	return prepare_tagged() && !sys_pkey_mprotect(unit_at(2), 2 * unit_size, RW, 2);
}

static bool prepare_exec_only(void)
{
	return prepare_plain() && !sys_mprotect(WINDOW, NR_UNITS * unit_size, PROT_EXEC);
}

/* Use all keys and free key 5, which is then clean. */
static bool prepare_clean_key(void)
{
	return pkey_take_all(NULL) == PKEY_MAX && !sys_pkey_free(5);
}

/* Use all keys and free key 5 while a mapping carries it. */
static bool prepare_mapped_key(void)
{
	return pkey_take_all(NULL) == PKEY_MAX &&
	       map_units(0, NR_UNITS, MAP_PRIVATE | MAP_ANONYMOUS) &&
	       !sys_pkey_mprotect(unit_at(2), unit_size, RW, 5) && !sys_pkey_free(5);
}

static int call_alloc(const struct _fixture_variant_fault *variant)
{
	return sys_pkey_alloc(0, PKEY_DISABLE_WRITE) == variant->pkey ? 0 : -1;
}

static int call_free(const struct _fixture_variant_fault *variant)
{
	return sys_pkey_free(variant->pkey);
}

static int call_pkey_mprotect(const struct _fixture_variant_fault *variant)
{
	return sys_pkey_mprotect(unit_at(variant->first), variant->nr * unit_size,
				 variant->prot, variant->pkey);
}

static int call_mmap(const struct _fixture_variant_fault *variant)
{
	return pkey_mmap(unit_at(variant->first), variant->nr * unit_size, variant->prot,
			 MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1) ? 0 : -1;
}

static int call_munmap(const struct _fixture_variant_fault *variant)
{
	return munmap(unit_at(variant->first), variant->nr * unit_size);
}

static int call_move(const struct _fixture_variant_fault *variant)
{
	const size_t size = variant->nr * unit_size;

	return mremap(unit_at(variant->first), size, size,
		      MREMAP_MAYMOVE | MREMAP_FIXED | variant->flags,
		      unit_at(TARGET)) == MAP_FAILED ? -1 : 0;
}

/* Resize the mapping to @nr units. */
static int call_resize(const struct _fixture_variant_fault *variant)
{
	return mremap(WINDOW, NR_UNITS * unit_size, variant->nr * unit_size,
		      0) == MAP_FAILED ? -1 : 0;
}

static int call_madvise(const struct _fixture_variant_fault *variant)
{
	return madvise(unit_at(variant->first), variant->nr * unit_size, variant->flags);
}

static int call_mlock(const struct _fixture_variant_fault *variant)
{
	return mlock(unit_at(variant->first), variant->nr * unit_size);
}

static int call_read_pkeys(const struct _fixture_variant_fault *variant)
{
	char text[16];

	return pkey_read_file("/proc/self/pkeys", text, sizeof(text)) ? 0 : -1;
}

/* Return 0 if the other process found nothing wrong. */
static int child_result(pid_t pid)
{
	if (pkey_wait_for(pid)) {
		errno = ECHILD;
		return -1;
	}
	return 0;
}

/* E1: the child has everything that its parent has. */
static int call_fork(const struct _fixture_variant_fault *variant)
{
	struct state state;
	pid_t pid;

	pid = fork();
	if (pid < 0)
		return -1;
	if (!pid)
		_exit(!look(&state) || !same_state(&state, &shared->before));

	disarm();
	return child_result(pid);
}

/* The PKRU of the new task, and whether it lives: the kernel clears this. */
static uint32_t task_pkru;
static int task_lives;

static int task_look(void *arg)
{
	STORE(task_pkru, rdpkru());
	return 0;
}

/* E2: the new task has the rights of its creator. */
static int call_clone(const struct _fixture_variant_fault *variant)
{
	static char stack[STACK_SIZE];
	pid_t pid;

	task_lives = 1;
	task_pkru = 0;
	pid = clone(task_look, stack + sizeof(stack), variant->flags | CLONE_CHILD_CLEARTID,
		    NULL, NULL, NULL, &task_lives);
	if (pid < 0)
		return -1;

	disarm();
	if (!(variant->flags & CLONE_THREAD) && child_result(pid))
		return -1;
	while (LOAD(task_lives))
		sched_yield();
	if (task_pkru == rdpkru())
		return 0;
	errno = ECHILD;
	return -1;
}

FIXTURE_SETUP(fault)
{
	const char *reason = set_up();

	if (reason)
		SKIP(return, "%s", reason);

	shared = pkey_map_shared(sizeof(*shared));
	ASSERT_TRUE(!!shared);
	unit_size = variant->huge ? HUGE_SIZE : pkey_page_size();
}

FIXTURE_TEARDOWN(fault)
{
	restore_knobs();
}

#define FAULT(_name, ...) FIXTURE_VARIANT_ADD(fault, _name) { __VA_ARGS__ }

/* A2: the first call of a process may find no memory for what its keys need. */
FAULT(alloc_first, .prepare = prepare_no_keys, .call = call_alloc, .pkey = 1, .error = ENOSPC);

/* A6: a key that was never used. */
FAULT(alloc_new, .prepare = prepare_plain, .call = call_alloc, .pkey = 3, .succeeds = true);
FAULT(alloc_clean, .prepare = prepare_clean_key, .call = call_alloc, .pkey = 5, .succeeds = true);
FAULT(alloc_mapped, .prepare = prepare_mapped_key, .call = call_alloc, .pkey = 5,
      .succeeds = true);
FAULT(free, .prepare = prepare_tagged, .call = call_free, .pkey = 1, .succeeds = true);
FAULT(attach_first, .prepare = prepare_plain, .call = call_pkey_mprotect, .first = 0, .nr = 2,
      .prot = RW, .pkey = 1);
FAULT(attach_middle, .prepare = prepare_plain, .call = call_pkey_mprotect, .first = 2,
      .nr = 2, .prot = RW, .pkey = 1);
FAULT(attach_last, .prepare = prepare_plain, .call = call_pkey_mprotect, .first = 4, .nr = 2,
      .prot = RW, .pkey = 1);
FAULT(attach_another, .prepare = prepare_tagged, .call = call_pkey_mprotect, .first = 2,
      .nr = 2, .prot = PROT_READ, .pkey = 2);
FAULT(attach_key_0, .prepare = prepare_tagged, .call = call_pkey_mprotect, .first = 1,
      .nr = 3, .prot = RW, .pkey = 0);

/* C2: mappings up to the one that cannot be split have changed. */
FAULT(attach_several, .prepare = prepare_striped, .call = call_pkey_mprotect, .first = 1,
      .nr = 4, .prot = RW, .pkey = 2, .partial = true);
FAULT(attach_and_merge, .prepare = prepare_mergeable, .call = call_pkey_mprotect, .first = 2,
      .nr = 2, .prot = RW, .pkey = 1);
FAULT(attach_shared, .prepare = prepare_shared, .call = call_pkey_mprotect, .first = 2,
      .nr = 2, .prot = RW, .pkey = 1);
FAULT(attach_hugetlb, .prepare = prepare_hugetlb, .call = call_pkey_mprotect, .first = 2,
      .nr = 2, .prot = RW, .pkey = 1, .huge = true);
FAULT(attach_in_huge_page, .prepare = prepare_huge_page, .call = call_pkey_mprotect,
      .first = 2, .nr = 2, .prot = RW, .pkey = 1);

/* D1: the first execute-only memory takes a key. */
FAULT(exec_only_mprotect, .prepare = prepare_plain, .call = call_pkey_mprotect, .first = 2,
      .nr = 2, .prot = PROT_EXEC, .pkey = -1);
FAULT(exec_only_mmap, .prepare = prepare_keys, .call = call_mmap, .first = 0, .nr = NR_UNITS,
      .prot = PROT_EXEC);

/* D2: without memory for what keys need, execute-only memory is readable. */
FAULT(exec_only_mprotect_first, .prepare = prepare_no_keys, .call = call_pkey_mprotect,
      .first = 2, .nr = 2, .prot = PROT_EXEC, .pkey = -1, .may_lack_key = true);
FAULT(exec_only_mmap_first, .prepare = prepare_nothing, .call = call_mmap, .first = 0,
      .nr = NR_UNITS, .prot = PROT_EXEC, .may_lack_key = true);

/* D3: execute-only memory that becomes readable gets key 0. */
FAULT(exec_only_end, .prepare = prepare_exec_only, .call = call_pkey_mprotect, .first = 2,
      .nr = 2, .prot = PROT_READ, .pkey = -1);
FAULT(munmap_middle, .prepare = prepare_tagged, .call = call_munmap, .first = 2, .nr = 2);
FAULT(munmap_several, .prepare = prepare_striped, .call = call_munmap, .first = 1, .nr = 4);
FAULT(mmap_over, .prepare = prepare_tagged, .call = call_mmap, .first = 2, .nr = 2,
      .prot = RW, .loose = true);
FAULT(mremap_move, .prepare = prepare_tagged, .call = call_move, .first = 0, .nr = NR_UNITS);
FAULT(mremap_move_middle, .prepare = prepare_tagged, .call = call_move, .first = 2, .nr = 2,
      .loose = true);
FAULT(mremap_move_shared, .prepare = prepare_tagged_shared, .call = call_move, .first = 2,
      .nr = 2, .loose = true);
FAULT(mremap_dontunmap, .prepare = prepare_tagged, .call = call_move, .first = 2, .nr = 2,
      .flags = MREMAP_DONTUNMAP);
FAULT(mremap_shrink, .prepare = prepare_tagged, .call = call_resize, .nr = NR_UNITS - 2);
FAULT(madvise_middle, .prepare = prepare_tagged, .call = call_madvise, .first = 2, .nr = 2,
      .flags = MADV_DONTFORK, .other_error = EAGAIN);
FAULT(mlock_middle, .prepare = prepare_tagged, .call = call_mlock, .first = 2, .nr = 2);

FIXTURE_VARIANT_ADD(fault, read_proc_pkeys) {
	.prepare = prepare_tagged,
	.call = call_read_pkeys,
	/* The error is from open(). */
	.other_error = ENOENT,
};

FAULT(fork, .prepare = prepare_striped, .call = call_fork);
FAULT(clone_thread, .prepare = prepare_striped, .call = call_clone,
      .flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD);
FAULT(clone_process, .prepare = prepare_striped, .call = call_clone, .flags = CLONE_VM | SIGCHLD);

/* May a call that fails leave this state? */
static bool good_failure(const FIXTURE_VARIANT(fault) * variant, const struct state *now)
{
	if (variant->loose)
		return same_keys(now, &shared->before);
	if (variant->partial)
		return partly_changed(now, &shared->before, &shared->after);
	return same_state(now, &shared->before);
}

/* Is it the expected state, but with key 0 for the execute-only memory? */
static bool lacks_key(const struct state *now)
{
	struct state expected = shared->after;
	int i;

	for (i = 0; i < WINDOW_UNITS; i++)
		expected.unit[i].pkey = 0;
	expected.pkru = shared->before.pkru;
	return same_state(now, &expected);
}

/* May a call that succeeds leave this state, although an allocation may have failed? */
static bool good_success(const FIXTURE_VARIANT(fault) * variant, const struct state *now,
			 bool hit)
{
	if (variant->loose && hit)
		return same_keys(now, &shared->after);
	if (variant->may_lack_key && hit && lacks_key(now))
		return true;
	return same_state(now, &shared->after);
}

/*
 * Without the mappings no key is mapped any more. After pkey_free() all are handed out in
 * order; a key that is still mapped would come last.
 */
static bool keys_are_clean(void)
{
	int i, nr, keys[PKEY_NR];

	munmap(WINDOW, WINDOW_UNITS * unit_size);
	for (i = 1; i < PKEY_NR; i++)
		sys_pkey_free(i);

	nr = pkey_take_all(keys);
	for (i = 1; i < nr; i++)
		if (keys[i] < keys[i - 1])
			return false;
	return nr > 0;
}

/* Make one call in one process: of its allocations the one with this number fails. */
static void try_call(struct __test_metadata *const _metadata,
		     const FIXTURE_VARIANT(fault) * variant, unsigned int nth)
{
	struct state now;
	int ret, err;
	bool hit;

	ASSERT_TRUE(variant->prepare());
	if (!nth)
		ASSERT_TRUE(look(&shared->before));

	ASSERT_TRUE(arm(nth));
	ret = variant->call(variant);
	err = errno;
	hit = disarm();

	/* look() calls pkey_mprotect(), which would take away what the failed call left. */
	if (ret) {
		IN_CHILD
			EXPECT_TRUE(keys_are_clean());
	}

	ASSERT_TRUE(look(&now)) {
		TH_LOG("after allocation %u", nth);
	}
	if (!nth) {
		ASSERT_EQ(0, ret);
		shared->after = now;
		shared->free_keys = pkey_count_free();
		return;
	}

	if (ret) {
		shared->failures++;
		ASSERT_FALSE(variant->succeeds);
		ASSERT_TRUE(hit);
		ASSERT_TRUE(err == (variant->error ?: ENOMEM) || err == variant->other_error) {
			TH_LOG("after allocation %u: error %d", nth, err);
		}
		ASSERT_TRUE(good_failure(variant, &now)) {
			TH_LOG("after allocation %u", nth);
			print_state("before", &shared->before);
			print_state("now", &now);
		}
		ASSERT_EQ(0, variant->call(variant));
		ASSERT_TRUE(look(&now));
	}
	ASSERT_TRUE(good_success(variant, &now, hit)) {
		TH_LOG("after allocation %u", nth);
		print_state("expected", &shared->after);
		print_state("now", &now);
	}
	/* No key has been reserved where the memory has none. */
	EXPECT_EQ(shared->free_keys + (variant->may_lack_key && lacks_key(&now)),
		  pkey_count_free());
	EXPECT_TRUE(keys_are_clean());

	shared->hits += hit;
	shared->last = !hit;
}

TEST_F_TIMEOUT(fault, each_allocation, TIMEOUT)
{
	unsigned int nth;

	if (variant->huge && !pkey_mmap(WINDOW, HUGE_SIZE * NR_UNITS, RW, MAP_SHARED |
					MAP_ANONYMOUS | MAP_HUGETLB | MAP_FIXED, -1))
		SKIP(return, "needs huge pages in the hugetlb pool");

	for (nth = 0; !shared->last && __test_passed(_metadata); nth++) {
		IN_CHILD
			try_call(_metadata, variant, nth);
	}

	TH_LOG("%u allocations failed, %u calls", shared->hits, shared->failures);
	EXPECT_EQ(!variant->succeeds, shared->failures > 0);
}

/* A task that has rights to all keys and reports its PKRU when it is asked. */
struct watcher {
	uint32_t pkru;
	unsigned int answered;
};

static unsigned int asked;
static int sleepers_pipe[2];

/* Run in user mode all the time. */
static int watch_running(void *arg)
{
	struct watcher *watcher = arg;
	unsigned int question = 0;

	wrpkru(0);
	do {
		STORE(watcher->answered, question);
		question = LOAD(asked);
		STORE(watcher->pkru, rdpkru());
	} while (LOAD(watcher->answered) < 2);
	return 0;
}

static void *watch_running_thread(void *arg)
{
	watch_running(arg);
	return NULL;
}

/* Sleep in a system call until asked. */
static void *watch_sleeping_thread(void *arg)
{
	struct watcher *watcher = arg;
	uint32_t pkru;
	char byte;

	wrpkru(0);
	STORE(watcher->answered, 1);
	pkey_raw_syscall_pkru(__NR_read, sleepers_pipe[0], (uintptr_t)&byte, 1, 0, &pkru);
	watcher->pkru = pkru;
	STORE(watcher->answered, 2);
	return NULL;
}

enum {
	WATCHER_THREAD,
	WATCHER_PROCESS,
	WATCHER_SLEEPER,
	NR_WATCHERS,
};

/* Ask question 1, then 2, and wait for the answers. */
static void ask(struct watcher *watchers, unsigned int question)
{
	int i;

	STORE(asked, question);
	if (question == 2)
		write(sleepers_pipe[1], "", 1);
	for (i = 0; i < NR_WATCHERS; i++)
		while (LOAD(watchers[i].answered) < question)
			sched_yield();
}

/* F4: pkey_alloc() revokes the rights of the others, whatever fails meanwhile. */
static void try_reissue(struct __test_metadata *const _metadata, unsigned int nth)
{
	static char stack[STACK_SIZE];
	struct watcher watchers[NR_WATCHERS] = {};
	pthread_t running, sleeping;
	struct state state;
	int pkey, i;
	pid_t pid;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	ASSERT_EQ(0, pipe(sleepers_pipe));
	ASSERT_EQ(0, pthread_create(&running, NULL, watch_running_thread,
				    &watchers[WATCHER_THREAD]));
	ASSERT_EQ(0, pthread_create(&sleeping, NULL, watch_sleeping_thread,
				    &watchers[WATCHER_SLEEPER]));
	pid = clone(watch_running, stack + sizeof(stack), CLONE_VM | SIGCHLD,
		    &watchers[WATCHER_PROCESS]);
	ASSERT_LE(0, pid);
	ask(watchers, 1);
	for (i = 0; i < NR_WATCHERS; i++)
		EXPECT_EQ(0, watchers[i].pkru);

	ASSERT_EQ(0, sys_pkey_free(REISSUED));
	ASSERT_TRUE(arm(nth));
	pkey = sys_pkey_alloc(0, 0);
	shared->last = !disarm();
	EXPECT_EQ(REISSUED, pkey);

	ask(watchers, 2);
	for (i = 0; i < NR_WATCHERS; i++)
		EXPECT_EQ(pkru_with_rights(0, REISSUED, PKEY_DISABLE_ACCESS), watchers[i].pkru) {
			TH_LOG("watcher %d after allocation %u", i, nth);
		}
	EXPECT_EQ(0, pthread_join(running, NULL));
	EXPECT_EQ(0, pthread_join(sleeping, NULL));
	EXPECT_EQ(0, child_result(pid));
	EXPECT_TRUE(look(&state));
}

/* E3: check the program that execve() has started. Return its exit status. */
static int report(const char *init_pkru)
{
	struct state state;
	char nth[16];
	bool good;

	/* The allocation that fails may be that of one of these open(). */
	good = (pkey_read_file("/proc/self/fail-nth", nth, sizeof(nth)) ||
		pkey_read_file("/proc/self/fail-nth", nth, sizeof(nth))) &&
	       (pkey_write_file("/proc/self/fail-nth", "0") ||
		pkey_write_file("/proc/self/fail-nth", "0")) && look(&state) &&
	       state.attachable == PKEY_MASK_DEFAULT &&
	       pkru_at_start == strtoul(init_pkru, NULL, 16) &&
	       pkey_take_all(NULL) == PKEY_MAX;
	if (!good)
		return KSFT_FAIL;
	return atoi(nth) ? EXIT_LAST : 0;
}

static void try_execve(struct __test_metadata *const _metadata, unsigned int nth)
{
	char init_pkru[16], *argv[] = { "pkey_fault_test", REPORT_ARG, init_pkru, NULL };
	struct state before, now;

	ASSERT_TRUE(prepare_exec_only());
	ASSERT_TRUE(look(&before));
	snprintf(init_pkru, sizeof(init_pkru), "%x", pkru_at_start);

	ASSERT_TRUE(arm(nth));
	execve("/proc/self/exe", argv, NULL);
	EXPECT_TRUE(disarm());

	EXPECT_TRUE(look(&now));
	EXPECT_TRUE(same_state(&now, &before)) {
		TH_LOG("after allocation %u", nth);
		print_state("before", &before);
		print_state("now", &now);
	}
}

FIXTURE(tasks)
{
};

FIXTURE_SETUP(tasks)
{
	const char *reason = set_up();

	if (reason)
		SKIP(return, "%s", reason);

	shared = pkey_map_shared(sizeof(*shared));
	ASSERT_TRUE(!!shared);
	unit_size = pkey_page_size();
}

FIXTURE_TEARDOWN(tasks)
{
	restore_knobs();
}

TEST_F_TIMEOUT(tasks, reissue, TIMEOUT)
{
	unsigned int nth;

	for (nth = 1; !shared->last && __test_passed(_metadata); nth++) {
		IN_CHILD
			try_reissue(_metadata, nth);
	}
	TH_LOG("%u allocations failed", nth - 2);
}

/*
 * A process that has lost its old memory when the new one fails cannot go on. When the
 * new program cannot be made ready, the C library ends it.
 */
static bool died_of_execve(int status)
{
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGSEGV;
	return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_LOADER;
}

TEST_F_TIMEOUT(tasks, execve, TIMEOUT)
{
	unsigned int nth, died = 0;
	int status = 0;
	pid_t pid;

	for (nth = 1; !WIFEXITED(status) || WEXITSTATUS(status) != EXIT_LAST; nth++) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			try_execve(_metadata, nth);
			pkey_child_end(_metadata);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		died += died_of_execve(status);
		ASSERT_TRUE(died_of_execve(status) || !status ||
			    status == W_EXITCODE(EXIT_LAST, 0)) {
			TH_LOG("after allocation %u: status %x", nth, status);
		}
	}
	TH_LOG("%u allocations failed, %u processes died", nth - 2, died);
}

int main(int argc, char **argv)
{
	const char *tunables;

	pkru_at_start = pkru_save();
	if (argc == 3 && !strcmp(argv[1], REPORT_ARG))
		return report(argv[2]);

	tunables = getenv(TUNABLES);
	if (!tunables || strcmp(tunables, NO_RSEQ)) {
		setenv(TUNABLES, NO_RSEQ, 1);
		execv("/proc/self/exe", argv);
	}
	return test_harness_run(argc, argv);
}
