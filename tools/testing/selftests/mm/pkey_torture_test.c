// SPDX-License-Identifier: GPL-2.0
/*
 * Torture test of protection keys on x86: many tasks that share memory allocate,
 * free and attach keys, open them for themselves, take signals, fork, execute,
 * stop and sleep, all at random and at once. Each task knows at each moment
 * which rights it may have and which it must have, and looks at its PKRU.
 *
 * The run is a sequence of arenas. An arena is a process with a fresh address
 * space, its tasks, and what they know of the keys, the oracle:
 *
 *  - Each key has a word in memory that no key protects. It goes up by one
 *    after pkey_alloc() has returned the key and before pkey_free() is called,
 *    so it is odd while the key has an owner. Who gets a key and finds that
 *    its word was odd has got the key of somebody else.
 *
 *  - A task opens a key only when it owns it, or when the owner has granted
 *    that, and remembers the word. It may keep the rights while the word stays
 *    what it was. It may lose them when the word has changed. It must have lost
 *    them when the key was handed out again after it had been clean.
 *
 *  - For each key there are two bounds of the number of pages that carry it.
 *    The upper is raised before pages are tagged and lowered after they are
 *    gone, the lower the other way round. A key whose upper bound is 0 before
 *    pkey_alloc(), and was not raised during the call, was clean; one with a
 *    lower bound above 0 that was not lowered was mapped. If neither can be
 *    said, nothing is concluded from it.
 *
 * What the kernel cannot know is not held against it (F6): a task that is
 * interrupted between RDPKRU and WRPKRU writes back what it has read. So
 * after each WRPKRU the task compares the words again, and gives up the keys
 * whose words have changed. The word changes before pkey_free(), so before any
 * re-issue that may have come between. The window is left to the kernel alone
 * as soon as the words are found unchanged after the write.
 *
 * Tasks do not have a thread-local area of their own and are no threads of the
 * C library: what they do uses neither errno nor stdio. At the base of each
 * task's stack lies what it knows of itself.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>

#include "../kselftest.h"
#include "pkey_util.h"

#define RW		(PROT_READ | PROT_WRITE)

/* The argument that makes this program look at itself after execve(). */
#define REPORT_ARG	"--after-execve"

#define SYSCTL		"/proc/sys/vm/pkey_reuse_mapped"

/* Room for the tasks that live at the same time in an arena. */
#define NR_TASKS	32
#define STACK_SIZE	(128 * 1024)

/* Pages that the tasks tag, side by side, so that mappings split and merge. */
#define NR_PAGES	48
#define MAX_RANGE	4

/* Signals that nest: each blocks only itself. */
#define NR_SIGNALS	3

/* How many operations a task does before it looks at the limits. */
#define BATCH		32

/* No arena does nothing at all for so long, on the slowest machine. */
#define HANG_SECONDS	90

#define DEFAULT_SECONDS	10
#define DEFAULT_WORKERS	6

/* All keys closed but key 0. */
#define PKRU_CLOSED	0x55555554

/* Owners of keys that are not one of the tasks. */
#define OWNER_NONE	0
#define OWNER_POOL	0x10000
#define OWNER_KERNEL	0x20000

#ifdef __NR_futex_time64
#define NR_FUTEX	__NR_futex_time64
#else
#define NR_FUTEX	__NR_futex
#endif

#define FUTEX_OP_WAIT	0
#define FUTEX_OP_WAKE	1

#if defined(__i386__)
#define REG_IP		REG_EIP
#else
#define REG_IP		REG_RIP
#endif

#define LOAD(_x)	__atomic_load_n(&(_x), __ATOMIC_SEQ_CST)
#define STORE(_x, _v)	__atomic_store_n(&(_x), _v, __ATOMIC_SEQ_CST)
#define ADD(_x, _v)	__atomic_add_fetch(&(_x), _v, __ATOMIC_SEQ_CST)
#define SUB(_x, _v)	__atomic_sub_fetch(&(_x), _v, __ATOMIC_SEQ_CST)

#define for_each_key(_k) for ((_k) = 1; (_k) < PKEY_NR; (_k)++)

/* What is promised. Each is a test result. */
enum rule {
	RULE_REVOKED,
	RULE_OTHER_RIGHTS,
	RULE_ONE_OWNER,
	RULE_NOT_LOST,
	RULE_CLEAN_FIRST,
	RULE_SECRET,
	RULE_COUNT,
	RULE_NO_EINTR,
	RULE_FORK,
	RULE_EXECVE,
	RULE_CALLS,
	NR_RULES,
};

static const char * const rule_names[NR_RULES] = {
	[RULE_REVOKED]		= "F4, F6: nobody keeps rights to a key that was handed out again",
	[RULE_OTHER_RIGHTS]	= "A5, F4: no other rights change",
	[RULE_ONE_OWNER]	= "A3: no key has two owners",
	[RULE_NOT_LOST]		= "A3, A4: no key is lost",
	[RULE_CLEAN_FIRST]	= "F2, F3: keys are handed out in order, mapped ones last or never",
	[RULE_SECRET]		= "F4: nobody reads the memory of a new owner",
	[RULE_COUNT]		= "F1: the counted mappings are those that exist",
	[RULE_NO_EINTR]		= "F4: no system call is interrupted",
	[RULE_FORK]		= "E1: a child has the keys and the rights of its parent",
	[RULE_EXECVE]		= "E3: execve() starts over",
	[RULE_CALLS]		= "no call fails that must not, no task dies",
};

enum kind {
	KIND_MAIN,
	KIND_THREAD,
	KIND_PROCESS,
	KIND_VFORK,
	NR_KINDS,
};

static const char * const kind_names[NR_KINDS] = {
	"main", "thread", "process", "vfork",
};

enum state {
	STATE_FREE,
	STATE_STARTING,
	STATE_RUNNING,
	STATE_LEAVING,
};

/* How a violation is told to the process that prints. */
struct record {
	enum rule rule;
	/* A string of this program: the processes that report are its copies. */
	const char *what;
	unsigned int arena;
	unsigned int ms;
	enum kind kind;
	unsigned int depth;
	int pkey;
	uint32_t values[3];
};

#define NR_RECORDS	16
#define MAX_OPS		32

/* Shared by all processes. */
struct shared {
	/* Something is wrong, or it is time: everybody comes to an end. */
	unsigned int stop;
	unsigned int violations[NR_RULES];
	unsigned int nr_records;
	struct record records[NR_RECORDS];

	unsigned int ops;
	unsigned int by_kind[MAX_OPS];
	unsigned int reissues;
	unsigned int revocations;
	unsigned int refusals;
	unsigned int tasks;
	unsigned int max_tasks;
};

static struct shared *shared;

/* What the tasks know of a key. */
struct key {
	/* Odd while the key has an owner. */
	unsigned int word;
	/* The word of the last owner that nobody else's rights survived. */
	unsigned int strict;
	/* The word for which the owner lets others open the key. */
	unsigned int grant;
	unsigned int owner;
	/* Bounds of the pages that carry the key; see the top. */
	unsigned int upper;
	unsigned int raised;
	unsigned int lower;
	unsigned int lowered;
	/* Where its owner keeps a secret. */
	unsigned int secret_page;
};

struct page {
	bool claimed;
	/* What follows belongs to who has claimed the page. */
	int pkey;
	/* There is, or was, a secret in it. */
	bool secret;
};

/* One address space. A fork()ed child has a copy, and does not use it. */
struct oracle {
	struct key key[PKEY_NR];
	struct page page[NR_PAGES];
	/* Calls that hand out or take back a key: begun and ended. */
	unsigned int begun;
	unsigned int ended;
	unsigned int exec_only;

	/* The arena. */
	unsigned int stop;
	unsigned int ops;
	unsigned int max_ops;
	/* Tasks that neither sleep nor have ended. */
	int awake;
	/* Tasks that were ever created. */
	unsigned int created;
	/* A futex: some task has ended. */
	unsigned int events;
	int sleep_fd[NR_TASKS][2];
	int sleep_epoll[NR_TASKS];
};

static struct oracle oracle;

/* What an arena is like. */
static struct {
	unsigned int number;
	uint64_t seed;
	unsigned int workers;
	pid_t pid;
	/* Not that of /proc/self: the first thread of that may have ended. */
	char pkeys_path[32];
	/* No key is freed while pages carry it. */
	bool tidy;
	/* All keys are used at the start: each one is a re-issue. */
	bool used;
	/* They were already used by the process that has fork()ed the arena. */
	bool inherits;
	/* vm.pkey_reuse_mapped; -1 if it changes meanwhile. */
	int reuse_mapped;
	bool threads;
	bool processes;
} arena;

/* The rights of a task, or of a signal handler in it. */
struct rights {
	uint32_t pkru;
	/* One bit a key: access is not disabled. */
	unsigned int open;
	/* The word of the key when it was opened. */
	unsigned int opened[PKEY_NR];
};

struct task {
	/* Written by the kernel when the task begins and when it has gone. */
	unsigned int tid;
	pid_t tgid;
	enum state state;
	/* Others that are about to send a signal to it. */
	unsigned int pins;
	/* 1 if it sleeps, 2 if somebody is waking it. */
	unsigned int asleep;
	unsigned int go;

	unsigned int index;
	enum kind kind;
	unsigned int life;
	bool execs;
	uint64_t rng;
	/* How many handlers it is in, and the rights of the innermost. */
	unsigned int depth;
	struct rights *rights;
	struct rights base;
	unsigned int ops;
	unsigned int by_kind[MAX_OPS];
};

static char *stacks;
static char *pages;
static size_t page_size;
static struct task main_task;
static uint32_t pkru_at_start;
/* The same, for programs that are executed. */
static char pkru_arg[16];
static struct timespec started, deadline;
static unsigned int max_ops;

