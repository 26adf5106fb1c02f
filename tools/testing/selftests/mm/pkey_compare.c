// SPDX-License-Identifier: GPL-2.0
/*
 * Compare two kernels call by call (clause H4 of the contract).
 *
 *	pkey_compare unpatched|patched|planted run SEED OPERATIONS
 *	pkey_compare unpatched|patched|planted show SEED CHUNK
 *	pkey_compare unpatched|patched|planted serve SEED DIRECTORY
 *
 * The program makes a random sequence of mapping and key calls, of changes of
 * PKRU and of memory accesses, and logs one line for each. The sequence depends
 * only on the seed, and on results that have to be the same on both kernels. So
 * the logs of two kernels are the same, or there is a difference to explain.
 *
 * The documented differences are not in the log. They are kept out as follows:
 *
 *  - The program keeps a model of the keys: which are allocated, which have been
 *    used before, which one is the execute-only key. With /proc/self/smaps, which
 *    says what keys mappings carry, it predicts the key that a call takes (A6, F2,
 *    F3, D2), on either kernel.
 *  - "unpatched": where this kernel would take a key that mappings carry and the
 *    patched one would not, the program first allocates the keys that the patched
 *    kernel passes over, makes the call, and frees them again. Each of these
 *    allocations has to return the lowest free key.
 *  - A key that was freed, is clean and is allocated again is taken from the other
 *    threads, and from the signal frames of all threads (F4, F6). "patched": they
 *    must have lost access to it. "unpatched": their rights must be what they were.
 *    Then the program sets the same rights on both.
 *  - "unpatched": pkey_free(0) has to succeed, and the next pkey_alloc() has to
 *    return 0. The log says EINVAL (B1). PR_PKEY has to be EINVAL, and the program
 *    does what the call does on a patched kernel (I2).
 *
 * "planted" is as "patched", and logs a difference that is not there: after a
 * successful MADV_DONTNEED, in a line for a successful write. It shows that
 * scripts/compare.sh finds differences.
 *
 * A result that is not the predicted one is a line that starts with "MODEL". Such
 * lines are failures, even if both logs have them.
 *
 * A sequence consists of chunks of CHUNK_OPS operations. Each runs in a process of
 * its own, with a seed of its own, so a difference can be looked at without what
 * came before. The random numbers of an operation depend on the seed and on the
 * number of the operation only, so that operations can be left out.
 *
 * "run" prints a line for each chunk, with a hash of its log. "show" prints the log
 * of one chunk. "serve" waits for files request-1, request-2 and so on in a
 * directory. Each names a chunk and the operations of it to keep; the log goes to
 * the file answer-N. scripts/compare.sh reduces a sequence in this way.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "pkey_util.h"

#ifndef PR_PKEY
#define PR_PKEY			0x504b4559
#define PR_PKEY_SET_RIGHTS	1
#endif

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE	0x100000
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif
#ifndef MADV_COLD
#define MADV_COLD		20
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif
#define MADV_GUARD_INSTALL_	102
#define MADV_GUARD_REMOVE_	103
#ifndef __NR_mseal
#define __NR_mseal		462
#endif
#ifndef PROT_GROWSDOWN
#define PROT_GROWSDOWN		0x01000000
#define PROT_GROWSUP		0x02000000
#endif

#define CHUNK_OPS	250
#define CHUNK_SECONDS	300
#define THREADS		3
#define LOG_SIZE	(4u << 20)
#define SMAPS_SIZE	(1u << 19)

/*
 * All mappings that the operations change are here, at a fixed address: pages, a
 * gap, space for huge pages, a gap.
 */
#define PAGE		4096UL
#define HUGE		(2UL << 20)
#define ARENA		0x60000000UL
#define ARENA_PAGES	48
#define ARENA_HUGE	(ARENA + HUGE)
#define NR_HUGE		3
#define ARENA_END	(ARENA + 16 * HUGE)

/* The memory is filled with this byte, "ret", because it is executed too. */
#define FILL		0xc3

static bool patched;
static bool pku;
static bool verbose;
static bool plant;
static uint64_t chunk_seed;
static int memfd, zerofd, scratchfd;

/* Counters of documented differences, over all chunks. */
enum count {
	PASSED_OVER,
	HANDED_OUT_AGAIN,
	LAST_RESORT,
	EXECUTE_ONLY,
	KEY_0,
	SET_RIGHTS,
	NR_COUNTS,
};

static const char * const count_names[NR_COUNTS] = {
	[PASSED_OVER] = "calls that passed over keys that mappings carry",
	[HANDED_OUT_AGAIN] = "clean keys handed out again",
	[LAST_RESORT] = "keys handed out as a last resort",
	[EXECUTE_ONLY] = "execute-only keys taken",
	[KEY_0] = "pkey_free(0)",
	[SET_RIGHTS] = "PR_PKEY_SET_RIGHTS with success",
};

/* The log of the chunk that runs, written by its process and all their children. */
static struct log {
	size_t len;
	unsigned int ops;
	unsigned int surprises;
	unsigned long counts[NR_COUNTS];
	char text[LOG_SIZE];
} *chunk_log;

static void count(enum count what)
{
	chunk_log->counts[what]++;
}

static bool keep[CHUNK_OPS];

/*
 * The state of the address space as the program has changed it; fork() copies it.
 * @exec_key: The execute-only key, 0 while there is none.
 * @attached: The keys that some mapping may carry; smaps shows which are mapped.
 */
static struct {
	uint16_t allocated;
	uint16_t used;
	uint16_t attached;
	int exec_key;
	bool reuse_mapped;
} keys;

/*
 * Changes of rights that the patched kernel makes and the unpatched one does not:
 * the bits of @mask become @bits. On the patched kernel those of @check have them.
 */
struct change {
	uint32_t mask;
	uint32_t bits;
	uint32_t check;
};

enum job {
	JOB_OP,
	JOB_SETTLE,
	JOB_EXIT,
};

/*
 * @pkru: What this thread's PKRU has to be.
 * @pending: Changes that this thread has yet to look for.
 * @frame: The same, for its signal frame.
 * @busy: The thread runs operations, or waits for one that another thread runs.
 */
static struct thread {
	pthread_t thread;
	sem_t go;
	sem_t done;
	enum job job;
	int index;
	bool alive;
	bool busy;
	bool in_signal;
	uint32_t pkru;
	struct change pending;
	struct change frame;
} threads[THREADS];

static __thread int me;

