/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The oracle of the torture test of protection keys: what the tasks of an arena know
 * of the keys, and whether a task has the rights that it must have.
 *
 * An arena is a process with a fresh address space and its tasks. The oracle lives in
 * memory that no key protects:
 *
 *  - Each key has a word. It goes up by one after pkey_alloc() has returned the key
 *    and before pkey_free() is called, so it is odd while the key has an owner. A
 *    task that gets a key whose word is odd has got the key of somebody else.
 *
 *  - A task opens a key only if it owns the key, or if the owner has granted that,
 *    and remembers the word. It may keep the rights while the word is the same. It
 *    may lose them when the word has changed. It must have lost them when the key
 *    was handed out again after it had been clean. That is what @strict says.
 *
 *  - Each key has two bounds of the number of pages that carry it. The upper bound
 *    is raised before pages get the key and lowered after they have lost it; the
 *    lower bound the other way round. A key whose upper bound is 0 before
 *    pkey_alloc(), and is not raised during the call, was clean. A key whose lower
 *    bound is above 0, and is not lowered, was mapped. Otherwise nothing is known.
 *
 *  - The owner of a key may set the rights of all tasks (PR_PKEY_SET_RIGHTS). Each such
 *    call has a number; @set_begun is stored before the call and @set_ended after it.
 *    When a call has ended, each task must have its rights or those of a later call.
 *    While a call is under way a task may have the rights from before as well.
 *
 * A task that changes its rights by RDPKRU and WRPKRU may write back, for other keys,
 * what another task has changed in between. The kernel cannot know. So after each
 * WRPKRU the task looks at the words again and closes the keys whose words have
 * changed; a call that may have been overwritten is noted in @fuzzy. If RDPKRU and
 * WRPKRU are in an rseq section, the kernel has to see to that (F7), and the task does
 * nothing.
 *
 * In a stray arena any task frees any key at any time, so no key has an owner. Only
 * this is known there: of all calls that returned a key, only the last one gives
 * rights (F4). Tasks open keys by pkey_alloc() alone. After the call has returned with
 * access to the key, the task takes a new number from the key's word, finds that it
 * still has access, and raises @strict to its number. A task that has access with a
 * lower number than @strict violates F4: it had access when the other task found
 * that it has, and at that moment both calls had returned. Both keys must have been
 * clean for this, because a key that was mapped leaves the rights of other tasks.
 *
 * Tasks are no threads of the C library and have no thread-local memory: they use
 * neither errno nor stdio. At the base of each task's stack is its struct task.
 */
#ifndef PKEY_TORTURE_ORACLE_H
#define PKEY_TORTURE_ORACLE_H

#include <time.h>

#include "pkey_prctl.h"
#include "pkey_rseq.h"

/* Room for the tasks that live at the same time in an arena. */
#define NR_TASKS	32
#define STACK_SIZE	(128 * 1024)

/* Pages that the tasks tag, side by side, so that mappings split and merge. */
#define NR_PAGES	48

/* The calls of PR_PKEY_SET_RIGHTS for one key that are remembered. */
#define NR_SETS		64

/* All keys closed but key 0. */
#define PKRU_CLOSED	PKRU_INIT

/* Owners of keys that are not one of the tasks. */
#define OWNER_NONE	0
#define OWNER_POOL	0x10000
#define OWNER_KERNEL	0x20000

#define SUB(_x, _v)	__atomic_sub_fetch(&(_x), _v, __ATOMIC_SEQ_CST)

#define for_each_key(_k) for ((_k) = 1; (_k) < PKEY_NR; (_k)++)

/* The promises of the kernel. Each is a test result. */
enum rule {
	RULE_REVOKED,
	RULE_OTHER_RIGHTS,
	RULE_SET_RIGHTS,
	RULE_SECTION,
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
	[RULE_REVOKED]		= "F4, F6: no task keeps rights to a key that was re-issued",
	[RULE_OTHER_RIGHTS]	= "A5, F4: no other rights change",
	[RULE_SET_RIGHTS]	= "I2, I3, I4: all tasks have the rights that were set last",
	[RULE_SECTION]		= "F7: no rights come back through an rseq section",
	[RULE_ONE_OWNER]	= "A3: no key has two owners",
	[RULE_NOT_LOST]		= "A3, A4: no key is lost",
	[RULE_CLEAN_FIRST]	= "F2, F3: keys are handed out in order, mapped ones last or never",
	[RULE_SECRET]		= "F4: no task reads the memory of a new owner",
	[RULE_COUNT]		= "F1: the counted mappings are those that exist",
	[RULE_NO_EINTR]		= "F4, I2: no system call is interrupted",
	[RULE_FORK]		= "E1: a child has the keys and the rights of its parent",
	[RULE_EXECVE]		= "E3: execve() starts over",
	[RULE_CALLS]		= "no call fails that must succeed, and no task dies",
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
#define MAX_OPS		40

/* Shared by all processes. */
struct shared {
	/* Something is wrong, or it is time: all tasks come to an end. */
	unsigned int stop;
	unsigned int violations[NR_RULES];
	unsigned int nr_records;
	struct record records[NR_RECORDS];

