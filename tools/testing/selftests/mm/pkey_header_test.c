// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of tools/mm/pkey.h, the header for programs: rights to keys as restartable
 * sequences (F7) and without, opening and closing, mapping, siglongjmp(), and what the
 * functions do where there are no keys.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>
#include <ucontext.h>

#include "../kselftest_harness.h"
#include "pkey_util.h"
#include "../../../mm/pkey.h"

/* Rounds of a race, and the seconds after which it ends early. */
#define ROUNDS		500
#define SECONDS		10
/* With fewer rounds the race did not happen. */
#define MIN_ROUNDS	20

#define NO_RSEQ		"needs a C library that registers threads for rseq"

/* Read a variable that threads and signal handlers share. */
static int load(const int *value)
{
	return __atomic_load_n(value, __ATOMIC_SEQ_CST);
}

static void store(int *value, int new)
{
	__atomic_store_n(value, new, __ATOMIC_SEQ_CST);
}

/* Map memory with a key. Return NULL on failure. */
static void *map_with_key(void *addr, size_t size, int flags, int pkey)
{
	void *map = pkey_mmap_with_key(addr, size, RW, flags | MAP_ANONYMOUS, -1, 0, pkey);

	return map == MAP_FAILED ? NULL : map;
}

static const int no_keys[] = { -2, 16, 17, INT_MIN, INT_MAX, 1 << 16 };

TEST(constants)
{
	EXPECT_EQ(1, PKEY_DISABLE_ACCESS);
	EXPECT_EQ(2, PKEY_DISABLE_WRITE);
	EXPECT_EQ(0x504b4559, PR_PKEY);
	EXPECT_EQ(1, PR_PKEY_SET_RIGHTS);
	EXPECT_EQ(2, PR_PKEY_SET_SCOPE);
	EXPECT_EQ(3, PR_PKEY_GET_SCOPE);
	EXPECT_EQ(0, PR_PKEY_SCOPE_THREAD);
	EXPECT_EQ(1, PR_PKEY_SCOPE_PROCESS);
}

TEST(supported_as_cpuid_tells)
{
	EXPECT_EQ(pku_enabled(), pkey_supported());
	/* The second call returns the stored result. */
	EXPECT_EQ(pku_enabled(), pkey_supported());
}

/* Where there are no keys each function does nothing and returns that, without SIGILL. */
TEST(without_keys)
{
	struct pkey_jmp_buf buf;
	int pkey;

	if (pku_enabled())
		SKIP(return, HAS_PKU);

	EXPECT_EQ(0, pkey_rights_restart());
	for (pkey = 1; pkey <= PKEY_MAX; pkey++) {
		EXPECT_EQ(0, pkey_rights_get(pkey));
		EXPECT_EQ(PKEY_NO_KEY, pkey_rights_set(pkey, PKEY_DISABLE_ACCESS));
		EXPECT_EQ(-1, pkey_open(pkey, 0));
		pkey_close(pkey, PKEY_DISABLE_ACCESS);
		errno = 0;
		EXPECT_EQ(-1, pkey_rights_set_all(pkey, 0));
		EXPECT_EQ(EINVAL, errno);
	}
	EXPECT_EQ(-1, pkey_scope_set(PR_PKEY_SCOPE_PROCESS));
	EXPECT_GE(0, pkey_scope_get());

	if (!pkey_sigsetjmp(&buf, 1))
		pkey_siglongjmp(&buf, 1);
}

