/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The operations of the torture test of protection keys: what a task does in one step,
 * and what the oracle learns from it.
 */
#ifndef PKEY_TORTURE_OPS_H
#define PKEY_TORTURE_OPS_H

#include <poll.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "pkey_torture_oracle.h"

#define MAX_RANGE	4

/* Signals that nest: each blocks only itself. */
#define NR_SIGNALS	3

#ifdef __i386__
#define REG_IP		REG_EIP
#else
#define REG_IP		REG_RIP
#endif

static void futex_wait(unsigned int *word, unsigned int value)
{
	pkey_raw_syscall(PKEY_NR_FUTEX, (uintptr_t)word, FUTEX_OP_WAIT, value, 0);
}

static void futex_wake(unsigned int *word)
{
	pkey_raw_syscall(PKEY_NR_FUTEX, (uintptr_t)word, FUTEX_OP_WAKE, INT_MAX, 0);
}

static void yield_cpu(void)
{
	pkey_raw_syscall(__NR_sched_yield, 0, 0, 0, 0);
}

/*
 * Pages
 */

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

/* Claim up to @max pages side by side. Return their number, 0 if there are none now. */
static unsigned int claim_range(struct task *t, unsigned int max, unsigned int *first)
{
	unsigned int n = 1 + rnd(t, max), p = rnd(t, NR_PAGES), got;

	for (got = 0; got < n && p + got < NR_PAGES; got++)
		if (!claim(p + got))
			break;
	*first = p;
	return got;
}

/* The pages are about to get the key. The counts of key 0 are not used. */
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

/* A page with a secret in it does not get another key. */
static void replace_secrets(struct task *t, unsigned int p, unsigned int n)
{
	unsigned int i;

	for (i = p; i < p + n; i++)
		if (oracle.page[i].secret)
			replace(t, i, 1, RW);
}

/* C1: a key that has the same owner before and after the call is accepted. */
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

	if (ret != -EINVAL || (!arena.stray && LOAD(oracle.key[pkey].word) == word))
		violate(t, RULE_NOT_LOST, "pkey_mprotect(): result, word, word now", pkey, ret,
			word, LOAD(oracle.key[pkey].word));
	return false;
}

/* Take the key from all pages that can be claimed. Return true if no page has it. */
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

/* Return true if the key may be freed now, in an arena of this kind. */
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

/* A secret names the key and the word of its writer. It is never 0. */
static uint32_t secret_of(int pkey, unsigned int word)
{
	return (uint32_t)pkey << 28 | (word & 0xfffffff);
}

/* Was the key clean after the earlier of two of its owners, and before the later one? */
static bool clean_between(int k, unsigned int one, unsigned int other)
{
	const unsigned int strict = LOAD(oracle.key[k].strict);
	const unsigned int first = later(one, other) ? other : one;
	const unsigned int last = first == one ? other : one;

	return later(strict, first) && !later(strict, last);
}

/*
 * Did an owner give all tasks access? It may be the one that wrote the secret, or another
 * one if the key was not clean between the two.
 */
static bool owner_gave_all(int k, unsigned int word)
{
	const struct key *key = &oracle.key[k];
	const unsigned int begun = LOAD(key->set_begun);
	const struct set *set;
	unsigned int n;

	for (n = begun; n && begun - n < NR_SETS; n--) {
		set = &key->sets[n % NR_SETS];
		if (!(set->rights & PKEY_DISABLE_ACCESS) && !clean_between(k, set->word, word))
			return true;
	}
	/* Older calls are lost. */
	return begun >= NR_SETS;
}

/* May this task read a secret? No, if the key was clean between it and the opening. */
static void judge_secret(struct task *t, uint32_t secret)
{
	const struct rights *r = t->rights;
	const unsigned int word = secret & 0xfffffff;
	const int k = secret >> 28;

	if (!secret || owner_gave_all(k, word))
		return;
	if (!(r->open & 1u << k) || clean_between(k, r->opened[k], word))
		violate(t, RULE_SECRET, "secret read: PKRU, word when opened, word", k, r->pkru,
			r->opened[k], word);
}

/*
 * Operations
 */

static void op_check(struct task *t)
{
	unsigned int n = 1 + rnd(t, 100);

	while (n--)
		check(t);
}