	unsigned int ops;
	unsigned int by_kind[MAX_OPS];
	unsigned int reissues;
	unsigned int revocations;
	unsigned int sets_seen;
	unsigned int sections;
	unsigned int aborts;
	unsigned int stray_frees;
	unsigned int refusals;
	unsigned int tasks;
	unsigned int max_tasks;
};

static struct shared *shared;

/* One call of PR_PKEY_SET_RIGHTS: the rights, and the word of the key then. */
struct set {
	unsigned int rights;
	unsigned int word;
};

/* The state of a key as the tasks know it. */
struct key {
	/* Odd while the key has an owner. In a stray arena, the last number taken. */
	unsigned int word;
	/* The word of the last clean issue: older rights must be gone. */
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
	/* Calls that set the rights of all tasks; only the owner makes them. */
	unsigned int set_begun;
	unsigned int set_ended;
	struct set sets[NR_SETS];
	/* In a stray arena: calls that succeeded, and calls of pkey_free(). */
	unsigned int issued;
	unsigned int freed;
	unsigned int frees_begun;
	unsigned int frees_ended;
};

struct page {
	bool claimed;
	/* The task that has claimed the page owns the following fields. */
	int pkey;
	/* There is, or was, a secret in it. */
	bool secret;
};

/* One address space. A child of fork() has a copy, and does not use it. */
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

/* The properties of an arena. */
static struct {
	unsigned int number;
	uint64_t seed;
	unsigned int workers;
	pid_t pid;
	/* It has the PID: in /proc/self the file fails once the first thread has ended. */
	char pkeys_path[32];
	/* No key is freed while pages carry it. */
	bool tidy;
	/* All keys are used at the start: each one is a re-issue. */
	bool used;
	/* They were already used by the process that has forked the arena. */
	bool inherits;
	/* Any task frees any key; see the top. */
	bool stray;
	/* Owners set the rights of all tasks. */
	bool sets;
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
	/* The word of the key when the task last looked. */
	unsigned int word[PKEY_NR];
	/* The calls of PR_PKEY_SET_RIGHTS whose effect is in @pkru. */
	unsigned int set[PKEY_NR];
	/* One bit a key: later calls may have been overwritten by this task. */
	unsigned int fuzzy;
	/* One bit a key: opened by a pkey_alloc() of a key that may have been mapped. */
	unsigned int loose;
};

struct task {
	/* Written by the kernel when the task begins and when it has gone. */
	unsigned int tid;
	pid_t tgid;
	enum state state;
	/* Others that are about to send a signal to it. */
	unsigned int pins;
	/* 1 if it sleeps, 2 if another task is waking it. */
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
	/* NULL where there is no rseq. */
	struct pkey_rseq *rseq;
	struct pkey_rseq rseq_area;
	/* It has just left an rseq section. */
	bool after_section;
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
/* Does the kernel have PR_PKEY_SET_RIGHTS, and rseq? */
static bool has_sets, has_rseq;

static inline struct task *task_of(unsigned int index)
{
	return (struct task *)(stacks + index * STACK_SIZE);
}

/* The task whose stack this is. The main task of an arena must not call this. */
static inline struct task *self(void)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);

	return (struct task *)(here & ~((uintptr_t)STACK_SIZE - 1));
}

static inline bool cas(unsigned int *word, unsigned int old, unsigned int new)
{
	return __atomic_compare_exchange_n(word, &old, new, false, __ATOMIC_SEQ_CST,
					   __ATOMIC_SEQ_CST);
}

/* Came @a after @b? The words may wrap. */
static inline bool later(unsigned int a, unsigned int b)
{
	return (int)(a - b) > 0;
}

/* Raise *@word to @value, if it is lower. */
static inline void raise_to(unsigned int *word, unsigned int value)
{
	unsigned int old = LOAD(*word);

	while (later(value, old) && !cas(word, old, value))
		old = LOAD(*word);
}