static void die(const char *what)
{
	fprintf(stderr, "pkey_compare: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* -------- random numbers -------- */

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

/* For the operation that runs; operations run one at a time. */
static uint64_t random_state;

static uint32_t pick(uint32_t n)
{
	random_state = mix(random_state);
	return (random_state >> 33) % n;
}

static bool chance(uint32_t n)
{
	return pick(n) == 0;
}

#define PICK(_array)	((_array)[pick(sizeof(_array) / sizeof((_array)[0]))])

/* -------- the log -------- */

static void __attribute__((format(printf, 1, 2))) say(const char *format, ...)
{
	size_t left = LOG_SIZE - chunk_log->len;
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(chunk_log->text + chunk_log->len, left, format, args);
	va_end(args);
	if (n < 0 || n >= (int)left)
		_exit(99);
	chunk_log->len += n;
}

/* Start a new line: the line of the operation is not complete yet. */
#define surprise(_format, ...)						\
do {									\
	chunk_log->surprises++;						\
	say("\nMODEL " _format "\n", ##__VA_ARGS__);			\
} while (0)

static uint64_t hash_more(uint64_t hash, const void *data, size_t len)
{
	const unsigned char *byte = data;

	while (len--)
		hash = (hash ^ *byte++) * 0x100000001b3ULL;
	return hash;
}

static uint64_t hash(const void *data, size_t len)
{
	return hash_more(0xcbf29ce484222325ULL, data, len);
}

static bool in_arena(const void *addr)
{
	return (uintptr_t)addr >= ARENA && (uintptr_t)addr < ARENA_END;
}

/* Return the offset in the arena, which is easier to read than the address. */
static unsigned long offset(const void *addr)
{
	return (uintptr_t)addr - ARENA;
}

static void say_range(const void *addr, unsigned long len)
{
	say(" %lx+%lx", offset(addr), len);
}

static void say_result(long ret)
{
	if (ret == -1)
		say(" = -%d", errno);
	else
		say(" = %ld", ret);
}

/* -------- what smaps says of the arena -------- */

static char smaps[SMAPS_SIZE];

static void read_smaps(void)
{
	int fd = open("/proc/self/smaps", O_RDONLY);
	size_t len = 0;
	ssize_t n;

	if (fd < 0)
		die("/proc/self/smaps");
	while ((n = read(fd, smaps + len, SMAPS_SIZE - 1 - len)) > 0)
		len += n;
	close(fd);
	smaps[len] = '\0';
}

/* These lines depend on when the kernel scans its lists of pages. */
static bool varies(const char *line)
{
	return !strncmp(line, "LazyFree:", 9) || !strncmp(line, "Referenced:", 11);
}

/* Log a hash of smaps; if @verbose, log the text too. */
static void say_smaps(void)
{
	uint64_t sum = hash("", 0);
	bool inside = false;
	char *line, *end;
	int vmas = 0;

	read_smaps();
	for (line = smaps; *line; line = end) {
		unsigned long start;
		char *dash;

		end = strchr(line, '\n');
		end = end ? end + 1 : line + strlen(line);
		start = strtoul(line, &dash, 16);
		if (dash > line && *dash == '-') {
			inside = start >= ARENA && start < ARENA_END;
			vmas += inside;
		}
		if (!inside || varies(line))
			continue;
		/* Leave the device and the inode out: they differ from boot to boot. */
		if (dash > line && *dash == '-') {
			char *fields = strchr(line, ' ');
			int i;

			for (i = 0; i < 2 && fields; i++)
				fields = strchr(fields + 1, ' ');
			if (fields && fields < end) {
				sum = hash_more(sum, line, fields - line);
				if (verbose)
					say("\n    %.*s", (int)(fields - line), line);
				continue;
			}
		}
		sum = hash_more(sum, line, end - line);
		if (verbose)
			say("\n    %.*s", (int)(end - line - 1), line);
	}
	say(" %d mappings %016llx", vmas, (unsigned long long)sum);
}

/* Return the keys that mappings carry. */
static uint16_t mapped_keys(void)
{
	static const char name[] = "\nProtectionKey:";
	uint16_t mask = 0;
	char *line;

	read_smaps();
	for (line = smaps; (line = strstr(line, name)); line++)
		mask |= 1u << strtoul(line + sizeof(name) - 1, NULL, 10);
	return mask;
}

/* -------- PKRU -------- */

static uint32_t bits_of_keys(uint16_t mask)
{
	uint32_t bits = 0;
	int key;

	for (key = 0; key < PKEY_NR; key++)
		if (mask & 1u << key)
			bits |= (uint32_t)PKEY_RIGHTS_MASK << 2 * key;
	return bits;
}

static void add_change(struct change *change, const struct change *more)
{
	change->mask |= more->mask;
	change->bits = (change->bits & ~more->mask) | more->bits;
	change->check = (change->check & ~more->mask) | more->check;
}

static uint32_t changed(uint32_t pkru, const struct change *change)
{
	return (pkru & ~change->mask) | change->bits;
}

/*
 * Check the calling thread's PKRU: it has the pending changes on the patched kernel and
 * is unchanged on the other one. Then make the changes on both.
 */
static void settle(void)
{
	struct thread *self = &threads[me];
	struct change *change = &self->pending;
	uint32_t pkru, wrong;

	if (!pku)
		return;

	pkru = rdpkru();
	wrong = pkru ^ self->pkru;
	if (patched)
		wrong = (wrong & ~change->mask) |
			((pkru ^ change->bits) & change->check);
	if (wrong)
		surprise("thread %d: PKRU %08x, was %08x, changes %08x in %08x", me, pkru,
			 self->pkru, change->bits, change->mask);
	self->pkru = changed(self->pkru, change);
	wrpkru(self->pkru);
	memset(change, 0, sizeof(*change));
}

/* Start a job on another thread and wait for its end. */
static void hand_over(int thread, enum job job, int index)
{
	struct thread *other = &threads[thread];

	other->job = job;
	other->index = index;
	sem_post(&other->go);
	while (sem_wait(&other->done))
		;
}

/* The patched kernel has changed rights in all threads but the caller's. */
static void change_others(const struct change *change)
{
	int i;

	for (i = 0; i < THREADS; i++) {
		struct thread *other = &threads[i];

		if (other->in_signal)
			add_change(&other->frame, change);
		if (!other->alive || i == me)
			continue;
		add_change(&other->pending, change);
		if (!other->busy)
			hand_over(i, JOB_SETTLE, 0);
	}
}

/* A clean key has been handed out again: the others have no access to it. */
static void revoke_from_others(int key)
{
	const struct change change = {
		.mask = (uint32_t)PKEY_RIGHTS_MASK << 2 * key,
		.bits = (uint32_t)PKEY_DISABLE_ACCESS << 2 * key,
		.check = (uint32_t)PKEY_DISABLE_ACCESS << 2 * key,
	};

	change_others(&change);
}

/* -------- which key a call takes -------- */

struct choice {
	int key;
	bool clean;
	/* Keys that the unpatched kernel would take, and the patched one does not. */
	uint16_t passed_over;
};

static struct choice choose(bool exec_only)
{
	const uint16_t free = ~keys.allocated & PKEY_MASK_ALL;
	struct choice choice = { .key = -ENOSPC };
	uint16_t mapped = 0;

	if (!pku || !free)
		return choice;

	if (free & keys.attached) {
		mapped = mapped_keys();
		keys.attached = mapped;
	}
	if (free & ~mapped) {
		choice.key = __builtin_ctz(free & ~mapped);
		choice.clean = true;
		choice.passed_over = free & ((1u << choice.key) - 1);
	} else if (keys.reuse_mapped && !exec_only) {
		choice.key = __builtin_ctz(free);
	} else {
		choice.passed_over = free;
	}
	return choice;
}

/* Make the unpatched kernel take the key that the patched one takes. PKRU changes. */
static void hold_passed_over(const struct choice *choice)
{
	uint16_t left = patched ? 0 : choice->passed_over;

	if (choice->passed_over)
		count(PASSED_OVER);
	for (; left; left &= left - 1) {
		int ret = pkey_raw_syscall(__NR_pkey_alloc, 0, 0, 0, 0);

		if (ret != __builtin_ctz(left))
			surprise("the lowest free key is %d, pkey_alloc() gave %d",
				 __builtin_ctz(left), ret);
	}
}

static void free_passed_over(const struct choice *choice)
{
	uint16_t left = patched ? 0 : choice->passed_over;
	int ret;

	for (; left; left &= left - 1) {
		ret = pkey_raw_syscall(__NR_pkey_free, __builtin_ctz(left), 0, 0, 0);
		if (ret)
			surprise("pkey_free(%d) gave %d", __builtin_ctz(left), ret);
	}
}

/* The key of a choice has been taken. */
static void taken(const struct choice *choice)
{
	const uint16_t bit = 1u << choice->key;

	if (!choice->clean)
		count(LAST_RESORT);
	if (choice->clean && keys.used & bit) {
		count(HANDED_OUT_AGAIN);
		revoke_from_others(choice->key);
	}
	keys.allocated |= bit;
	keys.used |= bit;
}

/*
 * This is for a call that may take a key for execute-only memory. While it runs no bit
 * of a free key is set in PKRU: the bit that the call sets shows which key it took.
 */
struct exec_only {
	struct choice choice;
	bool possible;
	uint32_t pkru;
};

static void exec_only_begin(struct exec_only *exec, bool may_take)
{
	memset(exec, 0, sizeof(*exec));
	exec->possible = may_take && pku && !keys.exec_key;
	if (!exec->possible)
		return;

	exec->pkru = rdpkru();
	exec->choice = choose(true);
	hold_passed_over(&exec->choice);
	wrpkru(exec->pkru & ~bits_of_keys(~keys.allocated));
}

static void exec_only_end(struct exec_only *exec)
{
	const uint32_t free = bits_of_keys(~keys.allocated);
	uint32_t pkru, set;
	int saved = errno;

	if (!exec->possible)
		return;

	pkru = rdpkru();
	free_passed_over(&exec->choice);
	set = pkru & free;
	pkru = (pkru & ~free) | (exec->pkru & free);
	if (set) {
		int key = __builtin_ctz(set) / 2;

		if (key != exec->choice.key ||
		    set != (uint32_t)PKEY_DISABLE_ACCESS << 2 * key)
			surprise("execute-only key: PKRU bits %08x, not of key %d", set,
				 exec->choice.key);
		count(EXECUTE_ONLY);
		exec->choice.key = key;
		keys.exec_key = key;
		keys.attached |= 1u << key;
		pkru = pkru_with_rights(pkru, key, PKEY_DISABLE_ACCESS);
		taken(&exec->choice);
		say(" execute-only key %d", key);
	}
	wrpkru(pkru);
	errno = saved;
}

static bool is_exec_only(int prot)
{
	return (prot & (PROT_READ | PROT_WRITE | PROT_EXEC)) == PROT_EXEC;
}

/* -------- operations on keys -------- */

static bool owned(int key)
{
	return key > 0 && key < PKEY_NR && key != keys.exec_key &&
	       keys.allocated & 1u << key;
}

static int random_owned_key(void)
{
	int key = pick(PKEY_NR), i;

	for (i = 0; i < PKEY_NR; i++, key = (key + 1) % PKEY_NR)
		if (owned(key))
			return key;
	return pick(PKEY_NR);
}

static int random_key(void)
{
	static const int bad[] = { -2, 16, 17, 31, 32, 0x7fffffff, -0x7fffffff - 1 };

	switch (pick(16)) {
	case 0: return PICK(bad);
	case 1: return keys.exec_key;
	case 2: return pick(PKEY_NR);
	case 3: return 0;
	case 4: return -1;
	default: return random_owned_key();
	}
}

static void op_alloc(void)
{
	static const pkey_arg_t bad[] = { 4, 8, 0x80000000u, (pkey_arg_t)-1, 5 };
	pkey_arg_t flags = chance(20) ? PICK(bad) : 0;
	pkey_arg_t rights = chance(20) ? PICK(bad) : pick(4);
	uint32_t before = pkru_save(), after = 0;
	struct choice choice = { .key = -EINVAL };
	int ret;

#ifdef __x86_64__
	if (chance(40))
		flags = 1ULL << 32;
	if (chance(40))
		rights |= 1ULL << 32;
#endif
	if (!flags && !(rights & ~(pkey_arg_t)PKEY_RIGHTS_MASK)) {
		choice = choose(false);
		hold_passed_over(&choice);
		pkru_restore(before);
	}
	if (pku)
		ret = pkey_raw_syscall_pkru(__NR_pkey_alloc, flags, rights, 0, 0, &after);
	else
		ret = pkey_raw_syscall(__NR_pkey_alloc, flags, rights, 0, 0);
	free_passed_over(&choice);

	say("pkey_alloc %llx %llx = %d", (unsigned long long)flags,
	    (unsigned long long)rights, ret);
	if (ret != choice.key)
		surprise("pkey_alloc() gave %d, predicted %d", ret, choice.key);
	if (ret > 0 && ret < PKEY_NR) {
		before = pkru_with_rights(before, ret, rights);
		choice.key = ret;
		taken(&choice);
	}
	if (after != before)
		surprise("PKRU %08x after pkey_alloc(), predicted %08x", after, before);
}

static void op_free(void)
{
	int key = random_key(), want = owned(key) ? 0 : -EINVAL, ret;

	ret = pkey_raw_syscall(__NR_pkey_free, key, 0, 0, 0);
	if (!patched && pku && key == 0 && ret == 0) {
		ret = pkey_raw_syscall(__NR_pkey_alloc, 0, 0, 0, 0);
		if (ret)
			surprise("key 0 is free, and pkey_alloc() gave %d", ret);
		ret = -EINVAL;
	}
	if (key == 0)
		count(KEY_0);
	say("pkey_free %d = %d", key, ret);
	if (ret != want)
		surprise("pkey_free() gave %d, predicted %d", ret, want);
	if (!ret)
		keys.allocated &= ~(1u << key);
}

static void op_set_rights(void)
{
	int key = random_key(), want, ret;
	unsigned long rights = chance(12) ? 4 + pick(9) : pick(4);
	unsigned long unused = chance(12);
	struct change change = {};

	ret = prctl(PR_PKEY, PR_PKEY_SET_RIGHTS, key, rights, unused) ? -errno : 0;
	want = pku && owned(key) && rights < 4 && !unused ? 0 : -EINVAL;
	if (!patched) {
		if (ret != -EINVAL)
			surprise("PR_PKEY gave %d", ret);
		ret = want;
	}
	say("set_rights %d %lx %lx = %d", key, rights, unused, ret);
	if (ret != want)
		surprise("PR_PKEY_SET_RIGHTS gave %d, predicted %d", ret, want);
	if (ret)
		return;

	count(SET_RIGHTS);
	change.mask = change.check = (uint32_t)PKEY_RIGHTS_MASK << 2 * key;
	change.bits = (uint32_t)rights << 2 * key;
	add_change(&threads[me].pending, &change);
	settle();
	change_others(&change);
}

static void op_wrpkru(void)
{
	uint32_t pkru;

	if (!pku) {
		say("wrpkru");
		return;
	}
	pkru = rdpkru();
	switch (pick(4)) {
	case 0:
		pkru = 0;
		break;
	case 1:
		pkru = pick(1u << 31) << 2;
		break;
	default:
		pkru = pkru_with_rights(pkru, 1 + pick(PKEY_MAX), pick(4));
	}
	wrpkru(pkru);
	say("wrpkru %08x", pkru);
}

/* -------- operations on mappings -------- */

static const int prots[] = {
	PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE,
	PROT_READ | PROT_WRITE | PROT_EXEC, PROT_READ | PROT_EXEC, PROT_EXEC, PROT_EXEC,
	PROT_WRITE, PROT_WRITE | PROT_EXEC, PROT_NONE,
};

struct range {
	char *addr;
	unsigned long len;
};

static struct range good_range(void)
{
	struct range range;
	unsigned long page;

	if (chance(8)) {
		page = pick(NR_HUGE);
		range.addr = (char *)ARENA_HUGE + page * HUGE;
		range.len = (1 + pick(NR_HUGE - page)) * HUGE;
		if (chance(3)) {
			range.addr += pick(HUGE / PAGE / 2) * PAGE;
			range.len = (1 + pick(HUGE / PAGE)) * PAGE;
		}
	} else {
		page = pick(ARENA_PAGES);
		range.addr = (char *)ARENA + page * PAGE;
		range.len = 1 + pick(8);
		if (page + range.len > ARENA_PAGES)
			range.len = ARENA_PAGES - page;
		range.len *= PAGE;
	}
	return range;
}

/* Return a range that may be wrong: not aligned, empty, or to the address space's end. */
static struct range any_range(void)
{
	struct range range = good_range();

	switch (pick(48)) {
	case 0:
		range.addr++;
		break;
	case 1:
		range.len = 0;
		break;
	case 2:
		range.len -= 1 + pick(PAGE - 1);
		break;
	case 3:
		range.len = -(unsigned long)range.addr - PAGE * pick(2);
		break;
	}
	return range;
}

/* Return a range as any_range() does, for calls that do not end at the first hole. */
static struct range near_range(void)
{
	struct range range = any_range();

	/* In a 32-bit program no length makes the kernel's 64-bit sum overflow. */
	if (range.len > ARENA_END - ARENA)
		range.len = sizeof(range.len) == 8 ? -PAGE : 0;
	return range;
}

static void say_address(const void *addr)
{
	if (addr == MAP_FAILED)
		say(" = -%d", errno);
	else if (in_arena(addr))
		say(" = @%lx", offset(addr));
	else
		say(" = outside");
}

/* A mapping may exist that grows down. */
static bool grows_down;

static void op_mmap(void)
{
	struct range range = near_range();
	int prot = PICK(prots), flags, fd = -1;
	off_t pgoff = 0;
	struct exec_only exec;
	void *addr;

	switch (pick(8)) {
	case 0:
		flags = MAP_SHARED | MAP_ANONYMOUS;
		break;
	case 1:
		flags = MAP_SHARED;
		fd = memfd;
		break;
	case 2:
		flags = MAP_PRIVATE;
		fd = chance(2) ? memfd : zerofd;
		break;
	case 3:
		flags = MAP_PRIVATE | MAP_ANONYMOUS;
		if ((uintptr_t)range.addr >= ARENA_HUGE)
			flags |= MAP_HUGETLB;
		break;
	default:
		flags = MAP_PRIVATE | MAP_ANONYMOUS;
	}
	if (fd >= 0)
		pgoff = pick(8) * PAGE;
	switch (pick(8)) {
	case 0:
		break;
	case 1:
		flags |= MAP_FIXED_NOREPLACE;
		break;
	default:
		flags |= MAP_FIXED;
	}
	if (chance(6))
		flags |= MAP_POPULATE;
	if (chance(12))
		flags |= MAP_LOCKED;
	if (chance(12))
		flags |= MAP_NORESERVE;
	if (chance(24)) {
		flags |= MAP_GROWSDOWN;
		grows_down = true;
	}

	say("mmap");
	say_range(range.addr, range.len);
	say(" prot %x flags %x %s", prot, flags,
	    fd < 0 ? "anon" : fd == memfd ? "memfd" : "zero");
	exec_only_begin(&exec, is_exec_only(prot));
	addr = mmap(range.addr, range.len, prot, flags, fd, pgoff);
	exec_only_end(&exec);
	say_address(addr);
	if (addr != MAP_FAILED && !in_arena(addr))
		munmap(addr, range.len);
}

static void op_munmap(void)
{
	struct range range = near_range();

	say("munmap");
	say_range(range.addr, range.len);
	say_result(munmap(range.addr, range.len));
}

static void op_mremap(void)
{
	static const int choices[] = {
		0, MREMAP_MAYMOVE, MREMAP_MAYMOVE | MREMAP_FIXED,
		MREMAP_MAYMOVE | MREMAP_FIXED, MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
		MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, MREMAP_FIXED, 64,
	};
	struct range from = near_range(), to = good_range(), back = good_range();
	int flags = PICK(choices);
	void *addr, *moved;

	if (chance(2))
		to.len = from.len;
	say("mremap");
	say_range(from.addr, from.len);
	say_range(to.addr, to.len);
	say(" flags %x", flags);
	addr = mremap(from.addr, from.len, to.len, flags, to.addr);
	say_address(addr);
	if (addr == MAP_FAILED || in_arena(addr))
		return;

	/* The kernel has chosen the place: put the mapping where the log sees it. */
	moved = mremap(addr, to.len, to.len, MREMAP_MAYMOVE | MREMAP_FIXED, back.addr);
	say(" back");
	say_address(moved);
	if (moved == MAP_FAILED)
		munmap(addr, to.len);
}

static int random_mprotect_prot(void)
{
	int prot = PICK(prots);

	switch (pick(32)) {
	case 0: return prot | PROT_GROWSDOWN;
	case 1: return prot | PROT_GROWSUP;
	case 2: return prot | PROT_GROWSDOWN | PROT_GROWSUP;
	case 3: return prot | 0x20;
	default: return prot;
	}
}

static void op_mprotect(void)
{
	struct range range = any_range();
	int prot = random_mprotect_prot();
	struct exec_only exec;
	int ret;

	say("mprotect");
	say_range(range.addr, range.len);
	say(" prot %x", prot);
	exec_only_begin(&exec, is_exec_only(prot));
	ret = sys_mprotect(range.addr, range.len, prot);
	exec_only_end(&exec);
	say_result(ret);
}

static void op_pkey_mprotect(void)
{
	struct range range = any_range();
	int prot = random_mprotect_prot(), key = random_key(), ret;
	struct exec_only exec;

	say("pkey_mprotect");
	say_range(range.addr, range.len);
	say(" prot %x key %d", prot, key);
	if (key > 0 && key < PKEY_NR)
		keys.attached |= 1u << key;
	exec_only_begin(&exec, key == -1 && is_exec_only(prot));
	ret = sys_pkey_mprotect(range.addr, range.len, prot, key);
	exec_only_end(&exec);
	say_result(ret);
}

/* MADV_DONTNEED has succeeded; "planted" logs its difference only then. */
static bool dontneed;

static void op_madvise(void)
{
	static const int advices[] = {
		MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED,
		MADV_DONTNEED, MADV_DONTNEED, MADV_FREE, MADV_REMOVE, MADV_DONTFORK,
		MADV_DOFORK, MADV_DOFORK, MADV_MERGEABLE, MADV_UNMERGEABLE, MADV_HUGEPAGE,
		MADV_NOHUGEPAGE, MADV_DONTDUMP, MADV_DODUMP, MADV_WIPEONFORK,
		MADV_KEEPONFORK, MADV_COLD, MADV_POPULATE_READ, MADV_POPULATE_WRITE,
		MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_COLLAPSE,
		MADV_GUARD_INSTALL_, MADV_GUARD_REMOVE_, MADV_GUARD_REMOVE_, 1000,
	};
	struct range range = near_range();
	int advice = PICK(advices), ret;

	ret = madvise(range.addr, range.len, advice);
	say("madvise");
	say_range(range.addr, range.len);
	say(" %d", advice);
	say_result(ret);
	if (advice == MADV_DONTNEED && !ret)
		dontneed = true;
}

static void op_lock(void)
{
	struct range range = near_range();
	int kind = pick(4);
	long ret;

	say("%s", kind == 0 ? "mlock" : kind == 1 ? "mlock2" : "munlock");
	say_range(range.addr, range.len);
	if (kind == 0)
		ret = mlock(range.addr, range.len);
	else if (kind == 1)
		ret = syscall(SYS_mlock2, range.addr, range.len, 1);
	else
		ret = munlock(range.addr, range.len);
	say_result(ret);
}

static void op_other(void)
{
	static unsigned char present[HUGE / PAGE * 20];
	struct range range = near_range();
	struct exec_only exec;
	int ret;

	switch (pick(4)) {
	case 0:
		say("msync");
		say_range(range.addr, range.len);
		say_result(msync(range.addr, range.len, MS_SYNC));
		break;
	case 1:
		say("mincore");
		say_range(range.addr, range.len);
		memset(present, 0, sizeof(present));
		say_result(mincore(range.addr, range.len, present));
		say(" %08llx", (unsigned long long)hash(present, sizeof(present)) >> 32);
		break;
	case 2:
		say("remap_file_pages");
		say_range(range.addr, range.len);
		exec_only_begin(&exec, true);
		ret = syscall(SYS_remap_file_pages, range.addr, range.len, 0, pick(4), 0);
		exec_only_end(&exec);
		say_result(ret);
		break;
	default:
		say("mseal");
		range.len = PAGE;
		if (!chance(8))
			range.addr++;
		say_range(range.addr, range.len);
		say_result(syscall(__NR_mseal, range.addr, range.len, 0));
	}
}

/* The kernel reads or writes memory for the program. */
static void op_copy(void)
{
	struct range range = near_range();
	struct iovec local, remote;
	static char buffer[3 * PAGE];
	ssize_t ret;

	if (range.len > sizeof(buffer))
		range.len = sizeof(buffer);
	/* The kernel warns if another process accesses memory below such a mapping. */
	switch (pick(grows_down ? 2 : 3)) {
	case 0:
		ret = pread(memfd, range.addr, range.len, 0);
		say("pread");
		break;
	case 1:
		ret = pwrite(scratchfd, range.addr, range.len, 0);
		say("pwrite");
		break;
	default:
		local = (struct iovec){ buffer, range.len };
		remote = (struct iovec){ range.addr, range.len };
		ret = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
		say("process_vm_readv");
	}
	say_range(range.addr, range.len);
	say_result(ret);
}

/* -------- accesses that may fault -------- */

/*
 * access_read(), access_write() and access_exec() return the byte read, 0 or 1 if the
 * access succeeds. If it faults, the handler continues at access_failed, which returns
 * -1. access_exec() executes one instruction with the trap flag set.
 */
#ifdef __x86_64__
asm(".pushsection .text\n"
    "access_read: access_read_insn: movzbl (%rdi), %eax; ret\n"
    "access_write: movl $0xc3, %ecx; xorl %eax, %eax\n"
    "access_write_insn: movb %cl, (%rdi); ret\n"
    "access_exec: movq %rsi, %rax; pushfq; orq $0x100, (%rsp); popfq; jmp *%rdi\n"
    "access_failed: movl $-1, %eax; ret\n"
    ".popsection\n");
#define REG_IP	REG_RIP
#define REG_SP	REG_RSP
#define REG_AX	REG_RAX
#else
asm(".pushsection .text\n"
    "access_read: movl 4(%esp), %ecx\n"
    "access_read_insn: movzbl (%ecx), %eax; ret\n"
    "access_write: movl 4(%esp), %edx; movl $0xc3, %ecx; xorl %eax, %eax\n"
    "access_write_insn: movb %cl, (%edx); ret\n"
    "access_exec: movl 4(%esp), %ecx; movl 8(%esp), %eax; pushfl; orl $0x100, (%esp)\n"
    "popfl; jmp *%ecx\n"
    "access_failed: movl $-1, %eax; ret\n"
    ".popsection\n");
#define REG_IP	REG_EIP
#define REG_SP	REG_ESP
#define REG_AX	REG_EAX
#endif

int access_read(void *addr);
int access_write(void *addr);
int access_exec(void *addr, void *scratch);
extern char access_read_insn[], access_write_insn[], access_failed[];

#define TRAP_FLAG	0x100

/* The access that is tried; one at a time. */
static struct {
	void *addr;
	bool exec;
	bool started;
	gregset_t regs;
	char *caller;
	int sig;
	int code;
	int pkey;
	void *fault_addr;
} try;

static void resume_at(ucontext_t *context, const char *label)
{
	context->uc_mcontext.gregs[REG_IP] = (greg_t)(uintptr_t)label;
	context->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
}

static void on_fault(int sig, siginfo_t *info, void *ucontext)
{
	ucontext_t *context = ucontext;
	char *ip = (char *)(uintptr_t)context->uc_mcontext.gregs[REG_IP];

	if (ip != access_read_insn && ip != access_write_insn &&
	    !(try.exec && ip == try.addr)) {
		/* The access faults again on return, and kills. */
		say("\nMODEL signal %d code %d at %p, address %p\n", sig, info->si_code, ip,
		    info->si_addr);
		signal(sig, SIG_DFL);
		return;
	}
	try.sig = sig;
	try.code = info->si_code;
	try.pkey = sig == SIGSEGV && info->si_code == SEGV_PKUERR ? (int)info->si_pkey : 0;
	try.fault_addr = info->si_addr;
	resume_at(context, access_failed);
}

/*
 * The first trap comes after the jump to the instruction, the second after the instruction.
 * The handler then returns from access_exec() itself: if the instruction was "ret", the
 * signal frame has overwritten the return address.
 */
static void on_trap(int sig, siginfo_t *info, void *ucontext)
{
	ucontext_t *context = ucontext;
	greg_t *regs = context->uc_mcontext.gregs;

	if (!try.started) {
		try.started = true;
		memcpy(try.regs, regs, sizeof(try.regs));
		try.caller = *(char **)(uintptr_t)regs[REG_SP];
		return;
	}
	memcpy(regs, try.regs, sizeof(try.regs));
	regs[REG_SP] += sizeof(try.caller);
	regs[REG_AX] = 1;
	resume_at(context, try.caller);
}

static void op_access(void)
{
	static const unsigned int offsets[] = { 0, 1, 0x800, 0xff0 };
	static long scratch[4];
	struct range range = good_range();
	int kind = pick(5), ret;

	memset(&try, 0, sizeof(try));
	try.addr = range.addr + PICK(offsets);
	if (kind < 2) {
		ret = access_read(try.addr);
		say("read %lx", offset(try.addr));
	} else if (kind < 4) {
		ret = access_write(try.addr);
		say("write %lx", offset(try.addr));
	} else {
		try.exec = true;
		ret = access_exec(try.addr, scratch);
		say("exec %lx", offset(try.addr));
	}
	if (try.sig)
		say(" signal %d code %d key %d at %lx", try.sig, try.code, try.pkey,
		    offset(try.fault_addr));
	else
		say(" = %d", ret);
	if (plant && dontneed && kind == 2 && !try.sig)
		say(" planted");
}

/* -------- threads, processes, signals -------- */

static void run_ops(int from, int to);
static void run_op(int index);

/* Where the sequence ends for the process or the handler that runs. */
static int ops_end;

/* How many operations belong to this one. */
static int pick_inner(int index)
{
	const int n = 1 + pick(16), left = ops_end - index - 1;

	return n < left ? n : left;
}

static void *worker(void *arg)
{
	struct thread *self = arg;
	bool go_on = true;
	sigset_t mask;

	me = self - threads;
	/* The creator may be in the handler, where the signal is blocked. */
	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	pthread_sigmask(SIG_UNBLOCK, &mask, NULL);
	while (go_on) {
		while (sem_wait(&self->go))
			;
		self->busy = true;
		settle();
		if (self->job == JOB_OP)
			run_op(self->index);
		go_on = self->job != JOB_EXIT;
		self->busy = false;
		sem_post(&self->done);
	}
	return NULL;
}

static void start_thread(int i)
{
	struct thread *other = &threads[i];
	pthread_attr_t attr;

	memset(other, 0, sizeof(*other));
	sem_init(&other->go, 0, 0);
	sem_init(&other->done, 0, 0);
	other->alive = true;
	other->pkru = pkru_save();
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 * PAGE);
	if (pthread_create(&other->thread, &attr, worker, other))
		die("pthread_create");
	pthread_attr_destroy(&attr);
}

/* A thread ends, a new one starts. */
static void op_thread(void)
{
	int i = 1 + pick(THREADS - 1);
	struct thread *other = &threads[i];

	if (i == me || (other->alive && other->busy)) {
		say("thread %d busy", i);
		return;
	}
	if (other->alive) {
		hand_over(i, JOB_EXIT, 0);
		pthread_join(other->thread, NULL);
	}
	start_thread(i);
	say("thread %d", i);
}

/* Run the next operations in a child. Return their number. */
static int op_fork(int index)
{
	int n = pick_inner(index), status = 0, i;
	pid_t pid;

	say("fork %d\n", n);
	pid = fork();
	if (!pid) {
		for (i = 0; i < THREADS; i++)
			if (i != me)
				threads[i].alive = false;
		settle();
		run_ops(index + 1, index + 1 + n);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		die("fork");
	say("child of %d ends", index);
	if (status)
		surprise("status %x", status);
	return n;
}

static int signal_from, signal_to;

static void on_signal(int sig)
{
	struct thread *self = &threads[me];

	/* The handler starts with the initial PKRU. */
	self->pkru = pkru_save();
	say("handler pkru %08x\n", self->pkru);
	run_ops(signal_from, signal_to);
	settle();
}

/* Run the next operations in a signal handler. Return their number. */
static int op_signal(int index)
{
	struct thread *self = &threads[me];
	struct change *frame = &self->frame;
	uint32_t before = self->pkru, in_handler, pkru, wrong;
	int n = pick_inner(index), i;

	for (i = 0; i < THREADS; i++) {
		if (threads[i].in_signal) {
			say("signal busy");
			return 0;
		}
	}
	say("signal %d ", n);
	memset(frame, 0, sizeof(*frame));
	self->in_signal = true;
	signal_from = index + 1;
	signal_to = index + 1 + n;
	raise(SIGUSR1);
	self->in_signal = false;
	say("handler of %d ends", index);
	if (!pku)
		return n;

	/*
	 * sigreturn has restored the rights. On the patched kernel a key that was
	 * handed out again may have the rights that the handler had to it, or none.
	 */
	in_handler = self->pkru;
	pkru = rdpkru();
	wrong = pkru ^ before;
	if (patched)
		wrong = (wrong & ~frame->mask) |
			((pkru ^ frame->bits) & (pkru ^ in_handler) & frame->check);
	if (wrong)
		surprise("PKRU %08x after sigreturn, was %08x, changes %08x in %08x", pkru,
			 before, frame->bits, frame->mask);
	wrpkru(changed(before, frame));
	return n;
}

/* -------- the sequence -------- */

enum kind {
	OP_MMAP, OP_MUNMAP, OP_MREMAP, OP_MPROTECT, OP_PKEY_MPROTECT, OP_MADVISE, OP_LOCK,
	OP_OTHER, OP_COPY, OP_ACCESS, OP_ALLOC, OP_FREE, OP_SET_RIGHTS, OP_WRPKRU,
	OP_THREAD, OP_FORK, OP_SIGNAL, OP_SMAPS, NR_KINDS,
};

/* How often each kind is chosen, relative to the sum of all. */
static const int weights[NR_KINDS] = {
	[OP_MMAP] = 12, [OP_MUNMAP] = 5, [OP_MREMAP] = 5, [OP_MPROTECT] = 8,
	[OP_PKEY_MPROTECT] = 16, [OP_MADVISE] = 7, [OP_LOCK] = 2, [OP_OTHER] = 2,
	[OP_COPY] = 3, [OP_ACCESS] = 16, [OP_ALLOC] = 9, [OP_FREE] = 7,
	[OP_SET_RIGHTS] = 1, [OP_WRPKRU] = 6, [OP_THREAD] = 1, [OP_FORK] = 1,
	[OP_SIGNAL] = 1, [OP_SMAPS] = 1,
};

static enum kind random_kind(void)
{
	int kind, left, total = 0;

	for (kind = 0; kind < NR_KINDS; kind++)
		total += weights[kind];
	left = pick(total);
	for (kind = 0; left >= weights[kind]; kind++)
		left -= weights[kind];
	/* In every second chunk keys are scarce: a key is freed when there is no other. */
	if (kind == OP_FREE && chunk_seed & 8 && keys.allocated != PKEY_MASK_ALL && !chance(4))
		kind = OP_ALLOC;
	return kind;
}

/* How many operations after this one have run as part of it. */
static int inner_ops;

/* Run one operation on the calling thread. */
static void run_op(int index)
{
	struct thread *self = &threads[me];
	enum kind kind;
	int inner = 0;

	random_state = mix(chunk_seed + index * 2 + 1);
	settle();
	say("%d.%d ", index, me);
	kind = random_kind();
	switch (kind) {
	case OP_MMAP: op_mmap(); break;
	case OP_MUNMAP: op_munmap(); break;
	case OP_MREMAP: op_mremap(); break;
	case OP_MPROTECT: op_mprotect(); break;
	case OP_PKEY_MPROTECT: op_pkey_mprotect(); break;
	case OP_MADVISE: op_madvise(); break;
	case OP_LOCK: op_lock(); break;
	case OP_OTHER: op_other(); break;
	case OP_COPY: op_copy(); break;
	case OP_ACCESS: op_access(); break;
	case OP_ALLOC: op_alloc(); break;
	case OP_FREE: op_free(); break;
	case OP_SET_RIGHTS: op_set_rights(); break;
	case OP_WRPKRU: op_wrpkru(); break;
	case OP_THREAD: op_thread(); break;
	case OP_FORK: inner = op_fork(index); break;
	case OP_SIGNAL: inner = op_signal(index); break;
	default: say("smaps"); say_smaps();
	}
	self->pkru = pkru_save();
	say(" pkru %08x\n", self->pkru);
	chunk_log->ops++;
	inner_ops = inner;
}

/* Run each operation on a thread that does not wait for another, or on this one. */
static void run_ops(int from, int to)
{
	const int outer_end = ops_end;
	int index, thread;

	ops_end = to;
	for (index = from; index < to; index += 1 + inner_ops) {
		inner_ops = 0;
		if (!keep[index])
			continue;
		thread = mix(chunk_seed + index * 2) % (2 * THREADS);
		if (thread >= THREADS)
			thread = 0;
		if (thread == me || !threads[thread].alive || threads[thread].busy)
			run_op(index);
		else
			hand_over(thread, JOB_OP, index);
		settle();
	}
	ops_end = outer_end;
}

static void catch(int sig, void (*handler)(int, siginfo_t *, void *))
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };

	sigaction(sig, &action, NULL);
}

/* Run one chunk, in the child that run_chunk() forked. */
static void chunk_process(void)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
	static char fill[8 * PAGE];
	int i;

	alarm(CHUNK_SECONDS);
	/* This process has only key 0 and has used no other. */
	keys.allocated = keys.used = 1;
	memfd = syscall(SYS_memfd_create, "pkey_compare", 0);
	scratchfd = syscall(SYS_memfd_create, "pkey_compare", 0);
	zerofd = open("/dev/zero", O_RDWR);
	memset(fill, FILL, sizeof(fill));
	if (memfd < 0 || scratchfd < 0 || zerofd < 0 ||
	    pwrite(memfd, fill, sizeof(fill), 0) != sizeof(fill))
		die("files");
	catch(SIGSEGV, on_fault);
	catch(SIGBUS, on_fault);
	catch(SIGTRAP, on_trap);
	signal(SIGUSR1, on_signal);

	if (mmap((void *)ARENA, ARENA_PAGES * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0) ==
	    MAP_FAILED ||
	    mmap((void *)ARENA_HUGE, NR_HUGE * HUGE, PROT_READ | PROT_WRITE, flags, -1, 0) ==
	    MAP_FAILED)
		die("mmap");

	threads[0].alive = threads[0].busy = true;
	threads[0].pkru = pkru_save();
	for (i = 1; i < THREADS; i++)
		start_thread(i);
	run_ops(0, CHUNK_OPS);
	say("end");
	say_smaps();
	say("\n");
	_exit(0);
}

