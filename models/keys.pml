/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Keys: pkey_alloc(), pkey_free(), pkey_mprotect(), munmap() and PR_PKEY_SET_RIGHTS of
 * tasks that share an address space, in any order and at any time. Any task frees any
 * key, attaches any key to the one mapping, and gives all tasks rights to any key.
 * Compare arch/x86/mm/pkeys.c and asm/pkey_map.h.
 *
 * The broadcast is one step here (models/broadcast.pml has its steps): each task syncs
 * before its next user instruction.
 *
 * The model has one mapping. It does not cover a call over several mappings, which pins
 * its key only once.
 *
 * Asserted: no key is handed out twice (A3). A key that a mapping, a page table or a
 * TLB carries is not handed out as clean (F1, F2), and no mapping gets a key by a call
 * that judged the key before that key was handed out as clean (C3). The caller of the
 * last issue of a key has rights to it (A5). The callers of earlier issues have none
 * (F4), unless PR_PKEY_SET_RIGHTS gave rights to the last issue (I3). No deadlock: a
 * task that waits for ever does not get to its end.
 *
 * NO_CMPXCHG		the map is stored, not compared and exchanged
 * NO_LOCK		pkey_alloc() syncs and sets the caller's rights after it has released the lock
 * NO_SYNC_BEFORE_SET	pkey_alloc() does not sync before it sets the caller's rights
 * NO_USERS_FIRST	the only user is recognized after the counts have been read
 * NO_PIN_NEW		pkey_mprotect() does not pin the key that it attaches
 * NO_PIN_CHECKED	it pins that key by a second exchange, after the check
 * NO_PIN_OLD		it does not pin the key that it takes away
 * NO_FLUSH_FIRST	it unpins before the TLB is flushed
 * NO_COUNT_LAST	munmap() unaccounts the mapping before the TLB is flushed
 * NO_MAP_FIRST		pkey_alloc() reads the counts before the map
 * NO_LOCK_OF_TWO	pkey_alloc() takes no lock, also where the mm has two users
 * NO_CHECK_LOCKED	PR_PKEY_SET_RIGHTS checks the key before it takes the lock
 * NO_UNLOCK		pkey_alloc() does not release the lock
 */
#ifdef LARGE
#define TASKS	2
#define ISSUES	3
#define PROTECTS 2
#define SETS	1
#else
#define TASKS	2
#define ISSUES	2
#define PROTECTS 1
#define SETS	1
#endif
#define KEYS	2

#define bit(k)	(1 << (k))
#define ALL	(bit(KEYS + 1) - 2)

/* The map word. Key 0 is left out: it is allocated, and nobody's. */
byte allocated;
byte used;
byte pinned;

/* struct mm_pkeys. A change of a key is its epoch, and the right that it gives. */
byte count[KEYS + 1];
byte epoch;
byte change[KEYS + 1];
byte gives[KEYS + 1];
bool lock;

/* mm_struct: its users; mmap_lock for writing; the key of the mapping, in three places. */
byte users;
bool mmap_lock;
byte vma;
byte pte;
byte tlb;

/* The tasks. A right is the number of the issue that gave it, 0 is none. */
typedef task_struct {
	byte seen;
	byte right[KEYS + 1];
}
task_struct task[TASKS];

/*
 * Not in the code: which keys are handed out; how often each was; its last issue as
 * clean; its last issue that has taken the others' rights and returned. How many calls
 * of pkey_alloc(), pkey_mprotect() and PR_PKEY_SET_RIGHTS there were, which bounds the
 * search.
 */
byte held;
byte issue[KEYS + 1];
byte clean[KEYS + 1];
byte revoked[KEYS + 1];
byte issues;
byte protects;
byte sets;

inline take(l)
{
	atomic { !l -> l = true }
}

inline read_map()
{
	atomic { a = allocated; u = used; p = pinned }
}

#ifdef NO_CMPXCHG
#define SAME	true
#else
#define SAME	(allocated == a && used == u && pinned == p)
#endif

inline sync(t)
{
	d_step {
		k = 1;
		do
		:: k <= KEYS ->
			if
			:: change[k] > task[t].seen -> task[t].right[k] = gives[k]
			:: else
			fi;
			k++
		:: else -> break
		od;
		k = 0;
		task[t].seen = epoch
	}
}

inline user_instruction(t)
{
	sync(t);
	d_step {
		k = 1;
		do
		:: k <= KEYS ->
			assert(task[t].right[k] == 0 || task[t].right[k] >= revoked[k]);
			assert(k != got || issue[k] != mine || task[t].right[k] == mine);
			k++
		:: else -> break
		od;
		k = 0;
		got = 0;
		mine = 0
	}
}