static inline uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

/* A number below @n. A handler may draw in between, which does not matter. */
static inline unsigned int rnd(struct task *t, unsigned int n)
{
	t->rng += 0x9e3779b97f4a7c15ull;
	return (unsigned int)(mix(t->rng) >> 32) % n;
}

static inline unsigned int ms_since(const struct timespec *from)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - from->tv_sec) * 1000 + (now.tv_nsec - from->tv_nsec) / 1000000;
}

static inline void violate(struct task *t, enum rule rule, const char *what, int pkey,
			   uint32_t a, uint32_t b, uint32_t c)
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

/* Execute RDPKRU in its place among the reads and writes of memory. */
static inline uint32_t read_rights(void)
{
	uint32_t pkru;

	asm volatile("" : : : "memory");
	pkru = rdpkru();
	asm volatile("" : : : "memory");
	return pkru;
}

static inline uint32_t ad_bit(int pkey)
{
	return (uint32_t)PKEY_DISABLE_ACCESS << 2 * pkey;
}

static inline unsigned int bits_of(uint32_t pkru, int pkey)
{
	return pkru >> 2 * pkey & PKEY_RIGHTS_MASK;
}

/* Store PKRU in @r, and close the keys that it closes. No key is opened. */
static inline void take_note(struct rights *r, uint32_t pkru)
{
	int k;

	r->pkru = pkru;
	for_each_key(k)
		if (pkru & ad_bit(k))
			r->open &= ~(1u << k);
}

/* The task now has @bits for the key, because it was given them for @word. */
static inline void note_key(struct rights *r, int k, unsigned int bits, unsigned int word)
{
	r->pkru = pkru_with_rights(r->pkru, k, bits);
	r->open &= ~(1u << k);
	if (bits & PKEY_DISABLE_ACCESS)
		return;

	r->open |= 1u << k;
	r->opened[k] = word;
}

/* The task has just got the key from pkey_alloc(): no call for it is under way. */
static inline void note_new_key(struct rights *r, int k, unsigned int word)
{
	r->word[k] = word;
	r->set[k] = LOAD(oracle.key[k].set_ended);
	r->fuzzy &= ~(1u << k);
	r->loose &= ~(1u << k);
}

/* A task reads these before it reads PKRU. */
struct look {
	unsigned int word;
	unsigned int strict;
	unsigned int set_ended;
};

/* May the key have been re-issued since the task last looked? */
static inline bool may_be_reissued(const struct rights *r, int k)
{
	/* An even word: the key has no owner, and the next one may be getting it. */
	return arena.stray || !(r->word[k] & 1) || LOAD(oracle.key[k].word) != r->word[k];
}

/*
 * Is @bits what a call of PR_PKEY_SET_RIGHTS gave, one that the task has not seen? The
 * calls up to @ended have ended. Store the word that the key had then in @word.
 */
static inline bool bits_are_set(const struct rights *r, int k, unsigned int bits,
				unsigned int ended, unsigned int *word)
{
	const struct key *key = &oracle.key[k];
	unsigned int n, first = r->set[k] + 1;
	const struct set *set;

	/* The last call that has ended overrides all before it. */
	if (!(r->fuzzy & 1u << k) && later(ended, first))
		first = ended;
	n = LOAD(key->set_begun);
	if (n - first >= NR_SETS / 2)
		first = n - NR_SETS / 2;
	for (; !later(first, n); n--) {
		set = &key->sets[n % NR_SETS];
		if (set->rights == bits) {
			*word = set->word;
			return true;
		}
	}
	return false;
}

/* Are the calls forgotten that could explain the rights? */
static inline bool sets_are_forgotten(const struct rights *r, int k, unsigned int ended)
{
	const unsigned int oldest = r->fuzzy & 1u << k ? r->set[k] : ended;

	return LOAD(oracle.key[k].set_begun) - oldest >= NR_SETS / 2;
}