static struct task *task_of(unsigned int index)
{
	return (struct task *)(stacks + index * STACK_SIZE);
}

/* The task whose stack this is. Not for the main task of an arena. */
static struct task *self(void)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);

	return (struct task *)(here & ~((uintptr_t)STACK_SIZE - 1));
}

static bool cas(unsigned int *word, unsigned int old, unsigned int new)
{
	return __atomic_compare_exchange_n(word, &old, new, false, __ATOMIC_SEQ_CST,
					   __ATOMIC_SEQ_CST);
}

/* Came @a after @b? The words may wrap. */
static bool later(unsigned int a, unsigned int b)
{
	return (int)(a - b) > 0;
}

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

/* A number below @n. A handler may draw between, which does not matter. */
static unsigned int rnd(struct task *t, unsigned int n)
{
	t->rng += 0x9e3779b97f4a7c15ull;
	return (unsigned int)(mix(t->rng) >> 32) % n;
}

static unsigned int ms_since(const struct timespec *from)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - from->tv_sec) * 1000 + (now.tv_nsec - from->tv_nsec) / 1000000;
}

static void futex_wait(unsigned int *word, unsigned int value)
{
	pkey_raw_syscall(NR_FUTEX, (uintptr_t)word, FUTEX_OP_WAIT, value, 0);
}

static void futex_wake(unsigned int *word)
{
	pkey_raw_syscall(NR_FUTEX, (uintptr_t)word, FUTEX_OP_WAKE, INT_MAX, 0);
}

static void yield_cpu(void)
{
	pkey_raw_syscall(__NR_sched_yield, 0, 0, 0, 0);
}

static void raise_event(void)
{
	ADD(oracle.events, 1);
	futex_wake(&oracle.events);
}

static void violate(struct task *t, enum rule rule, const char *what, int pkey, uint32_t a,
		    uint32_t b, uint32_t c)
{
	unsigned int nr = ADD(shared->nr_records, 1) - 1;

	ADD(shared->violations[rule], 1);
	STORE(shared->stop, 1);
	if (nr >= NR_RECORDS)
		return;

	shared->records[nr] = (struct record){
		.rule = rule,
		.what = what,
		.arena = arena.number,
		.ms = ms_since(&started),
		.kind = t ? t->kind : KIND_MAIN,
		.depth = t ? t->depth : 0,
		.pkey = pkey,
		.values = { a, b, c },
	};
}

/* RDPKRU, in its place among the reads and writes of memory. */
static uint32_t read_rights(void)
{
	uint32_t pkru;

	asm volatile("" : : : "memory");
	pkru = rdpkru();
	asm volatile("" : : : "memory");
	return pkru;
}

static uint32_t ad_bit(int pkey)
{
	return (uint32_t)PKEY_DISABLE_ACCESS << 2 * pkey;
}

/* @rights become what PKRU is, without a look at why. */
static void take_note(struct rights *r, uint32_t pkru)
{
	int k;

	r->pkru = pkru;
	for_each_key(k)
		if (pkru & ad_bit(k))
			r->open &= ~(1u << k);
}

/* PKRU is not what it was. Only access may be lost, and only to a freed key. */
static void explain(struct task *t, uint32_t pkru)
{
	struct rights *r = t->rights;
	unsigned int bits, word;
	int k;

	for (k = 0; k < PKEY_NR; k++) {
		bits = (pkru ^ r->pkru) >> 2 * k & PKEY_RIGHTS_MASK;
		if (!bits)
			continue;

		word = LOAD(oracle.key[k].word);
		if (bits != PKEY_DISABLE_ACCESS || !(r->open & 1u << k))
			violate(t, RULE_OTHER_RIGHTS, "rights changed: before, after, word", k,
				r->pkru, pkru, word);
		else if (word == r->opened[k])
			violate(t, RULE_OTHER_RIGHTS, "rights taken: before, after, word", k,
				r->pkru, pkru, word);
		else
			ADD(shared->revocations, 1);
	}
	take_note(r, pkru);
}

/* Are the rights of this task, or of its handler, what they have to be? */
static void check(struct task *t)
{
	struct rights *r = t->rights;
	unsigned int strict, revoked = 0;
	uint32_t pkru;
	int k;

	/* First the words: what was handed out by now must be gone from PKRU. */
	for_each_key(k)
		if (r->open & 1u << k && later(LOAD(oracle.key[k].strict), r->opened[k]))
			revoked |= 1u << k;

	pkru = read_rights();
	if (pkru != r->pkru)
		explain(t, pkru);

	revoked &= r->open;
	if (!revoked)
		return;

	for_each_key(k) {
		if (!(revoked & 1u << k))
			continue;
		strict = LOAD(oracle.key[k].strict);
		violate(t, RULE_REVOKED, "old rights: PKRU, word when opened, word now", k, pkru,
			r->opened[k], strict);
	}
}

/*
 * Sets the rights to one key, of which @word says whose it is. What a re-issue
 * took between the read and the write comes back with the write, as the words
 * show afterwards; it is given up again.
 */
static void set_rights(struct task *t, int pkey, unsigned int rights, unsigned int word)
{
	struct rights *r = t->rights;
	uint32_t next;
	int k;

	check(t);
	next = pkru_with_rights(r->pkru, pkey, rights);
	r->opened[pkey] = word;
	for (;;) {
		wrpkru(next);
		r->pkru = next;
		r->open &= ~(1u << pkey);
		if (!(next & ad_bit(pkey)))
			r->open |= 1u << pkey;
		take_note(r, next);
		for_each_key(k)
			if (r->open & 1u << k && LOAD(oracle.key[k].word) != r->opened[k])
				next |= ad_bit(k);
		if (next == r->pkru)
			return;
	}
}

static void rights_init(struct rights *r)
{
	memset(r, 0, sizeof(*r));
	r->pkru = pkru_at_start;
}

/* Who owns keys: a task, or one of the handlers in it. */
static unsigned int id_of(const struct task *t)
{
	return (t->index + 1) | t->depth << 8;
}

/* A key that this task owns, or 0. */
static int own_key(struct task *t)
{
	const unsigned int id = id_of(t);
	int i, k, first = rnd(t, PKEY_NR);

	for (i = 0; i < PKEY_NR; i++) {
		k = (first + i) % PKEY_NR;
		if (k && LOAD(oracle.key[k].owner) == id)
			return k;
	}
	return 0;
}

/*
 * Calls that change whose a key is. Gives a number that tells whether others
 * were in such a call at the same time.
 */
static unsigned int enter(void)
{
	return ADD(oracle.begun, 1);
}

static void leave(void)
{
	ADD(oracle.ended, 1);
}

/* What is known of the keys before a call. */
struct sample {
	unsigned int word;
	unsigned int upper;
	unsigned int raised;
	unsigned int lower;
	unsigned int lowered;
};

static void take_sample(struct sample *s)
{
	int k;

	for_each_key(k) {
		s[k].word = LOAD(oracle.key[k].word);
		s[k].raised = LOAD(oracle.key[k].raised);
		s[k].upper = LOAD(oracle.key[k].upper);
		s[k].lowered = LOAD(oracle.key[k].lowered);
		s[k].lower = LOAD(oracle.key[k].lower);
	}
}

/* Did no page carry the key, during the whole call? */
static bool surely_clean(const struct sample *s, int k)
{
	return !s[k].upper && LOAD(oracle.key[k].raised) == s[k].raised;
}

static bool surely_mapped(const struct sample *s, int k)
{
	return s[k].lower && LOAD(oracle.key[k].lowered) == s[k].lowered;
}

/* F2, F3: was it right to hand out this key? @alone: the words did not change. */
static void judge_choice(struct task *t, const struct sample *s, int pkey, bool alone)
{
	bool mapped = surely_mapped(s, pkey);
	int k;

	if (mapped && !arena.reuse_mapped)
		violate(t, RULE_CLEAN_FIRST, "mapped key: lower, upper, word", pkey,
			s[pkey].lower, s[pkey].upper, s[pkey].word);
	if (!alone)
		return;

	for_each_key(k) {
		if (k == pkey)
			continue;
		if (!s[k].word && (s[pkey].word || k < pkey))
			violate(t, RULE_CLEAN_FIRST, "not the unused key: unused, word", pkey, k,
				s[pkey].word, 0);
		if (!s[pkey].word || s[k].word & 1 || !surely_clean(s, k))
			continue;
		if (mapped || k < pkey)
			violate(t, RULE_CLEAN_FIRST, "not the clean key: clean, mapped, upper",
				pkey, k, mapped, s[pkey].upper);
	}
}

/* A4: was there really none? */
static void judge_refusal(struct task *t, const struct sample *s)
{
	int k;

	for_each_key(k) {
		if (s[k].word & 1)
			continue;
		if (arena.reuse_mapped == 1 || surely_clean(s, k))
			violate(t, RULE_NOT_LOST, "ENOSPC: word, lower, upper", k, s[k].word,
				s[k].lower, s[k].upper);
	}
}