/* A program that got no key passes -1 to all functions, on any kernel. */
TEST(minus_1_is_no_key)
{
	const uint32_t pkru = pkru_save();
	const size_t size = pkey_page_size();
	char *page;

	EXPECT_EQ(0, pkey_rights_get(-1));
	EXPECT_EQ(PKEY_NO_KEY, pkey_rights_set(-1, PKEY_DISABLE_ACCESS));
	EXPECT_EQ(PKEY_NO_KEY, pkey_rights_set_all(-1, PKEY_DISABLE_ACCESS));
	EXPECT_EQ(-1, pkey_open(-1, 0));
	pkey_close(-1, -1);
	pkey_close(-1, PKEY_DISABLE_ACCESS);
	EXPECT_EQ(pkru, pkru_save());

	page = map_with_key(NULL, size, MAP_PRIVATE, -1);
	ASSERT_TRUE(!!page);
	page[0] = 1;
	EXPECT_EQ(0, pkey_of(page));
}

TEST(rejects_what_is_no_key)
{
	const uint32_t pkru = pkru_save();
	size_t i;

	for (i = 0; i < ARRAY_SIZE(no_keys); i++) {
		errno = 0;
		EXPECT_EQ(-1, pkey_rights_get(no_keys[i]));
		EXPECT_EQ(EINVAL, errno);
		errno = 0;
		EXPECT_EQ(-1, pkey_rights_set(no_keys[i], 0));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(-1, pkey_open(no_keys[i], 0));
		pkey_close(no_keys[i], 1);
	}
	EXPECT_EQ(pkru, pkru_save());
}

TEST(rejects_what_are_no_rights)
{
	const uint32_t pkru = pkru_save();
	unsigned int bit;

	for (bit = 2; bit < 32; bit++) {
		errno = 0;
		EXPECT_EQ(-1, pkey_rights_set(1, 1u << bit));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(-1, pkey_open(1, 1u << bit));
		pkey_close(1, 1 << bit);
	}
	EXPECT_EQ(pkru, pkru_save());
}

/* The stack has key 0. */
TEST(does_not_close_key_0)
{
	errno = 0;
	EXPECT_EQ(-1, pkey_rights_set(0, PKEY_DISABLE_ACCESS));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, pkey_rights_set(0, PKEY_DISABLE_WRITE));
	pkey_close(0, PKEY_DISABLE_ACCESS);
	EXPECT_EQ(0, pkey_rights_get(0));
}

/* struct rseq and struct rseq_cs, which older headers do not have. */
struct rseq_area {
	uint32_t cpu_id_start;
	int32_t cpu_id;
	uint64_t rseq_cs;
};

struct rseq_descriptor {
	uint32_t version;
	uint32_t flags;
	uint64_t start_ip;
	uint64_t post_commit_offset;
	uint64_t abort_ip;
};

#define RSEQ_UNREGISTER	1
#define RSEQ_SIGNATURE	0x53053053

#ifndef __NR_rseq
#ifdef __ILP32__
#define __NR_rseq	(__X32_SYSCALL_BIT + 334)
#elif defined(__x86_64__)
#define __NR_rseq	334
#else
#define __NR_rseq	386
#endif
#endif

static struct rseq_area *rseq_area(void)
{
	uintptr_t thread;

#ifdef __x86_64__
	asm volatile("mov %%fs:0, %0" : "=r" (thread));
#else
	asm volatile("movl %%gs:0, %0" : "=r" (thread));
#endif
	return (struct rseq_area *)(thread + __rseq_offset);
}

/* Unregister rseq. The size that the C library has registered depends on its version. */
static bool unregister_rseq(void)
{
	unsigned int size;

	for (size = 32; size <= 1024; size += 4)
		if (!syscall(__NR_rseq, rseq_area(), size, RSEQ_UNREGISTER, RSEQ_SIGNATURE))
			return true;
	return false;
}

/* The same tests for threads with and without rseq. */
FIXTURE(rights)
{
	/* This key is open; the patterns of PKRU set the rights to the others. */
	int pkey;
};

FIXTURE_VARIANT(rights)
{
	bool rseq;
};

FIXTURE_VARIANT_ADD(rights, rseq)
{
	.rseq = true,
};

FIXTURE_VARIANT_ADD(rights, plain)
{
	.rseq = false,
};

