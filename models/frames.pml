/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Frames: a task gets signals and returns from their handlers, while other tasks
 * change its rights: re-issues take them away, PR_PKEY_SET_RIGHTS gives or takes them
 * (contract F6, I4). The handler changes rights in the frame. Once, the task goes on as
 * its own child after fork(), which may find a later frame of its parent in memory that
 * they share; or as what a checkpoint of it is restored to: the same memory, with frames
 * in it, in an address space whose epochs start again; or it executes another program.
 * Compare pkeys_save_sigframe() and __pkeys_restore_sigframe().
 *
 * Asserted, when no change is under way: each user instruction, in the handler and
 * after sigreturn, runs with the rights that the last change gave; after sigreturn with
 * those that the handler has written to the frame, for the keys that it has changed. No
 * deadlock: the task may go at any time, so that a call or a fork() that waits for ever
 * is an invalid end state.
 *
 * NO_STAMP		sigreturn restores the frame as it is
 * NO_STAMP_OF_TASK	the stamp is the last epoch of all, not that of the task
 * NO_KEEP		sigreturn overrides what the handler has changed in the frame
 * NO_ID		the frame does not say which history its epoch belongs to
 * NO_FUTURE		sigreturn accepts a stamp that is later than the last epoch
 * NO_FORK_LOCK		fork() copies changes and epoch while a change is under way
 * NO_NEW_TASK		fork(): nobody applies to the child what came after its PKRU was copied
 * NO_FLUSH_THREAD	execve(): the task remembers the epoch of its old address space
 * NO_ACK		the caller gets no acknowledgement of an IPI
 * NO_UNLOCK		a change does not release the lock
 */
#define KEYS	2
#ifdef LARGE
#define LEVELS	2
#define CHANGES	2
#else
#define LEVELS	1
#define CHANGES	2
#endif

/* The stamp of an epoch that the search does not reach. */
#define FUTURE	255

#define bit(k)	(1 << (k))
#define bits(word, k, value)	(((word) & ~bit(k)) | ((value) << (k)))

/*
 * Two address spaces, the second after fork() or restore. A change is one word.
 * Rights are one bit a key, 1 is access.
 */
typedef word {
	byte epoch;
	bit access;
}
typedef mm_pkeys {
	byte epoch;
	word change[KEYS];
	bool lock;
	bool id;
	byte under_way;
}
mm_pkeys mm[2];

/* The task. */
bit now;
bool flag;
bool ipi;
byte seen;
byte pkru = 3;
mtype = { KERNEL, CLOSED, IN_USER };
mtype mode = KERNEL;

typedef sigframe {
	byte pkru;
	byte saved;
	byte stamp;
	bool id;
}
sigframe frame[LEVELS];
byte level;

/*
 * Not in the code: @wanted has the rights that each level must have: those of the last
 * change, or those that the handler wrote to the frame. @either has the keys to which a
 * change may or may not apply: the task was entering or leaving the handler.
 */
#define WRITTEN(level)	(frame[level].pkru ^ frame[level].saved)
byte wanted[LEVELS + 1];
byte either[LEVELS + 1];
byte changes;

inline apply(since, keep)
{
	do
	:: atomic {
		k < KEYS ->
		if
		:: mm[now].change[k].epoch > since && !((keep) & bit(k)) ->
			pkru = bits(pkru, k, mm[now].change[k].access)
		:: else
		fi;
		k++
	   }
	:: atomic { else -> k = 0; break }
	od
}

inline sync()
{
	e = mm[now].epoch;
	if
	:: e != seen ->
		apply(seen, 0);
		atomic {
			printf("task: syncs to epoch %d, PKRU %d\n", e, pkru);
			seen = e
		}
	:: else
	fi;
	e = 0
}

