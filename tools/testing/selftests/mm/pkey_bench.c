// SPDX-License-Identifier: GPL-2.0
/*
 * This program measures protection key system calls and what they add to other calls.
 *
 *	pkey_bench counted	calls on one processor, in counts of the time
 *				stamp counter
 *	pkey_bench clocked	calls beside threads on a second processor, in
 *				nanoseconds
 *
 * Each line of the output is a name and a number. The time stamp counter counts
 * cycles, or a constant frequency close to them. Under "qemu -icount shift=0" it
 * counts instructions, and of a thousand samples of a short piece of code the
 * least is the number of instructions without any interrupt: the same in each
 * run. So the least is what "counted" prints.
 *
 * This is a benchmark, not a test: it judges nothing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef __NR_pkey_mprotect
#define __NR_pkey_mprotect	329
#define __NR_pkey_alloc		330
#define __NR_pkey_free		331
#endif

#ifndef PR_PKEY
#define PR_PKEY			0x504b4559
#define PR_PKEY_SET_RIGHTS	1
#endif

#define MEMBARRIER_EXPEDITED	8
#define MEMBARRIER_REGISTER	16

#define PAGE		4096UL
#define NR_KEYS		15
#define SAMPLES		1000
#define FEW_SAMPLES	100
#define CLOCKED_SAMPLES	20000
#define CLOCKED_TURN	100
#define BUSY_BYTES	(4UL << 20)

#define LOAD(_x)	__atomic_load_n(&(_x), __ATOMIC_SEQ_CST)
#define STORE(_x, _v)	__atomic_store_n(&(_x), _v, __ATOMIC_SEQ_CST)
#define ADD(_x, _v)	__atomic_add_fetch(&(_x), _v, __ATOMIC_SEQ_CST)

/* The counts of an empty sample. */
static uint64_t overhead;

