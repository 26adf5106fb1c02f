// SPDX-License-Identifier: GPL-2.0
/*
 * This program tries four situations in which programs with protection keys fail on
 * earlier kernels: a key is handed out again while a mapping carries it, and while a
 * thread has rights to it; key 0 is freed; a thread is older than the key of the memory
 * that it uses. It prints what happens on the kernel that it runs on. The lines are
 * short enough for the output of two kernels side by side.
 *
 * For the last situation pkey-run and pkey_embedder have to be in the PATH.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef __NR_pkey_mprotect
#define __NR_pkey_mprotect	329
#define __NR_pkey_alloc		330
#define __NR_pkey_free		331
#endif

#ifndef PKEY_DISABLE_ACCESS
#define PKEY_DISABLE_ACCESS	1
#endif

#define PAGE			4096

/* The exit status for a program that is not found, as of pkey-run and env(1). */
#define NOT_FOUND		127

static const char * const verdict[] = { "unsafe", "safe" };

static int key_alloc(void)
{
	return syscall(__NR_pkey_alloc, 0UL, 0UL);
}

static void key_free(int key)
{
	syscall(__NR_pkey_free, key);
}

/* Map a page that has a secret in it and carries the key. */
static char *page_with_key(int key)
{
	char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		exit(1);
	page[0] = 's';
	if (syscall(__NR_pkey_mprotect, page, PAGE, PROT_READ | PROT_WRITE, key))
		exit(1);
	return page;
}

static void set_rights(int key, uint32_t rights)
{
	uint32_t pkru, edx;

	asm volatile(".byte 0x0f, 0x01, 0xee" : "=a" (pkru), "=d" (edx) : "c" (0));
	pkru = (pkru & ~(3u << 2 * key)) | rights << 2 * key;
	asm volatile(".byte 0x0f, 0x01, 0xef" : : "a" (pkru), "c" (0), "d" (0) : "memory");
}

static __thread sigjmp_buf refused;

static void on_segv(int sig)
{
	siglongjmp(refused, 1);
}

static bool can_read(const char *page)
{
	bool read = false;

	signal(SIGSEGV, on_segv);
	if (!sigsetjmp(refused, 1))
		read = __atomic_load_n(page, __ATOMIC_RELAXED) == 's';
	signal(SIGSEGV, SIG_DFL);
	return read;
}

static void mapped_key(void)
{
	int old = key_alloc(), new;
	char *page = page_with_key(old);
	bool read;

	printf("1 Key %d protects a page. The key is freed.\n", old);
	set_rights(old, PKEY_DISABLE_ACCESS);
	key_free(old);
	new = key_alloc();
	read = can_read(page);
	printf("  The next owner gets key %d.\n", new);
	printf("  The key %s the old page: %s\n", read ? "opens" : "does not open",
	       verdict[!read]);
}

/* The thread and the main thread take turns. */
static pthread_barrier_t turn;
static char *new_page;
static bool thread_read;

static void *thread_with_rights(void *arg)
{
	set_rights(*(int *)arg, 0);
	pthread_barrier_wait(&turn);
	pthread_barrier_wait(&turn);
	thread_read = can_read(new_page);
	return NULL;
}

static void stale_rights(void)
{
	pthread_t thread;
	int key, new;

	key = key_alloc();
	printf("2 A thread has opened key %d. The key is freed.\n", key);
	pthread_barrier_init(&turn, NULL, 2);
	pthread_create(&thread, NULL, thread_with_rights, &key);
	pthread_barrier_wait(&turn);
	key_free(key);
	new = key_alloc();
	new_page = page_with_key(new);
	pthread_barrier_wait(&turn);
	pthread_join(thread, NULL);
	printf("  Key %d now protects a new secret.\n", new);
	printf("  The thread %s the secret: %s\n", thread_read ? "reads" : "cannot read",
	       verdict[!thread_read]);
}

static void key_0(void)
{
	bool freed = !syscall(__NR_pkey_free, 0);
	int key = key_alloc();

	printf("3 Key 0 is on all ordinary memory.\n");
	printf("  Freeing key 0 %s.\n", freed ? "succeeds" : "fails");
	printf("  The next owner gets key %d: %s\n", key, verdict[key != 0]);
}

/*
 * pkey_embedder is a program that was built once and is not changed. What it and
 * pkey-run print is not part of the story.
 */
static void run_embedder(void)
{
	int null = open("/dev/null", O_WRONLY);

	if (null < 0 || dup2(null, STDOUT_FILENO) < 0 || dup2(null, STDERR_FILENO) < 0)
		_exit(1);
	execlp("pkey-run", "pkey-run", "-f", "pkey_embedder", NULL);
	_exit(NOT_FOUND);
}

static void older_thread(void)
{
	int status;
	pid_t pid;

	printf("4 A program starts a thread, then takes a key.\n");
	printf("  pkey-run starts the program, unchanged.\n");
	fflush(stdout);
	pid = fork();
	if (!pid)
		run_embedder();
	if (waitpid(pid, &status, 0) != pid)
		exit(1);

	if (!status) {
		printf("  pkey_alloc() gives rights to all threads:\n");
		printf("  the thread works\n");
	} else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV) {
		printf("  pkey_alloc() gives rights to its caller:\n");
		printf("  the thread gets SIGSEGV\n");
	} else {
		printf("  %s\n", status == NOT_FOUND << 8 ?
		       "pkey-run and pkey_embedder must be in the PATH." :
		       "The program fails.");
		exit(1);
	}
}

/* Each story runs in a process of its own, which has never used a key. */
static void tell(void (*story)(void))
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		story();
		fflush(stdout);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		exit(1);
}

int main(void)
{
	int key = key_alloc();

	if (key < 0) {
		printf("This machine has no protection keys.\n");
		return 4;
	}
	key_free(key);

	tell(mapped_key);
	tell(stale_rights);
	tell(key_0);
	tell(older_thread);
	return 0;
}
