// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of io_uring requests and protection keys on x86: a request that io_uring
 * starts for a task after a key was re-issued (F4), or after PR_PKEY_SET_RIGHTS (I2),
 * does not have the rights to it that the task had before.
 *
 * The holder is a thread that has prepared a request for memory with a key. The main
 * thread changes the rights to the key: it re-issues the key and attaches it to memory
 * at the same address, or it calls PR_PKEY_SET_RIGHTS. Then it does what makes io_uring
 * start the request: by task work, by local work, in the submission thread or in a
 * worker.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../kselftest_harness.h"
#include "pkey_prctl.h"
#include "pkey_util.h"

#define KEY		7

#define ENTRIES		8

/* The bytes in the memory, and those that the request would put there. */
#define MINE		"mine"
#define EVIL		"EVIL"
#define LEN		4

/* What waitid() writes there: SIGCHLD. */
#define CHILD_SIGNAL	"\x11\0\0"

/* Since Linux 6.7; the libc's headers need not have it. */
#define OP_WAITID	50

/* The user_data of the request under test. */
#define THE_REQUEST	1

struct ring {
	int fd;
	struct io_uring_sqe *sqes;
	unsigned int *sq_head;
	unsigned int *sq_tail;
	unsigned int *sq_flags;
	unsigned int *sq_array;
	unsigned int *cq_head;
	unsigned int *cq_tail;
	unsigned int cq_mask;
	struct io_uring_cqe *cqes;
};

static int uring_enter(struct ring *ring, unsigned int submit, unsigned int wait,
		       unsigned int flags)
{
	return syscall(__NR_io_uring_enter, ring->fd, submit, wait, flags, NULL, 0);
}

/* Open a ring. Return 0 or errno. */
static int ring_open(struct ring *ring, unsigned int flags)
{
	/* A submission thread that finds nothing to do sleeps after a millisecond. */
	struct io_uring_params params = { .flags = flags, .sq_thread_idle = 1 };
	const int prot = PROT_READ | PROT_WRITE, map = MAP_SHARED | MAP_POPULATE;
	char *sq, *cq;

	ring->fd = syscall(__NR_io_uring_setup, ENTRIES, &params);
	if (ring->fd < 0)
		return errno;

	sq = mmap(NULL, params.sq_off.array + params.sq_entries * sizeof(unsigned int), prot,
		  map, ring->fd, IORING_OFF_SQ_RING);
	cq = mmap(NULL, params.cq_off.cqes + params.cq_entries * sizeof(*ring->cqes), prot,
		  map, ring->fd, IORING_OFF_CQ_RING);
	ring->sqes = mmap(NULL, params.sq_entries * sizeof(*ring->sqes), prot, map, ring->fd,
			  IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || (void *)ring->sqes == MAP_FAILED)
		return errno;

	ring->sq_head = (unsigned int *)(sq + params.sq_off.head);
	ring->sq_tail = (unsigned int *)(sq + params.sq_off.tail);
	ring->sq_flags = (unsigned int *)(sq + params.sq_off.flags);
	ring->sq_array = (unsigned int *)(sq + params.sq_off.array);
	ring->cq_head = (unsigned int *)(cq + params.cq_off.head);
	ring->cq_tail = (unsigned int *)(cq + params.cq_off.tail);
	ring->cq_mask = *(unsigned int *)(cq + params.cq_off.ring_mask);
	ring->cqes = (struct io_uring_cqe *)(cq + params.cq_off.cqes);
	return 0;
}

/* Put a request into the queue, which does not yet submit it. */
static bool ring_queue(struct ring *ring, const struct io_uring_sqe *sqe)
{
	unsigned int tail = *ring->sq_tail, index = tail % ENTRIES;

	ring->sqes[index] = *sqe;
	ring->sq_array[index] = index;
	STORE(*ring->sq_tail, tail + 1);
	return true;
}

/* Wait for the result of the request, and drop those of others. */
static int ring_wait(struct ring *ring, unsigned int user_data)
{
	struct io_uring_cqe cqe;

	do {
		while (LOAD(*ring->cq_tail) == *ring->cq_head)
			sched_yield();
		cqe = ring->cqes[*ring->cq_head & ring->cq_mask];
		STORE(*ring->cq_head, *ring->cq_head + 1);
	} while (cqe.user_data != user_data);
	return cqe.res;
}

