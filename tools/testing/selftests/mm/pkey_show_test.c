// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of /proc/PID/pkeys, /proc/PID/task/TID/pkeys (K1) and the trace events (K2)
 * of protection keys on x86. The trace events also show that a process with one
 * thread makes no broadcast (F5) and that no call takes mmap_lock (G1).
 *
 * The text of the trace events is not fixed: the tests look for the name of an event
 * and for the keys that follow the word "key" or "keys".
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/stat.h>

#include "../kselftest_harness.h"
#include "pkey_holder.h"
#include "pkey_prctl.h"

/* The argument that makes this program look at itself after execve(). */
#define NEW_PROGRAM_ARG	"--after-execve"

/* The test has an instance of its own, so that others can trace at the same time. */
#define INSTANCE	"/sys/kernel/tracing/instances/pkey_show_test"

#define PKEY_EVENTS	INSTANCE "/events/pkeys"
#define LOCK_EVENTS	INSTANCE "/events/mmap_lock/mmap_lock_start_locking"

#define KEY		7

/* Return the text of the file; "none" if it cannot be read. */
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
	ASSERT_TRUE(!!pkey_map_code(PROT_EXEC));
	for (pkey = 2; pkey <= 5; pkey++)
		ASSERT_EQ(pkey, sys_pkey_alloc(0, 0));
	ASSERT_EQ(0, sys_pkey_mprotect(pages, size, RW, 3));
	ASSERT_EQ(0, sys_pkey_mprotect(pages + 2 * size, size, RW, 3));
	ASSERT_EQ(0, sys_pkey_mprotect(pages + 4 * size, size, RW, 5));
	ASSERT_EQ(0, sys_pkey_free(4));
	ASSERT_EQ(0, sys_pkey_free(5));
	EXPECT_STREQ(HEADING
		     "  1 execute-only        1\n"
		     "  2 allocated           0\n"
		     "  3 allocated           2\n"
		     "  4 clean               0\n"
		     "  5 mapped              1\n", shown_by("/proc/self/pkeys"));
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

/* A user who may not read the memory of a process may not read its keys. */
TEST(proc_is_for_the_owner)
{
	char path[64], c;
	int fd, status;
	pid_t pid;

	if (!pku_enabled())
		SKIP(return, NO_PKU);
	if (geteuid())
		SKIP(return, "needs root");

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
 * The file of a thread (K1)
 */

/* One row of it, as text. */
struct row {
	int pkey;
	char state[16];
	char mappings[16];
	char rights[8];
	char older[8];
};

static void thread_path(char *path, size_t size, pid_t pid, pid_t tid)
{
	snprintf(path, size, "/proc/%d/task/%d/pkeys", pid, tid);
}

/* Read the file of a thread. Return the number of rows, -1 if there is no such file. */
static int read_rows(pid_t pid, pid_t tid, struct row *rows)
{
	char path[64], line[128];
	FILE *file;
	int nr = 0;

	thread_path(path, sizeof(path), pid, tid);
	file = fopen(path, "r");
	if (!file)
		return -1;

	if (!fgets(line, sizeof(line), file) ||
	    sscanf(line, " key state mappings rights older%n", &nr) || !nr) {
		fclose(file);
		return -1;
	}
	for (nr = 0; nr < PKEY_NR && fgets(line, sizeof(line), file); nr++)
		if (sscanf(line, "%d %15s %15s %7s %7s", &rows[nr].pkey, rows[nr].state,
			   rows[nr].mappings, rows[nr].rights, rows[nr].older) != 5)
			break;
	fclose(file);
	return nr;
}

static const char *rights_name(unsigned int rights)
{
	if (rights & PKEY_DISABLE_ACCESS)
		return "--";
	return rights & PKEY_DISABLE_WRITE ? "r-" : "rw";
}

/* Does the file of the thread show the rights that @pkru gives, for each key? */
static bool rows_show(pid_t pid, pid_t tid, uint32_t pkru)
{
	struct row rows[PKEY_NR];
	int i, nr = read_rows(pid, tid, rows);
	const char *name;

	for (i = 0; i < nr; i++) {
		name = rights_name(pkru >> 2 * rows[i].pkey & PKEY_RIGHTS_MASK);
		if (!strcmp(rows[i].rights, name))
			continue;
		printf("# key %d: rights %s, PKRU %08x\n", rows[i].pkey, rows[i].rights, pkru);
		return false;
	}
	return nr > 0;
}

/* The text of one column in the row of a key. */
#define ROW_TEXT(_pid, _tid, _pkey, _column) ({					\
	static struct row rows_[PKEY_NR];					\
	int i_, nr_ = read_rows(_pid, _tid, rows_);				\
	const char *text_ = "none";						\
										\
	for (i_ = 0; i_ < nr_; i_++)						\
		if (rows_[i_].pkey == (_pkey))					\
			text_ = rows_[i_]._column;				\
	text_;									\
})