FIXTURE_SETUP(rights)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);

	if (variant->rseq && !pkey_rights_restart())
		SKIP(return, NO_RSEQ);
	if (!variant->rseq && pkey_rights_restart())
		ASSERT_TRUE(unregister_rseq());
	ASSERT_EQ(variant->rseq, pkey_rights_restart());

	self->pkey = sys_pkey_alloc(0, 0);
	ASSERT_LT(0, self->pkey);
}

FIXTURE_TEARDOWN(rights)
{
}

/* Exactly the two bits of the key change. */
TEST_F(rights, set_and_get)
{
	unsigned int rights;
	uint32_t expected;
	size_t i;
	int pkey;

	for (i = 0; i < ARRAY_SIZE(pkru_patterns); i++) {
		for (pkey = 1; pkey <= PKEY_MAX; pkey++) {
			for (rights = 0; rights <= PKEY_RIGHTS_MASK; rights++) {
				expected = pkru_with_rights(pkru_patterns[i], pkey, rights);
				wrpkru(pkru_patterns[i]);
				ASSERT_EQ(0, pkey_rights_set(pkey, rights));
				ASSERT_EQ(expected, rdpkru());
				ASSERT_EQ(rights, pkey_rights_get(pkey));
			}
		}
	}
}

/* pkey_open() gives the rights that are asked for; pkey_close() restores them. */
TEST_F(rights, open_and_close)
{
	static const struct {
		unsigned int before;
		unsigned int asked;
		unsigned int opened;
	} cases[] = {
		{ 0, 0, 0 }, { 1, 0, 0 }, { 2, 0, 0 }, { 3, 0, 0 },
		{ 0, 2, 0 }, { 1, 2, 2 }, { 2, 2, 2 }, { 3, 2, 2 },
		{ 0, 1, 0 }, { 1, 1, 1 }, { 2, 1, 2 }, { 3, 1, 3 },
	};
	uint32_t pkru;
	size_t i, j;
	int before;

	for (i = 0; i < ARRAY_SIZE(pkru_patterns); i++) {
		for (j = 0; j < ARRAY_SIZE(cases); j++) {
			pkru = pkru_with_rights(pkru_patterns[i], 5, cases[j].before);
			wrpkru(pkru);
			before = pkey_open(5, cases[j].asked);
			ASSERT_EQ(pkru_with_rights(pkru, 5, cases[j].opened), rdpkru());
			ASSERT_EQ(cases[j].before, before);
			pkey_close(5, before);
			ASSERT_EQ(pkru, rdpkru());
		}
	}
}

TEST_F(rights, pairs_nest)
{
	int outer, inner;

	ASSERT_EQ(0, pkey_rights_set(5, PKEY_DISABLE_ACCESS));
	outer = pkey_open(5, PKEY_DISABLE_WRITE);
	EXPECT_EQ(PKEY_DISABLE_WRITE, pkey_rights_get(5));
	inner = pkey_open(5, 0);
	EXPECT_EQ(0, pkey_rights_get(5));
	pkey_close(5, inner);
	EXPECT_EQ(PKEY_DISABLE_WRITE, pkey_rights_get(5));
	pkey_close(5, outer);
	EXPECT_EQ(PKEY_DISABLE_ACCESS, pkey_rights_get(5));

	/* The inner pair needs fewer rights than the thread has. */
	outer = pkey_open(5, 0);
	inner = pkey_open(5, PKEY_DISABLE_WRITE);
	EXPECT_EQ(0, pkey_rights_get(5));
	pkey_close(5, inner);
	EXPECT_EQ(0, pkey_rights_get(5));
	pkey_close(5, outer);
	EXPECT_EQ(PKEY_DISABLE_ACCESS, pkey_rights_get(5));
}