/* The state of the task of this process whose name begins like that, or 0. */
static char state_of(const char *name)
{
	char path[300], comm[32], state = 0;
	struct dirent *entry;
	DIR *dir;

	dir = opendir("/proc/self/task");
	if (!dir)
		return 0;

	while (!state && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		if (pkey_read_file(path, comm, sizeof(comm)) &&
		    !strncmp(comm, name, strlen(name)))
			state = pkey_task_state(atoi(entry->d_name));
	}
	closedir(dir);
	return state;
}

enum holder_place {
	/* The holder sleeps in a system call that has nothing to do with io_uring. */
	ELSEWHERE,
	IN_USER_MODE,
	IN_ENTER,
};

struct uring;

FIXTURE(uring)
{
	struct uring *uring;
};

FIXTURE_VARIANT(uring)
{
	/* Flags of the ring. */
	unsigned int flags;
	enum holder_place place;
	/* The holder calls it before the rights change. */
	bool (*arm)(struct uring *uring);
	/* The main thread calls it after the change. */
	bool (*start)(struct uring *uring);
	/* The holder calls it when it is awake again. */
	bool (*late)(struct uring *uring);
	/* The request reads from the memory. */
	bool reads;
	/* If the request is done: its result, and the bytes in the memory afterwards. */
	int result;
	const char *bytes;
};

struct uring {
	const FIXTURE_VARIANT(uring) * variant;
	struct ring ring;
	pthread_t thread;
	pid_t tid;
	char *memory;
	/* The holder sets it before it arms. */
	uint32_t pkru_before;
	/* The request reads from one of them, or writes to the pipe. */
	int data[2];
	int file;
	/* A pipe whose other end a worker waits for. */
	char fifo[64];
	int fifo_fd;
	/* The holder sleeps in a read() of it, if it is elsewhere. */
	int sleep[2];
	bool ready;
	bool go;
	/* How many requests have a result to wait for. */
	int submitted;
	/* Results of the holder. */
	int setup_errno;
	bool armed;
	bool late;
	uint32_t pkru;
};

static bool queue_request(struct uring *uring, int opcode, int fd, unsigned int flags)
{
	const struct io_uring_sqe sqe = {
		.opcode = opcode,
		.flags = flags,
		.fd = fd,
		.addr = (uintptr_t)uring->memory,
		.len = LEN,
		/* Only the file has a position. */
		.off = fd == uring->file ? 0 : -1,
		.user_data = THE_REQUEST,
	};

	return ring_queue(&uring->ring, &sqe);
}

static bool submit(struct uring *uring, unsigned int nr)
{
	uring->submitted = nr;
	return uring_enter(&uring->ring, nr, 0, 0) == (int)nr;
}

/* The pipe is empty: io_uring waits until it is not. */
static bool arm_read(struct uring *uring)
{
	return queue_request(uring, IORING_OP_READ, uring->data[0], 0) && submit(uring, 1);
}

/* The pipe is full. */
static bool arm_write(struct uring *uring)
{
	char bytes[4096] = "";
	const int size = fcntl(uring->data[1], F_SETPIPE_SZ, sizeof(bytes));

	return size == (int)sizeof(bytes) && write(uring->data[1], bytes, size) == size &&
	       queue_request(uring, IORING_OP_WRITE, uring->data[1], 0) && submit(uring, 1);
}

/* The request follows another one, which waits for the pipe. */
static bool arm_link(struct uring *uring)
{
	const struct io_uring_sqe poll = {
		.opcode = IORING_OP_POLL_ADD,
		.flags = IOSQE_IO_LINK,
		.fd = uring->data[0],
		.poll32_events = POLLIN,
	};

	return ring_queue(&uring->ring, &poll) &&
	       queue_request(uring, IORING_OP_READ, uring->data[0], 0) && submit(uring, 2);
}

static void wait_for_submission_thread(struct ring *ring)
{
	while (!(LOAD(*ring->sq_flags) & IORING_SQ_NEED_WAKEUP) || state_of("iou-sqp") != 'S')
		sched_yield();
}