/* K1: key, state and mappings are those of /proc/PID/pkeys. */
TEST(thread_file_shows_the_states)
{
	char text[1024] = "key state        mappings\n", line[64];
	const size_t size = pkey_page_size();
	char *pages = pkey_map(4, RW);
	struct row rows[PKEY_NR];
	int i, nr;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_TRUE(!!pages);
	ASSERT_TRUE(!!pkey_map_code(PROT_EXEC));
	for (i = 2; i <= 5; i++)
		ASSERT_EQ(i, sys_pkey_alloc(0, 0));
	ASSERT_EQ(0, sys_pkey_mprotect(pages, size, RW, 3));
	ASSERT_EQ(0, sys_pkey_mprotect(pages + 2 * size, size, RW, 5));
	ASSERT_EQ(0, sys_pkey_free(4));
	ASSERT_EQ(0, sys_pkey_free(5));

	nr = read_rows(getpid(), pkey_gettid(), rows);
	ASSERT_EQ(6, nr);
	for (i = 0; i < nr; i++) {
		snprintf(line, sizeof(line), "%3d %-12s %8s\n", rows[i].pkey, rows[i].state,
			 rows[i].mappings);
		strcat(text, line);
	}
	EXPECT_STREQ(text, shown_by("/proc/self/pkeys"));
	EXPECT_STREQ("--", ROW_TEXT(getpid(), pkey_gettid(), 1, rights));
	EXPECT_STREQ("rw", ROW_TEXT(getpid(), pkey_gettid(), 2, rights));
}

/* K1: a thread that reads its own file. */
TEST(thread_file_shows_own_rights)
{
	size_t p;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		wrpkru(pkru_patterns[p]);
		EXPECT_TRUE(rows_show(getpid(), pkey_gettid(), pkru_patterns[p]));
		EXPECT_EQ(pkru_patterns[p], rdpkru());
	}
	EXPECT_STREQ("rw", ROW_TEXT(getpid(), pkey_gettid(), 0, rights));
	EXPECT_STREQ("-", ROW_TEXT(getpid(), pkey_gettid(), 0, older));
}

/* A thread that runs while the test looks at its rights. */
static struct {
	pthread_t thread;
	pid_t tid;
	uint32_t pkru;
	unsigned int round;
	unsigned int done;
	bool stop;
} runner;

/* Start the thread, and return when it runs: @fn has stored its number. */
static bool runner_start(void *(*fn)(void *arg))
{
	if (pthread_create(&runner.thread, NULL, fn, NULL))
		return false;

	while (!LOAD(runner.tid))
		sched_yield();
	return true;
}

static bool runner_stop(void)
{
	STORE(runner.stop, true);
	return !pthread_join(runner.thread, NULL);
}

/* Set PKRU to @pkru of the runner in each round, and make no system call. */
static void *obeying_thread(void *arg)
{
	unsigned int round = 0;

	STORE(runner.tid, pkey_gettid());
	while (!LOAD(runner.stop)) {
		if (LOAD(runner.round) == round)
			continue;
		wrpkru(runner.pkru);
		STORE(runner.done, ++round);
	}
	return NULL;
}

/* K1: a thread that runs: its rights are in the register of another processor. */
TEST(thread_file_shows_rights_of_running_thread)
{
	unsigned int i;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	ASSERT_TRUE(runner_start(obeying_thread));
	for (i = 1; i <= 100; i++) {
		runner.pkru = pkru_patterns[i % ARRAY_SIZE(pkru_patterns)];
		STORE(runner.round, i);
		while (LOAD(runner.done) != i)
			;
		EXPECT_TRUE(rows_show(getpid(), runner.tid, runner.pkru));
	}
	/* It shows the rights that the thread has at its next instruction. */
	for (i = 1; i <= 8; i++) {
		ASSERT_EQ(0, pkey_set_rights_everywhere(KEY, i % 4));
		EXPECT_TRUE(rows_show(getpid(), runner.tid,
				      pkru_with_rights(runner.pkru, KEY, i % 4)));
	}
	ASSERT_TRUE(runner_stop());
}