/* Rights that were taken away between open and close do not come back. */
TEST_F(rights, close_gives_no_rights)
{
	int before;

	ASSERT_EQ(0, pkey_rights_set(5, 0));
	before = pkey_open(5, 0);
	ASSERT_EQ(0, pkey_rights_set(5, PKEY_DISABLE_ACCESS));
	pkey_close(5, before);
	EXPECT_EQ(PKEY_DISABLE_ACCESS, pkey_rights_get(5));

	ASSERT_EQ(0, pkey_rights_set(5, 0));
	before = pkey_open(5, 0);
	ASSERT_EQ(0, pkey_rights_set(5, PKEY_DISABLE_WRITE));
	pkey_close(5, before);
	EXPECT_EQ(PKEY_DISABLE_WRITE, pkey_rights_get(5));

	ASSERT_EQ(0, pkey_rights_set(5, PKEY_DISABLE_WRITE));
	before = pkey_open(5, 0);
	ASSERT_EQ(0, pkey_rights_set(5, PKEY_DISABLE_ACCESS));
	pkey_close(5, before);
	EXPECT_EQ(PKEY_DISABLE_ACCESS, pkey_rights_get(5));
}

TEST_F(rights, memory_obeys)
{
	const size_t size = pkey_page_size();
	int before;
	void *page;

	page = map_with_key(NULL, size, MAP_PRIVATE, self->pkey);
	ASSERT_TRUE(!!page);
	ASSERT_EQ(0, pkey_rights_set(self->pkey, PKEY_DISABLE_ACCESS));
	EXPECT_TRUE(pkey_refused(PKEY_READ, page, self->pkey));
	before = pkey_open(self->pkey, PKEY_DISABLE_WRITE);
	EXPECT_TRUE(pkey_can(PKEY_READ, page));
	EXPECT_TRUE(pkey_refused(PKEY_WRITE, page, self->pkey));
	pkey_close(self->pkey, before);
	before = pkey_open(self->pkey, 0);
	EXPECT_TRUE(pkey_can(PKEY_WRITE, page));
	pkey_close(self->pkey, before);
	EXPECT_TRUE(pkey_refused(PKEY_READ, page, self->pkey));
}

static struct pkey_jmp_buf jump;

static void jump_back(int sig)
{
	pkey_siglongjmp(&jump, sig);
}

/* A signal handler has the initial rights; pkey_siglongjmp() restores the old ones. */
TEST_F(rights, siglongjmp)
{
	static size_t i;

	signal(SIGUSR1, jump_back);
	for (i = 0; i < ARRAY_SIZE(pkru_patterns); i++) {
		wrpkru(pkru_patterns[i]);
		if (!pkey_sigsetjmp(&jump, 1)) {
			raise(SIGUSR1);
			ASSERT_TRUE(false);
		}
		ASSERT_EQ(pkru_patterns[i], rdpkru());
	}
}

/* Nothing of the program stays registered: the library it is in may be unmapped. */
TEST(descriptor_is_left)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);
	if (!pkey_rights_restart())
		SKIP(return, NO_RSEQ);

	pkey_rights_set(1, 0);
	EXPECT_EQ(0, rseq_area()->rseq_cs);
	pkey_close(1, PKEY_DISABLE_ACCESS);
	EXPECT_EQ(0, rseq_area()->rseq_cs);
}

/* The first and the last byte of a section that is named so as a name in C. */
extern const struct rseq_descriptor __start___rseq_cs[], __stop___rseq_cs[];

/* The instruction that commits the sequence, as the descriptor names it. */
static unsigned char *commit_of(const struct rseq_descriptor *descriptor)
{
	static const unsigned char wrpkru_code[] = { 0x0f, 0x01, 0xef };
	unsigned char *end = (unsigned char *)(uintptr_t)(descriptor->start_ip +
							  descriptor->post_commit_offset);

	return memcmp(end - 3, wrpkru_code, 3) ? NULL : end - 3;
}

#define INT3		0xcc
#define WRPKRU_BYTE	0x0f

