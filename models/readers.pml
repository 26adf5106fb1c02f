/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Readers: somebody reads /proc/PID/task/TID/pkeys (contract K1), while the task is made,
 * calls pkey_alloc(), gets a signal and returns from it, uses its rseq memory with key 0
 * closed, and executes another program, and while others change its rights. Compare
 * task_rights_get() in arch/x86/mm/pkeys.c.
 *
 * How a change gets to a task is in models/broadcast.pml: here the task does not reach
 * user mode while it has one to apply.
 *
 * Asserted: the rights that were shown are those of the next user instruction, unless
 * the task or somebody else began to change them later. While another's change is under
 * way, either rights may be shown.
 *
 * NO_OWN_EPOCH_FIRST	pkey_alloc() remembers its epoch after others see it
 * NO_PKRU_FIRST	a task, or the creator of a new one, remembers the epoch before it writes PKRU
 * NO_EPOCH_READ_FIRST	of a new task PKRU is read before the epoch
 * NO_SIGFRAME_MARK	no mark shows that a signal frame is being written, with all keys open
 * NO_SIGRETURN_MARK	no mark shows that PKRU comes from a frame, and changes are missing
 * NO_DEFAULT_MARK	no mark shows that key 0 is open for the kernel alone
 * NO_SAME_MM		execve() meanwhile is not noticed
 */
#ifdef LARGE
#define CHANGES	8
#define ALLOCS	4
#else
#define CHANGES	4
#define ALLOCS	2
#endif

/* PKRU has one bit a key: access is disabled. Key 0, and the key that changes. */
#define KEY_0	1
#define KEY	2
#define INIT	KEY

/* struct mm_pkeys */
bool lock;
byte epoch;
typedef word {
	byte epoch;
	byte bits;
}
word change;

/* The task: task_struct, thread_struct, PKRU. */
bool other_mm;
byte pkru;
byte seen;
bool sigframe;
bool sigreturn;
byte default_rights;

/* Its signal frame, if there is one. */
bool in_handler;
byte saved;
byte stamp;

/* wake_up_new_task() and task_call_func() take pi_lock. */
bool pi_lock;
bool born;

/* Not in the code: what was shown; another's change is under way; what bounds the search. */
#define NOTHING	255
byte shown = NOTHING;
bool under_way;
byte changes;
byte allocs;

/* pkru_changed() */
#define changed(since, value) \
	(change.epoch > (since) -> ((value) & ~KEY) | change.bits : (value))

/* pkru_apply(), __pkeys_sync_new_task() */
inline sync()
{
	e = epoch;
	if
	:: e != seen ->
#ifdef NO_PKRU_FIRST
		since = seen;
		seen = e;
		pkru = changed(since, pkru);
		since = 0
#else
		pkru = changed(seen, pkru);
		seen = e
#endif
	:: else
	fi;
	e = 0
}

inline pkey_alloc()
{
	atomic { !lock -> lock = true };
	sync();
	atomic { pkru = pkru & ~KEY; shown = NOTHING; printf("task: sets its own rights\n") };
#ifndef NO_OWN_EPOCH_FIRST
	seen = epoch + 1;
#endif
	atomic { change.epoch = epoch + 1; change.bits = KEY };
	epoch++;
#ifdef NO_OWN_EPOCH_FIRST
	seen = epoch;
#endif
	lock = false
}

/* handle_signal() */
inline deliver()
{
	saved = pkru;
	atomic {
		printf("task: a signal\n");
#ifndef NO_SIGFRAME_MARK
		sigframe = true;
#endif
		shown = NOTHING
	};
	pkru = 0;
	stamp = seen;
	pkru = INIT;
	atomic { sigframe = false; in_handler = true }
}

inline return_from_signal()
{
	atomic {
		printf("task: sigreturn\n");
#ifndef NO_SIGRETURN_MARK
		sigreturn = true;
#endif
		shown = NOTHING
	};
	pkru = saved;
	pkru = changed(stamp, pkru);
	atomic { sigreturn = false; in_handler = false; saved = 0; stamp = 0 }
}

/* pkey_open_default(), pkey_restore_default() */
inline use_rseq_memory()
{
	since = pkru & KEY_0;
#ifndef NO_DEFAULT_MARK
	default_rights = since;
#endif
	pkru = pkru & ~KEY_0;
	pkru = pkru | since;
	atomic { default_rights = 0; since = 0 }
}

/* The new mm has no keys. */
inline execve()
{
	atomic { printf("task: execve()\n"); other_mm = true; shown = NOTHING };
	pkru = INIT;
	seen = 0
}

#define RIGHT	(shown == NOTHING || shown == pkru)

proctype task()
{
	byte e, since;

	/* What the creator does when the task is on the list. */
	sync();
	atomic { !pi_lock -> born = true };
	do
	:: seen != epoch -> sync()
	:: atomic {
		seen == epoch ->
		assert(RIGHT);
		shown = NOTHING;
		if
		:: pkru = pkru ^ KEY_0; goto next
		:: allocs < ALLOCS -> allocs++; goto alloc
		:: !in_handler -> goto signal
		:: in_handler -> goto handled
		:: pkru & KEY_0 -> goto rseq
		:: goto exec
		fi
	   };
alloc:		pkey_alloc();
		goto next;
signal:		deliver();
		goto next;
handled:	return_from_signal();
		goto next;
rseq:		use_rseq_memory();
next:		skip
	od;
exec:	execve();
	assert(RIGHT)
}

/* PR_PKEY_SET_RIGHTS of others. */
proctype changer()
{
end:	do
	:: atomic {
		changes < CHANGES && !lock ->
		lock = true;
		changes++;
		under_way = true;
		shown = NOTHING;
		change.epoch = epoch + 1;
		if
		:: change.bits = 0
		:: change.bits = KEY
		fi;
		printf("others: change the rights, access disabled: %d\n", change.bits != 0)
	   };
		atomic { epoch++; under_way = false; lock = false }
	od
}

/* task_rights_fill() */
inline fill(since, value)
{
	if
#ifndef NO_SAME_MM
	:: other_mm
#endif
	:: sigreturn || under_way
	:: else ->
		shown = value | default_rights;
		if
		:: sigframe -> shown = INIT
		:: else
		fi;
		shown = changed(since, shown);
		printf("reader: shows %d\n", shown)
	fi
}

proctype reader()
{
	byte e, value;

end:	do
	:: atomic { born -> fill(seen, pkru) }
	:: atomic { !born -> pi_lock = true };
#ifdef NO_EPOCH_READ_FIRST
		value = pkru;
		e = seen;
#else
		e = seen;
		value = pkru;
#endif
		atomic { fill(e, value); pi_lock = false; e = 0; value = 0 }
	od
}

init {
	atomic { run task(); run changer(); run reader() }
}