/* Signal delivery. The handler starts without rights to any of the keys. */
inline deliver()
{
	atomic {
		frame[level].pkru = pkru;
		frame[level].saved = pkru;
#ifdef NO_STAMP_OF_TASK
		frame[level].stamp = mm[now].epoch;
#else
		frame[level].stamp = seen;
#endif
		frame[level].id = mm[now].id;
		printf("task: signal frame, PKRU %d, stamp %d\n", pkru, frame[level].stamp);
		level++;
		pkru = 0;
		wanted[level] = 0;
		/* Changes that the task has not applied may apply in the handler. */
		either[level] = mm[now].under_way;
		do
		:: k < KEYS ->
			either[level] = either[level] | (mm[now].change[k].epoch > seen) << k;
			k++
		:: else -> k = 0; break
		od
	}
}

inline sigreturn()
{
	atomic {
		level--;
		pkru = frame[level].pkru;
		wanted[level + 1] = 0;
		either[level + 1] = 0;
		printf("task: sigreturn, PKRU %d\n", pkru);
		/* Changes that the task has not applied may apply after it. */
		since = WRITTEN(level);
		do
		:: k < KEYS ->
			if
			:: mm[now].change[k].epoch > seen || mm[now].under_way & bit(k) ->
				either[level] = either[level] | since & bit(k)
			:: else
			fi;
			k++
		:: else -> k = 0; break
		od;
		since = 0
	};
#ifndef NO_STAMP
	e = mm[now].epoch;
	atomic {
		since = frame[level].stamp;
		if
#ifndef NO_ID
		:: frame[level].id != mm[now].id -> since = 0
#endif
#ifndef NO_FUTURE
		:: since > e -> since = 0
#endif
		:: else
		fi
	};
	if
	:: since != e ->
#ifdef NO_KEEP
		apply(since, 0)
#else
		apply(since, WRITTEN(level))
#endif
	:: else
	fi;
	e = 0;
	since = 0;
#endif
	atomic {
		frame[level].pkru = 0;
		frame[level].saved = 0;
		frame[level].stamp = 0;
		frame[level].id = 0;
		printf("task: back, PKRU %d\n", pkru)
	}
}

/* Nothing looks at the first address space any more; fewer states without it. */
inline forget()
{
	mm[0].epoch = 0;
	mm[0].id = 0;
	mm[0].lock = false;
	mm[0].under_way = 0;
	do
	:: k < KEYS -> mm[0].change[k].epoch = 0; mm[0].change[k].access = 0; k++
	:: else -> k = 0; break
	od
}

/*
 * The child finds a frame with an epoch that its address space has not had. The kernel
 * takes the frame for older than every change: earlier ones may be applied again.
 */
inline put_later_stamp()
{
	i = level - 1;
	do
	:: k < KEYS ->
		if
		:: mm[1].change[k].epoch && mm[1].change[k].epoch <= frame[i].stamp ->
			either[i] = either[i] | bit(k) & ~WRITTEN(i)
		:: else
		fi;
		k++
	:: else -> k = 0; break
	od;
	frame[i].stamp = FUTURE;
	i = 0;
	printf("parent: writes a frame of a later epoch\n")
}

/* fork(): epoch and PKRU of the child are copies of the parent's, frames are memory. */
inline fork()
{
#ifndef NO_FORK_LOCK
	atomic { !mm[0].lock -> mm[0].lock = true };
#endif
	do
	:: atomic {
		k < KEYS ->
		mm[1].change[k].epoch = mm[0].change[k].epoch;
		mm[1].change[k].access = mm[0].change[k].access;
		k++
	   }
	:: atomic { else -> k = 0; break }
	od;
	atomic {
		mm[1].epoch = mm[0].epoch;
		mm[1].id = mm[0].id;
		printf("task: fork(), epoch %d\n", mm[1].epoch);
		/* The child has flags of its own. */
		flag = false;
		now = 1;
		forget();
		if
		:: put_later_stamp()
		:: true
		fi
	};
#ifndef NO_NEW_TASK
	sync()
#endif
}

/*
 * Another history: epochs from 0, which the new task starts with too. Changes that
 * the old history had after a frame are lost, whatever the kernel does.
 */
inline restore()
{
	atomic {
		i = 0;
		do
		:: i < level ->
			k = 0;
			do
			:: k < KEYS ->
				either[i] = either[i] | (mm[0].change[k].epoch > frame[i].stamp) << k;
				k++
			:: else -> k = 0; break
			od;
			i++
		:: else -> i = 0; break
		od;
		printf("task: checkpoint and restore\n");
		mm[1].id = 1;
		now = 1;
		seen = 0;
		flag = false;
		changes = 0;
		forget()
	}
}