static void die(const char *what)
{
	fprintf(stderr, "pkey_bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static inline uint64_t counter(void)
{
	uint32_t low, high;

	asm volatile("lfence; rdtsc; lfence" : "=a" (low), "=d" (high) : : "memory");
	return (uint64_t)high << 32 | low;
}

/* A system call and nothing around it. The fifth and sixth arguments are 0. */
static inline long call(long nr, long arg1, long arg2, long arg3, long arg4)
{
	register long r10 asm("r10") = arg4;
	register long r8 asm("r8") = 0;
	register long r9 asm("r9") = 0;
	long ret;

	asm volatile("syscall"
		     : "=a" (ret)
		     : "a" (nr), "D" (arg1), "S" (arg2), "d" (arg3), "r" (r10), "r" (r8),
		       "r" (r9)
		     : "rcx", "r11", "memory");
	return ret;
}

static inline long pkey_alloc_call(void)
{
	return call(__NR_pkey_alloc, 0, 0, 0, 0);
}

static inline long pkey_free_call(long pkey)
{
	return call(__NR_pkey_free, pkey, 0, 0, 0);
}

static inline long pkey_mprotect_call(void *start, size_t len, long pkey)
{
	return call(__NR_pkey_mprotect, (long)start, len, PROT_READ | PROT_WRITE, pkey);
}

static inline long set_rights_call(long pkey)
{
	return call(__NR_prctl, PR_PKEY, PR_PKEY_SET_RIGHTS, pkey, 0);
}

static void *map(size_t len, int flags)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

/* Statement expression: the least of @_n samples of @_code. */
#define LEAST(_n, _code)						\
({									\
	uint64_t _least = UINT64_MAX, _start, _took;			\
									\
	for (int _i = 0; _i < (_n); _i++) {				\
		_start = counter();					\
		_code;							\
		_took = counter() - _start;				\
		if (_took < _least)					\
			_least = _took;					\
	}								\
	_least - overhead;						\
})

static void print_count(const char *name, uint64_t count)
{
	printf("%s\t%llu\n", name, (unsigned long long)count);
	fflush(stdout);
}

static void print_count_of(const char *name, int of, uint64_t count)
{
	char of_name[64];

	snprintf(of_name, sizeof(of_name), "%s_%d", name, of);
	print_count(of_name, count);
}

/* Allocate and free every key, so that none is one that was never used. */
static void use_all_keys(void)
{
	long pkeys[NR_KEYS];
	int i;

	for (i = 0; i < NR_KEYS; i++)
		pkeys[i] = pkey_alloc_call();
	for (i = 0; i < NR_KEYS; i++)
		if (pkeys[i] <= 0 || pkey_free_call(pkeys[i]))
			die("this machine has no protection keys, or not all");
}

static inline void alloc_free(void)
{
	pkey_free_call(pkey_alloc_call());
}

static inline void getppid_twice(void)
{
	call(__NR_getppid, 0, 0, 0, 0);
	call(__NR_getppid, 0, 0, 0, 0);
}

static inline void map_cycle(void)
{
	char *p = (char *)call(__NR_mmap, 0, PAGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS);
	long pkey = pkey_alloc_call();

	/* pkey_mprotect() fails if mmap() or pkey_alloc() has. */
	if (pkey_mprotect_call(p, PAGE, pkey) || call(__NR_munmap, (long)p, PAGE, 0, 0) ||
	    pkey_free_call(pkey))
		die("mmap, pkey_alloc, pkey_mprotect, munmap or pkey_free");
}

/* Add about one mapping for each page: neighbours differ in protection. */
static void add_mappings(int n)
{
	char *p = map(n * PAGE, MAP_NORESERVE);
	int i;

	for (i = 0; i < n; i += 2)
		if (mprotect(p + i * PAGE, PAGE, PROT_READ))
			die("mprotect");
}

static void count_with_mappings(void)
{
	static const int sizes[] = { 10, 1000, 10000, 60000 };
	int i, have = 0;

	for (i = 0; i < 4; i++) {
		add_mappings(sizes[i] - have);
		have = sizes[i];
		print_count_of("alloc_free", have, LEAST(SAMPLES, alloc_free()));
		print_count_of("cycle", have, LEAST(SAMPLES, map_cycle()));
	}
}

static void count_mprotect(void)
{
	long pkeys[2] = { pkey_alloc_call(), pkey_alloc_call() };
	char *p = map(3 * PAGE, MAP_POPULATE);
	int i = 0;

	print_count("pkey_mprotect",
		    LEAST(SAMPLES, pkey_mprotect_call(p + PAGE, PAGE, pkeys[i++ & 1])));
	pkey_mprotect_call(p + PAGE, PAGE, 0);
	print_count("mprotect",
		    LEAST(SAMPLES, call(__NR_mprotect, (long)p + PAGE, PAGE,
					i++ & 1 ? PROT_READ : PROT_READ | PROT_WRITE, 0)));
	munmap(p, 3 * PAGE);
	pkey_free_call(pkeys[0]);
	pkey_free_call(pkeys[1]);
}

static void count_page_fault(const char *name)
{
	char *p = map(SAMPLES * PAGE, 0), *next = p;

	madvise(p, SAMPLES * PAGE, MADV_NOHUGEPAGE);
	print_count(name, LEAST(SAMPLES, *next = 1; next += PAGE));
	munmap(p, SAMPLES * PAGE);
}

static void handler(int sig)
{
}

static void count_signal(const char *name)
{
	long pid = getpid();

	signal(SIGUSR1, handler);
	print_count(name, LEAST(SAMPLES, call(__NR_kill, pid, SIGUSR1, 0, 0)));
}

/*
 * The scheduler chooses whether a new task, or one that is woken, runs at once. That moves
 * the counts, those of switches by a quarter. SCHED_FIFO fixes the order; it needs root.
 * Without it the counts of new tasks and of switches vary.
 */
static void run_in_order(bool on)
{
	const struct sched_param param = { .sched_priority = on };

	sched_setscheduler(0, on ? SCHED_FIFO : SCHED_OTHER, &param);
}

static void fork_and_wait(void)
{
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	if (pid < 0 || waitpid(pid, NULL, 0) != pid)
		die("fork");
}

static void fork_exec_and_wait(void)
{
	pid_t pid = fork();

	if (!pid) {
		execl("/proc/self/exe", "pkey_bench", "nothing", NULL);
		_exit(1);
	}
	if (pid < 0 || waitpid(pid, NULL, 0) != pid)
		die("fork");
}

static void count_new_processes(const char *with)
{
	char name[64];

	run_in_order(true);
	snprintf(name, sizeof(name), "fork_exit%s", with);
	print_count(name, LEAST(FEW_SAMPLES, fork_and_wait()));
	snprintf(name, sizeof(name), "fork_exec%s", with);
	print_count(name, LEAST(FEW_SAMPLES, fork_exec_and_wait()));
	run_in_order(false);
}

/* All keys were used, one is allocated, and a mapping carries it. */
static void count_new_processes_with_keys(void)
{
	long pkey = pkey_alloc_call();
	char *p = map(3 * PAGE, MAP_POPULATE);

	if (pkey_mprotect_call(p + PAGE, PAGE, pkey))
		die("pkey_mprotect");
	count_new_processes("_keys");
	munmap(p, 3 * PAGE);
	pkey_free_call(pkey);
}

static void *no_thread(void *unused)
{
	return NULL;
}

static void thread_and_join(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, no_thread, NULL))
		die("pthread_create");
	pthread_join(thread, NULL);
}