/* The request is in the queue, and the thread that would submit it sleeps. */
static bool arm_sq_queue(struct uring *uring)
{
	wait_for_submission_thread(&uring->ring);
	return queue_request(uring, IORING_OP_READ, uring->data[0], 0);
}

/* The thread submits what is in the queue, and sleeps again. */
static bool wait_for_submission(struct ring *ring)
{
	if (uring_enter(ring, 0, 0, IORING_ENTER_SQ_WAKEUP) < 0)
		return false;

	while (LOAD(*ring->sq_head) != LOAD(*ring->sq_tail))
		sched_yield();
	wait_for_submission_thread(ring);
	return true;
}

static bool arm_sq_read(struct uring *uring)
{
	return arm_sq_queue(uring) && wait_for_submission(&uring->ring);
}

/* The request is in the queue. It reads the memory before it is issued. */
static bool arm_sq_epoll(struct uring *uring)
{
	const struct io_uring_sqe sqe = {
		.opcode = IORING_OP_EPOLL_CTL,
		.fd = epoll_create1(0),
		.addr = (uintptr_t)uring->memory,
		.len = EPOLL_CTL_ADD,
		.off = uring->data[0],
		.user_data = THE_REQUEST,
	};

	wait_for_submission_thread(&uring->ring);
	return ring_queue(&uring->ring, &sqe);
}

/* A child waits for the pipe. io_uring writes to the memory when the child has ended. */
static bool queue_waitid(struct uring *uring)
{
	struct io_uring_sqe sqe = {
		.opcode = OP_WAITID,
		.len = P_PID,
		.addr2 = (uintptr_t)uring->memory,
		.file_index = WEXITED,
		.user_data = THE_REQUEST,
	};
	char byte;

	sqe.fd = fork();
	if (!sqe.fd) {
		close(uring->data[1]);
		read(uring->data[0], &byte, 1);
		_exit(0);
	}
	return sqe.fd > 0 && ring_queue(&uring->ring, &sqe);
}

/* A kernel that does not have the request gives its result at once. */
static bool has_waitid(struct uring *uring)
{
	if (LOAD(*uring->ring.cq_tail) != *uring->ring.cq_head)
		uring->setup_errno = EINVAL;
	return !uring->setup_errno;
}

static bool arm_waitid(struct uring *uring)
{
	return queue_waitid(uring) && submit(uring, 1) && has_waitid(uring);
}

static bool arm_sq_waitid(struct uring *uring)
{
	wait_for_submission_thread(&uring->ring);
	return queue_waitid(uring) && wait_for_submission(&uring->ring) && has_waitid(uring);
}

/* A worker has done something for the holder, and waits for more. */
static bool arm_idle_worker(struct uring *uring)
{
	static char byte;
	const struct io_uring_sqe sqe = {
		.opcode = IORING_OP_READ,
		.flags = IOSQE_ASYNC,
		.fd = uring->file,
		.addr = (uintptr_t)&byte,
		.len = 1,
	};

	if (!ring_queue(&uring->ring, &sqe) || !submit(uring, 1) ||
	    ring_wait(&uring->ring, 0) != 1)
		return false;

	while (state_of("iou-wrk") != 'S')
		sched_yield();
	return true;
}

/* The only worker waits for the opening of a FIFO, and the request waits for the worker. */
static bool arm_busy_worker(struct uring *uring)
{
	unsigned int max_workers[2] = { 1, 1 };
	const struct io_uring_sqe sqe = {
		.opcode = IORING_OP_OPENAT,
		.flags = IOSQE_ASYNC,
		.fd = AT_FDCWD,
		.addr = (uintptr_t)uring->fifo,
		.open_flags = O_RDONLY,
	};

	if (mkfifo(uring->fifo, 0600) ||
	    syscall(__NR_io_uring_register, uring->ring.fd, IORING_REGISTER_IOWQ_MAX_WORKERS,
		    max_workers, 2) ||
	    !ring_queue(&uring->ring, &sqe) || !submit(uring, 1))
		return false;

	while (state_of("iou-wrk") != 'S')
		sched_yield();
	return queue_request(uring, IORING_OP_READ, uring->file, IOSQE_ASYNC) &&
	       submit(uring, 1);
}

static bool start_by_write(struct uring *uring)
{
	return write(uring->data[1], EVIL, LEN) == LEN;
}

