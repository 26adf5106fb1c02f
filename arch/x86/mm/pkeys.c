// SPDX-License-Identifier: GPL-2.0-only
/*
 * Protection keys, the x86 mechanism: the key map of an address space, the
 * rights register PKRU and the execute-only key. What the system calls
 * promise, and the life of a key, is told in mm/pkeys.c.
 */
#include <linux/debugfs.h>
#include <linux/init.h>
#include <linux/kstrtox.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/mutex.h>
#include <linux/pkeys.h>
#include <linux/printk.h>
#include <linux/ptrace.h>
#include <linux/seq_file.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/smp.h>
#include <linux/sysctl.h>
#include <linux/task_work.h>
#include <linux/xarray.h>

#include <asm/pkru.h>

#define CREATE_TRACE_POINTS
#include <trace/events/pkeys.h>

/*
 * Revocation
 * ----------
 * When a clean key is handed out again no other task may have rights to it
 * (contract F4). PKRU belongs to the task that runs with it: nobody else can
 * change it. So each task changes its own, on its way to user mode:
 *
 * 1. pkey_reissue_lock makes sure that nobody else takes the key, which is
 *    nobody's: no call accepts it.
 * 2. The re-issue gets a number, the epoch, kept for the key and for the mm.
 * 3. All other tasks that use the mm get task work queued.
 * 4. An empty IPI brings those that are in user mode into the kernel.
 * 5. The key is allocated; pkey_alloc() sets the caller's rights and returns.
 *
 * The work disables access to the keys whose epoch is later than the one that
 * the task remembers, then remembers the latest. Bits of other keys do not
 * change, sleeping tasks sleep on, no system call is interrupted. mmap_lock and
 * tasklist_lock are not needed.
 *
 * (A) A task in user mode, or about to be:
 *
 *	pkey_alloc()                         other task
 *	  sets its TIF_NOTIFY_RESUME
 *	                                       runs in user mode, with old rights
 *	  IPI
 *	                                       interrupted; on the way back sees
 *	                                       the flag, runs the work
 *	  IPI has been handled
 *	  returns                              next instruction, without rights
 *
 *     A task that is switched to after the mask of processors was read had its
 *     flag set before: it runs the work before it gets to user mode.
 *
 * (B) Two re-issues: work that is queued twice would corrupt the list, work
 *     that is not queued must not be needed:
 *
 *	pkey_alloc()                         other task
 *	  epoch 8
 *	  pkey_work_queued is 1, leaves it     pkey_work_queued = 0
 *	                                       reads the epoch: 8
 *
 *     The exchange orders both sides: if it finds 1, the other task has not
 *     read the epoch yet. Who set it to 1 is another holder of the same
 *     pkey_reissue_lock, so the work has been queued too, see (F).
 *
 * (C) A task in the making has a copy of its creator's PKRU before it is on
 *     the task list:
 *
 *	pkey_alloc()                         clone()
 *	                                       copies PKRU, with old rights
 *	  epoch 8
 *	  walks the list                       puts the child on the list
 *	                                       reads the epoch: 8, the copy is
 *	                                       older: takes the rights from it
 *
 *     Either the walk finds the child or the creator sees the epoch.
 *
 * (D) The caller itself may have something to give up, from a re-issue that
 *     another thread made of the same key, before it was freed and came here.
 *     It does so before it sets its new rights, not after.
 *
 * (E) pkey_mprotect() that has accepted the key before it was freed: see
 *     arch_pkey_get().
 *
 * (F) A task that goes through execve() leaves the old mm with work queued:
 *
 *	pkey_alloc(), old mm       other task             pkey_alloc(), new mm
 *	  its mm is the old one
 *	  pkey_work_queued = 1
 *	                           gets its new mm
 *	                           creates a thread
 *	                                                  pkey_work_queued is 1,
 *	                                                    leaves it
 *	                                                  returns
 *	  queues the work
 *
 *     alloc_lock, under which a task gets its new mm, closes the gap between
 *     the second step and the last. Threads of the caller's own group need no
 *     such care, since their execve() waits for the caller to be gone.
 *
 *     The work looks at the keys of the new mm, which counts its re-issues
 *     from 1, and so does the task, see pkeys_flush_thread().
 *
 * (G) A task that was the other one when the count was read:
 *
 *	pkey_alloc()                         other task
 *	  the map says that 5 was freed
 *	  no mapping carries 5
 *	                                       gets 5, maps it, frees it, exits
 *	  is the only user of the mm
 *	  the map is what it was: takes 5
 *
 *     So mm_users is read first. While there are others, pkey_reissue_lock
 *     makes them wait.
 */

