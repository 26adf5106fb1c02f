/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tasks of all kinds that share the memory of a test, for tests that change the
 * rights to a key.
 *
 * A "holder" is a task that has set its rights. It spins in user mode or sleeps in
 * a system call, and may be stopped or traced as well. When the test has changed
 * the rights, it lets the holder go on. The holder stores the PKRU that its next
 * instruction in user mode finds. Tests of the fixture "holder" run with each kind.
 *
 * "endless" is a thread that changes the rights on and on.
 *
 * To be included after kselftest_harness.h.
 */
#ifndef PKEY_HOLDER_H
#define PKEY_HOLDER_H

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/ptrace.h>

#include "pkey_prctl.h"
#include "pkey_util.h"

/* The call without a timeout of 32 bits, which not every kernel has. */
#ifdef __NR_clock_nanosleep_time64
#define NR_SLEEP	__NR_clock_nanosleep_time64
#else
#define NR_SLEEP	__NR_clock_nanosleep
#endif

struct wide_timespec {
	int64_t tv_sec;
	int64_t tv_nsec;
};

/* A holder does one of these while the rights are changed. */
enum doing {
	SPIN,
	READ,
	FUTEX,
	POLL,
	EPOLL,
	SLEEP,
	PAUSE,
};

/* One of these keeps a holder from going on. */
enum held {
	NOT_HELD,
	STOPPED,
	TRACED,
};

struct holder {
	/* A process that shares memory, instead of a thread. */
	bool process;
	enum doing doing;
	enum held held;
	/* PKRU that it sets before. */
	uint32_t pkru;
	/* A page to read afterwards, if not NULL. */
	char *secret;

	pthread_t thread;
	pid_t tid;
	int fds[2];
	int epoll;
	bool ready;
	unsigned int go;
	/* How often it has looked at @go, if it spins. */
	unsigned int spins;

	/* Its results: PKRU at once, and the result of its system call. */
	uint32_t seen;
	int result;
	char byte;
	struct pkey_fault fault;
	/* PKRU after it has set @pkru again and gone on for a while. */
	uint32_t seen_later;
};

/* The result of a system call that ended too early. */
#define HOLDER_INTERRUPTED	INT_MIN

static unsigned int handled;

/* This runs in holders too: it must not use the thread-local errno. */
static inline void count_signal(int sig)
{
	ADD(handled, 1);
}

static inline void ignore_signal(int sig)
{
}

/* A thread, or a process that shares memory, that stores the PKRU it begins with. */
static inline void *pkru_thread(void *arg)
{
	*(uint32_t *)arg = rdpkru();
	return NULL;
}

static inline int pkru_process(void *arg)
{
	pkru_thread(arg);
	return 0;
}

static inline int holder_wait(struct holder *holder)
{
	const struct wide_timespec long_time = { .tv_sec = 1000 };
	struct pollfd pollfd = { .fd = holder->fds[0], .events = POLLIN };
	struct epoll_event event;
	unsigned int go;

	switch (holder->doing) {
	case SPIN:
		do {
			STORE(holder->spins, holder->spins + 1);
			go = LOAD(holder->go);
			holder->seen = rdpkru();
		} while (!go);
		return 0;
	case READ:
		return pkey_raw_syscall_pkru(__NR_read, holder->fds[0],
					     (uintptr_t)&holder->byte, 1, 0, &holder->seen);
	case FUTEX:
		return pkey_raw_syscall_pkru(PKEY_NR_FUTEX, (uintptr_t)&holder->go, FUTEX_OP_WAIT,
					     0, 0, &holder->seen);
	case POLL:
		return pkey_raw_syscall_pkru(__NR_poll, (uintptr_t)&pollfd, 1, -1, 0,
					     &holder->seen);
	case EPOLL:
		return pkey_raw_syscall_pkru(__NR_epoll_wait, holder->epoll, (uintptr_t)&event,
					     1, -1, &holder->seen);
	case SLEEP:
		return pkey_raw_syscall_pkru(NR_SLEEP, CLOCK_MONOTONIC, 0,
					     (uintptr_t)&long_time, 0, &holder->seen);
	case PAUSE:
		return pkey_raw_syscall_pkru(__NR_pause, 0, 0, 0, 0, &holder->seen);
	}
	return -1;
}