/* Allow or forbid the last resort (F3) for a whole chunk. */
static void set_reuse_mapped(bool on)
{
	static const char name[] = "/proc/sys/vm/pkey_reuse_mapped";
	static int is = -1;

	keys.reuse_mapped = on;
	if (is == on || !patched || !pku)
		return;
	if (!pkey_write_file(name, on ? "1" : "0"))
		die(name);
	is = on;
}

static void run_chunk(uint64_t seed, unsigned int chunk)
{
	int status = 0;
	pid_t pid;

	chunk_seed = mix(mix(seed) + chunk);
	chunk_log->len = chunk_log->ops = chunk_log->surprises = 0;
	set_reuse_mapped(chunk_seed & 6);
	say("chunk %u vm.pkey_reuse_mapped %d\n", chunk, keys.reuse_mapped);
	fflush(stdout);
	pid = fork();
	if (!pid)
		chunk_process();
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		die("fork");
	say("status %x\n", status);
	if (status)
		chunk_log->surprises++;
}

/* -------- the three commands -------- */

static int run(uint64_t seed, unsigned long operations)
{
	unsigned long done = 0, surprises = 0;
	unsigned int chunk;
	int i;

	for (chunk = 0; done < operations; chunk++) {
		run_chunk(seed, chunk);
		printf("%u %u %016llx %u\n", chunk, chunk_log->ops,
		       (unsigned long long)hash(chunk_log->text, chunk_log->len),
		       chunk_log->surprises);
		if (!chunk_log->ops)
			break;
		done += chunk_log->ops;
		surprises += chunk_log->surprises;
	}
	for (i = 0; i < NR_COUNTS; i++)
		printf("# %lu %s\n", chunk_log->counts[i], count_names[i]);
	printf("operations %lu not predicted %lu\n", done, surprises);
	return surprises ? 1 : 0;
}