static pid_t holder_pid(const struct holder *holder)
{
	return holder->process ? holder->tid : getpid();
}

/* K1: the rights of a thread, pending changes applied. */
TEST_F(holder, rights_are_shown)
{
	struct holder *holder = self->holder;
	uint32_t pkru;
	size_t p;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		pkru = pkru_patterns[p];
		holder_reset(holder, pkru);
		ASSERT_TRUE(holder_start(holder));
		EXPECT_TRUE(rows_show(holder_pid(holder), holder->tid, pkru));

		pkru = pkru_with_rights(pkru, KEY, p % 4);
		ASSERT_EQ(0, pkey_set_rights_everywhere(KEY, p % 4));
		EXPECT_TRUE(rows_show(holder_pid(holder), holder->tid, pkru));

		pkru = pkru_with_rights(pkru, 3, PKEY_DISABLE_ACCESS);
		ASSERT_TRUE(pkey_reissue(3));
		EXPECT_TRUE(rows_show(holder_pid(holder), holder->tid, pkru));
		/* Nothing of this has changed what it is going to have. */
		ASSERT_TRUE(holder_finish(holder));
		EXPECT_EQ(pkru_without(pkru, 3), pkru_without(holder->seen, 3));
		EXPECT_TRUE(pkru_denies(holder->seen, 3));
		EXPECT_EQ(holder_expected_result(holder), holder->result);
	}
}

/* K1: the holder is older than a key that is handed out now, and younger than others. */
TEST_F(holder, age_is_shown)
{
	struct holder *holder = self->holder;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	holder_reset(holder, 0);
	ASSERT_TRUE(holder_start(holder));
	EXPECT_STREQ("no", ROW_TEXT(holder_pid(holder), holder->tid, KEY, older));
	ASSERT_TRUE(pkey_reissue(KEY));
	EXPECT_STREQ("yes", ROW_TEXT(holder_pid(holder), holder->tid, KEY, older));
	EXPECT_STREQ("no", ROW_TEXT(holder_pid(holder), holder->tid, 3, older));
	EXPECT_STREQ("-", ROW_TEXT(holder_pid(holder), holder->tid, 0, older));
	/* A key that is free has been handed out to nobody. */
	ASSERT_EQ(0, sys_pkey_free(KEY));
	EXPECT_STREQ("-", ROW_TEXT(holder_pid(holder), holder->tid, KEY, older));
	ASSERT_TRUE(holder_finish(holder));
}

/* K1: the thread is older than the key also if the key was never used before. */
TEST(thread_file_shows_age_at_first_use)
{
	struct holder first = { .doing = READ }, second = { .doing = READ };

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_TRUE(holder_start(&first));
	ASSERT_EQ(1, sys_pkey_alloc(0, 0));
	ASSERT_TRUE(holder_start(&second));
	ASSERT_EQ(2, sys_pkey_alloc(0, 0));
	EXPECT_STREQ("yes", ROW_TEXT(getpid(), first.tid, 1, older));
	EXPECT_STREQ("yes", ROW_TEXT(getpid(), first.tid, 2, older));
	EXPECT_STREQ("no", ROW_TEXT(getpid(), second.tid, 1, older));
	EXPECT_STREQ("yes", ROW_TEXT(getpid(), second.tid, 2, older));
	ASSERT_TRUE(holder_finish(&first));
	ASSERT_TRUE(holder_finish(&second));
}

/* In a new program: its only thread is older than a key that is handed out now. */
static bool new_program_is_older(void)
{
	int pkey = sys_pkey_alloc(0, 0);

	return pkey > 0 && !strcmp("yes", ROW_TEXT(getpid(), pkey_gettid(), pkey, older));
}

/* K1, E3: what a task remembers of the keys of its old program says nothing of the new. */
TEST(thread_file_after_execve)
{
	pid_t pid;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		execl("/proc/self/exe", "pkey_show_test", NEW_PROGRAM_ARG, NULL);
		_exit(1);
	}
	EXPECT_EQ(0, pkey_wait_for(pid));
}