static inline int holder_run(void *arg)
{
	struct holder *holder = arg;
	int i;

	if (holder->process)
		pkey_die_with_parent();
	STORE(holder->tid, pkey_gettid());
	wrpkru(holder->pkru);
	STORE(holder->ready, true);
	holder->result = holder_wait(holder);
	/* holder_wake() has not been called: something else ended the system call. */
	if (!LOAD(holder->go))
		holder->result = HOLDER_INTERRUPTED;

	if (holder->secret)
		holder->fault = pkey_probe(PKEY_READ, holder->secret);

	/* A task may change its own rights afterwards, and keeps them. */
	wrpkru(holder->pkru);
	for (i = 0; i < 20; i++)
		pkey_raw_syscall(__NR_sched_yield, 0, 0, 0, 0);
	holder->seen_later = rdpkru();
	return 0;
}

static inline void *holder_thread(void *arg)
{
	holder_run(arg);
	return NULL;
}

/* Start a task that shares memory and is no thread. Return its number, or -1. */
static inline pid_t start_process(int (*fn)(void *arg), void *arg, int flags)
{
	return pkey_clone(fn, arg, CLONE_VM | flags | SIGCHLD);
}

static inline bool holder_stop(struct holder *holder)
{
	int status;

	switch (holder->held) {
	case NOT_HELD:
		return true;
	case STOPPED:
		return !kill(holder->tid, SIGSTOP) &&
		       waitpid(holder->tid, &status, __WALL | WUNTRACED) == holder->tid &&
		       WIFSTOPPED(status);
	case TRACED:
		return !ptrace(PTRACE_SEIZE, holder->tid, 0, 0) &&
		       !ptrace(PTRACE_INTERRUPT, holder->tid, 0, 0) &&
		       waitpid(holder->tid, &status, __WALL) == holder->tid &&
		       WIFSTOPPED(status);
	}
	return false;
}

/* Return when the holder sleeps in its system call, if it makes one, or has ended. */
static inline void holder_wait_until_asleep(const struct holder *holder)
{
	char state;

	if (holder->doing == SPIN)
		return;

	do {
		sched_yield();
		state = pkey_task_state(holder->tid);
	} while (state != 'S' && state != 'Z' && state != '?');
}

/* Start a holder and return when it does what it is to do. */
static inline bool holder_start(struct holder *holder)
{
	const struct sigaction action = { .sa_handler = count_signal };
	struct epoll_event event = { .events = EPOLLIN };

	sigaction(SIGUSR1, &action, NULL);
	holder->epoll = epoll_create1(0);
	if (pipe(holder->fds) ||
	    epoll_ctl(holder->epoll, EPOLL_CTL_ADD, holder->fds[0], &event))
		return false;

	if (holder->process) {
		if (start_process(holder_run, holder, 0) < 0)
			return false;
	} else if (pthread_create(&holder->thread, NULL, holder_thread, holder)) {
		return false;
	}

	while (!LOAD(holder->ready))
		sched_yield();
	holder_wait_until_asleep(holder);
	return holder_stop(holder);
}