/* Watch one key that is open, as closely as possible: is access taken in time? */
static void op_watch(struct task *t)
{
	struct rights *r = t->rights;
	unsigned int n = 1000, strict = 0, open;
	uint32_t pkru = 0;
	int k;

	check(t);
	open = r->open & ~r->loose;
	if (!open)
		return;
	do {
		k = 1 + rnd(t, PKEY_MAX);
	} while (!(open & 1u << k));

	while (n-- && !later(strict, r->opened[k])) {
		strict = LOAD(oracle.key[k].strict);
		pkru = read_rights();
	}
	if (later(strict, r->opened[k]) && !(pkru & ad_bit(k)) && !set_may_open(r, k, strict))
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

	/* In a stray arena no word says what a plain WRPKRU would bring back. */
	if (arena.stray && !t->rseq)
		return;
	set_rights(t, k, PKEY_DISABLE_ACCESS | rnd(t, 4), 0);
}

static void op_alloc(struct task *t)
{
	do_alloc(t);
}

/* I2: the owner of a key sets the rights of all tasks. */
static void op_set(struct task *t)
{
	int k = own_key(t);

	if (arena.sets && k)
		do_set_rights_everywhere(t, k);
}

/*
 * F4: keys that may be anybody's are freed: one, the same one twice, or all. A task that
 * is in pkey_alloc() meanwhile may lose the key before the call returns.
 */
static void op_stray(struct task *t)
{
	int k = 1 + rnd(t, PKEY_MAX);

	if (!arena.stray)
		return;

	switch (rnd(t, 4)) {
	case 0:
		for_each_key(k)
			free_stray(t, k);
		break;
	case 1:
		if (free_stray(t, k))
			free_stray(t, k);
		break;
	case 2:
		if (free_stray(t, k))
			do_alloc(t);
		break;
	default:
		free_stray(t, k);
	}
	check(t);
}

/*
 * Keys are taken and given back as fast as possible, so that two calls choose at the
 * same moment. The task keeps no rights and grants none.
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
		if (arena.stray) {
			ADD(oracle.key[k].issued, 1);
			free_stray(t, k);
			continue;
		}
		word = ADD(oracle.key[k].word, 1);
		if (!(word & 1))
			violate(t, RULE_ONE_OWNER, "has an owner: word, owner, me", k, word,
				LOAD(oracle.key[k].owner), id_of(t));
		/* No call for the key is under way, because it has an owner. */
		r->set[k] = LOAD(oracle.key[k].set_ended);
		r->fuzzy &= ~(1u << k);
		word = ADD(oracle.key[k].word, 1);
		if (pkey_raw_syscall(__NR_pkey_free, k, 0, 0, 0) || word & 1)
			violate(t, RULE_NOT_LOST, "pkey_free() in a burst: word", k, word, 0, 0);
	}
	leave();

	for_each_key(k) {
		if (!(taken & 1u << k))
			continue;
		note_key(r, k, PKEY_DISABLE_ACCESS, 0);
		/* It may have been re-issued since. */
		r->word[k] = 0;
	}
	check(t);
}

/* In a stray arena each key that is open here counts as this task's. */
static int key_to_free(struct task *t)
{
	int k;

	if (!arena.stray)
		return own_key(t);

	k = 1 + rnd(t, PKEY_MAX);
	return t->rights->open & 1u << k ? k : 0;
}

static void op_free(struct task *t)
{
	int k = key_to_free(t);

	if (k && ready_to_free(t, k))
		do_free(t, k);
}

static void op_reissue(struct task *t)
{
	int k = key_to_free(t);

	if (!k || !ready_to_free(t, k))
		return;

	do_free(t, k);
	do_alloc(t);
}

/* A key gets another owner without a system call. */
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
	/* This is rare in a stray arena: the oracle knows little of a key that may be mapped. */
	if (arena.stray && rnd(t, 4))
		return;
	word = LOAD(oracle.key[k].word);
	if (!rnd(t, 8))
		k = 0;
	else if (!k || (!arena.stray && !(word & 1)) || LOAD(oracle.key[k].owner) == OWNER_KERNEL)
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

/* The contents of /proc/PID/pkeys. */
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
 * The kernel has taken a key for itself, or had it already. No task has rights to it
 * (D1).
 */