static bool start_by_read(struct uring *uring)
{
	char bytes[4096];

	return read(uring->data[0], bytes, sizeof(bytes)) == (int)sizeof(bytes);
}

static bool start_by_wakeup(struct uring *uring)
{
	return start_by_write(uring) &&
	       uring_enter(&uring->ring, 0, 0, IORING_ENTER_SQ_WAKEUP) >= 0;
}

static bool start_by_open(struct uring *uring)
{
	uring->fifo_fd = open(uring->fifo, O_WRONLY);
	unlink(uring->fifo);
	return uring->fifo_fd >= 0;
}

static bool late_async_read(struct uring *uring)
{
	return queue_request(uring, IORING_OP_READ, uring->file, IOSQE_ASYNC) &&
	       submit(uring, 1);
}

#define URING_GIVES(_result, _bytes, _name, _flags, _place, _arm, _start, ...)	\
	FIXTURE_VARIANT_ADD(uring, _name) {					\
		_flags, _place, arm_##_arm, _start, .result = _result,		\
		.bytes = _bytes, __VA_ARGS__ }
#define URING(...)	URING_GIVES(LEN, EVIL, __VA_ARGS__)
#define URING_LEAKS(...)	URING_GIVES(LEN, MINE, __VA_ARGS__, .reads = true)

#define DEFER	(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)

/* Task work starts the request. */
URING(task_work_asleep, 0, ELSEWHERE, read, start_by_write);
URING(task_work_running, 0, IN_USER_MODE, read, start_by_write);
URING(task_work_in_enter, 0, IN_ENTER, read, start_by_write);
URING(task_work_of_link, 0, ELSEWHERE, link, start_by_write);
URING_LEAKS(task_work_leaks, 0, ELSEWHERE, write, start_by_read);
URING_GIVES(0, CHILD_SIGNAL, task_work_of_child, 0, IN_ENTER, waitid, start_by_write);
URING(coop_asleep, IORING_SETUP_COOP_TASKRUN, ELSEWHERE, read, start_by_write);
URING(coop_in_enter, IORING_SETUP_COOP_TASKRUN, IN_ENTER, read, start_by_write);
/* Local work starts it, in io_uring_enter(). */
URING(local_work, DEFER, IN_ENTER, read, start_by_write);
URING(local_work_of_link, DEFER, IN_ENTER, link, start_by_write);
URING_LEAKS(local_work_leaks, DEFER, IN_ENTER, write, start_by_read);
URING_GIVES(0, CHILD_SIGNAL, local_work_of_child, DEFER, IN_ENTER, waitid, start_by_write);
/* The submission thread starts it, from the queue or by its own task work. */
URING(submission_queue, IORING_SETUP_SQPOLL, ELSEWHERE, sq_queue, start_by_wakeup);
URING_GIVES(0, MINE, submission_queue_prepares, IORING_SETUP_SQPOLL, ELSEWHERE, sq_epoll,
	    start_by_wakeup, .reads = true);
URING(submission_thread, IORING_SETUP_SQPOLL, ELSEWHERE, sq_read, start_by_write);
URING_GIVES(0, CHILD_SIGNAL, submission_thread_of_child, IORING_SETUP_SQPOLL, ELSEWHERE,
	    sq_waitid, start_by_write);
/* A worker starts it, which had nothing to do, or which had something else to do. */
URING(idle_worker, 0, ELSEWHERE, idle_worker, NULL, .late = late_async_read);
URING(busy_worker, 0, ELSEWHERE, busy_worker, start_by_open);

/* All keys are taken, and there is memory with one. */
static struct uring *uring_create(struct __test_metadata *_metadata)
{
	struct uring *uring = calloc(1, sizeof(*uring));

	ASSERT_TRUE(!!uring);
	uring->fifo_fd = -1;
	snprintf(uring->fifo, sizeof(uring->fifo), "/tmp/pkey_uring_test.%d", getpid());

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	uring->memory = pkey_map_isolated(1, RW, KEY);
	ASSERT_TRUE(!!uring->memory);
	memcpy(uring->memory, MINE, LEN);
	ASSERT_EQ(0, pipe(uring->data));
	ASSERT_EQ(0, pipe(uring->sleep));
	uring->file = memfd_create("pkey_uring_test", 0);
	ASSERT_LE(0, uring->file);
	ASSERT_EQ(LEN, write(uring->file, EVIL, LEN));
	return uring;
}