static inline void holder_wake(struct holder *holder)
{
	switch (holder->held) {
	case NOT_HELD:
		break;
	case STOPPED:
		kill(holder->tid, SIGCONT);
		break;
	case TRACED:
		ptrace(PTRACE_DETACH, holder->tid, 0, 0);
		break;
	}

	/*
	 * A stop interrupts the system call, which then starts again. A signal
	 * that arrives in between ends no pause(), and a futex() that starts
	 * again after the store below does not sleep.
	 */
	if (holder->held != NOT_HELD)
		holder_wait_until_asleep(holder);

	STORE(holder->go, 1);
	if (write(holder->fds[1], "x", 1) != 1)
		return;
	if (holder->doing == FUTEX)
		pkey_raw_syscall(PKEY_NR_FUTEX, (uintptr_t)&holder->go, FUTEX_OP_WAKE, 1, 0);
	else if (holder->doing == SLEEP || holder->doing == PAUSE)
		syscall(__NR_tgkill, holder->process ? holder->tid : getpid(), holder->tid,
			SIGUSR1);
}

/* Tell the holder to go on, and return when it has ended. */
static inline bool holder_finish(struct holder *holder)
{
	bool done;

	holder_wake(holder);
	if (holder->process)
		done = pkey_wait_for(holder->tid) == 0;
	else
		done = !pthread_join(holder->thread, NULL);
	close(holder->fds[0]);
	close(holder->fds[1]);
	close(holder->epoll);
	return done;
}

/* The result of the holder's system call if nothing but holder_wake() ends it. */
static inline int holder_expected_result(const struct holder *holder)
{
	switch (holder->doing) {
	case READ:
	case POLL:
	case EPOLL:
		return 1;
	case SLEEP:
	case PAUSE:
		return -EINTR;
	default:
		return 0;
	}
}

/* Prepare the next round with the same holder. */
static inline void holder_reset(struct holder *holder, uint32_t pkru)
{
	holder->pkru = pkru;
	holder->ready = false;
	holder->go = 0;
	holder->byte = 0;
	holder->seen = 0;
	holder->seen_later = 0;
}

/* Choose the kind of holder @i of many, each kind in turn. */
static inline void holder_choose_kind(struct holder *holder, int i)
{
	static const enum doing doing[] = { READ, FUTEX, POLL, SPIN, PAUSE };

	memset(holder, 0, sizeof(*holder));
	holder->process = i % 3 == 2;
	holder->held = holder->process ? STOPPED : NOT_HELD;
	holder->doing = doing[i % ARRAY_SIZE(doing)];
	/* Holders that spin take processor time from the others, so only a few do. */
	if (i > 10 && holder->doing == SPIN)
		holder->doing = READ;
}

/* What clone() needs to create a thread. */
#define THREAD_FLAGS	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD)

/* A process that shares memory and has a thread of its own: that is the holder. */
struct team {
	struct holder holder;
	bool first_exits;
	unsigned int end;
};

static inline int team_run(void *arg)
{
	struct team *team = arg;

	if (pkey_clone(holder_run, &team->holder, THREAD_FLAGS) < 0)
		return 1;

	if (!team->first_exits)
		pkey_wait_while(&team->end, 0);
	return 0;
}

/* Start a team, and return its number when its holder runs; -1 if there is none. */
static inline pid_t team_start(struct team *team)
{
	pid_t pid = start_process(team_run, team, 0);

	if (pid < 0)
		return -1;

	while (!LOAD(team->holder.ready))
		sched_yield();
	while (pkey_task_state(pid) != (team->first_exits ? 'Z' : 'S'))
		sched_yield();
	return pid;
}

static inline void team_finish(struct team *team)
{
	STORE(team->holder.go, 1);
	pkey_set_and_wake(&team->end, 1);
}

/* Read the report that a child writes to the pipe @fds. The child is to end with 0. */
static inline bool read_report(pid_t pid, int *fds, void *report, size_t size)
{
	bool done;

	close(fds[1]);
	done = pid > 0 && read(fds[0], report, size) == (ssize_t)size;
	done = pid > 0 && !pkey_wait_for(pid) && done;
	close(fds[0]);
	return done;
}

/* A task that opens all keys and ends. */
static inline int open_and_exit(void *arg)
{
	wrpkru(0);
	return 0;
}

