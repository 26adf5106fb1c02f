// SPDX-License-Identifier: GPL-2.0
/*
 * pkey-run runs a program whose protection keys are for all its threads, or shows the
 * protection keys of a process.
 *
 * A thread that is older than a protection key has no access to memory that carries
 * the key: pkey_alloc() sets the rights of its caller alone. A program that relies on
 * all its threads having these rights can be run by pkey-run and need not be changed.
 * pkey-run sets scope process by prctl(PR_PKEY, PR_PKEY_SET_SCOPE, ...) and executes the
 * program, which keeps the scope. An execve() that gains privileges resets it.
 *
 * With -p, pkey-run prints tables from the files pkeys, smaps and task/TID/pkeys in
 * /proc/PID. It needs the permission to read the memory of the process, as for ptrace.
 *
 * The exit status is that of the program, or as for env(1): 125 if pkey-run fails,
 * 126 if the program cannot be executed, 127 if it is not found.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pkey.h"

#define STATUS_FAILED		125
#define STATUS_CANNOT_EXECUTE	126
#define STATUS_NOT_FOUND	127

/* No architecture has more keys. */
#define NR_KEYS			32

static const char usage[] =
	"Usage: pkey-run [-f] PROGRAM [ARGUMENTS...]\n"
	"       pkey-run -p PID\n"
	"\n"
	"Run PROGRAM so that the rights it passes to pkey_alloc() apply to all its\n"
	"threads, including threads that are older than the key.\n"
	"\n"
	"  -f      run PROGRAM also where the kernel cannot do this\n"
	"  -p PID  show the protection keys of a process, and the rights of its threads\n"
	"  -h      show this text\n";