static void note_exec_only(struct task *t, const struct sample *s, bool first)
{
	struct rights *r = t->rights;
	struct pkeys_file file;
	unsigned int k, word, owner;
	uint32_t pkru;

	k = LOAD(oracle.exec_only);
	if (!k) {
		if (!read_pkeys(arena.pkeys_path, &file) || !file.exec_only)
			return;
		k = file.exec_only;
		if (surely_mapped(s, k))
			violate(t, RULE_CLEAN_FIRST, "mapped key for execute-only: lower, upper",
				k, s[k].lower, s[k].upper, s[k].word);
		if (cas(&oracle.exec_only, 0, k)) {
			/* Keep this order: op_tag() reads the word, then the owner. */
			owner = LOAD(oracle.key[k].owner);
			STORE(oracle.key[k].owner, OWNER_KERNEL);
			ADD(oracle.key[k].issued, 1);
			word = ADD(oracle.key[k].word, 1);
			if (!arena.stray && !(word & 1))
				violate(t, RULE_ONE_OWNER, "execute-only: word, owner", k, word,
					owner, 0);
			raise_to(&oracle.key[k].strict, word);
		} else if (LOAD(oracle.exec_only) != k) {
			violate(t, RULE_ONE_OWNER, "two execute-only keys", k,
				LOAD(oracle.exec_only), 0, 0);
		}
	}
	/* There may have been no key for this task's memory, and one since then. */
	pkru = read_rights();
	if (first && !(pkru & ad_bit(k)))
		return;

	/* The kernel may leave the write-disable bit alone (H4). */
	note_key(r, k, bits_of(pkru, k) | PKEY_DISABLE_ACCESS, 0);
	r->word[k] = 0;
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

/* Move a page onto another, with its key; MREMAP_DONTUNMAP leaves an empty one. */
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

/* B1, C1, A1, I1: calls that are always refused. */
static void op_wrong(struct task *t)
{
	const int exec_only = LOAD(oracle.exec_only);
	int ret;

	switch (rnd(t, 5)) {
	case 0:
		ret = pkey_raw_syscall(__NR_pkey_free, rnd(t, 2) ? 0 : -1, 0, 0, 0);
		break;
	case 4:
		ret = pkey_raw_prctl(PR_PKEY_SET_RIGHTS, exec_only, 0, 0);
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
		violate(t, RULE_CALLS, "a wrong call succeeded", exec_only, ret, 0, 0);
}

static void op_yield(struct task *t)
{
	yield_cpu();
}

/* Pin another task, which cannot go away until it is unpinned; NULL if there is none. */
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

/* The state of the first task of a process, from /proc: 'T' is stopped. */
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
 * Return when the process has stopped. Another task may let it go on. A process that
 * has ended, or waits for a child of vfork(), does not stop.
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
 * stopped, so no task that stops another is stopped itself.
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
		/* Prefer keys that it has open. */
		open = LOAD(LOAD(other->rights)->open);
		for_each_key(k) {
			if (!(open & 1u << k))
				continue;
			if (arena.stray)
				free_stray(t, k);
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

/* Sleep, with all signals blocked, until another task wakes this one. */
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
			ret = pkey_raw_syscall(PKEY_NR_FUTEX, (uintptr_t)&t->go, FUTEX_OP_WAIT, 0,
					       0);
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

	/* The parent of a vfork child waits for it, and cannot wake others. */
	if (t->kind == KIND_VFORK)
		return;

	block_signals(true);
	STORE(t->go, 0);
	/* It can be woken before it stops to count as awake: it may be the last one. */
	STORE(t->asleep, 1);
	one_left = SUB(oracle.awake, 1) >= 1;
	/*
	 * One stays awake, to wake the others. At the end all that sleep are woken. A task
	 * that does not sleep, but is being woken, waits for that.
	 */
	if ((one_left && !LOAD(oracle.stop)) || !cas(&t->asleep, 1, 0))
		sleep_until_woken(t);
	STORE(t->asleep, 0);
	ADD(oracle.awake, 1);
	block_signals(false);
}

static int task_run(void *arg);

/*
 * Take the slot, if no task uses it or the one that did has gone. It is taken before it
 * is looked at. Otherwise a task could come, and be about to leave, in between.
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

/* Create a task that shares the memory and starts with the rights of its creator. */
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
	/* Its tid is stored before: the end of the arena waits for the tids, and looks here. */
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
 * E1: this runs in a child of fork(). The child's copy of the oracle is of some moment
 * during the fork(). What the task knew of itself is right.
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
		if (bits_of(pkru, k) == bits_of(t->rights->pkru, k))
			continue;

		/* The key of another task may have been re-issued, or its rights set. */
		if (own & 1u << k || !(arena.sets || pkru & ad_bit(k)))
			violate(t, RULE_FORK, "rights changed: before, after, own keys", k,
				t->rights->pkru, pkru, own);
	}

	/* No other task uses the pages here. */
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
	{ "set",	60, true,	op_set },
	{ "stray",	60, true,	op_stray },
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

#endif /* PKEY_TORTURE_OPS_H */