/* Write the first byte of each commit: INT3 traps, WRPKRU_BYTE restores it. */
static int write_commits(unsigned char byte)
{
	const size_t size = pkey_page_size();
	const struct rseq_descriptor *descriptor;
	unsigned char *commit;
	uintptr_t page;
	int nr = 0;

	for (descriptor = __start___rseq_cs; descriptor < __stop___rseq_cs; descriptor++) {
		commit = (unsigned char *)(uintptr_t)(descriptor->start_ip +
						      descriptor->post_commit_offset - 3);
		page = (uintptr_t)commit & ~(size - 1);
		if (sys_mprotect((void *)page, size, RW | PROT_EXEC))
			return -1;
		*commit = byte;
		nr++;
	}
	return nr;
}

/* Return the address of PKRU in a signal frame; @features gets that of its state bits. */
static uint32_t *frame_pkru(ucontext_t *context, uint64_t **features)
{
	char *area = (char *)context->uc_mcontext.fpregs + FX_OFFSET;

	*features = (uint64_t *)(area + XSAVE_HEADER);
	return (uint32_t *)(area + xsave_pkru_offset());
}

static int interrupted_key, nr_interrupts;

/* Close a key of this thread, as another thread can between two instructions. */
static void change_rights_in_frame(int sig, siginfo_t *info, void *context)
{
	uint64_t *features;
	uint32_t *pkru = frame_pkru((ucontext_t *)context, &features);

	store(&nr_interrupts, load(&nr_interrupts) + 1);
	write_commits(WRPKRU_BYTE);
	if (!(*features & 1 << XFEATURE_PKRU))
		*pkru = 0;
	*features |= 1 << XFEATURE_PKRU;
	*pkru = pkru_with_rights(*pkru, load(&interrupted_key), PKEY_DISABLE_ACCESS);
}

/* F7: another key that is closed between RDPKRU and WRPKRU stays closed. */
TEST(sequence_restarts)
{
	const struct sigaction action = {
		.sa_sigaction = change_rights_in_frame,
		.sa_flags = SA_SIGINFO,
	};
	const struct rseq_descriptor *descriptor;
	int pkey, before;

	if (!pku_enabled())
		SKIP(return, NO_PKU);
	if (!pkey_rights_restart())
		SKIP(return, NO_RSEQ);

	for (descriptor = __start___rseq_cs; descriptor < __stop___rseq_cs; descriptor++)
		ASSERT_TRUE(!!commit_of(descriptor));
	sigaction(SIGTRAP, &action, NULL);
	for (pkey = 1; pkey <= PKEY_MAX; pkey++) {
		const int other = pkey == 3 ? 4 : 3;

		store(&interrupted_key, pkey);
		wrpkru(0);
		store(&nr_interrupts, 0);
		ASSERT_LT(0, write_commits(INT3));
		ASSERT_EQ(0, pkey_rights_set(other, PKEY_DISABLE_WRITE));
		ASSERT_EQ(1, load(&nr_interrupts));
		ASSERT_EQ(pkru_with_rights(pkru_with_rights(0, other, PKEY_DISABLE_WRITE),
					   pkey, PKEY_DISABLE_ACCESS), rdpkru());
	}

	/* The key is the same: pkey_close() reads PKRU again, and gives no rights. */
	store(&interrupted_key, 5);
	wrpkru(0);
	store(&nr_interrupts, 0);
	ASSERT_LT(0, write_commits(INT3));
	pkey_close(5, PKEY_DISABLE_WRITE);
	ASSERT_EQ(1, load(&nr_interrupts));
	EXPECT_EQ(PKEY_DISABLE_ACCESS, pkey_rights_get(5));

	/* pkey_open() returns the rights that it has found in the end. */
	wrpkru(pkru_with_rights(0, 5, PKEY_DISABLE_WRITE));
	store(&nr_interrupts, 0);
	ASSERT_LT(0, write_commits(INT3));
	before = pkey_open(5, 0);
	ASSERT_EQ(1, load(&nr_interrupts));
	EXPECT_EQ(PKEY_DISABLE_ACCESS, before);
	EXPECT_EQ(0, pkey_rights_get(5));
}

