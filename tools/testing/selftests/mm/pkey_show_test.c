// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of what the kernel tells about protection keys on x86: /proc/PID/pkeys
 * and the trace events. By means of these, of what does not show otherwise:
 * nobody is asked to give up rights that nobody can have (F5), and mmap_lock is
 * not taken (G1).
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "../kselftest_harness.h"
#include "pkey_util.h"

#define RW		(PROT_READ | PROT_WRITE)

/* A buffer of our own: others that trace are not disturbed. */
#define INSTANCE	"/sys/kernel/tracing/instances/pkey_show_test"

#define PKEY_EVENTS	INSTANCE "/events/pkeys"
#define LOCK_EVENTS	INSTANCE "/events/mmap_lock/mmap_lock_start_locking"

#define KEY		7

static bool reissue(int pkey)
{
	return !sys_pkey_free(pkey) && sys_pkey_alloc(0, 0) == pkey;
}

/* The keys of a process as it shows them; "none" if it does not. */
static const char *shown_by(const char *path)
{
	static char text[4096];

	return pkey_read_file(path, text, sizeof(text)) ? text : "none";
}

#define HEADING		"key state        mappings\n" \
			"  0 default             -\n"

/* A new process has key 0, and that is not counted. */
TEST(proc_of_fresh_process)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);

	EXPECT_STREQ(HEADING, shown_by("/proc/self/pkeys"));
}

/* Each state that a key can be in, and how many mappings carry it. */
TEST(proc_shows_each_state)
{
	const size_t size = pkey_page_size();
	char *pages = pkey_map(6, RW);
	int pkey;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_TRUE(!!pages);
	for (pkey = 1; pkey <= 4; pkey++)
		ASSERT_EQ(pkey, sys_pkey_alloc(0, 0));
	ASSERT_EQ(0, sys_pkey_mprotect(pages, size, RW, 2));
	ASSERT_EQ(0, sys_pkey_mprotect(pages + 2 * size, size, RW, 2));
	ASSERT_EQ(0, sys_pkey_mprotect(pages + 4 * size, size, RW, 4));
	ASSERT_EQ(0, sys_pkey_free(3));
	ASSERT_EQ(0, sys_pkey_free(4));
	ASSERT_TRUE(!!pkey_map_code(PROT_EXEC));
	EXPECT_STREQ(HEADING
		     "  1 allocated           0\n"
		     "  2 allocated           2\n"
		     "  3 free                0\n"
		     "  4 waiting             1\n"
		     "  5 execute-only        1\n", shown_by("/proc/self/pkeys"));
}

/* Mappings that are execute-only from the start count too. */
TEST(proc_counts_execute_only_mmap)
{
	void *code = pkey_map(1, PROT_EXEC);

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_TRUE(!!code);
	EXPECT_STREQ(HEADING
		     "  1 execute-only        1\n", shown_by("/proc/self/pkeys"));
	ASSERT_EQ(0, munmap(code, pkey_page_size()));
	EXPECT_STREQ(HEADING
		     "  1 execute-only        0\n", shown_by("/proc/self/pkeys"));
}