/* K1, E1: a child of fork() is younger than the keys that it has copied. */
TEST(thread_file_of_forked_child)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(1, sys_pkey_alloc(0, 0));
	ASSERT_EQ(2, sys_pkey_alloc(0, PKEY_DISABLE_WRITE));
	IN_CHILD {
		EXPECT_STREQ("no", ROW_TEXT(getpid(), pkey_gettid(), 1, older));
		EXPECT_STREQ("rw", ROW_TEXT(getpid(), pkey_gettid(), 1, rights));
		EXPECT_STREQ("r-", ROW_TEXT(getpid(), pkey_gettid(), 2, rights));
	}
}

/* A thread that gets signals all the time, and never has rights to a key. */
static void *signalled_thread(void *arg)
{
	wrpkru(PKRU_INIT);
	STORE(runner.tid, pkey_gettid());
	while (!LOAD(runner.stop))
		pkey_raw_syscall(__NR_tgkill, getpid(), runner.tid, SIGUSR1, 0);
	return NULL;
}

/* K1: the moment in which signal delivery opens all keys is not shown. */
TEST(thread_file_during_signal_delivery)
{
	int i, wrong = 0;

	if (!pku_enabled())
		SKIP(return, NO_PKU);
	/* A handler begins with these rights, the thread goes on with them. */
	if (rdpkru() != PKRU_INIT)
		SKIP(return, "needs a kernel without init_pkru=");

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	ASSERT_TRUE(signal(SIGUSR1, ignore_signal) != SIG_ERR);
	ASSERT_TRUE(runner_start(signalled_thread));
	for (i = 0; i < 100; i++)
		wrong += !rows_show(getpid(), runner.tid, PKRU_INIT);
	ASSERT_TRUE(runner_stop());
	EXPECT_EQ(0, wrong);
}

/* A thread that gives a key back and takes it again, and always has rights to it. */
static void *reissuing_thread(void *arg)
{
	wrpkru(pkru_with_rights(PKRU_INIT, KEY, 0));
	STORE(runner.tid, pkey_gettid());
	while (!LOAD(runner.stop)) {
		sys_pkey_free(KEY);
		sys_pkey_alloc(0, 0);
		ADD(runner.done, 1);
	}
	return NULL;
}

/* K1: what a re-issue takes from the others is not shown for the caller. */
TEST(thread_file_during_pkey_alloc)
{
	int i, wrong = 0;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	ASSERT_TRUE(runner_start(reissuing_thread));
	for (i = 0; i < 100 || LOAD(runner.done) < 100; i++)
		wrong += strcmp("rw", ROW_TEXT(getpid(), runner.tid, KEY, rights)) != 0;
	ASSERT_TRUE(runner_stop());
	EXPECT_EQ(0, wrong);
}

/* Spin a little longer in each round, then start over. */
static void spin_a_little(void)
{
	static unsigned int turns;

	delay(turns);
	turns = (turns + 37) % 3000;
}

/* The frame of the handler has rights to the key. From here on nobody has. */
static void close_key_everywhere(int sig)
{
	pkey_set_rights_everywhere(KEY, PKEY_DISABLE_ACCESS);
	ADD(runner.round, 1);
	spin_a_little();
}

/* While the round is odd, it has no rights to the key. */
static void *returning_thread(void *arg)
{
	unsigned int reads;

	STORE(runner.tid, pkey_gettid());
	while (!LOAD(runner.stop)) {
		wrpkru(pkru_with_rights(PKRU_INIT, KEY, 0));
		reads = LOAD(runner.done);
		pkey_raw_syscall(__NR_tgkill, getpid(), runner.tid, SIGUSR1, 0);
		/* The next read has begun by now. */
		while (LOAD(runner.done) - reads < 2 && !LOAD(runner.stop))
			;
		ADD(runner.round, 1);
	}
	return NULL;
}

/* K1: the moment in which sigreturn has the old rights in PKRU is not shown. */
TEST(thread_file_during_sigreturn)
{
	unsigned int round, seen = 0, wrong = 0;
	const char *rights;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	ASSERT_TRUE(signal(SIGUSR1, close_key_everywhere) != SIG_ERR);
	ASSERT_TRUE(runner_start(returning_thread));
	while (seen < 300) {
		round = LOAD(runner.round);
		rights = ROW_TEXT(getpid(), runner.tid, KEY, rights);
		if (round == LOAD(runner.round) && round & 1) {
			seen++;
			wrong += strcmp("--", rights) != 0;
		}
		ADD(runner.done, 1);
	}
	ASSERT_TRUE(runner_stop());
	EXPECT_EQ(0, wrong);
}

