/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Setters: two tasks call PR_PKEY_SET_RIGHTS for the same key at once, with different
 * rights (contract I2, I3). A third task changes its rights to another key meanwhile, by
 * RDPKRU and WRPKRU in an rseq critical section whose commit is the WRPKRU (F7).
 * Compare arch_pkey_set_rights() and pkru_apply() in arch/x86/mm/pkeys.c.
 *
 * Asserted: when no call is under way, each user instruction runs with the rights that
 * the last call gave, also in the tasks that called. No deadlock: each task may go at
 * any time, so that a caller that waits for ever is an invalid end state.
 *
 * NO_LOCK		two calls run at the same time
 * NO_OWN_EPOCH		a caller remembers the last epoch that it finds when it has released the lock
 * NO_ABORT		a task whose rights were changed is not aborted out of the section
 * NO_IPI		nothing brings tasks out of user mode
 * NO_UNLOCK		a call does not release the lock
 */
#define TASKS	3
#define RSEQ	2
#ifdef LARGE
#define CALLS	2
#else
#define CALLS	1
#endif

/* struct mm_pkeys: one key, whose change is one word: epoch and rights. */
typedef word {
	byte epoch;
	byte rights;
}
byte epoch;
word change;
bool lock;

/* Each task: thread_info, thread_struct, PKRU: the key, and another one. */
bool flag[TASKS];
bool ipi[TASKS];
byte seen[TASKS];
byte rights[TASKS];
bool other;
mtype = { KERNEL, CLOSED, IN_USER };
mtype mode[TASKS] = KERNEL;

/* Not in the code: calls that have begun and not returned; what the last one gave. */
byte under_way;
byte last;

inline sync(t)
{
	e = epoch;
	if
	:: e != seen[t] ->
		atomic {
			if
			:: change.epoch > seen[t] ->
				event = event || rights[t] != change.rights;
				rights[t] = change.rights
			:: else
			fi
		};
		atomic {
			printf("task %d: syncs to epoch %d, rights %d\n", t, e, rights[t]);
			seen[t] = e
		}
	:: else
	fi;
	e = 0
}

/* Flag all other tasks, interrupt those in user mode, and wait. */
inline notify(t)
{
	atomic {
		i = 0;
		do
		:: i < TASKS ->
			if
			:: i != t -> flag[i] = true
			:: else
			fi;
			i++
		:: else -> i = 0; break
		od
	};
#ifndef NO_IPI
	do
	:: i < TASKS ->
		if
		:: atomic { mode[i] != KERNEL -> ipi[i] = true };
			atomic { !ipi[i] -> i++ }
		:: atomic { mode[i] == KERNEL -> i++ }
		fi
	:: else -> i = 0; break
	od
#endif
}

inline set_own_rights(t, value, own_epoch)
{
	atomic {
		rights[t] = value;
		printf("task %d: sets its own rights: %d\n", t, value)
	};
	seen[t] = own_epoch
}

/* value: what this caller gives, 1 or 2. */
inline set_rights(t, value)
{
	under_way++;
#ifndef NO_LOCK
	atomic { !lock -> lock = true };
#endif
	sync(t);
	mine = epoch + 1;
#ifndef NO_OWN_EPOCH
	set_own_rights(t, value, mine);
#endif
	atomic { change.epoch = mine; change.rights = value };
	atomic {
		epoch = mine;
		last = value;
		printf("task %d: epoch %d, rights %d\n", t, mine, value)
	};
	notify(t);
#ifdef NO_OWN_EPOCH
	lock = false;
	set_own_rights(t, value, epoch);
#endif
	atomic {
#ifndef NO_UNLOCK
		lock = false;
#endif
		printf("task %d: PR_PKEY_SET_RIGHTS returns\n", t);
		mine = 0;
		under_way--
	}
}

#define RIGHT	(under_way || rights[t] == last)

proctype task(byte t)
{
	byte e, i, mine, calls, read;
	bool section, event;

exit_to_user_mode:
	do
	:: mode[t] = CLOSED;
		if
		:: flag[t] ->
			atomic { mode[t] = KERNEL; ipi[t] = false };
			flag[t] = false;
			sync(t)
		:: !flag[t] && event ->
			/* rseq_exit_to_user_mode_restart() */
			atomic {
				mode[t] = KERNEL;
				ipi[t] = false;
				event = false;
#ifndef NO_ABORT
				section = false;
				read = 0
#endif
			}
		:: !flag[t] && !event -> break
		fi
	od;
	mode[t] = IN_USER;
	do
	:: atomic { !ipi[t] -> assert(RIGHT) }
	:: atomic {
		t == RSEQ && !ipi[t] && !section ->
		assert(RIGHT);
		section = true;
		read = rights[t];
		printf("task %d: RDPKRU: %d\n", t, read)
	   }
	:: atomic {
		t == RSEQ && !ipi[t] && section ->
		assert(RIGHT);
		section = false;
		rights[t] = read;
		other = !other;
		printf("task %d: WRPKRU: %d\n", t, read);
		read = 0
	   }
	:: atomic {
		ipi[t] -> ipi[t] = false; mode[t] = KERNEL; goto exit_to_user_mode
	   }
	:: atomic {
		t != RSEQ && !ipi[t] && calls < CALLS -> calls++; mode[t] = KERNEL
	   };
		set_rights(t, t + 1);
		goto exit_to_user_mode
	:: atomic { !ipi[t] -> mode[t] = KERNEL; goto exit_to_user_mode }
	:: atomic { !ipi[t] -> mode[t] = KERNEL; goto gone }
	od;
gone:	/* The task has exited, or sleeps for ever. */
	skip
}

init {
	atomic { run task(0); run task(1); run task(RSEQ) }
}