static int do_alloc(struct task *t)
{
	const unsigned int rights = rnd(t, 4) ? 0 : rnd(t, 4);
	struct sample sample[PKEY_NR];
	struct rights *r = t->rights;
	unsigned int turn, word;
	struct key *key;
	bool alone;
	int pkey;

	check(t);
	turn = enter();
	alone = LOAD(oracle.ended) == turn - 1;
	take_sample(sample);
	pkey = pkey_raw_syscall(__NR_pkey_alloc, 0, rights, 0, 0);
	alone = alone && LOAD(oracle.begun) == turn;

	if (pkey <= 0 || pkey > PKEY_MAX) {
		if (pkey != -ENOSPC)
			violate(t, RULE_CALLS, "pkey_alloc()", 0, pkey, 0, 0);
		else if (alone)
			judge_refusal(t, sample);
		leave();
		return 0;
	}

	key = &oracle.key[pkey];
	word = ADD(key->word, 1);
	if (!(word & 1))
		violate(t, RULE_ONE_OWNER, "has an owner: word, owner, me", pkey, word,
			LOAD(key->owner), id_of(t));
	/* At once: others are watching. */
	if (surely_clean(sample, pkey))
		STORE(key->strict, word);
	STORE(key->owner, id_of(t));
	STORE(key->secret_page, 0);
	STORE(key->grant, rnd(t, 4) ? word : 0);
	judge_choice(t, sample, pkey, alone);
	if (sample[pkey].word)
		ADD(shared->reissues, 1);
	leave();

	r->opened[pkey] = word;
	r->open &= ~(1u << pkey);
	if (!(rights & PKEY_DISABLE_ACCESS))
		r->open |= 1u << pkey;
	r->pkru = pkru_with_rights(r->pkru, pkey, rights);
	check(t);
	return pkey;
}

static void do_free(struct task *t, int pkey)
{
	struct key *key = &oracle.key[pkey];
	unsigned int word;
	int ret;

	STORE(key->grant, 0);
	STORE(key->owner, OWNER_NONE);
	enter();
	word = ADD(key->word, 1);
	if (word & 1)
		violate(t, RULE_ONE_OWNER, "freed with a wrong word", pkey, word, 0, 0);
	ret = pkey_raw_syscall(__NR_pkey_free, pkey, 0, 0, 0);
	if (ret)
		violate(t, RULE_NOT_LOST, "pkey_free()", pkey, ret, word, 0);
	leave();
}

/* Pages */

static char *page_addr(unsigned int p)
{
	return pages + p * page_size;
}

static bool claim(unsigned int p)
{
	return !__atomic_test_and_set(&oracle.page[p].claimed, __ATOMIC_SEQ_CST);
}

static void unclaim(unsigned int p)
{
	__atomic_clear(&oracle.page[p].claimed, __ATOMIC_SEQ_CST);
}

static void unclaim_range(unsigned int p, unsigned int n)
{
	while (n--)
		unclaim(p + n);
}

/* Up to @max pages side by side. Gives their number, 0 if there are none now. */
static unsigned int claim_range(struct task *t, unsigned int max, unsigned int *first)
{
	unsigned int n = 1 + rnd(t, max), p = rnd(t, NR_PAGES), got;

	for (got = 0; got < n && p + got < NR_PAGES; got++)
		if (!claim(p + got))
			break;
	*first = p;
	return got;
}

/*
 * The pages are about to get the key, if they get it. Key 0 is counted too, but
 * nobody looks.
 */
static void count_up_begin(int pkey, unsigned int n)
{
	ADD(oracle.key[pkey].upper, n);
	ADD(oracle.key[pkey].raised, 1);
}

static void count_up_end(int pkey, unsigned int n, bool done)
{
	if (done)
		ADD(oracle.key[pkey].lower, n);
	else
		SUB(oracle.key[pkey].upper, n);
}

/* The pages are about to lose the keys they have. */
static void count_down_begin(unsigned int p, unsigned int n)
{
	struct page *page;

	for (page = &oracle.page[p]; n--; page++) {
		SUB(oracle.key[page->pkey].lower, 1);
		ADD(oracle.key[page->pkey].lowered, 1);
	}
}

static void count_down_end(unsigned int p, unsigned int n, bool done)
{
	struct page *page;

	for (page = &oracle.page[p]; n--; page++)
		if (done)
			SUB(oracle.key[page->pkey].upper, 1);
		else
			ADD(oracle.key[page->pkey].lower, 1);
}

static void set_pages(unsigned int p, unsigned int n, int pkey)
{
	for (; n--; p++) {
		oracle.page[p].pkey = pkey;
		oracle.page[p].secret = false;
	}
}