/* pkey_alloc() takes the two rights bits of a key as PKRU holds them (A5). */
static_assert(PKEY_DISABLE_ACCESS == PKRU_AD_BIT && PKEY_DISABLE_WRITE == PKRU_WD_BIT);

/*
 * Set the current task's rights to one key. The bits of the other keys stay as
 * they are: user space owns them and changes them without the kernel.
 *
 * The read and the write need no protection from each other: the register
 * follows the task through a context switch, and nobody but the task itself
 * changes it.
 */
static void pkru_set_rights(int pkey, u32 access_rights)
{
	int shift = pkey * PKRU_BITS_PER_PKEY;
	u32 mask = (PKRU_AD_BIT | PKRU_WD_BIT) << shift;

	write_pkru((read_pkru() & ~mask) | access_rights << shift);
}

/*
 * Publish @new, if the map is still @old. The key map is changed here and
 * nowhere else once the mm is visible.
 */
static bool mm_pkey_map_change(struct mm_struct *mm, union pkey_map old,
			       union pkey_map new)
{
	s64 word = old.word;

	return atomic64_try_cmpxchg(&mm->context.pkey_map, &word, new.word);
}

/*
 * vm.pkey_reuse_mapped: may pkey_alloc() hand out a key that mappings still
 * carry, when there is no other (contract F3)? Read without a lock.
 */
static int sysctl_pkey_reuse_mapped __read_mostly = 1;

/*
 * Linux before 6.11 looks for an empty entry behind the last one, later ones take
 * the size of the table from its type.
 */
static struct {
	struct ctl_table table[1];
	struct ctl_table end;
} pkey_sysctls = {
	.table = { {
		.procname	= "pkey_reuse_mapped",
		.data		= &sysctl_pkey_reuse_mapped,
		.maxlen		= sizeof(sysctl_pkey_reuse_mapped),
		.mode		= 0644,
		.proc_handler	= proc_dointvec_minmax,
		.extra1		= SYSCTL_ZERO,
		.extra2		= SYSCTL_ONE,
	} },
};

static int __init pkey_sysctl_init(void)
{
	register_sysctl_init("vm", pkey_sysctls.table);
	return 0;
}
late_initcall(pkey_sysctl_init);

/* May a key that mappings carry be taken for @use? */
static bool pkey_reuse_mapped(enum pkey_use use)
{
	return use == PKEY_USE_USER && READ_ONCE(sysctl_pkey_reuse_mapped);
}

/* The keys that were re-issued in @mm after @epoch, one bit a key. */
static u16 mm_pkeys_reissued(struct mm_struct *mm, u64 epoch)
{
	u16 pkeys = 0;
	int pkey;

	for (pkey = 1; pkey < PKEY_MAP_KEYS; pkey++)
		if (READ_ONCE(mm->context.pkey_reissued[pkey]) > epoch)
			pkeys |= BIT(pkey);
	return pkeys;
}

/* @pkru with access to some keys disabled. */
static u32 pkru_without(u32 pkru, u16 pkeys)
{
	unsigned long mask = pkeys;
	int pkey;

	for_each_set_bit(pkey, &mask, PKEY_MAP_KEYS)
		pkru |= PKRU_AD_BIT << pkey * PKRU_BITS_PER_PKEY;
	return pkru;
}

/*
 * The current task gives up its rights to all keys that were re-issued since it
 * last did so. @epoch was read before them, and is remembered after them: a key
 * that is re-issued meanwhile is given up now or the next time.
 */
static noinline void pkru_revoke(struct mm_struct *mm, u64 epoch)
{
	struct thread_struct *thread = &current->thread;
	u16 revoked;

	revoked = mm_pkeys_reissued(mm, thread->pkey_epoch);
	write_pkru(pkru_without(read_pkru(), revoked));
	thread->pkey_epoch = epoch;
	if (revoked)
		trace_pkey_revoke(revoked, epoch);
}

