/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Broadcast: pkey_alloc() takes rights away from all other tasks of the address
 * space (contract F4). Compare arch/x86/mm/pkeys.c, "Changing the
 * rights of all tasks".
 *
 * One task re-issues each key once. Meanwhile a task runs user code, makes system
 * calls, runs task work and creates a new task, which does the same; an io_uring
 * worker (or the submission thread) issues requests and never returns to user mode.
 *
 * Asserted: after pkey_alloc() has returned no user instruction runs with the old
 * rights, and no work item that starts after that acts with them. Work that
 * started before may finish with the old rights. No deadlock: each task may go at any
 * time, so that a caller that waits for ever is an invalid end state.
 *
 * Each of these, given to spin with -D, leaves one guard out:
 *
 * NO_FLAG		the walk sets no flag, the IPI alone is left
 * NO_IPI		nothing brings tasks out of user mode
 * NO_FLAG_FIRST	the IPI is sent before the flags are set
 * NO_EPOCH_FIRST	the flags are set before the epoch is written
 * NO_CHANGE_FIRST	the epoch is written before the entry of the key
 * NO_CLEAR_FIRST	a task clears its flag after it has read the epoch
 * NO_EPOCH_READ_FIRST	a task remembers an epoch that it reads after the entries
 * NO_LIST_FIRST	a new task reads the epoch before it is on the list
 * NO_NEW_TASK		a new task does not read the epoch
 * NO_WORK_HOOK		the change is task work, one item among others, last in first out
 * NO_REQUEST_HOOK	io_uring compares epochs once a drain, not before each request
 * NO_ACK		the caller gets no acknowledgement of an IPI
 */
#ifdef LARGE
#define KEYS	3
#else
#define KEYS	2
#endif
#define DEPTH	2

#define TASKS	3
#define USER	0
#define CHILD	1
#define WORKER	2

#define bit(k)	(1 << (k))

/* What pkey_alloc() writes: struct mm_pkeys. */
byte epoch;
byte change[KEYS];

/* Each task: thread_info, thread_struct, PKRU (one bit a key: it has old rights). */
bool flag[TASKS];
byte seen[TASKS];
byte rights[TASKS];
bool listed[TASKS];

/*
 * Where a task is. In the kernel with interrupts on, or switched out, an IPI does
 * nothing for it. CLOSED is from the last look at the flags, interrupts off, to
 * user mode: there the IPI waits.
 */
mtype = { KERNEL, CLOSED, IN_USER };
mtype mode[TASKS] = KERNEL;
bool ipi[TASKS];

/* Task work, a stack. SYNC is only there with NO_WORK_HOOK. */
mtype = { ACT, SYNC };
typedef stack {
	byte n;
	mtype item[DEPTH];
}
stack work[TASKS];

/* Not in the code: one bit a key, its pkey_alloc() has returned. */
byte done;

/* pkeys_sync(), for the current task. Each line is one access to shared memory. */
inline sync(t)
{
	e = epoch;
	if
	:: e != seen[t] ->
		do
		:: atomic {
			k < KEYS ->
			if
			:: change[k] > seen[t] -> rights[t] = rights[t] & ~bit(k)
			:: else
			fi;
			k++
		   }
		:: atomic { else -> k = 0; break }
		od;
#ifdef NO_EPOCH_READ_FIRST
		e = epoch;
#endif
		atomic {
			printf("task %d: syncs to epoch %d, old rights left: %d\n", t, e, rights[t]);
			seen[t] = e
		}
	:: else
	fi;
	e = 0
}

/* A work item acts for task t. It starts where @started is set. */
inline act(t)
{
	started = done;
#ifndef NO_WORK_HOOK
	sync(t);
#endif
	atomic {
		printf("task %d: work item acts, old rights: %d, revoked before its start: %d\n",
		       t, rights[t], started);
		assert((rights[t] & started) == 0);
		started = 0
	}
}

/* task_work_run(): takes the whole list, runs it last in first out. */
inline task_work_run(t)
{
	d_step {
		n = work[t].n;
		k = 0;
		do
		:: k < n -> mine.item[k] = work[t].item[k]; work[t].item[k] = 0; k++
		:: else -> break
		od;
		k = 0;
		work[t].n = 0
	}
	do
	:: n > 0 ->
		if
		:: atomic { mine.item[n - 1] == ACT -> n--; mine.item[n] = 0 };
			act(t)
#ifdef NO_WORK_HOOK
		:: atomic { mine.item[n - 1] == SYNC -> n--; mine.item[n] = 0 };
			sync(t)
#endif
		fi
	:: else -> break
	od
}

/* resume_user_mode_work() */
inline resume_user_mode_work(t)
{
#ifdef NO_CLEAR_FIRST
	sync(t);
	flag[t] = false;
#else
	flag[t] = false;
	/* smp_mb__after_atomic() */
#ifndef NO_WORK_HOOK
	sync(t);
#endif
#endif
	task_work_run(t)
}