/* A thread that creates such tasks, one after the other, until @arg, a holder, has to go. */
static inline void *exit_endlessly(void *arg)
{
	const struct holder *holder = arg;
	char *stack = pkey_map_stack();
	pid_t pid;

	while (stack && !LOAD(holder->go)) {
		pid = clone(open_and_exit, stack, CLONE_VM | SIGCHLD, NULL);
		waitpid(pid, NULL, __WALL);
	}
	return NULL;
}

/*
 * A thread that makes a call on and on, which sets the rights of other tasks to a key.
 * Two counters tell the others, who cannot stop it, what has happened: calls up to
 * number @end have returned; those after number @begin have not begun. So a task that
 *
 *	sets other rights itself, reads @begin, ..., reads @end, reads PKRU
 *
 * must find the rights of the call if @end is greater than @begin was.
 */
static struct {
	pthread_t thread;
	/* The call, and its argument. It returns false if it fails. */
	bool (*call)(unsigned int rights);
	unsigned int rights;
	unsigned int begin;
	unsigned int end;
	bool stop;
	int failed;
} endless;

static inline void *endless_thread(void *arg)
{
	while (!LOAD(endless.stop)) {
		ADD(endless.begin, 1);
		if (!endless.call(endless.rights))
			endless.failed++;
		ADD(endless.end, 1);
	}
	return NULL;
}

static inline bool endless_start(bool (*call)(unsigned int rights), unsigned int rights)
{
	endless.call = call;
	endless.rights = rights;
	endless.stop = false;
	return !pthread_create(&endless.thread, NULL, endless_thread, NULL);
}

/* Has a call returned that had not begun when @begin was read? */
static inline bool endless_hit(unsigned int begin)
{
	return (int)(LOAD(endless.end) - begin) > 0;
}

/* Stop the thread. Return how many calls failed. */
static inline int endless_stop(void)
{
	STORE(endless.stop, true);
	pthread_join(endless.thread, NULL);
	return endless.failed;
}

/* A test of each kind of task. */
FIXTURE(holder)
{
	struct holder *holder;
};

FIXTURE_VARIANT(holder)
{
	bool process;
	enum doing doing;
	enum held held;
};

#define HOLDER(_name, ...) FIXTURE_VARIANT_ADD(holder, _name) { __VA_ARGS__ }

HOLDER(thread_in_user_mode, .doing = SPIN);
HOLDER(thread_in_read, .doing = READ);
HOLDER(thread_in_futex, .doing = FUTEX);
HOLDER(thread_in_poll, .doing = POLL);
HOLDER(thread_in_epoll, .doing = EPOLL);
HOLDER(thread_in_nanosleep, .doing = SLEEP);
HOLDER(thread_in_pause, .doing = PAUSE);
HOLDER(process_in_user_mode, .process = true, .doing = SPIN);
HOLDER(process_in_read, .process = true, .doing = READ);
HOLDER(process_in_futex, .process = true, .doing = FUTEX);
HOLDER(process_in_epoll, .process = true, .doing = EPOLL);
HOLDER(process_in_nanosleep, .process = true, .doing = SLEEP);
HOLDER(process_stopped_in_user_mode, .process = true, .doing = SPIN, .held = STOPPED);
HOLDER(process_stopped_in_read, .process = true, .doing = READ, .held = STOPPED);
HOLDER(process_traced_in_user_mode, .process = true, .doing = SPIN, .held = TRACED);
HOLDER(process_traced_in_read, .process = true, .doing = READ, .held = TRACED);

FIXTURE_SETUP(holder)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);

	self->holder = pkey_mmap(NULL, sizeof(*self->holder), RW,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1);
	ASSERT_TRUE(!!self->holder);
	self->holder->process = variant->process;
	self->holder->doing = variant->doing;
	self->holder->held = variant->held;
}

FIXTURE_TEARDOWN(holder)
{
}

#endif /* PKEY_HOLDER_H */