/* A thread takes rights of another away, again and again, in one of two ways. */
FIXTURE(hammer)
{
	/* The victim changes its rights to the first all the time. */
	int own;
	/* The rights to this one are taken away. */
	int taken;
};

FIXTURE_VARIANT(hammer)
{
	bool reissue;
};

/* F4: the key is freed and handed out again. */
FIXTURE_VARIANT_ADD(hammer, reissue)
{
	.reissue = true,
};

/* I2: prctl(PR_PKEY, PR_PKEY_SET_RIGHTS). */
FIXTURE_VARIANT_ADD(hammer, set_rights)
{
	.reissue = false,
};

FIXTURE_SETUP(hammer)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);
	if (!pkey_rights_restart())
		SKIP(return, NO_RSEQ);
	if (variant->reissue && access("/proc/self/pkeys", F_OK))
		SKIP(return, "needs a kernel that revokes rights (F4)");
	if (!variant->reissue && pkey_scope_get() < 0)
		SKIP(return, "needs prctl(PR_PKEY)");

	self->own = sys_pkey_alloc(0, 0);
	self->taken = sys_pkey_alloc(0, 0);
	ASSERT_LT(0, self->own);
	ASSERT_LT(0, self->taken);
}

FIXTURE_TEARDOWN(hammer)
{
}

static struct {
	bool reissue;
	int taken;
	/* The round for which the victim is ready, and the one that is done. */
	int ready;
	int done;
	int failures;
} hammer;

static bool take_rights(void)
{
	if (!hammer.reissue)
		return !pkey_rights_set_all(hammer.taken, PKEY_DISABLE_ACCESS);

	return !sys_pkey_free(hammer.taken) &&
	       sys_pkey_alloc(0, PKEY_DISABLE_ACCESS) == hammer.taken;
}

/* Take the rights away once in each round. End at round -1. */
static void *take_rights_again_and_again(void *arg)
{
	int wait, round = 1;

	for (;;) {
		while (load(&hammer.ready) != round) {
			if (load(&hammer.ready) < 0)
				return NULL;
			sched_yield();
		}
		/* Hit another place of the victim's loop each time. */
		for (wait = round * 37 % 1000; wait > 0; wait--)
			asm volatile("");
		if (!take_rights())
			hammer.failures++;
		store(&hammer.done, round++);
	}
}

TEST_F(hammer, rights_do_not_come_back)
{
	int round, came_back = 0, wrong = 0, before;
	const time_t end = time(NULL) + SECONDS;
	pthread_t thread;
	unsigned int i;

	hammer.reissue = variant->reissue;
	hammer.taken = self->taken;
	ASSERT_EQ(0, pthread_create(&thread, NULL, take_rights_again_and_again, NULL));
	for (round = 1; round <= ROUNDS && time(NULL) < end; round++) {
		wrong += pkey_rights_set(self->taken, 0) != 0;
		store(&hammer.ready, round);
		for (i = 0; load(&hammer.done) != round; i++) {
			wrong += pkey_rights_set(self->own, i & PKEY_RIGHTS_MASK) != 0;
			wrong += pkey_rights_get(self->own) != (int)(i & PKEY_RIGHTS_MASK);
			before = pkey_open(self->own, 0);
			pkey_close(self->own, before);
			wrong += pkey_rights_get(self->own) != (int)(i & PKEY_RIGHTS_MASK);
		}
		came_back += !(pkey_rights_get(self->taken) & PKEY_DISABLE_ACCESS);
	}
	store(&hammer.ready, -1);
	ASSERT_EQ(0, pthread_join(thread, NULL));

	EXPECT_EQ(0, came_back) {
		TH_LOG("%d of %d rights came back", came_back, round - 1);
	}
	EXPECT_EQ(0, wrong);
	EXPECT_EQ(0, hammer.failures);
	if (round <= MIN_ROUNDS)
		SKIP(return, "the race did not happen: too few rounds");
}