FIXTURE_SETUP(uring)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);

	self->uring = uring_create(_metadata);
	self->uring->variant = variant;
}

FIXTURE_TEARDOWN(uring)
{
}

static void *holder_thread(void *arg)
{
	struct uring *uring = arg;
	char byte;

	wrpkru(uring->pkru_before);
	STORE(uring->tid, pkey_gettid());
	uring->setup_errno = ring_open(&uring->ring, uring->variant->flags);
	if (!uring->setup_errno)
		uring->armed = uring->variant->arm(uring);
	STORE(uring->ready, true);
	if (!uring->armed)
		return NULL;

	switch (uring->variant->place) {
	case ELSEWHERE:
		read(uring->sleep[0], &byte, 1);
		break;
	case IN_USER_MODE:
		while (!LOAD(uring->go))
			;
		break;
	case IN_ENTER:
		while (uring_enter(&uring->ring, 0, uring->submitted,
				   IORING_ENTER_GETEVENTS) < 0 && errno == EINTR)
			;
		break;
	}
	uring->pkru = rdpkru();
	if (uring->variant->late)
		uring->late = uring->variant->late(uring);
	return NULL;
}

/* Wait until the request is prepared. Return false to end the test. */
static bool wait_until_armed(struct __test_metadata *_metadata, struct uring *uring)
{
	while (!LOAD(uring->ready))
		sched_yield();
	if (uring->setup_errno == ENOSYS || uring->setup_errno == EPERM)
		SKIP(return false, "needs io_uring");
	if (uring->setup_errno == EINVAL)
		SKIP(return false, "needs an io_uring with these flags and requests");

	ASSERT_EQ(0, uring->setup_errno);
	ASSERT_TRUE(uring->armed);
	return true;
}

/* Start the holder, which then sleeps or spins. Return false to end the test. */
static bool start_holder(struct __test_metadata *_metadata, struct uring *uring, uint32_t pkru)
{
	uring->pkru_before = pkru;
	ASSERT_EQ(0, pthread_create(&uring->thread, NULL, holder_thread, uring));
	if (!wait_until_armed(_metadata, uring))
		return false;
	while (uring->variant->place != IN_USER_MODE && pkey_task_state(uring->tid) != 'S')
		sched_yield();
	return true;
}

/* The memory is unmapped, and the key is that of new memory at the same address. */
static bool change_owner(struct uring *uring)
{
	const size_t size = pkey_page_size();

	if (munmap(uring->memory, size) || !pkey_reissue(KEY) ||
	    !pkey_mmap(uring->memory, size, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1) ||
	    sys_pkey_mprotect(uring->memory, size, RW, KEY))
		return false;

	memcpy(uring->memory, MINE, LEN);
	return true;
}

/* Start the request, and return its result when the holder has ended. */
static int finish_request(struct uring *uring)
{
	const FIXTURE_VARIANT(uring) *variant = uring->variant;
	int res;

	if (variant->start && !variant->start(uring))
		return -ECHILD;
	if (variant->late)
		write(uring->sleep[1], "", 1);
	if (variant->place == IN_ENTER)
		pthread_join(uring->thread, NULL);
	res = ring_wait(&uring->ring, THE_REQUEST);
	if (variant->place != IN_ENTER) {
		STORE(uring->go, true);
		write(uring->sleep[1], "", 1);
		pthread_join(uring->thread, NULL);
	}
	return res;
}

/* Has the request written to the pipe the bytes that were in the memory? */
static bool pipe_has_mine(struct uring *uring)
{
	char bytes[LEN] = "";

	fcntl(uring->data[0], F_SETFL, O_NONBLOCK);
	return read(uring->data[0], bytes, LEN) > 0 && !memcmp(bytes, MINE, LEN);
}

/*
 * Start the request. It is done, or else it fails and has no effect. The caller has
 * all rights to the key then.
 */