/* Inline, because mostly there is nothing to give up. */
static __always_inline void pkru_catch_up(struct mm_struct *mm)
{
	/* Pairs with mm_pkey_stamp(): the keys are read after this. */
	u64 epoch = smp_load_acquire(&mm->context.pkey_epoch);

	if (unlikely(current->thread.pkey_epoch != epoch))
		pkru_revoke(mm, epoch);
}

/* The keys to which @after has a right that @before has not, one bit a key. */
static u16 pkru_opened(u32 before, u32 after)
{
	u32 opened = before & ~after;
	u16 pkeys = 0;
	int pkey;

	for (pkey = 0; opened; pkey++, opened >>= PKRU_BITS_PER_PKEY)
		if (opened & (PKRU_AD_BIT | PKRU_WD_BIT))
			pkeys |= BIT(pkey);
	return pkeys;
}

/*
 * The frame was saved before keys were re-issued. What it has brought back of
 * rights to them is disabled again (contract F6). Rights that the signal handler
 * has added in the frame are not old ones and stay, if it is from the frame that
 * PKRU was restored at all. A re-issue that comes after this has the task's work
 * queued.
 */
void __pkeys_restore_sigframe(const struct _fpx_sw_bytes *sw_bytes, u64 epoch)
{
	u64 saved = sw_bytes->pkey_stamp - 1;
	u32 pkru = read_pkru();
	u16 revoked;

	/* Made in another address space: older than every re-issue in this one. */
	if (saved > epoch)
		saved = 0;

	revoked = mm_pkeys_reissued(current->mm, saved);
	if (sw_bytes->xfeatures & XFEATURE_MASK_PKRU)
		revoked &= ~pkru_opened(sw_bytes->pkru, pkru);
	write_pkru(pkru_without(pkru, revoked));
}

/* Runs on the task's way to user mode, and when it exits: it has no mm then. */
static void pkey_work_func(struct callback_head *work)
{
	struct mm_struct *mm = current->mm;

	/* (B): whoever queues after this is seen by pkru_catch_up() or queues again. */
	atomic_xchg(&current->thread.pkey_work_queued, 0);
	if (mm)
		pkru_catch_up(mm);
}

/* copy_thread(): the child's registers are a copy, what is queued is not. */
void pkeys_copy_thread(struct task_struct *p)
{
	atomic_set(&p->thread.pkey_work_queued, 0);
	init_task_work(&p->thread.pkey_work, pkey_work_func);
}

/**
 * pkeys_task_visible() - A new task has been added to the task list
 * @p: The task. It does not run yet.
 *
 * Case (C) above: takes from the new task what was re-issued between the copy
 * of its PKRU and now. From here on every re-issue finds it on the list.
 *
 * Context: tasklist_lock held for writing, and siglock.
 */
void pkeys_task_visible(struct task_struct *p)
{
	struct mm_struct *mm = p->mm;
	u64 epoch;

	if (!mm)
		return;

	/* (C): on the list first, then read; mm_pkeys_revoke() writes, then walks. */
	smp_mb();
	/* Pairs with mm_pkey_stamp(): the keys are read after this. */
	epoch = smp_load_acquire(&mm->context.pkey_epoch);
	if (likely(epoch <= p->thread.pkey_epoch))
		return;

	p->thread.pkru = pkru_without(p->thread.pkru,
				      mm_pkeys_reissued(mm, p->thread.pkey_epoch));
	p->thread.pkey_epoch = epoch;
}

/* Make the task, which uses the mm, give up rights on its way to user mode. */
static void pkeys_queue_work(struct task_struct *t)
{
	/* (B): queued already, and not looked yet. */
	if (atomic_xchg(&t->thread.pkey_work_queued, 1))
		return;

	/* The IPI comes once for all; a task that exits needs neither. */
	if (!task_work_add(t, &t->thread.pkey_work, TWA_NONE))
		set_tsk_thread_flag(t, TIF_NOTIFY_RESUME);
}

/* Queue work for the other threads of this group. Return: how many use @mm. */
static int mm_pkeys_revoke_threads(struct mm_struct *mm)
{
	struct task_struct *t;
	int users = 0;

	for_each_thread(current, t) {
		if (READ_ONCE(t->mm) != mm)
			continue;

		users++;
		if (t != current)
			pkeys_queue_work(t);
	}
	return users;
}

