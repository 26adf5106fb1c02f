/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Walk: pkey_alloc() looks for the other tasks that use the mm, and stops early where
 * its own thread group has as many as the mm has users. Meanwhile tasks exit, execute
 * other programs, and make threads and processes; somebody who is no task holds the mm.
 * Compare mm_pkeys_notify() and mm_pkeys_flag() in arch/x86/mm/pkeys.c; what happens to
 * a task with the flag is in models/broadcast.pml.
 *
 * Asserted: when pkey_alloc() returns, each task that uses the mm has the flag or has
 * seen the epoch, and so has each new task when it starts. No deadlock.
 *
 * NO_USERS_FIRST	mm_users is read after the caller's group has been counted
 * NO_MM_FIRST		a task that exits gives its reference back before its mm is NULL
 * NO_SIGLOCK		threads join the caller's group while it is counted
 * NO_WALK_TO_END	the walk stops when it has found as many tasks as there are users
 * NO_EXITED_SKIPPED	the walk leaves a group at a task that has exited
 * NO_DE_THREAD		execve() does not wait until the other threads have exited
 * NO_SIGUNLOCK		pkey_alloc() does not release siglock
 */
#ifdef LARGE
#define EVENTS	3
#else
#define EVENTS	2
#endif

/*
 * In the order of the task list: the caller and a thread of its group, which makes
 * another; a task that makes a thread; a task that makes a process.
 */
#define TASKS	7
#define group(t) ((t) < 3 -> 0 : ((t) < 5 -> 1 : (t) - 3))
#define CALLER	0

/* mm_struct: users; struct mm_pkeys: epoch, 1 after the change. */
byte users;
bit epoch;

/* The caller's sighand_struct. */
bool siglock;

/* Each task: task_struct, thread_info, thread_struct. */
mtype = { MM, OTHER_MM };
bool listed[TASKS];
mtype mm[TASKS];
bool flag[TASKS];
bit seen[TASKS];

/*
 * Not in the code: pkey_alloc() has returned; how often a task was made, has exited or
 * executed another program, which bounds the search.
 */
bool done;
byte events;

#define SYNCED(t)	(flag[t] || seen[t] == 1)

/* copy_process(): the reference first, then the list, then the epoch. */
inline clone(t)
{
	users++;
	atomic {
		group(t) != group(CALLER) || !siglock ->
		printf("task %d: task %d is on the list\n", t, t + 1);
		listed[t + 1] = true;
		mm[t + 1] = MM
	};
	/* smp_mb() */
	seen[t + 1] = epoch;
	run user(t + 1)
}

/* exit_mm(), exec_mmap(): the task has another mm or none, then mmput(). */
inline leave_mm(t, new)
{
#ifdef NO_MM_FIRST
	users--;
	mm[t] = new
#else
	mm[t] = new;
	users--
#endif
}

/* Has the other thread of this group exited, or was it never made? */
#ifdef NO_DE_THREAD
#define last_thread(t) true
#else
#define last_thread(t) (group(t) != 1 || !mm[7 - (t)])
#endif

#define MAY(what)	(events < EVENTS && (what))

proctype user(byte t)
{
	assert(!done || SYNCED(t));
	do
	:: atomic { MAY((t == 1 || t == 3 || t == 5) && !listed[t + 1]) -> events++ };
		clone(t)
	:: atomic { MAY(true) -> events++; printf("task %d: exits\n", t) };
		leave_mm(t, 0);
		break
	:: atomic {
		MAY(group(t) != group(CALLER) && last_thread(t)) ->
		events++;
		printf("task %d: execve()\n", t)
	   };
		leave_mm(t, OTHER_MM);
		break
	:: done -> assert(SYNCED(t)); break
	od
}

/* /proc, process_madvise(), userfaultfd: users of the mm that are no tasks. */
proctype holder()
{
	users++;
	users--
}

/* mm_pkeys_flag(), one task of a group. */
inline look(t)
{
	atomic {
		if
		:: !listed[t] || left == group(t)
		:: listed[t] && left != group(t) && mm[t] == MM ->
			found++;
			flag[t] = (t != CALLER);
			printf("pkey_alloc(): finds task %d\n", t)
		:: listed[t] && left != group(t) && mm[t] == OTHER_MM ->
			left = group(t)
		:: listed[t] && left != group(t) && !mm[t] ->
#ifdef NO_EXITED_SKIPPED
			left = group(t)
#else
			skip
#endif
		fi;
		t++
	}
}

/* mm_pkeys_notify() */
proctype notify()
{
	byte t, found, counted, left = TASKS;

	epoch = 1;
	/* smp_mb() */
#ifndef NO_SIGLOCK
	siglock = true;
#endif
#ifndef NO_USERS_FIRST
	counted = users;
#endif
	do
	:: group(t) == group(CALLER) -> look(t)
	:: else -> break
	od;
#ifdef NO_USERS_FIRST
	counted = users;
#endif
#ifndef NO_SIGUNLOCK
	siglock = false;
#endif
	if
	:: found < counted ->
		do
#ifdef NO_WALK_TO_END
		:: t < TASKS && found < counted -> look(t)
#else
		:: t < TASKS -> look(t)
#endif
		:: else -> break
		od
	:: else
	fi;
	atomic {
		printf("pkey_alloc(): returns, found %d, users were %d\n", found, counted);
		done = true
	}
}

init {
	atomic {
		listed[CALLER] = true;
		mm[CALLER] = MM;
		users = 4;
		listed[1] = true; mm[1] = MM; run user(1);
		listed[3] = true; mm[3] = MM; run user(3);
		listed[5] = true; mm[5] = MM; run user(5);
		run holder();
		run notify()
	}
}
