// SPDX-License-Identifier: GPL-2.0
/*
 * This is the example of Documentation/core-api/protection-keys.rst. It has an account
 * whose balance all code may read and one function may change:
 *
 *	cc -o pkey_example pkey_example.c && ./pkey_example
 *
 * It prints TAP. The exit status is 0, or 1 if something failed, or 4 where there are
 * no protection keys.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static int pkey;
static long *balance;

static void fail(const char *what)
{
	printf("not ok 1 %s (errno: %s)\n", what, strerror(errno));
	exit(1);
}

static void get_key(void)
{
	pkey = pkey_alloc(0, PKEY_DISABLE_WRITE);
	if (pkey == -1) {
		printf("1..0 # SKIP no protection key: %s\n", strerror(errno));
		exit(4);
	}
}

static void open_account(void)
{
	balance = mmap(NULL, sysconf(_SC_PAGESIZE), PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (balance == MAP_FAILED)
		fail("mmap");

	if (pkey_mprotect(balance, sysconf(_SC_PAGESIZE),
			  PROT_READ | PROT_WRITE, pkey))
		fail("pkey_mprotect");
}

static void deposit(long amount)
{
	if (pkey_set(pkey, 0))
		fail("pkey_set");

	*balance += amount;

	if (pkey_set(pkey, PKEY_DISABLE_WRITE))
		fail("pkey_set");
}

static void on_segv(int sig, siginfo_t *info, void *context)
{
	if (info->si_code == SEGV_PKUERR && (int)info->si_pkey == pkey)
		_exit(0);
	_exit(1);
}

static void try_stray_write(void)
{
	struct sigaction action = {
		.sa_sigaction = on_segv,
		.sa_flags = SA_SIGINFO,
	};
	int status;
	pid_t child;

	child = fork();
	if (child == -1)
		fail("fork");

	if (child == 0) {
		if (sigaction(SIGSEGV, &action, NULL))
			_exit(1);
		*balance = 1000000;
		_exit(1);
	}

	if (waitpid(child, &status, 0) != child)
		fail("waitpid");
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		fail("the stray write was not caught");
}

static void try_system_call(void)
{
	long million = 1000000;
	int fds[2];

	if (pipe(fds) || write(fds[1], &million, sizeof(million)) != sizeof(million))
		fail("pipe");

	if (read(fds[0], balance, sizeof(*balance)) != -1 || errno != EFAULT)
		fail("read() was not refused");

	close(fds[0]);
	close(fds[1]);
}

static void close_account(void)
{
	if (munmap(balance, sysconf(_SC_PAGESIZE)))
		fail("munmap");
	if (pkey_free(pkey))
		fail("pkey_free");
}

int main(void)
{
	printf("TAP version 13\n");
	get_key();
	printf("1..1\n");
	fflush(stdout);

	open_account();
	deposit(40);
	deposit(2);
	try_stray_write();
	try_system_call();
	if (*balance != 42)
		fail("the balance is wrong");
	close_account();

	printf("ok 1 only deposit() changes the balance\n");
	return 0;
}