/* Queue work for the threads of another group, if they use @mm. */
static int mm_pkeys_revoke_group(struct mm_struct *mm, struct task_struct *group)
{
	struct mm_struct *its_mm;
	struct task_struct *t;
	int users = 0;

	for_each_thread(group, t) {
		/* A task that exits has none; all others of a group have the same. */
		its_mm = READ_ONCE(t->mm);
		if (!its_mm)
			continue;
		if (its_mm != mm)
			break;

		/* (F) */
		task_lock(t);
		if (t->mm == mm) {
			pkeys_queue_work(t);
			users++;
		}
		task_unlock(t);
	}
	return users;
}

static void pkey_ipi(void *unused)
{
}

static bool is_kthread(struct task_struct *t)
{
	/* A task changes its other flags meanwhile, but this one never. */
	return data_race(t->flags) & PF_KTHREAD;
}

/* Is the current task the only one that uses @mm? Then nobody else can join. */
static bool mm_has_one_user(struct mm_struct *mm)
{
	return atomic_read(&mm->mm_users) == 1;
}

/*
 * Make all other tasks that use @mm give up what was re-issued, before their
 * next instruction in user mode.
 */
static void mm_pkeys_revoke(struct mm_struct *mm, int pkey)
{
	/* The caller's own, which does not go away. */
	struct sighand_struct *sighand = rcu_dereference_protected(current->sighand, true);
	struct task_struct *group;
	unsigned long flags;
	int users, found;

	/* Those that left the mm do not run user code any more. */
	if (mm_has_one_user(mm))
		return;

	/* (C): write the epoch, then walk; new tasks are listed, then read it. */
	smp_mb();

	/*
	 * No thread joins this group while siglock is held, so if the group has
	 * as many tasks as the mm has users there are no others. Tasks that
	 * exit meanwhile, and users that are not tasks, make it look as if
	 * there were, which does no harm.
	 */
	spin_lock_irqsave(&sighand->siglock, flags);
	users = atomic_read(&mm->mm_users);
	found = mm_pkeys_revoke_threads(mm);
	spin_unlock_irqrestore(&sighand->siglock, flags);

	/* To the end: of those found some are new, and must not stand for old ones. */
	if (found < users) {
		rcu_read_lock();
		for_each_process(group)
			if (!is_kthread(group) && !same_thread_group(group, current))
				found += mm_pkeys_revoke_group(mm, group);
		rcu_read_unlock();
	}
	trace_pkey_reissue(pkey, mm->context.pkey_epoch, found - 1);

	/* The other users are no tasks, or not on the list yet: (C). */
	if (found == 1)
		return;

	/*
	 * (A): set the flags, then read on which processors the mm is. One that
	 * is not in the mask yet has to come through the scheduler to use it,
	 * and will see the flag of the task that it then runs.
	 */
	smp_mb();
	preempt_disable();
	smp_call_function_many(mm_cpumask(mm), pkey_ipi, NULL, true);
	preempt_enable();
}

/*
 * Number the re-issue of a key. The current task is its new owner: if it had
 * nothing else to give up, it has nothing to give up now.
 */
static void mm_pkey_stamp(struct mm_struct *mm, int pkey)
{
	u64 epoch = mm->context.pkey_epoch + 1;
	struct thread_struct *thread = &current->thread;

	if (thread->pkey_epoch == mm->context.pkey_epoch)
		thread->pkey_epoch = epoch;
	WRITE_ONCE(mm->context.pkey_reissued[pkey], epoch);
	/* Whoever reads this epoch sees which key it is. */
	smp_store_release(&mm->context.pkey_epoch, epoch);
}

/* Does a mapping carry the key, or is one about to? */
static bool mm_pkey_is_held(struct mm_struct *mm, int pkey)
{
	return atomic64_read(&mm->context.pkey_mappings[pkey]);
}

/*
 * Choose a key for @use. What the state machine chooses is right if nothing
 * holds it; otherwise it is told so and chooses again.
 */
static int mm_pkey_choose(struct mm_struct *mm, union pkey_map map, enum pkey_use use,
			  enum pkey_origin *origin)
{
	u16 held = 0;
	int pkey;