/* Two processes pass a byte there and back: two switches for each round. */
static void count_switch(const char *name)
{
	int to[2], from[2];
	char byte = 0;
	pid_t pid;

	if (pipe(to) || pipe(from))
		die("pipe");
	run_in_order(true);
	pid = fork();
	if (!pid) {
		while (read(to[0], &byte, 1) == 1 && byte)
			if (write(from[1], &byte, 1) != 1)
				break;
		_exit(0);
	}

	byte = 1;
	print_count(name, LEAST(SAMPLES, ({
		if (write(to[1], &byte, 1) != 1 || read(from[0], &byte, 1) != 1)
			die("pipe");
	})));
	byte = 0;
	if (write(to[1], &byte, 1) != 1)
		die("pipe");
	waitpid(pid, NULL, 0);
	run_in_order(false);
}

/* Threads that sleep, or spin, until they are told to end. */
struct crowd {
	pthread_t *threads;
	int wanted;
	int ready;
	int end;
	bool spin;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
};

static void *member(void *arg)
{
	struct crowd *crowd = arg;

	ADD(crowd->ready, 1);
	if (crowd->spin) {
		while (!LOAD(crowd->end))
			;
		return NULL;
	}

	pthread_mutex_lock(&crowd->mutex);
	while (!crowd->end)
		pthread_cond_wait(&crowd->cond, &crowd->mutex);
	pthread_mutex_unlock(&crowd->mutex);
	return NULL;
}

static void crowd_start(struct crowd *crowd, int n, bool spin)
{
	pthread_attr_t attr;
	int i;

	*crowd = (struct crowd){ .threads = calloc(n, sizeof(pthread_t)),
				 .wanted = n, .spin = spin,
				 .mutex = PTHREAD_MUTEX_INITIALIZER,
				 .cond = PTHREAD_COND_INITIALIZER };
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 16 * PAGE);
	for (i = 0; i < n; i++)
		if (pthread_create(&crowd->threads[i], &attr, member, crowd))
			die("pthread_create");
	while (LOAD(crowd->ready) < n)
		sched_yield();
}

static void crowd_end(struct crowd *crowd)
{
	int i;

	pthread_mutex_lock(&crowd->mutex);
	STORE(crowd->end, 1);
	pthread_cond_broadcast(&crowd->cond);
	pthread_mutex_unlock(&crowd->mutex);
	for (i = 0; i < crowd->wanted; i++)
		pthread_join(crowd->threads[i], NULL);
	free(crowd->threads);
}

/* How many threads. */
#define NR_CROWDS	5

static const int crowds[NR_CROWDS] = { 1, 2, 8, 32, 128 };

/* Print the count that each thread adds, from the two largest crowds; rounded up. */
static void print_slope(const char *name, const uint64_t *counts)
{
	int threads = crowds[NR_CROWDS - 1] - crowds[NR_CROWDS - 2];
	uint64_t more = counts[NR_CROWDS - 1] - counts[NR_CROWDS - 2];

	print_count(name, (more + threads - 1) / threads);
}

/*
 * Count a free and the alloc that re-issues the key, in a process with that many more
 * threads. Count a change of their rights; print 0 if the kernel has no such call.
 *
 * The walk over the threads is the difference between a re-issue beside them and one
 * of a lone task. It runs with interrupts off, except for the mutex and the call of the
 * other processors, so the difference is an upper bound of that time.
 */