/* Who may not look at the memory of a process may not look at its keys. */
TEST(proc_is_for_the_owner)
{
	char path[64], c;
	int fd, status;
	pid_t pid;

	if (!pku_enabled())
		SKIP(return, NO_PKU);
	if (geteuid())
		SKIP(return, "only root can become somebody else");

	snprintf(path, sizeof(path), "/proc/%d/pkeys", getpid());
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (strcmp(HEADING, shown_by(path)))
			_exit(1);
		fd = open(path, O_RDONLY);
		if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
			_exit(2);
		if (open(path, O_RDONLY) != -1 || errno != EACCES)
			_exit(3);
		/* A file that was opened before is of no use either. */
		_exit(read(fd, &c, 1) == -1 && errno == EACCES ? 0 : 4);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/* A process that has exited has no memory, and no keys. */
TEST(proc_of_dead_process)
{
	siginfo_t info;
	char path[64], c;
	pid_t pid;
	int fd;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		pause();
		_exit(0);
	}

	snprintf(path, sizeof(path), "/proc/%d/pkeys", pid);
	fd = open(path, O_RDONLY);
	EXPECT_LE(0, fd);
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(0, waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
	EXPECT_EQ(-1, read(fd, &c, 1));
	EXPECT_EQ(ESRCH, errno);

	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	close(fd);
}

/*
 * What was traced since the last call, a line for each event whose name begins
 * with @prefix: name and what it says, without the task and the time.
 */
static const char *new_events_of(const char *prefix)
{
	static char events[4096];
	char line[256], *event;
	size_t used = 0;
	FILE *trace;

	events[0] = 0;
	trace = fopen(INSTANCE "/trace", "r");
	if (!trace)
		return "no trace";

	while (fgets(line, sizeof(line), trace)) {
		event = strstr(line, prefix);
		if (line[0] != '#' && event && used < sizeof(events))
			used += snprintf(events + used, sizeof(events) - used, "%s", event + 2);
	}
	fclose(trace);
	pkey_write_file(INSTANCE "/trace", "");
	return events;
}

static const char *new_events(void)
{
	return new_events_of(": pkey_");
}

/*
 * Of this test and its threads, which are told by their name. To trace some PIDs only,
 * and to record the names of all tasks, the kernel traces each switch between tasks:
 * code that all processors run is patched, and emulated ones do not always see that.
 */
static bool trace_only_this(void)
{
	char name[24], filter[40];

	snprintf(name, sizeof(name), "pkeys-%d", getpid());
	snprintf(filter, sizeof(filter), "comm == \"%s\"", name);
	return !prctl(PR_SET_NAME, name) &&
	       pkey_write_file(INSTANCE "/trace_options", "norecord-cmd") &&
	       pkey_write_file(PKEY_EVENTS "/filter", filter) &&
	       pkey_write_file(LOCK_EVENTS "/filter", filter);
}

FIXTURE(trace)
{
};

FIXTURE_SETUP(trace)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);

	rmdir(INSTANCE);
	if (mkdir(INSTANCE, 0700))
		SKIP(return, "no instance of tracefs can be made");

	ASSERT_TRUE(trace_only_this());
	ASSERT_TRUE(pkey_write_file(PKEY_EVENTS "/enable", "1"));
}

FIXTURE_TEARDOWN(trace)
{
	rmdir(INSTANCE);
}

/* A key goes through all its states. */
TEST_F(trace, tells_the_life_of_a_key)
{
	const size_t size = pkey_page_size();
	void *page = pkey_map(1, RW);

	ASSERT_TRUE(!!page);
	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	EXPECT_TRUE(!!strstr(new_events(), "pkey_alloc: key 14, was never used, for user\n"
					   "pkey_alloc: key 15, was never used, for user\n"));

	ASSERT_EQ(0, sys_pkey_mprotect(page, size, RW, KEY));
	ASSERT_EQ(0, sys_pkey_free(KEY));
	ASSERT_EQ(KEY, sys_pkey_alloc(0, 0));
	EXPECT_STREQ("pkey_free: key 7, 1 mappings carry it\n"
		     "pkey_alloc: key 7, was mapped, for user\n", new_events());

	ASSERT_EQ(0, munmap(page, size));
	ASSERT_TRUE(reissue(KEY));
	EXPECT_STREQ("pkey_free: key 7, 0 mappings carry it\n"
		     "pkey_alloc: key 7, was clean, for user\n", new_events());
}

/* Calls that are refused leave no trace. */
TEST_F(trace, says_nothing_of_failures)
{
	EXPECT_EQ(-1, sys_pkey_free(KEY));
	EXPECT_EQ(-1, sys_pkey_free(0));
	EXPECT_EQ(-1, sys_pkey_alloc(1, 0));
	EXPECT_STREQ("", new_events());
	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	new_events();
	EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
	EXPECT_STREQ("", new_events());
}

/* D1: the execute-only key is reserved once. */
TEST_F(trace, tells_who_gets_a_key)
{
	ASSERT_TRUE(pkey_map_code(PROT_EXEC) && pkey_map_code(PROT_EXEC));
	EXPECT_STREQ("pkey_alloc: key 1, was never used, for execute-only\n", new_events());
}

/* F5: who is alone asks nobody. */
TEST_F(trace, reissue_alone)
{
	int i;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	new_events();
	for (i = 0; i < 3; i++) {
		ASSERT_TRUE(reissue(KEY));
		EXPECT_STREQ("pkey_free: key 7, 0 mappings carry it\n"
			     "pkey_alloc: key 7, was clean, for user\n", new_events());
	}
}

/* Threads that wait at @fds[0] until it is closed. */
#define NR_THREADS	3

