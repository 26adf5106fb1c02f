// SPDX-License-Identifier: GPL-2.0
/*
 * This program stands for programs that embed a JavaScript engine. It starts a thread
 * pool and then a runtime, which allocates a key for its memory. The pool thread is
 * older than this key. The program itself does not use keys, and no code of it sets
 * the rights of its threads.
 *
 * In scope thread, the default, pkey_alloc(2) gives the pool thread no rights to the
 * key, and the program dies with SIGSEGV when the pool thread calls the runtime. In
 * scope process, which pkey-run sets by PR_PKEY_SET_SCOPE, the same program works.
 */
#define _GNU_SOURCE
#include <asm/unistd.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The runtime */

static char *heap;
static int pkey;

/* Where there are keys, the memory of the runtime has a key of its own. */
static int runtime_start(void)
{
	const int prot = PROT_READ | PROT_WRITE;
	const size_t size = getpagesize();

	heap = mmap(NULL, size, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (heap == MAP_FAILED)
		return -1;

	pkey = syscall(__NR_pkey_alloc, 0, 0);
	if (pkey > 0 && syscall(__NR_pkey_mprotect, heap, size, prot, pkey))
		return -1;

	memcpy(heap, "hello", sizeof("hello"));
	return 0;
}

static size_t runtime_call(void)
{
	return strlen(heap);
}

/* The program */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int pool_started, job_queued;
static size_t result;

static void *pool_thread(void *arg)
{
	pthread_mutex_lock(&lock);
	pool_started = 1;
	pthread_cond_broadcast(&changed);
	while (!job_queued)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);

	result = runtime_call();
	return NULL;
}

int main(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, pool_thread, NULL))
		return 1;

	pthread_mutex_lock(&lock);
	while (!pool_started)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);

	if (runtime_start())
		return 1;

	pthread_mutex_lock(&lock);
	job_queued = 1;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);

	if (pthread_join(thread, NULL) || result != strlen("hello"))
		return 1;

	printf("key %d: the pool thread has called the runtime\n", pkey);
	return 0;
}