/* Memory that is mapped with a key has it at once, and the protection asked for. */
TEST(mmap_with_key)
{
	const size_t size = pkey_page_size();
	struct pkey_vma vma;
	int pkey;
	void *page;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	pkey = sys_pkey_alloc(0, 0);
	ASSERT_LT(0, pkey);
	page = map_with_key(NULL, 3 * size, MAP_SHARED, pkey);
	ASSERT_TRUE(!!page);
	ASSERT_TRUE(pkey_find_vma(page, &vma));
	EXPECT_EQ(pkey, vma.pkey);
	EXPECT_STREQ("rw-s", vma.perms);
	EXPECT_EQ(3 * size, vma.end - vma.start);
	EXPECT_TRUE(pkey_can(PKEY_WRITE, page));
}

/* After an error nothing is mapped, and errno tells why. */
TEST(mmap_with_wrong_key)
{
	const size_t size = pkey_page_size();
	void *page = pkey_map(1, PROT_NONE);

	ASSERT_TRUE(!!page);
	errno = 0;
	EXPECT_FALSE(!!map_with_key(page, size, MAP_PRIVATE | MAP_FIXED, 9));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, pkey_of(page));

	errno = 0;
	EXPECT_FALSE(!!map_with_key(NULL, 0, MAP_PRIVATE, 9));
	EXPECT_EQ(EINVAL, errno);
}

static void *watched;
static int watch_end, nr_seen;

/* Read by a system call, which fails where the key is closed or nothing is mapped. */
static void *watch(void *arg)
{
	int fds[2], i;
	char byte;

	if (pipe(fds))
		return NULL;
	/* This thread has no rights, whatever init_pkru= says. */
	wrpkru(PKRU_INIT);
	store(&watch_end, 0);
	while (!load(&watch_end)) {
		for (i = 0; i < 16; i++) {
			if (write(fds[1], watched, 1) == 1) {
				nr_seen++;
				read(fds[0], &byte, 1);
			}
		}
	}
	return NULL;
}

/* A thread without rights never sees the memory without its key. */
TEST(mmap_with_key_has_no_window)
{
	const time_t end = time(NULL) + SECONDS;
	const size_t size = pkey_page_size();
	pthread_t thread;
	int pkey, round;
	void *page;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	watched = pkey_map(1, PROT_NONE);
	ASSERT_TRUE(!!watched);
	watch_end = -1;
	ASSERT_EQ(0, pthread_create(&thread, NULL, watch, NULL));
	while (load(&watch_end))
		sched_yield();

	/* The older thread has no rights to this key. */
	pkey = sys_pkey_alloc(0, 0);
	ASSERT_LT(0, pkey);
	for (round = 0; round < ROUNDS && time(NULL) < end; round++) {
		page = map_with_key(watched, size, MAP_PRIVATE | MAP_FIXED, pkey);
		ASSERT_TRUE(page == watched);
		pkey_touch(PKEY_WRITE, page);
	}
	store(&watch_end, 1);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, nr_seen);
}

/* With keys and without them, the scope is the thread until it is changed. */
TEST(scope)
{
	int scope = pkey_scope_get();

	if (scope < 0)
		SKIP(return, "needs prctl(PR_PKEY)");

	EXPECT_EQ(PR_PKEY_SCOPE_THREAD, scope);
	if (!pku_enabled())
		SKIP(return, NO_PKU);

	EXPECT_EQ(0, pkey_scope_set(PR_PKEY_SCOPE_PROCESS));
	EXPECT_EQ(PR_PKEY_SCOPE_PROCESS, pkey_scope_get());
	EXPECT_EQ(0, pkey_scope_set(PR_PKEY_SCOPE_THREAD));
	EXPECT_EQ(PR_PKEY_SCOPE_THREAD, pkey_scope_get());
}

TEST_HARNESS_MAIN