static int fds[2];
static pthread_t threads[NR_THREADS];
static pid_t tids[NR_THREADS];

static void *wait_for_end(void *arg)
{
	pid_t *tid = arg;
	char byte;

	__atomic_store_n(tid, syscall(__NR_gettid), __ATOMIC_SEQ_CST);
	read(fds[0], &byte, 1);
	return NULL;
}

static bool start_threads(void)
{
	int i, err = pipe(fds);

	for (i = 0; i < NR_THREADS; i++) {
		tids[i] = 0;
		err |= pthread_create(&threads[i], NULL, wait_for_end, &tids[i]);
	}
	for (i = 0; !err && i < NR_THREADS; i++)
		while (!__atomic_load_n(&tids[i], __ATOMIC_SEQ_CST) ||
		       pkey_task_state(tids[i]) != 'S')
			sched_yield();
	return !err;
}

static bool end_threads(void)
{
	int i, err = close(fds[1]);

	for (i = 0; i < NR_THREADS; i++)
		err |= pthread_join(threads[i], NULL);
	return !err;
}

/* F5: nobody is asked to give up rights to a key that was never used. */
TEST_F(trace, first_use_beside_threads)
{
	ASSERT_TRUE(start_threads());
	ASSERT_EQ(1, sys_pkey_alloc(0, 0));
	ASSERT_TRUE(end_threads());
	EXPECT_STREQ("pkey_alloc: key 1, was never used, for user\n", new_events());
}

/* F4: all threads are asked, and give up their rights once, to all keys. */
TEST_F(trace, reissue_beside_threads)
{
	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	ASSERT_TRUE(start_threads());
	new_events();
	ASSERT_TRUE(reissue(KEY));
	ASSERT_TRUE(reissue(15));
	EXPECT_STREQ("pkey_free: key 7, 0 mappings carry it\n"
		     "pkey_reissue: key 7, re-issue 1, asked 3 tasks\n"
		     "pkey_alloc: key 7, was clean, for user\n"
		     "pkey_free: key 15, 0 mappings carry it\n"
		     "pkey_reissue: key 15, re-issue 2, asked 3 tasks\n"
		     "pkey_alloc: key 15, was clean, for user\n", new_events());
	ASSERT_TRUE(end_threads());
	EXPECT_STREQ("pkey_revoke: keys 7,15, up to re-issue 2\n"
		     "pkey_revoke: keys 7,15, up to re-issue 2\n"
		     "pkey_revoke: keys 7,15, up to re-issue 2\n", new_events());
}

/*
 * G1: the event stands at the beginning of each attempt to take an mmap_lock. It
 * is traced during the calls only: the C library maps memory too.
 */
TEST_F(trace, alloc_and_free_take_no_mmap_lock)
{
	const size_t size = pkey_page_size();
	int fd = open(INSTANCE "/tracing_on", O_WRONLY);
	void *page = pkey_map(1, RW);
	int nr, mapped, clean;

	ASSERT_TRUE(page && fd >= 0);
	ASSERT_TRUE(pkey_write_file(LOCK_EVENTS "/enable", "1"));
	/* No page fault takes it either. */
	ASSERT_EQ(0, mlockall(MCL_CURRENT));
	ASSERT_TRUE(start_threads());
	ASSERT_EQ(1, write(fd, "0", 1));
	pkey_write_file(INSTANCE "/trace", "");

	/* Keys that are new, until there is none left. */
	write(fd, "1", 1);
	nr = pkey_take_all(NULL);
	write(fd, "0", 1);
	EXPECT_EQ(PKEY_MAX, nr);
	EXPECT_STREQ("", new_events_of(": mmap_lock_"));

	/* What does take it is seen to. */
	write(fd, "1", 1);
	sys_pkey_mprotect(page, size, RW, KEY);
	write(fd, "0", 1);
	EXPECT_STRNE("", new_events_of(": mmap_lock_"));

	/* Keys that are mapped, clean, and refused. */
	write(fd, "1", 1);
	mapped = reissue(KEY);
	clean = reissue(15);
	sys_pkey_free(0);
	write(fd, "0", 1);
	EXPECT_TRUE(mapped && clean);
	EXPECT_STREQ("", new_events_of(": mmap_lock_"));
	ASSERT_TRUE(end_threads());
	close(fd);
}

TEST_HARNESS_MAIN