static void count_broadcasts(void)
{
	uint64_t reissue[NR_CROWDS], rights[NR_CROWDS], alone = LEAST(SAMPLES, alloc_free());
	long pkey = pkey_alloc_call();
	bool has_rights = !set_rights_call(pkey);
	struct crowd crowd;
	unsigned int i;
	int spin;

	print_count("set_rights", has_rights ? LEAST(SAMPLES, set_rights_call(pkey)) : 0);
	for (spin = 0; spin < 2; spin++) {
		for (i = 0; i < NR_CROWDS; i++) {
			crowd_start(&crowd, crowds[i], spin);
			reissue[i] = LEAST(SAMPLES, alloc_free());
			rights[i] = has_rights ? LEAST(SAMPLES, set_rights_call(pkey)) : 0;
			crowd_end(&crowd);

			print_count_of(spin ? "reissue_running" : "reissue_sleeping",
				       crowds[i], reissue[i]);
			print_count_of(spin ? "set_rights_running" : "set_rights_sleeping",
				       crowds[i], rights[i]);
			if (!spin)
				print_count_of("walk", crowds[i], reissue[i] - alone);
		}
		if (!spin) {
			print_slope("reissue_a_thread", reissue);
			print_slope("set_rights_a_thread", rights);
		}
	}
	pkey_free_call(pkey);
}