/* Another program: PKRU has its initial value, the flag stays. */
inline execve()
{
	atomic {
		printf("task: execve()\n");
		wanted[0] = 0;
		either[0] = 0;
		pkru = 0;
		mm[1].id = 1;
		now = 1;
#ifndef NO_FLUSH_THREAD
		seen = 0;
#endif
		changes = 0;
		forget()
	}
}

#define RIGHT	(((pkru ^ wanted[level]) & ~either[level] & ~mm[now].under_way) == 0)

proctype task()
{
	byte e, i, k, since;

exit_to_user_mode:
	do
	:: mode = CLOSED;
		if
		:: flag ->
			atomic { mode = KERNEL; ipi = false };
			flag = false;
			sync()
		:: !flag && level < LEVELS ->
			/* A signal: arch_do_signal_or_restart(). */
			atomic { mode = KERNEL; ipi = false };
			deliver()
		:: !flag -> break
		fi
	od;
	mode = IN_USER;
	do
	:: atomic { !ipi -> assert(RIGHT) }
	:: atomic {
		/* The handler changes the right to key 0 in the frame that it returns to, once. */
		!ipi && level && !WRITTEN(level - 1) ->
		frame[level - 1].pkru = frame[level - 1].pkru ^ 1;
		wanted[level - 1] = frame[level - 1].pkru & 1 | wanted[level - 1] & ~1;
		either[level - 1] = either[level - 1] & ~1;
		printf("handler: changes key 0, PKRU in the frame %d\n", frame[level - 1].pkru)
	   }
	:: atomic { ipi -> ipi = false; mode = KERNEL; goto exit_to_user_mode }
	:: atomic { !ipi -> mode = KERNEL };
		if
		:: true
		:: level -> sigreturn()
		:: !now && level -> fork()
		:: atomic { !now && level && !mm[0].under_way && seen == mm[0].epoch -> restore() }
		:: atomic { !now && !level && !mm[0].under_way -> execve() }
		:: goto gone
		fi;
		goto exit_to_user_mode
	od;
gone:	/* The task has exited, or sleeps for ever. */
	skip
}

/* pkey_alloc() of a clean key or PR_PKEY_SET_RIGHTS by another task of address space m. */
proctype changer(byte m)
{
	byte k, i, access;

end:	do
	:: atomic {
		now == m && changes < CHANGES && !mm[m].lock ->
		mm[m].lock = true;
		changes++;
		if
		:: k = 0
		:: k = 1
		fi;
		if
		:: access = 0
		:: access = 1
		fi;
		mm[m].under_way = bit(k);
		i = 0;
		do
		:: i <= LEVELS -> either[i] = either[i] & ~bit(k); i++
		:: else -> i = 0; break
		od;
		mm[m].change[k].epoch = mm[m].epoch + 1;
		mm[m].change[k].access = access;
		printf("change of key %d to %d begins\n", k, access)
	   };
		atomic {
			mm[m].epoch++;
			printf("epoch %d\n", mm[m].epoch)
		};
		if
		:: now == m -> flag = true
		:: else
		fi;
		if
		:: atomic { now == m && mode != KERNEL -> ipi = true };
#ifdef NO_ACK
			false
#else
			!ipi
#endif
		:: now != m || mode == KERNEL
		fi;
		atomic {
			if
			:: now == m ->
				do
				:: i <= LEVELS ->
					if
					:: i < level && WRITTEN(i) & bit(k)
					:: else -> wanted[i] = bits(wanted[i], k, access)
					fi;
					i++
				:: else -> i = 0; break
				od;
				printf("change of key %d to %d returns\n", k, access)
			:: else
			fi;
			mm[m].under_way = 0;
#ifndef NO_UNLOCK
			mm[m].lock = false;
#endif
			k = 0;
			access = 0
		}
	od
}

init {
	atomic {
		wanted[0] = 3;
		run task();
		run changer(0);
		run changer(1)
	}
}