/* K1: a user who may not read the memory of a process may not read the file. */
TEST(thread_file_is_for_the_owner)
{
	char path[64], c;
	pid_t pid;
	int fd;

	if (!pku_enabled())
		SKIP(return, NO_PKU);
	if (geteuid())
		SKIP(return, "needs root");

	thread_path(path, sizeof(path), getpid(), pkey_gettid());
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (!strcmp("none", shown_by(path)))
			_exit(1);
		fd = open(path, O_RDONLY);
		if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
			_exit(2);
		if (open(path, O_RDONLY) != -1 || errno != EACCES)
			_exit(3);
		/* A file that was opened before cannot be read either. */
		_exit(read(fd, &c, 1) == -1 && errno == EACCES ? 0 : 4);
	}
	EXPECT_EQ(0, pkey_wait_for(pid));
}

/* K1: a file that was opened before its thread has ended. */
TEST(thread_file_of_dead_thread)
{
	struct holder holder = { .doing = READ };
	char path[64], c;
	int fd;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_TRUE(holder_start(&holder));
	thread_path(path, sizeof(path), getpid(), holder.tid);
	fd = open(path, O_RDONLY);
	ASSERT_LE(0, fd);
	ASSERT_TRUE(holder_finish(&holder));
	/* The kernel removes the thread a little after pthread_join(). */
	while (pkey_task_state(holder.tid) != '?')
		sched_yield();
	EXPECT_EQ(-1, read(fd, &c, 1));
	EXPECT_EQ(ESRCH, errno);
	close(fd);
}

/*
 * Trace events (K2)
 */

/* One event: its name, the keys that it names, and all that it says. */
struct event {
	char name[32];
	unsigned int pkeys;
	char text[160];
};

static struct event events[64];
static int nr_events;

/* The keys after the word "key" or "keys": one bit a key. */
static unsigned int keys_in(const char *text)
{
	const char *c = strstr(text, "key");
	unsigned int pkeys = 0;
	char *end;
	long k;

	if (!c)
		return 0;

	c += strcspn(c, " =");
	do {
		k = strtol(c + 1, &end, 10);
		if (end == c + 1 || k < 0 || k >= PKEY_NR)
			break;
		pkeys |= 1u << k;
		c = end;
	} while (c[0] == ',' && c[1] != ' ');
	return pkeys;
}

/* Read what was traced since the last call: events whose name begins with @prefix. */
static bool read_events(const char *prefix)
{
	char line[256], *text;
	struct event *event;
	FILE *trace;

	nr_events = 0;
	trace = fopen(INSTANCE "/trace", "r");
	if (!trace)
		return false;

	while (fgets(line, sizeof(line), trace)) {
		text = strstr(line, prefix);
		if (line[0] == '#' || !text || nr_events == ARRAY_SIZE(events))
			continue;
		event = &events[nr_events++];
		memset(event, 0, sizeof(*event));
		text += 2;
		snprintf(event->name, sizeof(event->name), "%.*s", (int)strcspn(text, ":"), text);
		text = strchr(text, ':');
		if (!text)
			continue;
		snprintf(event->text, sizeof(event->text), "%s", text + 1);
		event->pkeys = keys_in(event->text);
	}
	fclose(trace);
	return pkey_write_file(INSTANCE "/trace", "");
}

/* The events since the last call, a line for each: its name and its keys. */
static const char *new_events_of(const char *prefix)
{
	static char list[sizeof(events)];
	size_t used = 0;
	int i, k;

	list[0] = '\0';
	if (!read_events(prefix))
		return "no trace";

	for (i = 0; i < nr_events; i++) {
		used += snprintf(list + used, sizeof(list) - used, "%s", events[i].name);
		for (k = 0; k < PKEY_NR; k++)
			if (events[i].pkeys & 1u << k)
				used += snprintf(list + used, sizeof(list) - used, " %d", k);
		used += snprintf(list + used, sizeof(list) - used, "\n");
	}
	return list;
}

static const char *new_events(void)
{
	return new_events_of(": pkey_");
}