/* Pinned keys are treated as mapped. One step, since each key has its own count. */
inline read_counts()
{
	atomic {
		mapped = p;
		k = 1;
		do
		:: k <= KEYS ->
			if
			:: count[k] -> mapped = mapped | bit(k)
			:: else
			fi;
			k++
		:: else -> break
		od;
		k = 0
	}
}

/* pkey_map_choose(): the lowest clean or never used, else the lowest mapped, else 0. */
inline choose()
{
	d_step {
		choice = ALL & ~a & ~mapped;
		if
		:: choice
		:: else -> choice = ALL & ~a
		fi;
		key = 1;
		do
		:: key <= KEYS && !(choice & bit(key)) -> key++
		:: else -> break
		od;
		if
		:: key > KEYS -> key = 0
		:: else
		fi;
		choice = 0
	}
}

inline set_own_right(t)
{
	d_step {
		task[t].right[key] = mine;
		printf("task %d: sets its rights to key %d\n", t, key)
	}
}

/* The caller's own rights are set, and it remembers the epoch. */
inline stamp(t, right)
{
	change[key] = epoch + 1;
	gives[key] = right;
	epoch++;
	task[t].seen = epoch
}

inline pkey_alloc(t)
{
#ifndef NO_USERS_FIRST
	alone = (users == 1);
#ifndef NO_LOCK_OF_TWO
	if
	:: alone
	:: else -> take(lock)
	fi;
#endif
#endif
#ifndef NO_SYNC_BEFORE_SET
	sync(t);
#endif
	do
	::
#ifdef NO_MAP_FIRST
		p = 0;
		read_counts();
		read_map();
#else
		read_map();
		read_counts();
#endif
#ifdef NO_USERS_FIRST
		if
		:: atomic { !alone && !lock && users == 1 -> alone = true }
		:: atomic { !alone && !lock && users > 1 -> lock = true }
			read_map();
			read_counts()
		:: alone || lock
		fi;
#endif
		choose();
		if
		:: !key -> break
		:: d_step {
				key && SAME ->
				assert(!(held & bit(key)));
				allocated = a | bit(key);
				used = u | bit(key);
				pinned = p;
				held = held | bit(key);
				issue[key]++;
				mine = issue[key];
				printf("task %d: publishes key %d, issue %d, mapped: %d\n",
				       t, key, mine, (mapped & bit(key)) != 0);
				if
				:: !(mapped & bit(key)) ->
					assert(vma != key && pte != key && tlb != key);
					clean[key] = mine
				:: else
				fi
			};
			break
		:: key && !SAME
		fi
	od;
	if
	:: key ->
#ifndef NO_LOCK
		set_own_right(t);
#endif
		if
		:: d_step {
			(u & bit(key)) && !count[key] ->
			stamp(t, 0);
			printf("task %d: stamps key %d, others lose their rights\n", t, key)
		   };
			stamped = true
		:: !(u & bit(key)) -> stamped = true
		:: (u & bit(key)) && count[key] -> stamped = false
		fi;
#ifdef NO_LOCK
		if
		:: alone
		:: else -> lock = false
		fi;
		sync(t);
		set_own_right(t)
#endif
	:: else
	fi;
	d_step {
		if
		:: key && stamped && revoked[key] < mine -> revoked[key] = mine
		:: else
		fi;
#ifndef NO_UNLOCK
#ifndef NO_LOCK
		if
		:: alone
		:: else -> lock = false
		fi;
#else
		if
		:: alone || key
		:: else -> lock = false
		fi;
#endif
#endif
		printf("task %d: pkey_alloc() returns %d\n", t, key);
		got = key;
		key = 0; stamped = false; alone = false;
		a = 0; u = 0; p = 0; mapped = 0
	}
}

inline pkey_free(t)
{
	do
	:: read_map();
		if
		:: !(a & bit(key)) -> break
		:: d_step {
			(a & bit(key)) && SAME ->
			allocated = a & ~bit(key);
			used = u;
			pinned = p;
			held = held & ~bit(key);
			printf("task %d: frees key %d\n", t, key)
		   };
			break
		:: (a & bit(key)) && !SAME
		fi
	od;
	atomic { key = 0; a = 0; u = 0; p = 0 }
}

inline check_owned(t)
{
	d_step {
		ok = (allocated & bit(key)) != 0;
		mine = issue[key];
		printf("task %d: PR_PKEY_SET_RIGHTS, key %d allocated: %d\n", t, key, ok)
	}
}