	for (;;) {
		pkey = pkey_map_choose(map, held, pkey_reuse_mapped(use));
		if (pkey < 0)
			return pkey;

		*origin = pkey_map_origin(map, held, pkey);
		if (*origin != PKEY_CLEAN || !mm_pkey_is_held(mm, pkey))
			return pkey;

		held |= BIT(pkey);
	}
}

/*
 * Hand out a key. Nobody else has rights to one that was never used, and all
 * others lose those to one that no mapping carries. To a key that mappings do
 * carry they keep them (F3). Return: False if the map has changed; choose again.
 */
static bool mm_pkey_issue(struct mm_struct *mm, union pkey_map map, int pkey,
			  enum pkey_origin origin, enum pkey_use use)
{
	lockdep_assert_held(&mm->context.pkey_reissue_lock);
	if (origin != PKEY_NEVER_USED && !mm_pkey_mappings(mm, pkey)) {
		mm_pkey_stamp(mm, pkey);
		mm_pkeys_revoke(mm, pkey);
	}
	if (!mm_pkey_map_change(mm, map, pkey_map_take(map, pkey, use)))
		return false;

	trace_pkey_alloc(pkey, origin, use);
	return true;
}

/*
 * Take a key for @use. The lock keeps others from taking one that was used
 * before. They may free keys, and take those that were never used: then the map
 * is another one, and the choice has to be made again.
 */
static noinline int mm_pkey_take(struct mm_struct *mm, enum pkey_use use)
{
	enum pkey_origin origin;
	union pkey_map map;
	int pkey;

	mutex_lock(&mm->context.pkey_reissue_lock);
	do {
		map = mm_pkey_map(mm);
		pkey = mm_pkey_choose(mm, map, use, &origin);
	} while (pkey > 0 && !mm_pkey_issue(mm, map, pkey, origin, use));
	mutex_unlock(&mm->context.pkey_reissue_lock);

	return pkey;
}

/*
 * What mm_pkey_take() does for user space, where that needs no lock: the first
 * choice is right, and was never used, or there is nobody else. That is nearly
 * always so. Return: 0 if it is not.
 */
static __always_inline int mm_pkey_take_fast(struct mm_struct *mm)
{
	bool alone = mm_has_one_user(mm);
	enum pkey_origin origin;
	union pkey_map map;
	int pkey;

	/* (G): what other users did before they went is seen from here on. */
	smp_rmb();
	map = mm_pkey_map(mm);
	pkey = pkey_map_choose(map, 0, false);
	if (pkey < 0 || mm_pkey_is_held(mm, pkey))
		return 0;

	origin = pkey_map_origin(map, 0, pkey);
	if (origin == PKEY_CLEAN && !alone)
		return 0;
	if (!mm_pkey_map_change(mm, map, pkey_map_take(map, pkey, PKEY_USE_USER)))
		return 0;

	if (origin == PKEY_CLEAN)
		mm_pkey_stamp(mm, pkey);
	trace_pkey_alloc(pkey, origin, PKEY_USE_USER);
	return pkey;
}

/**
 * arch_pkey_alloc() - Take a key for the current process
 * @access_rights: The caller's rights to it, PKEY_DISABLE_ACCESS and
 *	PKEY_DISABLE_WRITE; no other bit of PKRU changes (contract A5).
 *
 * Context: Process context, no lock needed. May wait for pkey_reissue_lock, never
 * for mmap_lock (G1).
 * Return: The key, 1 to 15 (contract A3), or -ENOSPC if there is none left
 * (A4) or if the processor has none or may not use them (A2).
 */
int arch_pkey_alloc(unsigned long access_rights)
{
	struct mm_struct *mm = current->mm;
	int pkey;

	if (!arch_pkeys_enabled())
		return -ENOSPC;

	pkey = mm_pkey_take_fast(mm);
	if (!pkey)
		pkey = mm_pkey_take(mm, PKEY_USE_USER);
	if (pkey < 0)
		return pkey;

	/* (D): before the new rights are set, or giving up would take them too. */
	pkru_catch_up(mm);
	pkru_set_rights(pkey, access_rights);
	return pkey;
}