static void show(uint64_t seed, unsigned int chunk)
{
	verbose = true;
	run_chunk(seed, chunk);
	fwrite(chunk_log->text, 1, chunk_log->len, stdout);
}

/*
 * A request is the number of a chunk, then "smaps" if the text of smaps is wanted, then
 * the numbers of the operations to keep.
 */
static unsigned int read_request(const char *name)
{
	unsigned int chunk, index;
	char word[16];
	FILE *file = fopen(name, "r");

	if (!file || fscanf(file, "%u", &chunk) != 1)
		die(name);
	verbose = fscanf(file, " %15[smap]", word) == 1;
	memset(keep, 0, sizeof(keep));
	while (fscanf(file, "%u", &index) == 1)
		if (index < CHUNK_OPS)
			keep[index] = true;
	fclose(file);
	return chunk;
}

static void write_answer(const char *name)
{
	char new[512];
	FILE *file;

	snprintf(new, sizeof(new), "%s.new", name);
	file = fopen(new, "w");
	if (!file || fwrite(chunk_log->text, 1, chunk_log->len, file) != chunk_log->len)
		die(new);
	fclose(file);
	if (rename(new, name))
		die(name);
}

static void serve(uint64_t seed, const char *directory)
{
	char name[256];
	int n;

	for (n = 1; ; n++) {
		for (;;) {
			snprintf(name, sizeof(name), "%s/quit", directory);
			if (!access(name, F_OK))
				return;
			snprintf(name, sizeof(name), "%s/request-%d", directory, n);
			if (!access(name, F_OK))
				break;
			usleep(50000);
		}
		run_chunk(seed, read_request(name));
		snprintf(name, sizeof(name), "%s/answer-%d", directory, n);
		write_answer(name);
	}
}