inline pkey_set_rights(t)
{
#ifdef NO_CHECK_LOCKED
	check_owned(t);
	take(lock);
#else
	take(lock);
	check_owned(t);
#endif
	if
	:: ok ->
		sync(t);
		set_own_right(t);
		d_step {
			stamp(t, mine);
			printf("task %d: gives all tasks rights to key %d\n", t, key)
		}
	:: else
	fi;
	d_step { lock = false; key = 0; mine = 0; ok = false }
}

/* The count and the vma, then the page tables, then the TLB. */
inline change_key(t)
{
	d_step {
		count[key]++;
		count[old]--
	};
	vma = key;
	d_step {
		printf("task %d: the page table changes from key %d to %d\n", t, old, key);
		assert(!key || judged >= clean[key]);
		pte = key
	}
}

inline unpin()
{
	atomic { pinned = 0 }
}

inline pkey_mprotect(t)
{
	take(mmap_lock);
	do
	:: read_map();
		if
		:: key && !(a & bit(key)) -> ok = false; break
		:: d_step {
			(!key || a & bit(key)) && SAME ->
			ok = true;
			judged = issue[key];
#ifndef NO_PIN_CHECKED
#ifndef NO_PIN_NEW
			allocated = a;
			used = u;
			pinned = p | (bit(key) & ALL);
#endif
#endif
			printf("task %d: mprotect() accepts key %d\n", t, key)
		   };
			break
		:: (!key || a & bit(key)) && !SAME
		fi
	od;
	if
	:: ok ->
#ifdef NO_PIN_CHECKED
		d_step { pinned = pinned | (bit(key) & ALL) };
#endif
		old = vma;
#ifndef NO_PIN_OLD
		do
		:: read_map();
			if
			:: d_step {
				SAME ->
				allocated = a;
				used = u;
				pinned = p | (bit(old) & ALL)
			   };
				break
			:: !SAME
			fi
		od;
#endif
		change_key(t);
#ifdef NO_FLUSH_FIRST
		unpin();
		tlb = key
#else
		tlb = key;
		unpin()
#endif
	:: else
	fi;
	d_step {
		mmap_lock = false;
		key = 0; old = 0; judged = 0; ok = false;
		a = 0; u = 0; p = 0
	}
}

/* The mapping goes, and a new one with key 0 takes its place. */
inline munmap(t)
{
	take(mmap_lock);
	printf("task %d: munmap() of the mapping with key %d\n", t, vma);
#ifdef NO_COUNT_LAST
	d_step { count[vma]--; count[0]++; vma = 0 };
	pte = 0;
	tlb = 0;
#else
	pte = 0;
	tlb = 0;
	d_step { count[vma]--; count[0]++; vma = 0 };
#endif
	mmap_lock = false
}

proctype user(byte t)
{
	byte a, u, p, mapped, choice, key, got, old, k, mine, judged;
	bool alone, stamped, ok;

	do
	:: atomic {
		user_instruction(t);
		if
		:: issues < ISSUES -> issues++; goto alloc
		:: key = 1; goto release
		:: key = 2; goto release
		:: sets < SETS -> sets++; select(key : 1 .. KEYS); goto set_rights
		:: protects < PROTECTS -> protects++; select(key : 0 .. KEYS); goto protect
		:: vma -> goto unmap
		:: goto exit
		fi
	   };
alloc:		pkey_alloc(t);
		goto next;
release:	pkey_free(t);
		goto next;
protect:	pkey_mprotect(t);
		goto next;
set_rights:	pkey_set_rights(t);
		goto next;
unmap:		munmap(t);
next:		skip
	od;
exit:	/* exit_mm(): a task that is gone has no rights, and does nothing after this. */
	atomic {
		k = 1;
		do
		:: k <= KEYS -> task[t].right[k] = 0; k++
		:: else -> break
		od;
		users--
	}
}

init {
	byte t;

	atomic {
		users = TASKS;
		/* Key 1 was used before, and one task has it. The mapping may carry it. */
		allocated = bit(1); used = bit(1); held = bit(1);
		issue[1] = 1; clean[1] = 1; revoked[1] = 1;
		task[0].right[1] = 1;
		if
		:: count[0] = 1
		:: count[1] = 1; vma = 1; pte = 1; tlb = 1
		fi;
#ifdef LARGE
		/* All at once would be too many states. */
		if
		:: issues = 1
		:: sets = 1
		fi;
#endif
		do
		:: t < TASKS -> run user(t); t++
		:: else -> break
		od
	}
}