/* copy_process(): the copies are made long before the new task is on the list. */
inline clone(t)
{
	seen[CHILD] = seen[t];
	rights[CHILD] = rights[t];
	printf("task %d: copies its rights for task %d: %d\n", t, CHILD, rights[t]);
#ifdef NO_NEW_TASK
	listed[CHILD] = true;
#else
#ifdef NO_LIST_FIRST
	sync(CHILD);
	listed[CHILD] = true;
#else
	listed[CHILD] = true;
	/* smp_mb() */
	sync(CHILD);
#endif
#endif
	printf("task %d: task %d is on the list and starts\n", t, CHILD);
	run user(CHILD)
}

proctype user(byte t)
{
	byte e, k, n, started;
	stack mine;

exit_to_user_mode:
	do
	:: mode[t] = CLOSED;
		if
		:: flag[t] ->
			atomic { mode[t] = KERNEL; ipi[t] = false };
			resume_user_mode_work(t)
		:: !flag[t] && work[t].n ->
			/* TIF_NOTIFY_SIGNAL: get_signal() */
			atomic { mode[t] = KERNEL; ipi[t] = false };
			task_work_run(t)
		:: !flag[t] && !work[t].n -> break
		fi
	od;
	mode[t] = IN_USER;
	do
	:: atomic {
		!ipi[t] ->
		/* A user instruction. */
		assert((rights[t] & done) == 0)
	   }
	:: atomic {
		ipi[t] ->
		printf("task %d: IPI\n", t);
		ipi[t] = false;
		mode[t] = KERNEL;
		goto exit_to_user_mode
	   }
	:: atomic {
		/* A system call, or it is switched out. */
		!ipi[t] -> mode[t] = KERNEL
	   }
		if
		:: true
		:: t == USER && !listed[CHILD] -> clone(t)
		fi;
		goto exit_to_user_mode
	:: atomic { !ipi[t] -> mode[t] = KERNEL; goto gone }
	od;
gone:	/* The task has exited, or sleeps for ever. */
	skip
}

/* io_wq_worker(), io_sq_thread(): no flag and no IPI reaches it in time. */
proctype worker(byte t)
{
	byte e, k, started;

	do
	:: true ->
#ifdef NO_REQUEST_HOOK
		sync(t);
		do
		:: atomic {
			printf("task %d: request, old rights: %d\n", t, rights[t]);
			assert((rights[t] & done) == 0)
		   }
		:: break
		od
#else
		act(t)
#endif
	:: break
	od
}

inline push(t, what)
{
	work[t].item[work[t].n] = what;
	work[t].n++
}

/* Others queue task work, while pkey_alloc() runs too. */
proctype others()
{
end:	do
	:: atomic { work[USER].n < DEPTH - 1 -> push(USER, ACT) }
	:: atomic { listed[CHILD] && work[CHILD].n < DEPTH - 1 -> push(CHILD, ACT) }
	od
}

inline walk()
{
	t = 0;
	do
	:: atomic {
		t < TASKS ->
		if
		:: listed[t] ->
#ifdef NO_WORK_HOOK
			/* Is it queued already, and not run yet? */
			if
			:: t == WORKER
			:: t != WORKER && work[t].n && work[t].item[0] == SYNC
			:: t != WORKER && work[t].n == 2 && work[t].item[1] == SYNC
			:: else -> push(t, SYNC)
			fi;
#endif
			printf("pkey_alloc(): flags task %d\n", t);
			flag[t] = true
		:: else
		fi;
		t++
	   }
	:: else -> break
	od
}

/* on_each_cpu_cond_mask(): to the processors that run a task, and waits. */
inline interrupt_all()
{
	t = 0;
	do
	:: t < TASKS ->
		if
		:: atomic { mode[t] != KERNEL -> ipi[t] = true };
#ifdef NO_ACK
			atomic { false -> t++ }
#else
			atomic { !ipi[t] -> t++ }
#endif
		:: atomic { mode[t] == KERNEL -> t++ }
		fi
	:: else -> break
	od
}

inline stamp()
{
#ifdef NO_CHANGE_FIRST
	epoch++;
	change[key] = epoch;
#else
	change[key] = epoch + 1;
	/* smp_store_release() */
	epoch++;
#endif
	printf("pkey_alloc(): key %d changed at epoch %d\n", key, epoch)
}

/* pkey_alloc() of a clean key, under mm_pkeys.lock. */
proctype reissue()
{
	byte key, t;

	do
	:: key < KEYS ->
#ifdef NO_EPOCH_FIRST
		walk();
		stamp();
#else
		stamp();
		/* smp_mb() */
#ifdef NO_FLAG_FIRST
		interrupt_all();
#endif
#ifndef NO_FLAG
		walk();
#endif
#endif
		/* smp_mb() */
#ifndef NO_FLAG_FIRST
#ifndef NO_IPI
		interrupt_all();
#endif
#endif
		atomic {
			printf("pkey_alloc(): returns key %d\n", key);
			done = done | bit(key);
			key++;
			t = 0
		}
	:: else -> break
	od
}

init {
	atomic {
		/*
		 * All keys were used before: the tasks have rights to them. The worker
		 * and the others have nothing to do with each other, so one at a time.
		 */
		if
		:: rights[USER] = bit(KEYS) - 1;
			listed[USER] = true;
			run user(USER);
			run others()
		:: rights[WORKER] = bit(KEYS) - 1;
			listed[WORKER] = true;
			run worker(WORKER)
		fi;
		run reissue()
	}
}