/* Explain @bits of the key in PKRU, or report. */
static inline void explain(struct task *t, int k, unsigned int bits, const struct look *look)
{
	const unsigned int begun = LOAD(oracle.key[k].set_begun);
	struct rights *r = t->rights;
	const unsigned int before = bits_of(r->pkru, k);
	/* A call has ended that this task has not seen, and could not overwrite. */
	const bool must_change = look->set_ended != r->set[k] && !(r->fuzzy & 1u << k);
	unsigned int word = r->opened[k];

	if (begun != r->set[k] && bits_are_set(r, k, bits, look->set_ended, &word)) {
		if (bits != before)
			ADD(shared->sets_seen, 1);
		note_key(r, k, bits, word);
	} else if (bits == before && !must_change) {
		/* Nothing has changed. */
	} else if (bits & PKEY_DISABLE_ACCESS && may_be_reissued(r, k)) {
		if (bits != before)
			ADD(shared->revocations, 1);
		note_key(r, k, bits, 0);
	} else {
		if (!sets_are_forgotten(r, k, look->set_ended))
			violate(t, begun != r->set[k] ? RULE_SET_RIGHTS : RULE_OTHER_RIGHTS,
				"rights changed, or did not: before, after, word", k, before, bits,
				LOAD(oracle.key[k].word));
		note_key(r, k, bits, LOAD(oracle.key[k].word));
	}

	/* PKRU has the effect of the calls that have ended, or it has been overwritten. */
	r->set[k] = look->set_ended;
	if (look->set_ended == begun)
		r->fuzzy &= ~(1u << k);
	r->word[k] = look->word;
}

/* Are the rights of this task, or of its handler, what they have to be? */
static inline void check(struct task *t)
{
	struct rights *r = t->rights;
	struct look look[PKEY_NR];
	uint32_t pkru;
	int k;

	/* Read the words first: a key that was re-issued by now must be gone from PKRU. */
	for_each_key(k) {
		look[k].word = LOAD(oracle.key[k].word);
		look[k].strict = LOAD(oracle.key[k].strict);
		look[k].set_ended = LOAD(oracle.key[k].set_ended);
	}

	pkru = read_rights();
	if (bits_of(pkru ^ r->pkru, 0))
		violate(t, RULE_OTHER_RIGHTS, "rights to key 0: before, after", 0, r->pkru, pkru,
			0);
	for_each_key(k) {
		explain(t, k, bits_of(pkru, k), &look[k]);
		if (r->open & ~r->loose & 1u << k && later(look[k].strict, r->opened[k]))
			violate(t, t->after_section ? RULE_SECTION : RULE_REVOKED,
				"old rights: PKRU, word when opened, word now", k, pkru,
				r->opened[k], look[k].strict);
	}
	r->pkru = pkru;
}

/* May a call of PR_PKEY_SET_RIGHTS have opened the key again after @strict? */
static inline bool set_may_open(const struct rights *r, int k, unsigned int strict)
{
	const struct key *key = &oracle.key[k];
	unsigned int n, begun = LOAD(key->set_begun);
	const struct set *set;

	for (n = r->set[k] + 1; !later(n, begun); n++) {
		set = &key->sets[n % NR_SETS];
		if (!(set->rights & PKEY_DISABLE_ACCESS) && !later(strict, set->word))
			return true;
	}
	return begun - r->set[k] >= NR_SETS / 2;
}

/* Calls that were under way when this task wrote PKRU may have been overwritten. */
static inline void note_fuzzy(struct rights *r, int k)
{
	if (LOAD(oracle.key[k].set_begun) != r->set[k])
		r->fuzzy |= 1u << k;
}

/*
 * Write PKRU. If this restores rights to a key that was re-issued in between, its word
 * has changed: close it again.
 */
static inline void write_rights(struct rights *r, int pkey, unsigned int rights,
				unsigned int word)
{
	uint32_t next = pkru_with_rights(r->pkru, pkey, rights);
	int k;

	r->opened[pkey] = word;
	r->loose &= ~(1u << pkey);
	for (;;) {
		wrpkru(next);
		r->pkru = next;
		r->open &= ~(1u << pkey);
		if (!(next & ad_bit(pkey)))
			r->open |= 1u << pkey;
		take_note(r, next);
		for_each_key(k) {
			note_fuzzy(r, k);
			if (r->open & 1u << k && LOAD(oracle.key[k].word) != r->opened[k])
				next |= ad_bit(k);
		}
		if (next == r->pkru)
			return;
	}
}

/* Write PKRU in an rseq section, which the kernel aborts if it changes the rights (F7). */
static inline void write_rights_in_section(struct task *t, int pkey, unsigned int rights,
					   unsigned int word)
{
	struct pkey_window window = {
		.keep = ~((uint32_t)PKEY_RIGHTS_MASK << 2 * pkey),
		.set = rights << 2 * pkey,
	};
	struct rights *r = t->rights;
	const unsigned int turns = 1 + rnd(t, 1 + rnd(t, 1500));

	for (;;) {
		window.turns = turns;
		if (pkey_rseq_change(t->rseq, &window))
			break;
		ADD(shared->aborts, 1);
	}
	ADD(shared->sections, 1);
	r->loose &= ~(1u << pkey);
	note_key(r, pkey, rights, word);
	note_fuzzy(r, pkey);
}

