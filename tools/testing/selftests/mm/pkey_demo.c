// SPDX-License-Identifier: GPL-2.0
/*
 * Four situations in which programs with protection keys fail on earlier kernels,
 * tried out on the kernel that this runs on: a key is handed out again while a mapping
 * carries it, and while a thread has rights to it; key 0 is freed; a thread is older
 * than the key of the memory that it uses. Forbidden accesses raise SIGSEGV.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
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
#include <unistd.h>

#ifndef __NR_pkey_mprotect
#define __NR_pkey_mprotect	329
#define __NR_pkey_alloc		330
#define __NR_pkey_free		331
#endif

#ifndef PR_PKEY
#define PR_PKEY			0x504b4559
#define PR_PKEY_SET_SCOPE	2
#define PR_PKEY_SCOPE_PROCESS	1
#endif

#define PAGE			4096
#ifndef PKEY_DISABLE_ACCESS
#define PKEY_DISABLE_ACCESS	1
#endif

static const char * const verdict[] = { "unsafe", "safe" };

static int key_alloc(void)
{
	return syscall(__NR_pkey_alloc, 0UL, 0UL);
}

static void key_free(int key)
{
	syscall(__NR_pkey_free, key);
}

/* A page with a secret, that carries the key. */
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

	printf("1 A page is guarded by key %d. The key is freed.\n", old);
	set_rights(old, PKEY_DISABLE_ACCESS);
	key_free(old);
	new = key_alloc();
	read = can_read(page);
	printf("  The next owner gets key %d, %s the page: %s\n", new,
	       read ? "and reads" : "which is not for", verdict[!read]);
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
	printf("2 A thread has rights to key %d. The key is freed.\n", key);
	pthread_barrier_init(&turn, NULL, 2);
	pthread_create(&thread, NULL, thread_with_rights, &key);
	pthread_barrier_wait(&turn);
	key_free(key);
	new = key_alloc();
	new_page = page_with_key(new);
	pthread_barrier_wait(&turn);
	pthread_join(thread, NULL);
	printf("  Key %d guards a new secret. The thread %s it: %s\n", new,
	       thread_read ? "reads" : "cannot read", verdict[!thread_read]);
}

static void key_0(void)
{
	bool freed = !syscall(__NR_pkey_free, 0);
	int key = key_alloc();

	printf("3 Key 0 is on all ordinary memory. Freeing it %s.\n",
	       freed ? "succeeds" : "fails");
	printf("  The next owner gets key %d: %s\n", key, verdict[key != 0]);
}

#define EMBEDDER	"embedder"

/* The memory that the pool thread is to read. */
static const char *job;

static void *pool_thread(void *arg)
{
	pthread_barrier_wait(&turn);
	pthread_barrier_wait(&turn);
	return (void *)(intptr_t)(__atomic_load_n(job, __ATOMIC_RELAXED) == 's');
}

/*
 * A program that starts a pool of threads and then a runtime which takes a key for
 * its memory, as Wasm engines and JavaScript engines do. It knows nothing of scopes.
 */
static int embedder(void)
{
	pthread_t thread;
	void *worked;

	pthread_barrier_init(&turn, NULL, 2);
	pthread_create(&thread, NULL, pool_thread, NULL);
	pthread_barrier_wait(&turn);
	job = page_with_key(key_alloc());
	pthread_barrier_wait(&turn);
	pthread_join(thread, &worked);
	return worked ? 0 : 1;
}

/* What pkey-run does: set the scope, run the program. */
static void older_thread(void)
{
	bool process = !prctl(PR_PKEY, PR_PKEY_SET_SCOPE, PR_PKEY_SCOPE_PROCESS, 0UL, 0UL);
	int status;
	pid_t pid;

	printf("4 A pool thread is older than the key of a runtime's memory.\n");
	fflush(stdout);
	pid = fork();
	if (!pid) {
		execl("/proc/self/exe", EMBEDDER, NULL);
		_exit(1);
	}
	if (waitpid(pid, &status, 0) != pid)
		exit(1);

	printf("  %s, the thread uses it: ", process ? "Key rights for the process" :
						       "Key rights per thread");
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV)
		printf("SIGSEGV\n");
	else
		printf("%s\n", status ? "fails" : "works");
}

/* Each story in a process of its own, with all keys new. */
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

int main(int argc, char **argv)
{
	int key;

	if (!strcmp(argv[0], EMBEDDER))
		return embedder();

	key = key_alloc();
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