/* New, empty memory without a key. */
static void map_new(struct task *t, unsigned int p, unsigned int n, int prot)
{
	const int kind = rnd(t, 4) ? MAP_PRIVATE : MAP_SHARED;
	void *map;

	if (!rnd(t, 8) && munmap(page_addr(p), n * page_size))
		violate(t, RULE_CALLS, "munmap()", 0, p, n, 0);
	map = mmap(page_addr(p), n * page_size, prot, kind | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (map != page_addr(p))
		violate(t, RULE_CALLS, "mmap()", 0, p, n, prot);
}

static void replace(struct task *t, unsigned int p, unsigned int n, int prot)
{
	count_down_begin(p, n);
	map_new(t, p, n, prot);
	count_down_end(p, n, true);
	set_pages(p, n, 0);
}

/* What has a secret in it does not get another key. */
static void replace_secrets(struct task *t, unsigned int p, unsigned int n)
{
	unsigned int i;

	for (i = p; i < p + n; i++)
		if (oracle.page[i].secret)
			replace(t, i, 1, RW);
}

/* C1: a key that is the same before and after the call is accepted. */
static bool tag(struct task *t, unsigned int p, unsigned int n, int prot, int pkey,
		unsigned int word)
{
	int ret;

	replace_secrets(t, p, n);
	count_up_begin(pkey, n);
	count_down_begin(p, n);
	ret = pkey_raw_syscall(__NR_pkey_mprotect, (uintptr_t)page_addr(p), n * page_size, prot,
			       pkey);
	count_down_end(p, n, !ret);
	count_up_end(pkey, n, !ret);
	if (!ret) {
		set_pages(p, n, pkey);
		return true;
	}

	if (ret != -EINVAL || LOAD(oracle.key[pkey].word) == word)
		violate(t, RULE_NOT_LOST, "pkey_mprotect(): result, word, word now", pkey, ret,
			word, LOAD(oracle.key[pkey].word));
	return false;
}

/* Takes the key from all pages that can be had. True if none is left. */
static bool clean(struct task *t, int pkey)
{
	unsigned int p;

	for (p = 0; p < NR_PAGES && LOAD(oracle.key[pkey].upper); p++) {
		if (LOAD(oracle.page[p].pkey) != pkey || !claim(p))
			continue;
		if (oracle.page[p].pkey == pkey)
			replace(t, p, 1, RW);
		unclaim(p);
	}
	return !LOAD(oracle.key[pkey].upper);
}

/* True if the key may be freed now, in an arena of this kind. */
static bool ready_to_free(struct task *t, int pkey)
{
	if (!arena.tidy && rnd(t, 2))
		return true;
	return clean(t, pkey) || !arena.tidy;
}

/* Reads and writes that may fault: the handler goes on after the instruction. */
extern char probe_load_insn[], probe_load_fault[];
extern char probe_store_insn[], probe_store_fault[];

static __attribute__((noinline, noclone)) bool probe_load(const void *addr, uint32_t *value)
{
	uint32_t fault;

	asm volatile("movl $1, %0\n"
		     "probe_load_insn:\n\t"
		     "movl (%2), %1\n\t"
		     "xorl %0, %0\n"
		     "probe_load_fault:"
		     : "=&a" (fault), "=&d" (*value) : "r" (addr) : "memory");
	return !fault;
}

static __attribute__((noinline, noclone)) bool probe_store(void *addr, uint32_t value)
{
	uint32_t fault;

	asm volatile("movl $1, %0\n"
		     "probe_store_insn:\n\t"
		     "movl %1, (%2)\n\t"
		     "xorl %0, %0\n"
		     "probe_store_fault:"
		     : "=&a" (fault) : "d" (value), "r" (addr) : "memory");
	return !fault;
}

static void on_segv(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *ip = &uc->uc_mcontext.gregs[REG_IP];

	if ((uintptr_t)*ip == (uintptr_t)probe_load_insn) {
		*ip = (uintptr_t)probe_load_fault;
	} else if ((uintptr_t)*ip == (uintptr_t)probe_store_insn) {
		*ip = (uintptr_t)probe_store_fault;
	} else {
		violate(NULL, RULE_CALLS, "signal: number, address, ip", info->si_code, sig,
			(uintptr_t)info->si_addr, *ip);
		pkey_raw_syscall(__NR_exit_group, 1, 0, 0, 0);
	}
}

/* A secret names the key and the word of who wrote it. It is never 0. */
static uint32_t secret_of(int pkey, unsigned int word)
{
	return (uint32_t)pkey << 28 | (word & 0xfffffff);
}

/* May this task read a secret? Not if the key was clean between it and the opening. */
static void judge_secret(struct task *t, uint32_t secret)
{
	const struct rights *r = t->rights;
	const unsigned int word = secret & 0xfffffff;
	const int k = secret >> 28;
	unsigned int strict, first, last;

	if (!secret || (r->open & 1u << k && r->opened[k] == word))
		return;

	strict = LOAD(oracle.key[k].strict);
	first = later(word, r->opened[k]) ? r->opened[k] : word;
	last = first == word ? r->opened[k] : word;
	if (!(r->open & 1u << k) || (later(strict, first) && !later(strict, last)))
		violate(t, RULE_SECRET, "secret read: PKRU, word when opened, word", k, r->pkru,
			r->opened[k], word);
}

/* Operations */

static void op_check(struct task *t)
{
	unsigned int n = 1 + rnd(t, 100);

	while (n--)
		check(t);
}

/* Watches one key that is open, as closely as can be: is access taken in time? */
static void op_watch(struct task *t)
{
	struct rights *r = t->rights;
	unsigned int n = 1000, strict = 0;
	uint32_t pkru = 0;
	int k;

	check(t);
	if (!r->open)
		return;
	do {
		k = 1 + rnd(t, PKEY_MAX);
	} while (!(r->open & 1u << k));

	while (n-- && !later(strict, r->opened[k])) {
		strict = LOAD(oracle.key[k].strict);
		pkru = read_rights();
	}
	if (later(strict, r->opened[k]) && !(pkru & ad_bit(k)))
		violate(t, RULE_REVOKED, "taken late: PKRU, word when opened, word now", k, pkru,
			r->opened[k], strict);
	check(t);
}

static void op_open(struct task *t)
{
	const int k = 1 + rnd(t, PKEY_MAX);
	struct key *key = &oracle.key[k];
	unsigned int word = LOAD(key->word);

	if (word & 1 && (LOAD(key->owner) == id_of(t) || LOAD(key->grant) == word))
		set_rights(t, k, rnd(t, 4) ? 0 : PKEY_DISABLE_WRITE, word);
}

static void op_close(struct task *t)
{
	const int k = 1 + rnd(t, PKEY_MAX);

	set_rights(t, k, PKEY_DISABLE_ACCESS | rnd(t, 4), 0);
}

static void op_alloc(struct task *t)
{
	do_alloc(t);
}

/*
 * Keys are taken and given back as fast as possible: two calls that choose at
 * the same moment. The task keeps no rights, and nobody is granted any.
 */
static void op_burst(struct task *t)
{
	unsigned int n = 1 + rnd(t, 30), word, taken = 0;
	struct rights *r = t->rights;
	int k;

	check(t);
	enter();
	while (n--) {
		k = pkey_raw_syscall(__NR_pkey_alloc, 0, PKEY_DISABLE_ACCESS, 0, 0);
		if (k <= 0 || k > PKEY_MAX)
			break;
		taken |= 1u << k;
		word = ADD(oracle.key[k].word, 1);
		if (!(word & 1))
			violate(t, RULE_ONE_OWNER, "has an owner: word, owner, me", k, word,
				LOAD(oracle.key[k].owner), id_of(t));
		word = ADD(oracle.key[k].word, 1);
		if (pkey_raw_syscall(__NR_pkey_free, k, 0, 0, 0) || word & 1)
			violate(t, RULE_NOT_LOST, "pkey_free() in a burst: word", k, word, 0, 0);
	}
	leave();

	for_each_key(k)
		if (taken & 1u << k)
			r->pkru = pkru_with_rights(r->pkru, k, PKEY_DISABLE_ACCESS);
	take_note(r, r->pkru);
	check(t);
}

static void op_free(struct task *t)
{
	int k = own_key(t);

	if (k && ready_to_free(t, k))
		do_free(t, k);
}

static void op_reissue(struct task *t)
{
	int k = own_key(t);

	if (!k || !ready_to_free(t, k))
		return;

	do_free(t, k);
	do_alloc(t);
}

/* A key changes its owner without the kernel. */
static void op_pool(struct task *t)
{
	const int k = rnd(t, 2) ? own_key(t) : 0;
	int i, j, first = rnd(t, PKEY_NR);

	if (k) {
		STORE(oracle.key[k].owner, OWNER_POOL);
		return;
	}

	for (i = 0; i < PKEY_NR; i++) {
		j = (first + i) % PKEY_NR;
		if (cas(&oracle.key[j].owner, OWNER_POOL, id_of(t)))
			return;
	}
}

static void op_grant(struct task *t)
{
	int k = own_key(t);

	if (k)
		STORE(oracle.key[k].grant, rnd(t, 4) ? LOAD(oracle.key[k].word) : 0);
}

static void op_write_secret(struct task *t)
{
	const int k = own_key(t);
	unsigned int p, word;
	uint32_t value;

	if (!k || !claim_range(t, 1, &p))
		return;

	word = LOAD(oracle.key[k].word);
	replace(t, p, 1, RW);
	if (tag(t, p, 1, RW, k, word)) {
		set_rights(t, k, 0, word);
		oracle.page[p].secret = true;
		if (!probe_store(page_addr(p), secret_of(k, word)) ||
		    !probe_load(page_addr(p), &value) || value != secret_of(k, word))
			violate(t, RULE_SECRET, "the owner is refused", k, word, 0, 0);
		STORE(oracle.key[k].secret_page, p);
	}
	unclaim(p);
	check(t);
}

static void op_read_secret(struct task *t)
{
	const int k = 1 + rnd(t, PKEY_MAX);
	uint32_t secret;
	unsigned int p;

	p = rnd(t, 8) ? LOAD(oracle.key[k].secret_page) : rnd(t, NR_PAGES);
	if (probe_load(page_addr(p), &secret))
		judge_secret(t, secret);
	else
		ADD(shared->refusals, 1);
}

static void op_tag(struct task *t)
{
	static const int prots[] = { RW, PROT_READ, PROT_NONE, RW | PROT_EXEC };
	unsigned int p, n, word;
	int k = own_key(t);

	/* An untidy arena has keys freed while they are being attached. */
	if (!arena.tidy && rnd(t, 2))
		k = 1 + rnd(t, PKEY_MAX);
	word = LOAD(oracle.key[k].word);
	if (!rnd(t, 8))
		k = 0;
	else if (!k || !(word & 1) || LOAD(oracle.key[k].owner) == OWNER_KERNEL)
		return;

	n = claim_range(t, MAX_RANGE, &p);
	if (n)
		tag(t, p, n, prots[rnd(t, ARRAY_SIZE(prots))], k, word);
	unclaim_range(p, n);
}

static void op_mprotect(struct task *t)
{
	static const int prots[] = { RW, PROT_READ, PROT_NONE, PROT_READ | PROT_EXEC };
	unsigned int p, n = claim_range(t, MAX_RANGE, &p);
	int ret;

	if (!n)
		return;

	ret = pkey_raw_syscall(__NR_mprotect, (uintptr_t)page_addr(p), n * page_size,
			       prots[rnd(t, ARRAY_SIZE(prots))], 0);
	if (ret)
		violate(t, RULE_CALLS, "mprotect()", 0, ret, p, n);
	unclaim_range(p, n);
}

static void op_replace(struct task *t)
{
	unsigned int p, n = claim_range(t, MAX_RANGE, &p);

	if (n)
		replace(t, p, n, rnd(t, 4) ? RW : PROT_NONE);
	unclaim_range(p, n);
}

/* What /proc/PID/pkeys says. */
struct pkeys_file {
	/* The first letter of the state, 0 if it is not listed. */
	char state[PKEY_NR];
	int mappings[PKEY_NR];
	int exec_only;
};

static bool read_pkeys(const char *path, struct pkeys_file *file)
{
	char buf[2048], *c;
	int fd, k, n, len = 0;

	memset(file, 0, sizeof(*file));
	fd = pkey_raw_syscall(__NR_open, (uintptr_t)path, O_RDONLY | O_CLOEXEC, 0, 0);
	if (fd < 0)
		return false;

	do {
		n = pkey_raw_syscall(__NR_read, fd, (uintptr_t)buf + len,
				     sizeof(buf) - 1 - len, 0);
		if (n > 0)
			len += n;
	} while (n > 0);
	pkey_raw_syscall(__NR_close, fd, 0, 0, 0);
	buf[len] = 0;

	/* The first line says what the columns are. */
	for (c = strchr(buf, '\n'); c && c[1]; c = strchr(c, '\n')) {
		while (*c == ' ' || *c == '\n')
			c++;
		for (k = 0; *c >= '0' && *c <= '9'; c++)
			k = 10 * k + *c - '0';
		while (*c == ' ')
			c++;
		if (k >= PKEY_NR)
			return false;
		file->state[k] = *c;
		if (*c == 'e')
			file->exec_only = k;
		while (*c > ' ')
			c++;
		while (*c == ' ')
			c++;
		for (n = 0; *c >= '0' && *c <= '9'; c++)
			n = 10 * n + *c - '0';
		file->mappings[k] = n;
	}
	return true;
}

/*
 * The kernel has taken a key for itself, or had it already. Nobody has rights
 * to it; the calling task has exactly none (D1).
 */
static void note_exec_only(struct task *t, const struct sample *s, bool first)
{
	struct rights *r = t->rights;
	struct pkeys_file file;
	unsigned int k, word, owner;

	k = LOAD(oracle.exec_only);
	if (!k) {
		if (!read_pkeys(arena.pkeys_path, &file) || !file.exec_only)
			return;
		k = file.exec_only;
		if (surely_mapped(s, k))
			violate(t, RULE_CLEAN_FIRST, "mapped key for execute-only: lower, upper",
				k, s[k].lower, s[k].upper, s[k].word);
		if (cas(&oracle.exec_only, 0, k)) {
			/* In this order: op_tag() reads the word, then the owner. */
			owner = LOAD(oracle.key[k].owner);
			STORE(oracle.key[k].owner, OWNER_KERNEL);
			word = ADD(oracle.key[k].word, 1);
			if (!(word & 1))
				violate(t, RULE_ONE_OWNER, "execute-only: word, owner", k, word,
					owner, 0);
			STORE(oracle.key[k].strict, word);
		} else if (LOAD(oracle.exec_only) != k) {
			violate(t, RULE_ONE_OWNER, "two execute-only keys", k,
				LOAD(oracle.exec_only), 0, 0);
		}
	}
	/* There may have been no key for this task's memory, and one since then. */
	if (first && (read_rights() >> 2 * k & PKEY_RIGHTS_MASK) != PKEY_DISABLE_ACCESS)
		return;

	r->pkru = pkru_with_rights(r->pkru, k, PKEY_DISABLE_ACCESS);
	r->open &= ~(1u << k);
}

static void op_exec_only(struct task *t)
{
	const bool first = !LOAD(oracle.exec_only);
	struct sample sample[PKEY_NR];
	unsigned int p;
	void *map;
	int ret;

	if (!claim_range(t, 1, &p))
		return;

	replace(t, p, 1, RW);
	check(t);
	if (first)
		enter();
	take_sample(sample);
	if (rnd(t, 2)) {
		ret = pkey_raw_syscall(__NR_mprotect, (uintptr_t)page_addr(p), page_size,
				       PROT_EXEC, 0);
		if (ret)
			violate(t, RULE_CALLS, "mprotect(PROT_EXEC)", 0, ret, p, 0);
	} else {
		map = mmap(page_addr(p), page_size, PROT_EXEC,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		if (map != page_addr(p))
			violate(t, RULE_CALLS, "mmap(PROT_EXEC)", 0, p, 0, 0);
	}
	note_exec_only(t, sample, first);
	if (first)
		leave();
	check(t);
	unclaim(p);
}

/* Moves a page onto another, with its key; MREMAP_DONTUNMAP leaves an empty one. */
static void op_mremap(struct task *t)
{
	unsigned int p, q = rnd(t, NR_PAGES);
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;
	bool keep = rnd(t, 3) == 0;
	struct page *page;
	void *map;

	if (!claim_range(t, 1, &p))
		return;
	if (!claim(q)) {
		unclaim(p);
		return;
	}

	page = &oracle.page[p];
	if (keep)
		count_up_begin(page->pkey, 1);
	count_down_begin(q, 1);
	map = mremap(page_addr(p), page_size, page_size, flags | (keep ? MREMAP_DONTUNMAP : 0),
		     page_addr(q));
	if (map != page_addr(q)) {
		/* Nothing has moved, but what was at the target may be gone. */
		if (!keep)
			violate(t, RULE_CALLS, "mremap()", page->pkey, p, q, 0);
		map_new(t, q, 1, RW);
	}
	count_down_end(q, 1, true);
	if (keep)
		count_up_end(page->pkey, 1, map == page_addr(q));

	if (map == page_addr(q)) {
		oracle.page[q].pkey = page->pkey;
		oracle.page[q].secret = page->secret;
		if (!keep) {
			/* There is nothing at the old place: its key went along. */
			map_new(t, p, 1, RW);
			set_pages(p, 1, 0);
		}
	} else {
		set_pages(q, 1, 0);
	}
	unclaim(q);
	unclaim(p);
}

static void op_madvise(struct task *t)
{
	static const int advices[] = {
		MADV_DONTNEED, MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_DONTFORK,
		MADV_DOFORK, MADV_WIPEONFORK, MADV_KEEPONFORK, MADV_DONTDUMP, MADV_DODUMP,
	};
	unsigned int p, n = claim_range(t, MAX_RANGE, &p);

	if (!n)
		return;

	/* It may be refused, as for shared memory; mappings are split all the same. */
	switch (rnd(t, 4)) {
	case 0:
		mlock(page_addr(p), n * page_size);
		break;
	case 1:
		munlock(page_addr(p), n * page_size);
		break;
	default:
		madvise(page_addr(p), n * page_size, advices[rnd(t, ARRAY_SIZE(advices))]);
	}
	unclaim_range(p, n);
}

/* B1, C1, A1: calls that are always wrong. */
static void op_wrong(struct task *t)
{
	const int exec_only = LOAD(oracle.exec_only);
	int ret;

	switch (rnd(t, 4)) {
	case 0:
		ret = pkey_raw_syscall(__NR_pkey_free, rnd(t, 2) ? 0 : -1, 0, 0, 0);
		break;
	case 1:
		ret = pkey_raw_syscall(__NR_pkey_alloc, 0, 4, 0, 0);
		break;
	case 2:
		ret = pkey_raw_syscall(__NR_pkey_free, exec_only ?: PKEY_NR, 0, 0, 0);
		break;
	default:
		ret = pkey_raw_syscall(__NR_pkey_mprotect, (uintptr_t)pages, page_size, PROT_READ,
				       exec_only ?: PKEY_NR);
	}
	if (ret != -EINVAL)
		violate(t, RULE_CALLS, "a wrong call was right", exec_only, ret, 0, 0);
}

static void op_yield(struct task *t)
{
	yield_cpu();
}

/* Another task that cannot go away until it is unpinned, or NULL. */
static struct task *pin(struct task *t)
{
	struct task *other = task_of(rnd(t, NR_TASKS));

	if (other == t || LOAD(other->state) != STATE_RUNNING)
		return NULL;

	ADD(other->pins, 1);
	if (LOAD(other->state) == STATE_RUNNING)
		return other;

	SUB(other->pins, 1);
	return NULL;
}

static void unpin(struct task *other)
{
	SUB(other->pins, 1);
}

static int a_signal(struct task *t)
{
	static const int signals[NR_SIGNALS] = { SIGUSR1, SIGUSR2, SIGURG };

	return signals[rnd(t, NR_SIGNALS)];
}

static void op_signal(struct task *t)
{
	struct task *other = pin(t);

	if (!other)
		return;

	pkey_raw_syscall(__NR_tgkill, other->tgid, LOAD(other->tid), a_signal(t), 0);
	unpin(other);
}

static void op_raise(struct task *t)
{
	pkey_raw_syscall(__NR_tgkill, t->tgid, LOAD(t->tid), a_signal(t), 0);
	check(t);
}

/* What the kernel says of the first task of a process: 'T' is stopped. */
static char process_state(pid_t pid)
{
	char buf[128], path[32] = "/proc/", digits[12], *c = path + 6;
	int fd, n, i = 0;

	for (n = pid; n; n /= 10)
		digits[i++] = '0' + n % 10;
	while (i--)
		*c++ = digits[i];
	memcpy(c, "/stat", sizeof("/stat"));

	fd = pkey_raw_syscall(__NR_open, (uintptr_t)path, O_RDONLY | O_CLOEXEC, 0, 0);
	if (fd < 0)
		return '?';
	n = pkey_raw_syscall(__NR_read, fd, (uintptr_t)buf, sizeof(buf) - 1, 0);
	pkey_raw_syscall(__NR_close, fd, 0, 0, 0);
	buf[n > 0 ? n : 0] = 0;
	c = strrchr(buf, ')');
	return c && c[1] ? c[2] : '?';
}

/*
 * Returns when the process has stopped. Somebody else may let it go on. Who has
 * ended, or waits for a child of vfork(), does not stop.
 */
static void stop_process(pid_t pid)
{
	char state;

	do {
		pkey_raw_syscall(__NR_kill, pid, SIGSTOP, 0, 0);
		state = process_state(pid);
		if (state == 'R' || state == 'S')
			yield_cpu();
	} while (state == 'R' || state == 'S');
}

/*
 * F4: stopped tasks. Only threads of the arena stop others, and only others are
 * stopped, so nobody who stops is stopped himself.
 */
static void op_stop(struct task *t)
{
	struct task *other;
	unsigned int open;
	int k;

	if (t->tgid != arena.pid)
		return;
	other = pin(t);
	if (!other)
		return;
	if (other->tgid != arena.pid) {
		stop_process(other->tgid);
		/* Preferably keys that it has open. */
		open = LOAD(LOAD(other->rights)->open);
		for_each_key(k) {
			if (!(open & 1u << k))
				continue;
			cas(&oracle.key[k].owner, OWNER_POOL, id_of(t));
			if (LOAD(oracle.key[k].owner) == id_of(t) && ready_to_free(t, k))
				do_free(t, k);
		}
		do_alloc(t);
		do_alloc(t);
		pkey_raw_syscall(__NR_kill, other->tgid, SIGCONT, 0, 0);
	}
	unpin(other);
}

static void block_signals(bool block)
{
	const uint64_t mask = block ? ~0ull : 0;

	pkey_raw_syscall(__NR_rt_sigprocmask, SIG_SETMASK, (uintptr_t)&mask, 0, sizeof(mask));
}

static void wake(struct task *other)
{
	if (!cas(&other->asleep, 1, 2))
		return;

	STORE(other->go, 1);
	futex_wake(&other->go);
	pkey_raw_syscall(__NR_write, oracle.sleep_fd[other->index][1], (uintptr_t)"x", 1, 0);
}

static void wake_one(struct task *t)
{
	unsigned int i, first = rnd(t, NR_TASKS);
	struct task *other;

	for (i = 0; i < NR_TASKS; i++) {
		other = task_of((first + i) % NR_TASKS);
		if (LOAD(other->asleep) == 1)
			return wake(other);
	}
}

static void op_wake(struct task *t)
{
	wake_one(t);
}

/* Sleeps, with all signals blocked, until it is woken. */
static void sleep_until_woken(struct task *t)
{
	/* SIGCONT ends epoll_wait(), and only threads of the arena are never stopped. */
	const unsigned int how = rnd(t, t->tgid == arena.pid ? 4 : 3);
	const int fd = oracle.sleep_fd[t->index][0];
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	struct epoll_event event;
	int ret, expected = 1;
	char byte;

	switch (how) {
	case 0:
		ret = pkey_raw_syscall(__NR_read, fd, (uintptr_t)&byte, 1, 0);
		break;
	case 1:
		do {
			ret = pkey_raw_syscall(NR_FUTEX, (uintptr_t)&t->go, FUTEX_OP_WAIT, 0, 0);
		} while (!ret && !LOAD(t->go));
		expected = ret == -EAGAIN ? ret : 0;
		break;
	case 2:
		ret = pkey_raw_syscall(__NR_poll, (uintptr_t)&pollfd, 1, -1, 0);
		break;
	default:
		ret = pkey_raw_syscall(__NR_epoll_wait, oracle.sleep_epoll[t->index],
				       (uintptr_t)&event, 1, -1);
	}
	check(t);
	if (ret != expected)
		violate(t, RULE_NO_EINTR, "call, result", 0, how, ret, 0);
	if (how)
		pkey_raw_syscall(__NR_read, fd, (uintptr_t)&byte, 1, 0);
}

static void op_sleep(struct task *t)
{
	bool one_left;

	/* Who vfork()s does not wake anybody. */
	if (t->kind == KIND_VFORK)
		return;

	block_signals(true);
	STORE(t->go, 0);
	/* It can be woken before it does not count as awake: there may be nobody else. */
	STORE(t->asleep, 1);
	one_left = SUB(oracle.awake, 1) >= 1;
	/*
	 * One stays awake, to wake the others. At the end everybody who sleeps is woken.
	 * Who does not sleep, but is being woken, waits for that.
	 */
	if ((one_left && !LOAD(oracle.stop)) || !cas(&t->asleep, 1, 0))
		sleep_until_woken(t);
	STORE(t->asleep, 0);
	ADD(oracle.awake, 1);
	block_signals(false);
}

static int task_run(void *arg);

/*
 * Takes the slot, if nobody uses it or the one who did has gone. First it is taken,
 * then looked at: the other way round a task could come, and be about to leave, in
 * between.
 */
static bool take_slot(struct task *slot)
{
	if (cas(&slot->state, STATE_FREE, STATE_STARTING))
		return true;
	if (!cas(&slot->state, STATE_LEAVING, STATE_STARTING))
		return false;
	if (!LOAD(slot->tid))
		return true;

	STORE(slot->state, STATE_LEAVING);
	return false;
}

/* Creates a task that shares the memory, and starts with the rights of its creator. */
static void spawn(struct task *t, enum kind kind)
{
	int flags = CLONE_VM | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
	struct task *new = NULL;
	unsigned int i, nr;

	/* Each task creates several; there would be more and more. */
	if (t->kind != KIND_MAIN && LOAD(oracle.awake) > 2 * (int)arena.workers)
		return;

	for (i = 0; i < NR_TASKS; i++) {
		new = task_of(i);
		if (take_slot(new))
			break;
	}
	if (i == NR_TASKS)
		return;

	new->index = i;
	new->kind = kind;
	new->execs = kind != KIND_THREAD && rnd(t, 8) == 0;
	new->life = kind == KIND_VFORK ? 1 + rnd(t, 50) : 1 + rnd(t, 1 + rnd(t, 4000));
	new->rng = mix(t->rng);
	rnd(t, 1);
	new->tgid = t->tgid;
	new->depth = 0;
	new->rights = &new->base;
	new->ops = 0;
	memset(new->by_kind, 0, sizeof(new->by_kind));

	switch (kind) {
	case KIND_THREAD:
		flags |= CLONE_THREAD | CLONE_SIGHAND | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM;
		break;
	case KIND_VFORK:
		flags |= CLONE_VFORK;
		break;
	default:
		flags |= rnd(t, 2) ? CLONE_FILES : 0;
		flags |= rnd(t, 2) ? CLONE_SIGHAND : 0;
	}

	ADD(oracle.awake, 1);
	nr = ADD(shared->tasks, 1);
	if (nr > LOAD(shared->max_tasks))
		STORE(shared->max_tasks, nr);
	/* Until it knows who it is, it gets no signals. */
	block_signals(true);
	check(t);
	new->base = *t->rights;
	if (clone(task_run, (char *)new + STACK_SIZE, flags, new, &new->tid, NULL, &new->tid) < 0)
		violate(t, RULE_CALLS, "clone()", 0, kind, flags, 0);
	/* Now, with its tid there to see: who has seen all tids end looks whether more came. */
	ADD(oracle.created, 1);
	check(t);
	/* The first task of an arena does not get signals. */
	if (t->kind != KIND_MAIN)
		block_signals(false);
}

static void op_spawn(struct task *t)
{
	bool process = arena.processes && (!arena.threads || rnd(t, 2));

	/* A process that calls execve() would end its threads anywhere. */
	if (t->execs && arena.processes)
		process = true;
	if (process || !t->execs)
		spawn(t, process ? KIND_PROCESS : KIND_THREAD);
}

static void op_vfork(struct task *t)
{
	if (arena.processes)
		spawn(t, KIND_VFORK);
}

/*
 * E1: in a child of fork(). What the oracle says of others is of some moment
 * during the fork(); what the task knew of itself is right.
 */
static void in_child(struct task *t)
{
	unsigned int own = 0, seen = 0;
	struct pkeys_file file;
	bool has_file;
	uint32_t pkru, before;
	int k, ret, nr = 0;

	pkru = read_rights();
	for_each_key(k)
		if (LOAD(oracle.key[k].owner) == id_of(t))
			own |= 1u << k;
	for (k = 0; k < PKEY_NR; k++) {
		uint32_t bits = (pkru ^ t->rights->pkru) >> 2 * k & PKEY_RIGHTS_MASK;

		/* Somebody else's key may have been handed out again. */
		if (bits && (bits != PKEY_DISABLE_ACCESS || !(t->rights->open & 1u << k) ||
			     own & 1u << k))
			violate(t, RULE_FORK, "rights changed: before, after, own keys", k,
				t->rights->pkru, pkru, own);
	}

	/* Nobody else uses the pages here. */
	if (munmap(pages, NR_PAGES * page_size) ||
	    mmap(pages, page_size, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != pages)
		violate(t, RULE_CALLS, "munmap() in the child", 0, 0, 0, 0);
	has_file = read_pkeys("/proc/self/pkeys", &file);
	for_each_key(k)
		if (has_file && k != file.exec_only && file.mappings[k])
			violate(t, RULE_COUNT, "mappings in the child, none is there", k,
				file.mappings[k], file.state[k], 0);
	if (has_file && file.exec_only && file.mappings[file.exec_only])
		violate(t, RULE_COUNT, "execute-only mappings in the child", file.exec_only,
			file.mappings[file.exec_only], 0, 0);

	for_each_key(k) {
		ret = pkey_raw_syscall(__NR_pkey_mprotect, (uintptr_t)pages, page_size, RW, k);
		if (ret && own & 1u << k)
			violate(t, RULE_FORK, "own key not allocated", k, ret, own, 0);
		if (ret)
			continue;
		ret = pkey_raw_syscall(__NR_pkey_mprotect, (uintptr_t)pages, page_size, RW, 0);
		ret |= pkey_raw_syscall(__NR_pkey_free, k, 0, 0, 0);
		if (ret || pkey_raw_syscall(__NR_pkey_free, k, 0, 0, 0) != -EINVAL)
			violate(t, RULE_FORK, "freeing in the child", k, ret, 0, 0);
	}

	for (;;) {
		before = read_rights();
		k = pkey_raw_syscall(__NR_pkey_alloc, 0, PKEY_DISABLE_WRITE, 0, 0);
		if (k <= 0)
			break;
		nr++;
		if (seen & 1u << k || (has_file && k == file.exec_only))
			violate(t, RULE_FORK, "key twice in the child", k, seen, 0, 0);
		seen |= 1u << k;
		pkru = read_rights();
		if (pkru != pkru_with_rights(before, k, PKEY_DISABLE_WRITE))
			violate(t, RULE_FORK, "rights after pkey_alloc()", k, before, pkru, 0);
	}
	if (has_file && nr != PKEY_MAX - !!file.exec_only)
		violate(t, RULE_NOT_LOST, "keys in the child: number, which", 0, nr, seen, 0);
}

static void judge_status(struct task *t, int status)
{
	if (WIFSIGNALED(status))
		violate(t, RULE_CALLS, "a task died: signal", 0, WTERMSIG(status), 0, 0);
	else if (WEXITSTATUS(status) >= 10)
		violate(t, RULE_EXECVE, "after execve()", 0, WEXITSTATUS(status), 0, 0);
}

static void op_fork(struct task *t)
{
	int pid, status, ret;

	block_signals(true);
	check(t);
	pid = pkey_raw_syscall(__NR_clone, 0, 0, 0, 0);
	if (!pid) {
		in_child(t);
		pkey_raw_syscall(__NR_exit_group, 0, 0, 0, 0);
	}
	if (pid > 0) {
		ret = pkey_raw_syscall(__NR_wait4, pid, (uintptr_t)&status, __WALL | __WNOTHREAD,
				       0);
		if (ret == pid)
			judge_status(t, status);
		else
			violate(t, RULE_NO_EINTR, "wait4()", 0, ret, 0, 0);
	}
	check(t);
	block_signals(false);
}

struct operation {
	const char *name;
	unsigned int weight;
	/* In signal handlers too. */
	bool anywhere;
	void (*run)(struct task *t);
};

static const struct operation operations[] = {
	{ "check",	250, true,	op_check },
	{ "watch",	20, true,	op_watch },
	{ "open",	150, true,	op_open },
	{ "close",	30, true,	op_close },
	{ "alloc",	120, true,	op_alloc },
	{ "burst",	8, true,	op_burst },
	{ "free",	60, true,	op_free },
	{ "reissue",	80, true,	op_reissue },
	{ "pool",	60, true,	op_pool },
	{ "grant",	20, true,	op_grant },
	{ "secret",	20, true,	op_write_secret },
	{ "read",	60, true,	op_read_secret },
	{ "tag",	25, true,	op_tag },
	{ "mprotect",	10, true,	op_mprotect },
	{ "replace",	10, true,	op_replace },
	{ "exec-only",	3, false,	op_exec_only },
	{ "mremap",	10, true,	op_mremap },
	{ "madvise",	15, true,	op_madvise },
	{ "wrong",	5, true,	op_wrong },
	{ "yield",	10, true,	op_yield },
	{ "signal",	30, true,	op_signal },
	{ "raise",	15, true,	op_raise },
	{ "stop",	6, false,	op_stop },
	{ "wake",	30, true,	op_wake },
	{ "sleep",	15, false,	op_sleep },
	{ "spawn",	4, false,	op_spawn },
	{ "vfork",	2, false,	op_vfork },
	{ "fork",	1, false,	op_fork },
};

#define NR_OPS		ARRAY_SIZE(operations)
/* Counted, but not drawn. */
#define OP_HANDLER	(MAX_OPS - 1)
#define OP_EXECVE	(MAX_OPS - 2)

static unsigned int total_weight(void)
{
	unsigned int i, total = 0;

	for (i = 0; i < NR_OPS; i++)
		total += operations[i].weight;
	return total;
}

static void flush_counts(struct task *t)
{
	unsigned int i;

	ADD(shared->ops, t->ops);
	ADD(oracle.ops, t->ops);
	t->ops = 0;
	for (i = 0; i < MAX_OPS; i++) {
		if (t->by_kind[i])
			ADD(shared->by_kind[i], t->by_kind[i]);
		t->by_kind[i] = 0;
	}
}

static bool time_is_over(void)
{
	struct timespec now;

	if (max_ops)
		return LOAD(shared->ops) >= max_ops;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec > deadline.tv_sec ||
	       (now.tv_sec == deadline.tv_sec && now.tv_nsec > deadline.tv_nsec);
}

static void one_operation(struct task *t)
{
	static unsigned int total;
	unsigned int i, draw;

	if (!total)
		total = total_weight();
	draw = rnd(t, total);
	for (i = 0; draw >= operations[i].weight; i++)
		draw -= operations[i].weight;
	if (t->depth && !operations[i].anywhere)
		return;

	operations[i].run(t);
	t->by_kind[i]++;
	t->ops++;
}

/* What a task or a handler owns when it ends. */
static void give_up_keys(struct task *t)
{
	int k;

	for_each_key(k) {
		if (LOAD(oracle.key[k].owner) != id_of(t))
			continue;
		if (rnd(t, 2) && ready_to_free(t, k))
			do_free(t, k);
		else
			STORE(oracle.key[k].owner, OWNER_POOL);
	}
}

static void on_signal(int sig)
{
	struct task *t = self();
	struct rights *outer = t->rights, inner;
	unsigned int n;

	rights_init(&inner);
	t->depth++;
	t->rights = &inner;
	t->by_kind[OP_HANDLER]++;
	check(t);
	for (n = rnd(t, 16); n--;)
		one_operation(t);
	give_up_keys(t);
	check(t);
	t->rights = outer;
	t->depth--;
}

static int run_execve(struct task *t)
{
	static char *const argv[] = { "pkey_torture_test", REPORT_ARG, pkru_arg, NULL };
	static char *const envp[] = { NULL };

	return pkey_raw_syscall(__NR_execve, (uintptr_t)"/proc/self/exe", (uintptr_t)argv,
				(uintptr_t)envp, 0);
}

static int task_run(void *arg)
{
	struct task *t = arg;
	int ret;

	check(t);
	if (t->kind != KIND_THREAD)
		t->tgid = pkey_raw_syscall(__NR_getpid, 0, 0, 0, 0);
	STORE(t->state, STATE_RUNNING);
	block_signals(false);

	while (t->life-- && !LOAD(oracle.stop)) {
		one_operation(t);
		if (t->ops < BATCH)
			continue;
		flush_counts(t);
		if (LOAD(shared->stop) || LOAD(oracle.ops) >= oracle.max_ops || time_is_over())
			STORE(oracle.stop, 1);
	}

	block_signals(true);
	give_up_keys(t);
	check(t);
	STORE(t->state, STATE_LEAVING);
	while (LOAD(t->pins))
		yield_cpu();
	if (t->execs)
		t->by_kind[OP_EXECVE]++;
	flush_counts(t);
	SUB(oracle.awake, 1);
	SUB(shared->tasks, 1);
	raise_event();
	if (!t->execs)
		return 0;

	/* It leaves with its rights, perhaps while they are being taken. */
	ret = run_execve(t);
	violate(t, RULE_EXECVE, "execve() failed", 0, ret, 0, 0);
	return 0;
}

/* E3: what a program finds. The exit status says what is wrong. */
static int after_execve(uint32_t expected)
{
	int k;

	if (pkru_at_start != expected)
		return 10;
	for_each_key(k)
		if (sys_pkey_alloc(0, PKEY_DISABLE_ACCESS) != k)
			return 10 + k;
	return sys_pkey_alloc(0, 0) == -1 && errno == ENOSPC ? 0 : 10 + PKEY_NR;
}

/* The first task of an arena */

static bool arena_setup(void)
{
	static const int signals[NR_SIGNALS] = { SIGUSR1, SIGUSR2, SIGURG };
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	struct epoll_event event = { .events = EPOLLIN };
	const size_t size = (NR_TASKS + 1) * STACK_SIZE;
	unsigned int i;
	int k;

	arena.pid = getpid();
	snprintf(arena.pkeys_path, sizeof(arena.pkeys_path), "/proc/%d/pkeys", arena.pid);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	block_signals(true);
	for (i = 0; i < NR_SIGNALS; i++)
		sigaction(signals[i], &action, NULL);
	action.sa_sigaction = on_segv;
	action.sa_flags = SA_SIGINFO;
	sigfillset(&action.sa_mask);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);

	stacks = pkey_mmap(NULL, size, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	pages = pkey_map(NR_PAGES, RW);
	if (!stacks || !pages)
		return false;

	stacks += STACK_SIZE - ((uintptr_t)stacks & (STACK_SIZE - 1));
	memset(&oracle, 0, sizeof(oracle));
	for_each_key(k)
		oracle.key[k].word = arena.inherits ? 2 : 0;
	for (i = 0; i < NR_TASKS; i++) {
		oracle.sleep_epoll[i] = epoll_create1(0);
		if (pipe(oracle.sleep_fd[i]) ||
		    epoll_ctl(oracle.sleep_epoll[i], EPOLL_CTL_ADD, oracle.sleep_fd[i][0],
			      &event))
			return false;
	}

	main_task.tgid = arena.pid;
	main_task.kind = KIND_MAIN;
	main_task.index = NR_TASKS;
	main_task.rights = &main_task.base;
	main_task.rng = arena.seed;
	rights_init(&main_task.base);
	check(&main_task);
	return true;
}

static void reap(int flags)
{
	int status, ret;

	for (;;) {
		ret = pkey_raw_syscall(__NR_wait4, -1, (uintptr_t)&status, __WALL | flags, 0);
		if (ret <= 0)
			return;
		judge_status(&main_task, status);
	}
}

static void set_reuse_mapped(int value)
{
	int fd = open(SYSCTL, O_WRONLY);

	if (fd >= 0 && write(fd, value ? "1" : "0", 1) != 1)
		ksft_print_msg("cannot write %s: %s\n", SYSCTL, strerror(errno));
	if (fd >= 0)
		close(fd);
}

/* Nobody else is left: what the kernel says must be exactly what is. */
static void arena_check(struct task *t)
{
	struct pkey_vma *vmas = calloc(512, sizeof(*vmas));
	int k, ret, i, nr, found[PKEY_NR] = {};
	const int exec_only = oracle.exec_only;
	struct pkeys_file file;
	bool allocated;

	check(t);
	nr = pkey_read_vmas(NULL, SIZE_MAX, vmas, 512);
	for (i = 0; i < nr; i++)
		found[vmas[i].pkey]++;
	free(vmas);
	if (read_pkeys(arena.pkeys_path, &file)) {
		for_each_key(k) {
			if (file.mappings[k] != found[k])
				violate(t, RULE_COUNT, "mappings counted, found, tagged pages", k,
					file.mappings[k], found[k], oracle.key[k].upper);
			allocated = file.state[k] == 'a' || file.state[k] == 'e';
			if (allocated != (oracle.key[k].word & 1))
				violate(t, RULE_NOT_LOST, "state, word", k, file.state[k],
					oracle.key[k].word, 0);
		}
		if (file.exec_only != exec_only)
			violate(t, RULE_ONE_OWNER, "execute-only", exec_only, file.exec_only, 0, 0);
	}
	for_each_key(k)
		if (k != exec_only && !oracle.key[k].upper != !found[k])
			violate(t, RULE_COUNT, "mappings found, tagged pages", k, found[k],
				oracle.key[k].upper, 0);

	if (munmap(pages, NR_PAGES * page_size))
		violate(t, RULE_CALLS, "munmap()", 0, 0, 0, 0);
	if (read_pkeys(arena.pkeys_path, &file))
		for_each_key(k)
			if (file.mappings[k])
				violate(t, RULE_COUNT, "mappings counted, none is there", k,
					file.mappings[k], file.state[k], 0);

	for_each_key(k) {
		ret = pkey_raw_syscall(__NR_pkey_free, k, 0, 0, 0);
		if (ret != (oracle.key[k].word & 1 && k != exec_only ? 0 : -EINVAL))
			violate(t, RULE_NOT_LOST, "pkey_free() at the end", k, ret,
				oracle.key[k].word, exec_only);
	}

	for (nr = 0; nr < PKEY_NR; nr++) {
		k = pkey_raw_syscall(__NR_pkey_alloc, 0, PKEY_DISABLE_ACCESS, 0, 0);
		if (k <= 0)
			break;
		if (k == exec_only)
			violate(t, RULE_ONE_OWNER, "execute-only key handed out", k, 0, 0, 0);
	}
	if (nr != PKEY_MAX - !!exec_only)
		violate(t, RULE_NOT_LOST, "keys at the end: number, of", 0, nr,
			PKEY_MAX - !!exec_only, k);
}

/* Those that leave do not count: they may have told of it for the last time. */
static unsigned int nr_alive(void)
{
	unsigned int i, nr = 0;
	enum state state;

	for (i = 0; i < NR_TASKS; i++) {
		state = LOAD(task_of(i)->state);
		nr += state == STATE_STARTING || state == STATE_RUNNING;
	}
	return nr;
}

/*
 * All keys are used once. In an untidy arena each leaves a page behind, so that
 * there is neither an unused nor a clean one; whoever first wants execute-only
 * memory has to do without a key.
 */
static void use_all_keys(struct task *t)
{
	int i, keys[PKEY_NR], nr = 0;

	while (nr < PKEY_MAX) {
		keys[nr] = do_alloc(t);
		if (!keys[nr])
			break;
		nr++;
	}
	for (i = 0; i < nr; i++) {
		if (!arena.tidy)
			tag(t, i, 1, RW, keys[i], LOAD(oracle.key[keys[i]].word));
		do_free(t, keys[i]);
	}
}

static int run_arena(void)
{
	struct task *t = &main_task;
	unsigned int i, events, tid, created;

	if (!arena_setup()) {
		violate(NULL, RULE_CALLS, "no memory or files", 0, 0, 0, 0);
		return 1;
	}

	oracle.max_ops = 500 + rnd(t, 5000);
	if (arena.used)
		use_all_keys(t);

	/* New tasks for those that end; each time one sleeper is woken. */
	while (!LOAD(oracle.stop)) {
		events = LOAD(oracle.events);
		while (nr_alive() < arena.workers && !LOAD(oracle.stop))
			op_spawn(t);
		wake_one(t);
		reap(WNOHANG | __WNOTHREAD);
		if (arena.reuse_mapped < 0)
			set_reuse_mapped(rnd(t, 2));
		check(t);
		if (!LOAD(oracle.stop))
			futex_wait(&oracle.events, events);
	}

	/* Those that sleep, or are about to, are woken; then all come to an end. */
	do {
		created = LOAD(oracle.created);
		for (i = 0; i < NR_TASKS; i++) {
			while ((tid = LOAD(task_of(i)->tid))) {
				wake(task_of(i));
				futex_wait(&task_of(i)->tid, tid);
			}
		}
	} while (created != LOAD(oracle.created));
	reap(0);
	arena_check(t);
	return 0;
}

/* E1: the arena gets an address space in which all keys were used. */
static int run_inheriting_arena(void)
{
	int k, round, status;
	pid_t pid;

	for (round = 0; round < 2; round++) {
		for_each_key(k)
			if (sys_pkey_alloc(0, 0) != k)
				violate(NULL, RULE_NOT_LOST, "first owner", k, round, 0, 0);
		for_each_key(k)
			if (sys_pkey_free(k))
				violate(NULL, RULE_NOT_LOST, "first free", k, round, 0, 0);
	}
	wrpkru(pkru_at_start);

	pid = fork();
	if (!pid)
		return run_arena();
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 1;
	if (WIFSIGNALED(status))
		violate(NULL, RULE_CALLS, "the arena died: signal", 0, WTERMSIG(status), 0, 0);
	return 0;
}

static void run_in_arena(void)
{
	setpgid(0, 0);
	_exit(arena.inherits ? run_inheriting_arena() : run_arena());
}

/* The process that starts the arenas, and prints */

static bool can_set_sysctl(int *value)
{
	int fd = open(SYSCTL, O_RDWR);
	char byte = '1';
	bool ok;

	if (fd < 0)
		fd = open(SYSCTL, O_RDONLY);
	if (fd >= 0 && read(fd, &byte, 1) == 1)
		*value = byte - '0';
	ok = fd >= 0 && pwrite(fd, &byte, 1, 0) == 1;
	if (fd >= 0)
		close(fd);
	return ok;
}

/* Waits for the arena, as long as it does something. */
static int wait_for_arena(pid_t pid)
{
	const struct timespec patience = { .tv_sec = HANG_SECONDS };
	unsigned int ops;
	sigset_t set;
	int status;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	for (;;) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return status;
		ops = LOAD(shared->ops);
		if (sigtimedwait(&set, NULL, &patience) < 0 && errno == EAGAIN &&
		    ops == LOAD(shared->ops))
			break;
	}
	violate(NULL, RULE_CALLS, "the arena hangs", 0, ops, 0, 0);
	kill(-pid, SIGKILL);
	waitpid(pid, &status, 0);
	return 0;
}

static void start_arena(void)
{
	pid_t pid;
	int status;

	pid = fork();
	if (pid < 0)
		ksft_exit_fail_msg("fork(): %s\n", strerror(errno));
	if (!pid)
		run_in_arena();

	status = wait_for_arena(pid);
	if (WIFSIGNALED(status)) {
		violate(NULL, RULE_CALLS, "the arena died: signal", 0, WTERMSIG(status), 0, 0);
		kill(-pid, SIGKILL);
	}
	STORE(shared->tasks, 0);
}

static void plan_arena(uint64_t seed, bool may_set, int sysctl)
{
	uint64_t draw;

	arena.seed = mix(seed + arena.number);
	draw = mix(arena.seed);
	/* Short runs get all four combinations of these two. */
	arena.tidy = arena.number >> 1 & 1;
	arena.reuse_mapped = sysctl;
	if (may_set) {
		arena.reuse_mapped = arena.number & 1;
		set_reuse_mapped(arena.reuse_mapped);
		if ((draw & 7) == 0)
			arena.reuse_mapped = -1;
	}
	arena.used = draw >> 3 & 3;
	arena.inherits = (draw >> 3 & 3) == 1;
	arena.threads = (draw >> 5 & 3) != 1;
	arena.processes = (draw >> 5 & 3) != 0;
	arena.number++;
}

static void print_records(void)
{
	const struct record *r;
	unsigned int i;

	for (i = 0; i < shared->nr_records && i < NR_RECORDS; i++) {
		r = &shared->records[i];
		ksft_print_msg("violation after %u.%03u s in arena %u, %s, depth %u:\n",
			       r->ms / 1000, r->ms % 1000, r->arena, kind_names[r->kind],
			       r->depth);
		ksft_print_msg("key %d: %s: %08x %08x %08x\n", r->pkey, r->what,
			       r->values[0], r->values[1], r->values[2]);
	}
}

static void print_counts(uint64_t seed)
{
	unsigned int i;

	ksft_print_msg("seed %llu, %u arenas, %u operations, %u ms\n",
		       (unsigned long long)seed, arena.number, shared->ops, ms_since(&started));
	for (i = 0; i < NR_OPS; i++)
		ksft_print_msg("%10u %s\n", shared->by_kind[i], operations[i].name);
	ksft_print_msg("%10u handler\n", shared->by_kind[OP_HANDLER]);
	ksft_print_msg("%10u execve\n", shared->by_kind[OP_EXECVE]);
	ksft_print_msg("re-issues %u, revocations noticed %u, reads refused %u, tasks at most %u\n",
		       shared->reissues, shared->revocations, shared->refusals,
		       shared->max_tasks);
}

static void explain_usage(const char *name)
{
	ksft_exit_fail_msg("usage: %s [-t seconds | -n operations] [-s seed] [-w workers]\n", name);
}

int main(int argc, char **argv)
{
	unsigned int seconds = DEFAULT_SECONDS;
	int option, i, sysctl = 1;
	struct timespec now;
	sigset_t set;
	uint64_t seed;
	bool may_set;

	pkru_at_start = pkru_save();
	snprintf(pkru_arg, sizeof(pkru_arg), "%u", pkru_at_start);
	if (argc == 3 && !strcmp(argv[1], REPORT_ARG))
		return after_execve(strtoul(argv[2], NULL, 0));

	ksft_print_header();
	if (!pku_enabled())
		ksft_exit_skip(NO_PKU "\n");
	/* What a task has of a key before anybody opened it: nothing. */
	if (rdpkru() != PKRU_CLOSED)
		ksft_exit_skip("init_pkru= opens keys from the start\n");

	clock_gettime(CLOCK_REALTIME, &now);
	seed = (uint32_t)mix(now.tv_nsec ^ (uint64_t)now.tv_sec << 32 ^ getpid());
	arena.workers = DEFAULT_WORKERS;
	while ((option = getopt(argc, argv, "t:n:s:w:")) != -1) {
		switch (option) {
		case 't':
			seconds = strtoul(optarg, NULL, 0);
			break;
		case 'n':
			max_ops = strtoul(optarg, NULL, 0);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'w':
			arena.workers = strtoul(optarg, NULL, 0);
			break;
		default:
			explain_usage(argv[0]);
		}
	}
	if (!arena.workers || arena.workers > NR_TASKS / 2)
		ksft_exit_fail_msg("1 to %u workers\n", NR_TASKS / 2);

	ksft_set_plan(NR_RULES);
	ksft_print_msg("seed %llu\n", (unsigned long long)seed);
	page_size = pkey_page_size();
	shared = pkey_map_shared(sizeof(*shared));
	if (!shared)
		ksft_exit_fail_msg("mmap(): %s\n", strerror(errno));

	may_set = can_set_sysctl(&sysctl);
	if (!may_set)
		ksft_print_msg(SYSCTL " stays %d\n", sysctl);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	clock_gettime(CLOCK_MONOTONIC, &started);
	deadline = started;
	deadline.tv_sec += seconds;
	do {
		plan_arena(seed, may_set, sysctl);
		start_arena();
	} while (!shared->stop && !time_is_over());
	if (may_set)
		set_reuse_mapped(sysctl);

	print_records();
	print_counts(seed);
	for (i = 0; i < NR_RULES; i++)
		ksft_test_result(!shared->violations[i], "%s\n", rule_names[i]);
	ksft_finished();
}