/* Does an event of this name, among those that were read last, say that? */
static bool event_says(const char *name, int pkey, const char *text)
{
	int i;

	for (i = 0; i < nr_events; i++)
		if (!strcmp(events[i].name, name) && events[i].pkeys & 1u << pkey &&
		    strstr(events[i].text, text))
			return true;
	return false;
}

static int count_events(const char *name, int pkey)
{
	int i, nr = 0;

	for (i = 0; i < nr_events; i++)
		nr += !strcmp(events[i].name, name) && events[i].pkeys & 1u << pkey;
	return nr;
}

/*
 * Trace this test and its threads, which have a name of their own. To trace by PID, or
 * to record the names of tasks, the kernel would trace each switch between tasks. That
 * patches code that all processors run, which QEMU does not always handle well.
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
		SKIP(return, "needs tracefs instances");

	ASSERT_TRUE(trace_only_this());
	ASSERT_TRUE(pkey_write_file(PKEY_EVENTS "/enable", "1"));
}

FIXTURE_TEARDOWN(trace)
{
	rmdir(INSTANCE);
}

/* A key goes through all its states. */
TEST_F(trace, life_of_a_key)
{
	const size_t size = pkey_page_size();
	void *page = pkey_map(1, RW);
	int pkey;

	if (pkey_read_setting(PKEY_SETTING) != 1)
		SKIP(return, "needs vm.pkey_reuse_mapped=1");

	ASSERT_TRUE(!!page);
	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	new_events();
	for (pkey = 1; pkey < PKEY_NR; pkey++) {
		EXPECT_EQ(1, count_events("pkey_alloc", pkey));
		EXPECT_TRUE(event_says("pkey_alloc", pkey, "never used"));
	}
	EXPECT_EQ(PKEY_MAX, nr_events);

	ASSERT_EQ(0, sys_pkey_mprotect(page, size, RW, KEY));
	ASSERT_TRUE(pkey_reissue(KEY));
	EXPECT_STREQ("pkey_free 7\npkey_alloc 7\n", new_events());
	EXPECT_TRUE(event_says("pkey_alloc", KEY, "mapped"));

	ASSERT_EQ(0, munmap(page, size));
	ASSERT_TRUE(pkey_reissue(KEY));
	EXPECT_STREQ("pkey_free 7\npkey_alloc 7\n", new_events());
	EXPECT_TRUE(event_says("pkey_alloc", KEY, "clean"));
}

/* Calls that are refused leave no trace. */
TEST_F(trace, no_event_of_failures)
{
	EXPECT_EQ(-1, sys_pkey_free(KEY));
	EXPECT_EQ(-1, sys_pkey_free(0));
	EXPECT_EQ(-1, sys_pkey_alloc(1, 0));
	EXPECT_EQ(-1, pkey_set_rights_everywhere(KEY, 0));
	EXPECT_EQ(-1, pkey_set_rights_everywhere(0, 0));
	EXPECT_STREQ("", new_events());
	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	new_events();
	EXPECT_EQ(-1, sys_pkey_alloc(0, 0));
	EXPECT_EQ(-1, pkey_set_rights_everywhere(KEY, 4));
	EXPECT_STREQ("", new_events());
	/* The process has keys, and this one is free. */
	ASSERT_EQ(0, sys_pkey_free(KEY));
	new_events();
	EXPECT_EQ(-1, sys_pkey_free(KEY));
	EXPECT_EQ(-1, pkey_set_rights_everywhere(KEY, 0));
	EXPECT_STREQ("", new_events());
}

/* D1: the execute-only key is reserved once. */
TEST_F(trace, execute_only_key)
{
	ASSERT_TRUE(pkey_map_code(PROT_EXEC) && pkey_map_code(PROT_EXEC));
	EXPECT_STREQ("pkey_alloc 1\n", new_events());
	EXPECT_TRUE(event_says("pkey_alloc", 1, "execute-only"));
}

/* F5: a process with one thread makes no broadcast. */
TEST_F(trace, reissue_alone)
{
	int i;

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	new_events();
	for (i = 0; i < 3; i++) {
		ASSERT_TRUE(pkey_reissue(KEY));
		EXPECT_STREQ("pkey_free 7\npkey_alloc 7\n", new_events());
	}
}

/* Threads that wait at @fds[0] until it is closed. */
#define NR_THREADS	3
#define ALL_NOTIFIED	"notified 3 tasks"

static int fds[2];
static pthread_t threads[NR_THREADS];
static pid_t tids[NR_THREADS];