/* Set the rights of this task to one key; @word tells which owner it has. */
static inline void set_rights(struct task *t, int pkey, unsigned int rights, unsigned int word)
{
	struct rights *r = t->rights;

	check(t);
	if (!t->rseq || (!arena.stray && rnd(t, 2))) {
		write_rights(r, pkey, rights, word);
		return;
	}

	write_rights_in_section(t, pkey, rights, word);
	/* The key itself may have got another owner before the section. */
	if (r->open & 1u << pkey && LOAD(oracle.key[pkey].word) != word)
		write_rights_in_section(t, pkey, PKEY_DISABLE_ACCESS, 0);
	t->after_section = true;
	check(t);
	t->after_section = false;
}

static inline void rights_init(struct rights *r)
{
	memset(r, 0, sizeof(*r));
	r->pkru = pkru_at_start;
}

/* A signal handler begins with these, whatever was set before the signal came. */
static inline void rights_init_handler(struct rights *r, const struct rights *outer)
{
	rights_init(r);
	memcpy(r->set, outer->set, sizeof(r->set));
	r->fuzzy = PKEY_MASK_ALL;
}

/* The owner of a key: a task, or one of the handlers in it. */
static inline unsigned int id_of(const struct task *t)
{
	return (t->index + 1) | t->depth << 8;
}

/* A key that this task owns, or 0. */
static inline int own_key(struct task *t)
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
 * Begin a call that changes the owner of a key. Return a number that tells whether
 * others were in such a call at the same time.
 */
static inline unsigned int enter(void)
{
	return ADD(oracle.begun, 1);
}

static inline void leave(void)
{
	ADD(oracle.ended, 1);
}

/* The state of the keys before a call, as far as it is known. */
struct sample {
	unsigned int word;
	unsigned int upper;
	unsigned int raised;
	unsigned int lower;
	unsigned int lowered;
	unsigned int frees_begun;
	unsigned int frees_ended;
};

static inline void take_sample(struct sample *s)
{
	struct key *key;
	int k;

	for_each_key(k) {
		key = &oracle.key[k];
		s[k].word = LOAD(key->word);
		s[k].raised = LOAD(key->raised);
		s[k].upper = LOAD(key->upper);
		s[k].lowered = LOAD(key->lowered);
		s[k].lower = LOAD(key->lower);
		/* Keep this order: if they are equal, no call is under way at the end. */
		s[k].frees_ended = LOAD(key->frees_ended);
		s[k].frees_begun = LOAD(key->frees_begun);
	}
}

/* Did no page carry the key, during the whole call? */
static inline bool surely_clean(const struct sample *s, int k)
{
	return !s[k].upper && LOAD(oracle.key[k].raised) == s[k].raised;
}

static inline bool surely_mapped(const struct sample *s, int k)
{
	return s[k].lower && LOAD(oracle.key[k].lowered) == s[k].lowered;
}

/* In a stray arena: has no other task called pkey_free() for it during the call? */
static inline bool surely_not_freed(const struct sample *s, int k)
{
	return s[k].frees_ended == s[k].frees_begun &&
	       LOAD(oracle.key[k].frees_begun) == s[k].frees_begun;
}

/* F2, F3: was it right to hand out this key? @alone: the words did not change. */
static inline void judge_choice(struct task *t, const struct sample *s, int pkey, bool alone)
{
	bool mapped = surely_mapped(s, pkey);
	int k;

	if (mapped && !arena.reuse_mapped)
		violate(t, RULE_CLEAN_FIRST, "mapped key: lower, upper, word", pkey,
			s[pkey].lower, s[pkey].upper, s[pkey].word);
	if (!alone)
		return;

	/* A lower one was free: never used or clean. */
	for_each_key(k) {
		if (k == pkey || s[k].word & 1)
			continue;
		if (s[k].word && !surely_clean(s, k))
			continue;
		if (mapped || k < pkey)
			violate(t, RULE_CLEAN_FIRST, "not the lowest key: free, mapped, upper",
				pkey, k, mapped, s[pkey].upper);
	}
}

/* A4: was there really no key? */
static inline void judge_refusal(struct task *t, const struct sample *s)
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

