// SPDX-License-Identifier: GPL-2.0
/*
 * Torture test of protection keys on x86. Many tasks that share memory allocate, free
 * and attach keys, set rights to them, take signals, fork, execute, stop and sleep, all
 * at random and at the same time. After each step a task looks whether its PKRU is
 * what the oracle says (pkey_torture_oracle.h). The steps are in pkey_torture_ops.h.
 *
 * A run is a sequence of arenas, which are processes that differ in how the tasks
 * behave. The seed that is printed makes the same choices again, but not the same
 * timing.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "../kselftest.h"
#include "pkey_torture_ops.h"

/* The argument that makes this program look at itself after execve(). */
#define REPORT_ARG	"--after-execve"

/* How many operations a task does before it looks at the limits. */
#define BATCH		32

/* An arena that does nothing for this long hangs, on the slowest machine too. */
#define HANG_SECONDS	90

#define DEFAULT_SECONDS	10
#define DEFAULT_WORKERS	6

static void raise_event(void)
{
	ADD(oracle.events, 1);
	futex_wake(&oracle.events);
}

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

/* Free or give away the keys that a task or a handler owns when it ends. */
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

	rights_init_handler(&inner, outer);
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

	/* The C library does not register such a task. */
	t->rseq = pkey_rseq_register(&t->rseq_area) ? NULL : &t->rseq_area;
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

	/* It leaves with its rights, perhaps while they are being changed. */
	ret = run_execve(t);
	violate(t, RULE_EXECVE, "execve() failed", 0, ret, 0, 0);
	return 0;
}

/* E3: what a program finds after execve(). The exit status says what is wrong. */
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

/*
 * The first task of an arena
 */

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
	main_task.rseq = has_rseq ? pkey_rseq_of_thread() : NULL;
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
	int fd = open(PKEY_SETTING, O_WRONLY);

	if (fd >= 0 && write(fd, value ? "1" : "0", 1) != 1)
		ksft_print_msg("cannot write %s: %s\n", PKEY_SETTING, strerror(errno));
	if (fd >= 0)
		close(fd);
}

/* No other task is left: what the kernel says must be exactly what is there. */
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
			if (allocated != is_allocated(t, k))
				violate(t, RULE_NOT_LOST, "state, word, issued", k, file.state[k],
					oracle.key[k].word, oracle.key[k].issued);
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
		if (ret != (is_allocated(t, k) && k != exec_only ? 0 : -EINVAL))
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

/* Tasks that leave do not count: they may have raised their last event. */
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
 * All keys are used once. In an untidy arena each of them leaves a page behind, so that
 * all are mapped and the first execute-only memory gets no key.
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
		if (!arena.tidy && !arena.stray)
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

	/* New tasks replace those that end. Each time one that sleeps is woken. */
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

/*
 * The process that starts the arenas, and prints
 */

static bool can_set_sysctl(int *value)
{
	int fd = open(PKEY_SETTING, O_RDWR);
	char byte = '1';
	bool ok;

	if (fd < 0)
		fd = open(PKEY_SETTING, O_RDONLY);
	if (fd >= 0 && read(fd, &byte, 1) == 1)
		*value = byte - '0';
	ok = fd >= 0 && pwrite(fd, &byte, 1, 0) == 1;
	if (fd >= 0)
		close(fd);
	return ok;
}

/* Wait for the arena, as long as it does something. */
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
	arena.stray = (draw >> 7 & 3) == 0;
	arena.sets = has_sets && !arena.stray && (draw >> 9 & 3) != 0;
	if (arena.stray)
		arena.tidy = false;
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
	ksft_print_msg("rights set by others noticed %u, sections %u, aborted %u, stray frees %u\n",
		       shared->sets_seen, shared->sections, shared->aborts,
		       shared->stray_frees);
}

/* Has the kernel rseq? Where the C library has not registered this thread, this does. */
static bool rseq_works(void)
{
	struct pkey_rseq *rseq = pkey_rseq_of_thread();
	static struct pkey_rseq area;

	return rseq ? (int)rseq->cpu_id >= 0 : !pkey_rseq_register(&area);
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
	/* The oracle assumes that no task has rights to a key that nobody has opened. */
	if (rdpkru() != PKRU_CLOSED)
		ksft_exit_skip("needs a kernel without init_pkru=\n");

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

	has_sets = pkey_raw_prctl(PR_PKEY_GET_SCOPE, 0, 0, 0) >= 0;
	if (!has_sets)
		ksft_print_msg("no PR_PKEY: nobody sets the rights of all tasks\n");
	has_rseq = rseq_works();
	if (!has_rseq)
		ksft_print_msg("no rseq: there are no sections\n");
	may_set = can_set_sysctl(&sysctl);
	if (!may_set)
		ksft_print_msg(PKEY_SETTING " stays %d\n", sysctl);
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
	for (i = 0; i < NR_RULES; i++) {
		if (i == RULE_SET_RIGHTS && !has_sets)
			ksft_test_result_skip("needs prctl(PR_PKEY): %s\n", rule_names[i]);
		else if (i == RULE_SECTION && !has_rseq)
			ksft_test_result_skip("needs rseq() (CONFIG_RSEQ): %s\n", rule_names[i]);
		else
			ksft_test_result(!shared->violations[i], "%s\n", rule_names[i]);
	}
	ksft_finished();
}