/**
 * arch_pkey_free() - Give a key of the current process back
 * @pkey: Any number.
 *
 * Context: Process context, no lock needed: of two tasks that free the same key
 * one gets -EINVAL.
 * Return: 0, or -EINVAL if @pkey is not owned by user space (contract B1).
 */
int arch_pkey_free(int pkey)
{
	struct mm_struct *mm = current->mm;
	union pkey_map map;

	do {
		map = mm_pkey_map(mm);
		if (!pkey_map_owned(map, pkey))
			return -EINVAL;
	} while (!mm_pkey_map_change(mm, map, pkey_map_free(map, pkey)));

	trace_pkey_free(pkey, mm_pkey_mappings(mm, pkey));
	return 0;
}

/**
 * mm_pkeys_dup() - fork(): the child gets the keys of its parent (contract E1)
 * @oldmm: The parent's address space.
 * @mm: The child's, new: nobody else can see it. Its mappings have been counted
 *	as they were copied.
 *
 * Other tasks of @oldmm may go on allocating and freeing, mmap_lock does not
 * stop them. The lock keeps re-issues out, so that what is copied of them belongs
 * together. Without it:
 *
 *	pkey_alloc()                         fork()
 *	  the number of key 3 is 8
 *	                                       copies the numbers, and epoch 7
 *	  epoch 8
 *
 * The first re-issue in the child is number 8 too, and takes the rights to key 3
 * as well.
 *
 * Context: mmap_lock of both held for writing.
 */
void mm_pkeys_dup(struct mm_struct *oldmm, struct mm_struct *mm)
{
	mutex_lock(&oldmm->context.pkey_reissue_lock);
	atomic64_set(&mm->context.pkey_map, mm_pkey_map(oldmm).word);
	memcpy(mm->context.pkey_reissued, oldmm->context.pkey_reissued,
	       sizeof(mm->context.pkey_reissued));
	mm->context.pkey_epoch = oldmm->context.pkey_epoch;
	mutex_unlock(&oldmm->context.pkey_reissue_lock);

	mm_pkeys_check(mm);
}

#ifdef CONFIG_DEBUG_VM
/**
 * mm_pkeys_check() - Compare the counts with a walk over all mappings
 * @mm: The address space, at fork() the new one, or at its end.
 *
 * Context: mmap_lock held.
 */
void mm_pkeys_check(struct mm_struct *mm)
{
	unsigned int counted, walked[PKEY_MAP_KEYS] = {};
	struct vm_area_struct *vma;
	VMA_ITERATOR(vmi, mm, 0);
	int pkey;

	mmap_assert_locked(mm);
	for_each_vma(vmi, vma) {
		/* The mark that a fork() which ran out of memory left. */
		if (xa_is_zero(vma))
			return;
		walked[vma_pkey(vma)]++;
	}

	for (pkey = 1; pkey < PKEY_MAP_KEYS; pkey++) {
		counted = mm_pkey_mappings(mm, pkey);
		WARN_ONCE(counted != walked[pkey],
			  "protection key %d: %u mappings counted, %u found\n",
			  pkey, counted, walked[pkey]);
	}
}
#endif

/**
 * execute_only_pkey() - Find the key for execute-only memory
 * @mm: The address space of the current task.
 *
 * The first caller reserves the key, for as long as @mm exists. The calling
 * task loses access to it (contract D1), in case it had any: a task may write
 * what it likes to PKRU, for keys that are not allocated too.
 *
 * Context: Process context, mmap_lock held for writing, so that no two callers
 * reserve a key each.
 * Return: The key, 1 to 15, or ARCH_DEFAULT_PKEY if there is none left or the
 * processor has none: execute-only memory is readable then (D2).
 */
int execute_only_pkey(struct mm_struct *mm)
{
	int pkey;

	if (!arch_pkeys_enabled())
		return ARCH_DEFAULT_PKEY;

	mmap_assert_write_locked(mm);
	pkey = mm_pkey_map(mm).exec_only;
	if (!pkey)
		pkey = mm_pkey_take(mm, PKEY_USE_EXEC_ONLY);
	if (pkey < 0)
		return ARCH_DEFAULT_PKEY;

	pkru_set_rights(pkey, PKEY_DISABLE_ACCESS);
	return pkey;
}