static void __attribute__((format(printf, 1, 2))) complain(const char *format, ...)
{
	va_list args;

	fputs("pkey-run: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

static int run(char **argv, bool force)
{
	int err;

	if (pkey_scope_set(PR_PKEY_SCOPE_PROCESS)) {
		complain("%s%s", pkey_scope_get() >= 0 ?
			 "there are no protection keys here" :
			 "this kernel cannot set rights to a protection key in all threads",
			 force ? "" : "; -f runs the program all the same");
		if (!force)
			return STATUS_FAILED;
	}

	execvp(argv[0], argv);
	err = errno;
	complain("%s: %s", argv[0], strerror(err));
	return err == ENOENT ? STATUS_NOT_FOUND : STATUS_CANNOT_EXECUTE;
}

struct key {
	/* The state is empty if the process does not have this key. */
	char state[16];
	unsigned long mappings;
	unsigned long long bytes;
};

struct process {
	pid_t pid;
	/* /proc/PID. It remains that of this process if the PID is used again. */
	int dir;
	/* Do the mappings have keys? */
	bool has_keys;
	/* Does the kernel show the state of a key, and the rights of a thread? */
	bool has_states;
	bool has_rights;
	struct key keys[NR_KEYS];
};

/* The rights of a thread to one key, from /proc/PID/task/TID/pkeys. */
struct rights {
	char rights[4];
	bool older;
};

/* Open a file below /proc/PID. Return NULL with errno on failure. */
static FILE *open_at(int dir, const char *path)
{
	int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	FILE *file;

	if (fd < 0)
		return NULL;

	file = fdopen(fd, "r");
	if (!file)
		close(fd);
	return file;
}

/*
 * Read the name of a task and replace the characters that cannot be printed. The name is
 * empty if the task has ended.
 */
static void read_name(int dir, const char *path, char *name, size_t size)
{
	FILE *comm = open_at(dir, path);
	char *c;

	name[0] = '\0';
	if (!comm)
		return;

	if (fgets(name, size, comm)) {
		name[strcspn(name, "\n")] = '\0';
		for (c = name; *c; c++)
			if (!isprint((unsigned char)*c))
				*c = '?';
	}
	fclose(comm);
}

/* Print in one line why a file of the process cannot be read. */
static int cannot_read(const struct process *process, const char *what, int err)
{
	if (err == ESRCH || err == ENOENT)
		complain("process %d or its main thread has ended, or it has no memory of its own",
			 process->pid);
	else if (err == EACCES || err == EPERM)
		complain("no permission to look at the memory of process %d", process->pid);
	else
		complain("cannot read %s of process %d: %s", what, process->pid,
			 strerror(err));
	return STATUS_FAILED;
}

/*
 * Count the mappings and bytes of each key. Return false with errno if the file cannot be
 * read to its end.
 */
static bool read_smaps(struct process *process)
{
	unsigned long long start, end, size = 0;
	FILE *smaps = open_at(process->dir, "smaps");
	bool any = false, ok;
	char *line = NULL;
	size_t room = 0;
	char perms[5];
	int key;

	if (!smaps)
		return false;

	errno = 0;
	while (getline(&line, &room, smaps) >= 0) {
		if (sscanf(line, "%llx-%llx %4s", &start, &end, perms) == 3) {
			any = true;
			size = end - start;
		} else if (sscanf(line, "ProtectionKey: %d", &key) == 1 && key >= 0 &&
			   key < NR_KEYS) {
			process->has_keys = true;
			process->keys[key].mappings++;
			process->keys[key].bytes += size;
		}
	}
	ok = any && !ferror(smaps);
	if (!ok && !errno)
		errno = ESRCH;
	free(line);
	fclose(smaps);
	return ok;
}

/*
 * Split a line of a file pkeys at its spaces. Return the first word, the number of a key,
 * or -1 for the heading and for a line of another form. @last gets the last @nr words. If
 * @state is not NULL, it gets the words between, separated by spaces.
 */
static int split(char *line, char *state, size_t size, char **last, int nr)
{
	char *words[16], *end, *saved = NULL;
	int count = 0, i;
	size_t used = 0;
	long key;

	for (char *word = strtok_r(line, " \t\n", &saved); word && count < 16;
	     word = strtok_r(NULL, " \t\n", &saved))
		words[count++] = word;
	if (count < nr + 2)
		return -1;

	key = strtol(words[0], &end, 10);
	if (end == words[0] || *end || key < 0 || key >= NR_KEYS)
		return -1;

	for (i = 1; state && i < count - nr && used < size; i++)
		used += snprintf(state + used, size - used, "%s%s", i > 1 ? " " : "", words[i]);
	for (i = 0; i < nr; i++)
		last[i] = words[count - nr + i];
	return key;
}

/* Read the state of each key. Return false with errno if the file cannot be read. */
static bool read_states(struct process *process)
{
	FILE *pkeys = open_at(process->dir, "pkeys");
	char line[256], state[16], *mappings;
	bool ok;
	int key;

	if (!pkeys)
		return false;

	errno = 0;
	while (fgets(line, sizeof(line), pkeys)) {
		key = split(line, state, sizeof(state), &mappings, 1);
		if (key >= 0)
			memcpy(process->keys[key].state, state, sizeof(state));
	}
	ok = !ferror(pkeys);
	fclose(pkeys);
	return ok;
}

/* Read the rights of one thread. Return false with errno if the thread has ended. */
static bool read_rights(const struct process *process, int tid, struct rights *rights)
{
	char path[64], line[256], *words[3];
	FILE *pkeys;
	bool ok;
	int key;

	snprintf(path, sizeof(path), "task/%d/pkeys", tid);
	pkeys = open_at(process->dir, path);
	if (!pkeys)
		return false;

	errno = 0;
	while (fgets(line, sizeof(line), pkeys)) {
		/* The last columns are mappings, rights, older. */
		key = split(line, NULL, 0, words, 3);
		if (key < 0)
			continue;
		snprintf(rights[key].rights, sizeof(rights[key].rights), "%s", words[1]);
		rights[key].older = !strcmp(words[2], "yes");
	}
	ok = !ferror(pkeys);
	fclose(pkeys);
	return ok;
}

static bool has_key(const struct process *process, int key)
{
	return process->keys[key].state[0] || process->keys[key].mappings;
}

static void show_keys(const struct process *process)
{
	const struct key *key;
	int i;

	printf("%3s  %-12s  %8s  %14s\n", "key", "state", "mappings", "bytes");
	for (i = 0; i < NR_KEYS; i++) {
		key = &process->keys[i];
		if (has_key(process, i))
			printf("%3d  %-12s  %8lu  %14llu\n", i,
			       key->state[0] ? key->state : "?", key->mappings, key->bytes);
	}
}

static int compare_tids(const struct dirent **a, const struct dirent **b)
{
	return atoi((*a)->d_name) - atoi((*b)->d_name);
}

static int is_tid(const struct dirent *entry)
{
	return isdigit((unsigned char)entry->d_name[0]);
}

/* Print a line for a thread. Return false if the thread has ended. */
static bool show_thread(const struct process *process, int tid, bool *older)
{
	struct rights rights[NR_KEYS];
	char path[64], name[32];
	int key;

	memset(rights, 0, sizeof(rights));
	if (!read_rights(process, tid, rights))
		return false;

	snprintf(path, sizeof(path), "task/%d/comm", tid);
	read_name(process->dir, path, name, sizeof(name));
	printf("%7d  %-15s", tid, name);
	for (key = 0; key < NR_KEYS; key++) {
		if (!has_key(process, key))
			continue;
		printf("  %2s%c", rights[key].rights[0] ? rights[key].rights : "?",
		       rights[key].older ? '*' : ' ');
		*older |= rights[key].older;
	}
	putchar('\n');
	return true;
}

/* Print a line for each thread. Return the number of threads. */
static int show_threads(const struct process *process)
{
	int nr, key, i, shown = 0;
	struct dirent **tids;
	bool older = false;

	nr = scandirat(process->dir, "task", &tids, is_tid, compare_tids);
	if (nr < 0)
		return 0;

	printf("\n%7s  %-15s", "thread", "name");
	for (key = 0; key < NR_KEYS; key++)
		if (has_key(process, key))
			printf("  %2d ", key);
	putchar('\n');
	for (i = 0; i < nr; i++) {
		shown += show_thread(process, atoi(tids[i]->d_name), &older);
		free(tids[i]);
	}
	free(tids);

	printf("\nrw reads and writes, r- reads, -- neither\n");
	if (older)
		printf("*  the thread is older than the issue of the key\n");
	return shown;
}

static int show_process(const char *pid)
{
	struct process process = { 0 };
	char path[64], name[32], *end;
	long number;

	errno = 0;
	number = strtol(pid, &end, 10);
	if (errno || end == pid || *end || number <= 0 || number != (pid_t)number) {
		complain("%s is not a process number", pid);
		return STATUS_FAILED;
	}

	process.pid = number;
	snprintf(path, sizeof(path), "/proc/%d", process.pid);
	process.dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (process.dir < 0) {
		complain("there is no process %d", process.pid);
		return STATUS_FAILED;
	}

	read_name(process.dir, "comm", name, sizeof(name));
	/* Read the mappings before the states: a key that a mapping carries then has one. */
	if (!read_smaps(&process))
		return cannot_read(&process, "smaps", errno);
	if (!process.has_keys) {
		complain("there are no protection keys here");
		return STATUS_FAILED;
	}
	process.has_states = read_states(&process);
	if (!process.has_states && errno != ENOENT)
		return cannot_read(&process, "pkeys", errno);
	snprintf(path, sizeof(path), "task/%d/pkeys", process.pid);
	process.has_rights = !faccessat(process.dir, path, F_OK, 0);

	printf("process %d (%s)\n\n", process.pid, name);
	show_keys(&process);
	if (process.has_rights && !show_threads(&process))
		return cannot_read(&process, "task", ESRCH);
	if (!process.has_rights && !faccessat(process.dir, "task", F_OK, 0))
		printf("\nThis kernel does not show %s.\n", process.has_states ?
		       "the rights of threads" :
		       "the state of keys, nor the rights of threads");
	if (fflush(stdout) || ferror(stdout)) {
		complain("cannot write: %s", strerror(errno));
		return STATUS_FAILED;
	}
	return 0;
}

int main(int argc, char **argv)
{
	const char *pid = NULL;
	bool force = false;
	int option;

	/* The options end where PROGRAM begins. */
	while ((option = getopt(argc, argv, "+fhp:")) != -1) {
		switch (option) {
		case 'f':
			force = true;
			break;
		case 'p':
			pid = optarg;
			break;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			fputs(usage, stderr);
			return STATUS_FAILED;
		}
	}

	if (pid && !force && optind == argc)
		return show_process(pid);
	if (!pid && optind < argc)
		return run(argv + optind, force);

	fputs(usage, stderr);
	return STATUS_FAILED;
}