/* A5: note the key from pkey_alloc() in a stray arena, where it may be freed again. */
static inline void note_stray_key(struct task *t, const struct sample *s, int pkey,
				  unsigned int rights)
{
	struct key *key = &oracle.key[pkey];
	const bool clean = surely_clean(s, pkey);
	struct rights *r = t->rights;
	unsigned int number, bits;
	bool exact;

	ADD(key->issued, 1);
	number = ADD(key->word, 1);
	bits = bits_of(read_rights(), pkey);
	exact = surely_not_freed(s, pkey);
	if (bits != rights && (exact || !(bits & PKEY_DISABLE_ACCESS)))
		violate(t, RULE_OTHER_RIGHTS, "after pkey_alloc(): rights, asked for, exact",
			pkey, bits, rights, exact);
	note_new_key(r, pkey, number);
	note_key(r, pkey, bits, number);
	if (!(r->open & 1u << pkey))
		return;

	if (clean)
		raise_to(&key->strict, number);
	else
		r->loose |= 1u << pkey;
}

static inline int do_alloc(struct task *t)
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
	alone = !arena.stray && LOAD(oracle.ended) == turn - 1;
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

	if (sample[pkey].word)
		ADD(shared->reissues, 1);
	judge_choice(t, sample, pkey, alone);
	if (arena.stray) {
		note_stray_key(t, sample, pkey, rights);
		leave();
		check(t);
		return pkey;
	}

	key = &oracle.key[pkey];
	word = ADD(key->word, 1);
	if (!(word & 1))
		violate(t, RULE_ONE_OWNER, "has an owner: word, owner, me", pkey, word,
			LOAD(key->owner), id_of(t));
	/* Store this at once, because others check it. */
	if (surely_clean(sample, pkey))
		STORE(key->strict, word);
	STORE(key->owner, id_of(t));
	STORE(key->secret_page, 0);
	STORE(key->grant, rnd(t, 4) ? word : 0);
	leave();

	note_new_key(r, pkey, word);
	note_key(r, pkey, rights, word);
	check(t);
	return pkey;
}

/* In a stray arena the key may be anybody's, or free. */
static inline bool free_stray(struct task *t, int pkey)
{
	struct key *key = &oracle.key[pkey];
	const bool exec_only = LOAD(oracle.exec_only) == (unsigned int)pkey;
	int ret;

	ADD(key->frees_begun, 1);
	ret = pkey_raw_syscall(__NR_pkey_free, pkey, 0, 0, 0);
	if (!ret)
		ADD(key->freed, 1);
	ADD(key->frees_ended, 1);
	ADD(shared->stray_frees, !ret);
	if ((ret && ret != -EINVAL) || (!ret && exec_only))
		violate(t, RULE_ONE_OWNER, "pkey_free(): result, execute-only", pkey, ret,
			exec_only, 0);
	return !ret;
}

static inline void do_free(struct task *t, int pkey)
{
	struct key *key = &oracle.key[pkey];
	unsigned int word;
	int ret;

	if (arena.stray) {
		free_stray(t, pkey);
		return;
	}

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

/* The owner of a key sets the rights of all tasks. */
static inline void do_set_rights_everywhere(struct task *t, int pkey)
{
	struct key *key = &oracle.key[pkey];
	const unsigned int rights = rnd(t, 2) ? 0 : rnd(t, 4);
	const unsigned int word = LOAD(key->word);
	const unsigned int number = LOAD(key->set_begun) + 1;
	struct set *set = &key->sets[number % NR_SETS];
	struct rights *r = t->rights;
	int ret;

	check(t);
	set->rights = rights;
	set->word = word;
	STORE(key->set_begun, number);
	ret = pkey_raw_prctl(PR_PKEY_SET_RIGHTS, pkey, rights, 0);
	STORE(key->set_ended, number);
	if (ret)
		violate(t, RULE_CALLS, "PR_PKEY_SET_RIGHTS", pkey, ret, rights, word);
	r->set[pkey] = number;
	r->fuzzy &= ~(1u << pkey);
	r->loose &= ~(1u << pkey);
	note_key(r, pkey, rights, word);
	check(t);
}

/* Is the key allocated, when no call is under way? */
static inline bool is_allocated(struct task *t, int k)
{
	const struct key *key = &oracle.key[k];

	if (!arena.stray)
		return key->word & 1;

	if (key->issued - key->freed > 1)
		violate(t, RULE_ONE_OWNER, "issued and freed", k, key->issued, key->freed, 0);
	return key->issued != key->freed;
}

#endif /* PKEY_TORTURE_ORACLE_H */