static void counted(void)
{
	overhead = LEAST(SAMPLES, (void)0);

	print_count("getppid_twice", LEAST(SAMPLES, getppid_twice()));
	/* No key has been freed on this machine yet, so no task looks for changes (G3). */
	count_page_fault("page_fault");
	count_signal("signal");
	count_switch("switch");
	count_new_processes("");
	use_all_keys();
	print_count("alloc_free", LEAST(SAMPLES, alloc_free()));
	count_mprotect();
	count_page_fault("page_fault_keys");
	count_signal("signal_keys");
	count_switch("switch_keys");
	count_new_processes_with_keys();
	run_in_order(true);
	print_count("thread", LEAST(FEW_SAMPLES, thread_and_join()));
	run_in_order(false);
	count_with_mappings();
	/* This must be last: threads that were joined may still be exiting. */
	count_broadcasts();
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void print_quantiles(const char *name, uint64_t *samples, int n)
{
	qsort(samples, n, sizeof(*samples), compare);
	printf("%s_median\t%llu\n", name, (unsigned long long)samples[n / 2]);
	printf("%s_p99\t%llu\n", name, (unsigned long long)samples[n * 99ULL / 100]);
	fflush(stdout);
}

static int busy_end, busy_rounds;

/* Map memory, use it and unmap it, as a busy program does. */
static void *busy(void *unused)
{
	while (!LOAD(busy_end)) {
		munmap(map(BUSY_BYTES, MAP_POPULATE), BUSY_BYTES);
		ADD(busy_rounds, 1);
	}
	return NULL;
}

static uint64_t *samples;

static void clock_alloc_free(const char *name)
{
	int i;

	for (i = 0; i < CLOCKED_SAMPLES; i++) {
		samples[i] = now();
		alloc_free();
		samples[i] = now() - samples[i];
	}
	print_quantiles(name, samples, CLOCKED_SAMPLES);
}

enum op { REISSUE, SET_RIGHTS, MEMBARRIER, GETPPID_TWICE, NR_OPS };

static const char * const op_names[] = {
	"reissue", "set_rights", "membarrier", "getppid_twice"
};

static inline void do_op(enum op op, long pkey)
{
	switch (op) {
	case REISSUE:
		alloc_free();
		break;
	case SET_RIGHTS:
		set_rights_call(pkey);
		break;
	case MEMBARRIER:
		call(__NR_membarrier, MEMBARRIER_EXPEDITED, 0, 0, 0);
		break;
	default:
		getppid_twice();
	}
}

/*
 * Measure broadcasts and the calls that they are compared to in turns, so that other
 * load of the machine affects all alike. The turns are so long that the effect of one
 * call on the next does not reach the medians.
 */
static void clock_broadcasts(const char *beside, int threads)
{
	long pkey = pkey_alloc_call();
	bool has_rights = !set_rights_call(pkey);
	char name[64];
	int op, i, turn;

	for (turn = 0; turn < CLOCKED_SAMPLES; turn += CLOCKED_TURN) {
		for (op = 0; op < NR_OPS; op++) {
			uint64_t *took = samples + op * CLOCKED_SAMPLES + turn;

			for (i = 0; i < CLOCKED_TURN; i++) {
				uint64_t start = now();

				do_op(op, pkey);
				took[i] = now() - start;
			}
		}
	}
	pkey_free_call(pkey);

	for (op = 0; op < NR_OPS; op++) {
		uint64_t *took = samples + op * CLOCKED_SAMPLES;

		if (op == SET_RIGHTS && !has_rights)
			memset(took, 0, CLOCKED_SAMPLES * sizeof(*took));
		snprintf(name, sizeof(name), "%s_%s_%d", op_names[op], beside, threads);
		print_quantiles(name, took, CLOCKED_SAMPLES);
	}
}

/* What it takes to allocate and to free each key of a process that has used none. */
static void clock_new_keys(uint64_t *took)
{
	long pkeys[NR_KEYS];
	uint64_t start;
	int i;

	for (i = 0; i < NR_KEYS; i++) {
		start = now();
		pkeys[i] = pkey_alloc_call();
		took[i] = now() - start;
	}
	for (i = 0; i < NR_KEYS; i++) {
		start = now();
		pkey_free_call(pkeys[i]);
		took[i] += now() - start;
	}
}

/*
 * Keys that were never used need no broadcast. An address space has only NR_KEYS of
 * them, one for each sample. All are allocated before the first is freed: otherwise
 * pkey_alloc() would hand out the same one again. The other samples are taken in
 * children of this process, which have not used any key.
 */
static void clock_first_use(const char *name, int rounds, bool beside_busy)
{
	uint64_t *all = mmap(NULL, rounds * NR_KEYS * sizeof(*all), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int i;

	if (all == MAP_FAILED)
		die("mmap");
	for (i = 0; i < rounds; i++) {
		pid_t pid = fork();

		if (!pid) {
			pthread_t thread;

			if (beside_busy) {
				pthread_create(&thread, NULL, busy, NULL);
				while (!LOAD(busy_rounds))
					sched_yield();
			}
			clock_new_keys(all + i * NR_KEYS);
			_exit(0);
		}
		if (pid < 0 || waitpid(pid, NULL, 0) != pid)
			die("fork");
	}
	print_quantiles(name, all, rounds * NR_KEYS);
	munmap(all, rounds * NR_KEYS * sizeof(*all));
}

static void clocked(void)
{
	struct crowd crowd;
	pthread_t thread;
	unsigned int i;
	int spin;

	samples = calloc(NR_OPS * CLOCKED_SAMPLES, sizeof(*samples));
	if (!samples)
		die("calloc");

	clock_first_use("idle_first", 50, false);
	clock_first_use("busy_first", 50, true);

	use_all_keys();
	clock_alloc_free("idle");
	pthread_create(&thread, NULL, busy, NULL);
	while (!LOAD(busy_rounds))
		sched_yield();
	clock_alloc_free("busy");
	STORE(busy_end, 1);
	pthread_join(thread, NULL);

	/* Register this late: switches of a registered process cost more. */
	if (call(__NR_membarrier, MEMBARRIER_REGISTER, 0, 0, 0))
		die("membarrier");
	for (spin = 0; spin < 2; spin++) {
		for (i = 0; i < NR_CROWDS; i++) {
			/* More spinning threads than processors measure the scheduler. */
			if (spin && crowds[i] >= sysconf(_SC_NPROCESSORS_ONLN))
				continue;
			crowd_start(&crowd, crowds[i], spin);
			clock_broadcasts(spin ? "running" : "sleeping", crowds[i]);
			crowd_end(&crowd);
		}
	}
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "nothing"))
		return 0;

	if (argc == 2 && !strcmp(argv[1], "counted")) {
		counted();
	} else if (argc == 2 && !strcmp(argv[1], "clocked")) {
		clocked();
	} else {
		fprintf(stderr, "usage: pkey_bench counted | clocked\n");
		return 2;
	}
	return 0;
}