static void expect_request(struct __test_metadata *_metadata, struct uring *uring, bool done)
{
	const FIXTURE_VARIANT(uring) *variant = uring->variant;

	EXPECT_EQ(done ? variant->result : -EFAULT, finish_request(uring));
	EXPECT_EQ(!!variant->late, uring->late);
	pkru_set_rights(KEY, 0);
	EXPECT_EQ(0, memcmp(uring->memory, done ? variant->bytes : MINE, LEN));
	if (variant->reads && variant->result == LEN)
		EXPECT_EQ(done, pipe_has_mine(uring));
}

/* F4: a request that is started after the re-issue has no rights to the key. */
TEST_F(uring, request_after_reissue)
{
	struct uring *uring = self->uring;

	if (!start_holder(_metadata, uring, 0))
		return;

	ASSERT_TRUE(change_owner(uring));
	expect_request(_metadata, uring, false);
	EXPECT_REVOKED(0, KEY, uring->pkru);
}

/* B2: without a re-issue the same request has the rights, also when the key is freed. */
TEST_F(uring, request_after_free)
{
	struct uring *uring = self->uring;

	if (!start_holder(_metadata, uring, 0))
		return;

	ASSERT_EQ(0, sys_pkey_free(KEY));
	expect_request(_metadata, uring, true);
	EXPECT_EQ(0, uring->pkru);
}

/* The holder has the rights @before to the key, and the call sets @after. */
static void request_after_call(struct __test_metadata *_metadata, struct uring *uring,
			       unsigned int before, unsigned int after, bool done)
{
	if (pkey_get_scope() < 0)
		SKIP(return, "needs prctl(PR_PKEY)");
	if (!start_holder(_metadata, uring, pkru_with_rights(0, KEY, before)))
		return;

	ASSERT_EQ(0, pkey_set_rights_everywhere(KEY, after));
	expect_request(_metadata, uring, done);
	EXPECT_EQ(pkru_with_rights(0, KEY, after), uring->pkru);
}

/* I2: a request that is started after the call does not have the rights from before. */
TEST_F(uring, request_after_set_rights)
{
	request_after_call(_metadata, self->uring, 0, PKEY_DISABLE_ACCESS, false);
}

/* I2: after a call that allows reading alone, only a request that reads is done. */
TEST_F(uring, request_after_set_rights_to_read)
{
	request_after_call(_metadata, self->uring, 0, PKEY_DISABLE_WRITE, variant->reads);
}

/* I2: a request that is started after the call has the rights that the call gave. */
TEST_F(uring, request_after_set_rights_that_give)
{
	request_after_call(_metadata, self->uring, PKEY_DISABLE_ACCESS, 0, true);
}

/* Its submission thread has a request, and sleeps, until this process exits. */
static int exiting_process(void *arg)
{
	struct uring *uring = arg;
	char byte;

	wrpkru(0);
	uring->setup_errno = ring_open(&uring->ring, IORING_SETUP_SQPOLL);
	if (!uring->setup_errno)
		uring->armed = arm_sq_waitid(uring);
	STORE(uring->ready, true);
	read(uring->sleep[0], &byte, 1);
	syscall(__NR_exit_group, 0);
	return 0;
}

/*
 * A process that shares the memory exits. Its submission thread cancels the request, and
 * so stores zeroes in the memory. @reissue: after the key was re-issued.
 */
static void request_of_exiting_process(struct __test_metadata *_metadata, bool reissue)
{
	struct uring *uring;
	bool armed;
	pid_t pid;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	uring = uring_create(_metadata);
	pid = pkey_clone(exiting_process, uring, CLONE_VM | SIGCHLD);
	ASSERT_LT(0, pid);
	armed = wait_until_armed(_metadata, uring);
	if (armed && reissue)
		ASSERT_TRUE(change_owner(uring));
	/* The process ends also if the test is skipped. */
	ASSERT_EQ(1, write(uring->sleep[1], "", 1));
	EXPECT_CHILD_PASSED(pid);
	if (!armed)
		return;

	pkru_set_rights(KEY, 0);
	EXPECT_EQ(0, memcmp(uring->memory, reissue ? MINE : "\0\0\0", LEN));
}

/* F4: a request that is cancelled after the re-issue has no rights to the key. */
TEST(request_cancelled_after_reissue)
{
	request_of_exiting_process(_metadata, true);
}

/* B2: without a re-issue the same request has the rights. */
TEST(request_cancelled)
{
	request_of_exiting_process(_metadata, false);
}

TEST_HARNESS_MAIN