static void *wait_for_end(void *arg)
{
	pid_t *tid = arg;
	char byte;

	STORE(*tid, pkey_gettid());
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
		while (!LOAD(tids[i]) ||
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

/* F5: a key that was never used needs no broadcast. */
TEST_F(trace, first_use_beside_threads)
{
	ASSERT_TRUE(start_threads());
	ASSERT_EQ(1, sys_pkey_alloc(0, 0));
	ASSERT_TRUE(end_threads());
	EXPECT_STREQ("pkey_alloc 1\n", new_events());
}

/* F4: each re-issue is broadcast; each thread drops its rights once, to all keys. */
TEST_F(trace, reissue_beside_threads)
{
	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	ASSERT_TRUE(start_threads());
	new_events();
	ASSERT_TRUE(pkey_reissue(KEY));
	ASSERT_TRUE(pkey_reissue(15));
	EXPECT_STREQ("pkey_free 7\npkey_reissue 7\npkey_alloc 7\n"
		     "pkey_free 15\npkey_reissue 15\npkey_alloc 15\n", new_events());
	EXPECT_TRUE(event_says("pkey_reissue", KEY, ALL_NOTIFIED));
	EXPECT_TRUE(event_says("pkey_reissue", 15, ALL_NOTIFIED));
	ASSERT_TRUE(end_threads());
	EXPECT_STREQ("pkey_revoke 7 15\npkey_revoke 7 15\npkey_revoke 7 15\n", new_events());
}

/* I2: a call alone, and one beside threads. */
TEST_F(trace, set_rights)
{
	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	new_events();
	ASSERT_EQ(0, pkey_set_rights_everywhere(KEY, PKEY_DISABLE_WRITE));
	new_events();
	EXPECT_EQ(1, count_events("pkey_set_rights", KEY));
	EXPECT_EQ(0, count_events("pkey_alloc", KEY));

	ASSERT_TRUE(start_threads());
	new_events();
	ASSERT_EQ(0, pkey_set_rights_everywhere(KEY, 0));
	ASSERT_EQ(0, pkey_set_rights_everywhere(15, PKEY_DISABLE_ACCESS));
	new_events();
	EXPECT_EQ(1, count_events("pkey_set_rights", KEY));
	EXPECT_EQ(1, count_events("pkey_set_rights", 15));
	EXPECT_EQ(0, count_events("pkey_set_rights", 3));
	EXPECT_TRUE(event_says("pkey_set_rights", KEY, ALL_NOTIFIED));
	ASSERT_TRUE(end_threads());
}

/* A thread that has the rights already drops none: it is notified, and has no event. */
TEST_F(trace, set_rights_that_threads_have)
{
	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	ASSERT_EQ(0, pkey_set_rights_everywhere(KEY, PKEY_DISABLE_WRITE));
	ASSERT_TRUE(start_threads());
	new_events();
	ASSERT_EQ(0, pkey_set_rights_everywhere(KEY, PKEY_DISABLE_WRITE));
	EXPECT_STREQ("pkey_set_rights 7\n", new_events());
	EXPECT_TRUE(event_says("pkey_set_rights", KEY, ALL_NOTIFIED));
	ASSERT_TRUE(end_threads());
	EXPECT_STREQ("", new_events());
}

/* I5: in scope process pkey_alloc() reaches all threads, and its event is there. */
TEST_F(trace, alloc_in_scope_process)
{
	ASSERT_EQ(0, pkey_set_scope(PR_PKEY_SCOPE_PROCESS));
	EXPECT_STREQ("", new_events());
	ASSERT_TRUE(start_threads());
	ASSERT_EQ(1, sys_pkey_alloc(0, 0));
	ASSERT_TRUE(end_threads());
	new_events();
	EXPECT_EQ(1, count_events("pkey_alloc", 1));
}

/* The event of one access that a key refuses names the key, the address and the rights. */
static bool violation_is_traced(enum pkey_access access, char *addr, int pkey, const char *rights)
{
	char text[32];

	new_events();
	if (!pkey_refused(access, addr, pkey))
		return false;

	new_events();
	snprintf(text, sizeof(text), "%lx", (unsigned long)addr);
	return count_events("pkey_violation", pkey) == 1 &&
	       event_says("pkey_violation", pkey, text) &&
	       event_says("pkey_violation", pkey, rights) &&
	       event_says("pkey_violation", pkey, "older");
}

/* K2: reads and writes that a key refuses. */
TEST_F(trace, violation)
{
	const size_t size = pkey_page_size();
	char *pages = pkey_map(2, RW);

	ASSERT_TRUE(!!pages);
	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	pages[size] = 1;
	ASSERT_EQ(0, sys_pkey_mprotect(pages, 2 * size, RW, KEY));
	pkru_set_rights(KEY, PKEY_DISABLE_ACCESS);
	EXPECT_TRUE(violation_is_traced(PKEY_READ, pages + 16, KEY, "rights --"));
	EXPECT_TRUE(violation_is_traced(PKEY_WRITE, pages + size + 32, KEY, "rights --"));
	pkru_set_rights(KEY, PKEY_DISABLE_WRITE);
	EXPECT_TRUE(violation_is_traced(PKEY_WRITE, pages, KEY, "rights r-"));
}

/* K2: a fault that no key causes is no violation; nor is an access that is allowed. */
TEST_F(trace, no_violation)
{
	const size_t size = pkey_page_size();
	char *pages = pkey_map(3, RW);

	ASSERT_TRUE(!!pages);
	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	ASSERT_EQ(0, sys_pkey_mprotect(pages, size, PROT_READ, KEY));
	ASSERT_EQ(0, munmap(pages + size, size));
	new_events();
	EXPECT_TRUE(pkey_can(PKEY_READ, pages));
	EXPECT_FALSE(pkey_can(PKEY_WRITE, pages));
	EXPECT_FALSE(pkey_can(PKEY_READ, pages + size));
	EXPECT_TRUE(pkey_can(PKEY_WRITE, pages + 2 * size));
	EXPECT_STREQ("", new_events());
}

/* K2: the age of the thread: one that is older than the key, and one that is not. */
TEST_F(trace, violation_of_older_and_younger_thread)
{
	char *page = pkey_map(1, RW), of_older[sizeof(events[0].text)];
	struct holder older = { .doing = READ, .pkru = PKRU_INIT, .secret = page };
	struct holder younger = { .doing = READ, .pkru = PKRU_INIT, .secret = page };

	ASSERT_TRUE(!!page);
	ASSERT_TRUE(holder_start(&older));
	ASSERT_EQ(1, sys_pkey_alloc(0, 0));
	ASSERT_EQ(0, sys_pkey_mprotect(page, pkey_page_size(), RW, 1));
	ASSERT_TRUE(holder_start(&younger));
	new_events();

	ASSERT_TRUE(holder_finish(&older));
	EXPECT_TRUE(older.fault.hit);
	new_events();
	ASSERT_EQ(1, count_events("pkey_violation", 1));
	snprintf(of_older, sizeof(of_older), "%s", events[nr_events - 1].text);

	ASSERT_TRUE(holder_finish(&younger));
	EXPECT_TRUE(younger.fault.hit);
	new_events();
	ASSERT_EQ(1, count_events("pkey_violation", 1));
	/* All but the age is the same. */
	EXPECT_STRNE(of_older, events[nr_events - 1].text);
}

/*
 * G1: the event is at the beginning of each attempt to take an mmap_lock. It is traced
 * during the calls only, because the C library maps memory too.
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

	/* Take keys that were never used, until there is none left. */
	write(fd, "1", 1);
	nr = pkey_take_all(NULL);
	write(fd, "0", 1);
	EXPECT_EQ(PKEY_MAX, nr);
	EXPECT_STREQ("", new_events_of(": mmap_lock_"));

	/* pkey_mprotect() takes it, and the event is there. */
	write(fd, "1", 1);
	sys_pkey_mprotect(page, size, RW, KEY);
	write(fd, "0", 1);
	EXPECT_STRNE("", new_events_of(": mmap_lock_"));

	/* Use keys that are mapped, clean, and refused. */
	write(fd, "1", 1);
	mapped = pkey_reissue(KEY);
	clean = pkey_reissue(15);
	sys_pkey_free(0);
	write(fd, "0", 1);
	EXPECT_TRUE(clean);
	EXPECT_EQ(pkey_read_setting(PKEY_SETTING) == 1, mapped);
	EXPECT_STREQ("", new_events_of(": mmap_lock_"));
	ASSERT_TRUE(end_threads());
	close(fd);
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], NEW_PROGRAM_ARG))
		return !new_program_is_older();

	return test_harness_run(argc, argv);
}