/* Stop kernel threads that change mappings at a time of their own. */
static void quiet_kernel(void)
{
	pkey_write_file("/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs",
			"4294967295");
	pkey_write_file("/sys/kernel/mm/ksm/run", "0");
}

int main(int argc, char **argv)
{
	uint64_t seed;

	if (argc != 5)
		goto usage;
	plant = !strcmp(argv[1], "planted");
	patched = plant || !strcmp(argv[1], "patched");
	if (!patched && strcmp(argv[1], "unpatched"))
		goto usage;

	pku = pku_enabled();
	seed = strtoull(argv[3], NULL, 0);
	memset(keep, true, sizeof(keep));
	chunk_log = pkey_map_shared(sizeof(*chunk_log));
	if (!chunk_log)
		die("mmap");
	quiet_kernel();

	if (!strcmp(argv[2], "run"))
		return run(seed, strtoul(argv[4], NULL, 0));
	if (!strcmp(argv[2], "show"))
		show(seed, strtoul(argv[4], NULL, 0));
	else if (!strcmp(argv[2], "serve"))
		serve(seed, argv[4]);
	else
		goto usage;
	return 0;

usage:
	fprintf(stderr,
		"usage: pkey_compare unpatched|patched|planted run SEED OPERATIONS | show SEED CHUNK | serve SEED DIRECTORY\n");
	return 2;
}