/*
 * The key that mprotect() gives a mapping: one that becomes execute-only gets the
 * execute-only key (contract D1); one that has it and becomes something else goes
 * back to key 0 (D3); all others keep theirs.
 */
int __arch_override_mprotect_pkey(struct vm_area_struct *vma, int prot)
{
	struct mm_struct *mm = vma->vm_mm;
	int exec_only;

	mmap_assert_write_locked(mm);
	if (prot == PROT_EXEC) {
		exec_only = execute_only_pkey(mm);
		if (exec_only != ARCH_DEFAULT_PKEY)
			return exec_only;
	} else if (vma_pkey(vma) == mm_pkey_map(mm).exec_only) {
		return ARCH_DEFAULT_PKEY;
	}

	return vma_pkey(vma);
}

static const char *pkey_state_name(union pkey_map map, int pkey, int mappings)
{
	if (pkey == ARCH_DEFAULT_PKEY)
		return "default";
	if (pkey == map.exec_only)
		return "execute-only";
	if (map.allocated & BIT(pkey))
		return "allocated";
	return mappings ? "waiting" : "free";
}

/**
 * proc_pid_pkeys() - Show the keys of a process in /proc/PID/pkeys
 * @m: The file.
 * @ns: Not used.
 * @pid: Not used.
 * @task: A task of the process.
 *
 * One line for each key that is or was in use. "waiting" is a key that was
 * freed and that mappings still carry. What is shown of different keys may be
 * of slightly different moments.
 *
 * Context: Process context, no lock needed.
 * Return: 0, -EACCES for those who may not look at the memory of @task, or -ESRCH
 * if it has none.
 */
int proc_pid_pkeys(struct seq_file *m, struct pid_namespace *ns, struct pid *pid,
		   struct task_struct *task)
{
	struct mm_struct *mm = mm_access(task, PTRACE_MODE_READ_FSCREDS);
	union pkey_map map;
	int pkey, mappings;

	if (IS_ERR_OR_NULL(mm))
		return mm ? PTR_ERR(mm) : -ESRCH;

	map = mm_pkey_map(mm);
	seq_puts(m, "key state        mappings\n");
	for (pkey = 0; pkey < PKEY_MAP_KEYS; pkey++) {
		if (!(map.used & BIT(pkey)))
			continue;

		mappings = mm_pkey_mappings(mm, pkey);
		seq_printf(m, "%3d %-12s ", pkey, pkey_state_name(map, pkey, mappings));
		if (pkey == ARCH_DEFAULT_PKEY)
			seq_puts(m, "       -\n");
		else
			seq_printf(m, "%8d\n", mappings);
	}

	mmput(mm);
	return 0;
}

/* Both rights bits of key 0; no setting may deny a program its ordinary memory. */
#define PKRU_DEFAULT_PKEY_MASK	(PKRU_AD_BIT | PKRU_WD_BIT)

/*
 * The value of PKRU after execve() and at the start of a signal handler:
 * access disabled for each key but key 0, so that a thread cannot reach memory
 * whose key somebody else allocates later. Written by the boot parameter and
 * the debugfs file, read without a lock through pkru_get_init_value().
 */
u32 init_pkru_value = 0x55555554;

static int init_pkru_set(void *data, u64 val)
{
	if (val > U32_MAX || val & PKRU_DEFAULT_PKEY_MASK)
		return -EINVAL;

	WRITE_ONCE(init_pkru_value, val);
	return 0;
}

static int init_pkru_get(void *data, u64 *val)
{
	*val = pkru_get_init_value();
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(init_pkru_fops, init_pkru_get, init_pkru_set, "0x%llx\n");

static int __init init_pkru_debugfs(void)
{
	if (arch_pkeys_enabled())
		debugfs_create_file_unsafe("init_pkru", 0600, arch_debugfs_dir,
					   NULL, &init_pkru_fops);
	return 0;
}
late_initcall(init_pkru_debugfs);

static int __init init_pkru_setup(char *arg)
{
	u64 val;

	if (kstrtou64(arg, 0, &val) || init_pkru_set(NULL, val))
		pr_warn("init_pkru=%s ignored: not a 32-bit number that leaves key 0 open\n",
			arg);
	return 1;
}
__setup("init_pkru=", init_pkru_setup);
