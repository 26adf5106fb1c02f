// SPDX-License-Identifier: GPL-2.0-only
/*
 * Protection keys, the x86 mechanism: the keys of an address space, the rights
 * register PKRU and the execute-only key. What the system calls promise, and the
 * life of a key, is described in mm/pkeys.c.
 */
#include <linux/debugfs.h>
#include <linux/export.h>
#include <linux/init.h>
#include <linux/kstrtox.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/mutex.h>
#include <linux/pkeys.h>
#include <linux/prctl.h>
#include <linux/printk.h>
#include <linux/ptrace.h>
#include <linux/random.h>
#include <linux/rseq.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/string_helpers.h>
#include <linux/sysctl.h>

#include <asm/pkru.h>
#include <asm/tlbflush.h>

#define CREATE_TRACE_POINTS
#include <asm/trace/pkeys.h>

/*
 * Changing the rights of all tasks
 * --------------------------------
 * When a clean key is handed out again, no other task may keep rights to it
 * (contract F4); PR_PKEY_SET_RIGHTS gives all tasks the same rights (I2). PKRU
 * belongs to the task that runs with it, and no other task can write it. So each
 * task changes its own PKRU, before anything acts for it:
 *
 * 1. mm_pkeys.lock keeps others from taking a key and from changing rights.
 * 2. The caller applies earlier changes to its own rights, then sets its rights to
 *    the key.
 * 3. The change gets a number, the epoch, which the caller remembers first. The
 *    key's entry in mm_pkeys.change says which rights the change sets;
 *    mm_pkeys.epoch is the number of the last change.
 * 4. All other tasks that use the mm get TIF_NOTIFY_RESUME.
 * 5. An empty IPI brings those that are in user mode into the kernel.
 *
 * pkeys_sync() applies the changes that are later than the epoch that the task
 * remembers, and remembers the last. It runs wherever something is about to act
 * with the task's PKRU, so that the order does not depend on who queued what:
 *
 *  - first thing in resume_user_mode_work(), and there again before rseq; in the loop
 *    on the way to user mode before the slice extension of rseq, and after schedule()
 *    before signals, uprobes and the fixup of robust futexes;
 *  - before a signal is delivered or core dumped, perhaps after the task was stopped;
 *  - before each callback of task_work_run(), which runs them last in, first out;
 *  - before each request that io_uring starts and each item of its own lists:
 *    its worker and submission threads never return to user mode;
 *  - before each work of a vhost worker, which does not either;
 *  - before a new task stores its number (set_child_tid), and before a task that exits
 *    or calls execve() writes robust futexes and clear_child_tid.
 *
 * These act for a task without pkeys_sync(), and need none: system calls, and
 * instructions that the kernel emulates, that began before the change; BPF task work
 * and deferred unwinding, which are callbacks of task_work_run() (a task that exits
 * unwinds in do_exit(): in such a system call, or just after get_signal()).
 *
 * Bits of other keys do not change, sleeping tasks sleep on, no system call is
 * interrupted. mmap_lock and tasklist_lock are not needed.
 *
 * (A) A task in user mode, or about to be:
 *
 *	pkey_alloc()                         other task
 *	  sets its TIF_NOTIFY_RESUME
 *	                                       runs in user mode, with old rights
 *	  IPI
 *	                                       interrupted; on the way back sees
 *	                                       the flag, changes its PKRU
 *	  IPI has been handled
 *	  returns                              next instruction, with new rights
 *
 *     The IPI goes to the processors that run a task with the mm, not to those that
 *     are idle or run a kernel thread or another process. If one of those switches to
 *     a task with the mm afterwards, the flag of this task was set before: it changes
 *     its PKRU before it gets to user mode.
 *
 *     The task clears the flag, then reads the epoch; the caller writes the epoch,
 *     then sets the flag. So a task that finds the old epoch gets the flag again.
 *
 * (B) A task in the making has a copy of its creator's PKRU and epoch before it
 *     is on the task list:
 *
 *	pkey_alloc()                         clone()
 *	                                       copies PKRU, with old rights
 *	  epoch 8
 *	  walks the list                       puts the child on the list
 *	                                       reads the epoch: 8, the copy is
 *	                                       older: changes the copy
 *
 *     Either the walk finds the child or the creator sees the epoch.
 *
 * (C) The caller of pkey_alloc() may itself have rights to change, because another
 *     thread was given the same key before. It applies those changes before it
 *     sets its new rights, not after.
 *
 * (D) pkey_alloc() is overtaken, by calls with keys that are not the caller's:
 *
 *	pkey_alloc()             pkey_free(5)             pkey_alloc()
 *	  takes 5
 *	                           frees 5
 *	                                                    waits for the lock
 *	  sets its rights to 5
 *	  drops the lock
 *	                                                    takes 5, revokes the
 *	                                                      first caller's rights
 *
 *     The caller sets its own rights under the lock. Without that it could apply
 *     the revocation first, as (C) demands, and set its rights after it.
 *
 * (E) pkey_alloc() takes no lock if the mm has one user. If mm_users were read
 *     last, another user could exit in between:
 *
 *	pkey_alloc()                         other task
 *	  the map says that 5 is free
 *	  no mapping carries 5
 *	                                       gets 5, maps it, frees it, exits
 *	  is the only user of the mm
 *	  the map is what it was: takes 5
 *
 *     So mm_users is read first. If there are other users, the lock is taken.
 *
 * (F) A key that was freed while pkey_mprotect() attaches it:
 *
 *	pkey_mprotect(p, n, prot, 5)         other task
 *	  5 is allocated: pins it
 *	                                     pkey_free(5)
 *	                                     pkey_alloc(): no mapping carries 5,
 *	                                       but it is pinned: not clean
 *	  a mapping of p gets key 5
 *	  unpins 5
 *
 *     Looking at the key and pinning it are one cmpxchg of the map, and so is
 *     taking the key.
 *
 * (G) A signal frame that is older than a change, see pkeys_restore_sigframe().
 */

/* pkey_alloc() takes the two rights bits of a key as PKRU holds them (A5). */
static_assert(PKEY_DISABLE_ACCESS == PKRU_AD_BIT && PKEY_DISABLE_WRITE == PKRU_WD_BIT);

/* Both rights bits of a key. */
#define PKRU_BITS_MASK	(PKRU_AD_BIT | PKRU_WD_BIT)

/* Enabled before a task can change the rights of others, and never disabled again. */
DEFINE_STATIC_KEY_FALSE(pkeys_broadcast_key);
EXPORT_SYMBOL_GPL(pkeys_broadcast_key);

static bool pkeys_broadcast_enabled __read_mostly;

/*
 * Make tasks look for changes of rights. static_key_enabled() is true before all code
 * is patched; pkeys_broadcast_enabled is true only after that.
 */
static void pkeys_enable_broadcast(void)
{
	/* Pairs with the store below. */
	if (likely(smp_load_acquire(&pkeys_broadcast_enabled)))
		return;

	static_branch_enable(&pkeys_broadcast_key);
	/* Pairs with the loads of the flag. */
	smp_store_release(&pkeys_broadcast_enabled, true);
}

static noinline bool __pkeys_enable_broadcast_for(struct mm_pkeys *pkeys, int pkey)
{
	if (!pkey_map_owned(pkeys_map(pkeys), pkey))
		return false;

	pkeys_enable_broadcast();
	return true;
}

/*
 * Enable the broadcast, but not for a call that fails because @pkey is not allocated
 * (G3). Return: false if the broadcast stays off.
 */
static __always_inline bool pkeys_enable_broadcast_for(struct mm_pkeys *pkeys, int pkey)
{
	/* Pairs with pkeys_enable_broadcast(). */
	return likely(smp_load_acquire(&pkeys_broadcast_enabled)) ||
	       __pkeys_enable_broadcast_for(pkeys, pkey);
}

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
	u32 old = rdpkru();
	u32 new = (old & ~(PKRU_BITS_MASK << shift)) | access_rights << shift;

	if (new != old)
		wrpkru(new);
}

/*
 * A change of the rights to one key, as mm_pkeys.change holds it: its epoch, which
 * of the two bits it sets (@mask), and to what.
 */
static u64 pkey_change(u64 epoch, u32 mask, u32 access_rights)
{
	return epoch << 4 | mask << 2 | access_rights;
}

/*
 * pkru_changed() - Apply changes of rights to a PKRU value
 * @pkeys: The keys of the address space.
 * @since: Changes up to this epoch are in @pkru.
 * @pkru: The value.
 * @keep: Bits that later changes do not override, see (G).
 *
 * Return: The new value.
 */
static u32 pkru_changed(struct mm_pkeys *pkeys, u64 since, u32 pkru, u32 keep)
{
	int pkey, shift;
	u64 change;
	u32 mask;

	for (pkey = 1; pkey < PKEY_MAP_KEYS; pkey++) {
		change = READ_ONCE(pkeys->change[pkey]);
		if (change >> 4 <= since)
			continue;

		shift = pkey * PKRU_BITS_PER_PKEY;
		mask = (change >> 2 & PKRU_BITS_MASK) << shift;
		/* F6: bits in @keep stay; I4: so does the other bit, if not re-issued. */
		if (READ_ONCE(pkeys->reissued[pkey]) > since)
			mask &= ~keep;
		if (!(keep & mask))
			pkru = (pkru & ~mask) | ((change & PKRU_BITS_MASK) << shift & mask);
	}
	return pkru;
}

/*
 * The keys with different bits in two PKRU values, one bit a key.
 */
static u16 pkru_differs(u32 a, u32 b)
{
	u32 bits = a ^ b;
	u16 pkeys = 0;
	int pkey;

	for (pkey = 0; bits; pkey++, bits >>= PKRU_BITS_PER_PKEY)
		if (bits & PKRU_BITS_MASK)
			pkeys |= BIT(pkey);
	return pkeys;
}

/*
 * Abort the current task out of an rseq critical section (contract F7): it may
 * have read PKRU there, and be about to write back what it read.
 */
static void pkru_abort_rseq(void)
{
	guard(irqsave)();
	rseq_sched_switch_event(current);
	/* This ends a slice extension: do what its timer would have done then. */
	if (rseq_slice_granted(current))
		set_need_resched_current();
}

/*
 * Apply the changes of rights that the current task has not seen. @epoch was read
 * before the changes and is remembered after them: a change that is made meanwhile
 * is applied now or the next time.
 */
static noinline void pkru_apply(struct mm_pkeys *pkeys, u64 epoch)
{
	struct thread_struct *thread = &current->thread;
	u32 before = read_pkru();
	u32 after = pkru_changed(pkeys, thread->pkey_epoch, before, 0);

	write_pkru(after);
	WRITE_ONCE(thread->pkey_epoch, epoch);
	if (after == before)
		return;

	pkru_abort_rseq();
	trace_pkey_revoke(pkru_differs(before, after), epoch);
}

/* This is inline, because mostly there is nothing to apply. */
static __always_inline void pkru_sync(struct mm_pkeys *pkeys)
{
	/* Pairs with mm_pkeys_change(): the changes are read after this. */
	u64 epoch = smp_load_acquire(&pkeys->epoch);

	if (unlikely(current->thread.pkey_epoch != epoch))
		pkru_apply(pkeys, epoch);
}

/* The slow path of pkeys_sync(), used once pkeys_broadcast_key is on. */
void __pkeys_sync(void)
{
	struct mm_struct *mm = current->mm;
	struct mm_pkeys *pkeys;

	/* A kernel thread that borrows the mm has the initial rights. */
	if (!mm || current->flags & PF_KTHREAD)
		return;

	pkeys = mm_pkeys(mm);
	if (pkeys)
		pkru_sync(pkeys);
}
EXPORT_SYMBOL_GPL(__pkeys_sync);

/*
 * (B): Apply to a new task what was changed since its PKRU was copied. From here on
 * mm_pkeys_notify() finds it on the task list.
 */
void __pkeys_sync_new_task(struct task_struct *p, struct mm_pkeys *pkeys)
{
	/* Pairs with mm_pkeys_change(): the changes are read after this. */
	u64 epoch = smp_load_acquire(&pkeys->epoch);

	WRITE_ONCE(p->thread.pkey_issues, READ_ONCE(pkeys->issues));
	if (likely(epoch == p->thread.pkey_epoch))
		return;

	WRITE_ONCE(p->thread.pkru,
		   pkru_changed(pkeys, p->thread.pkey_epoch, p->thread.pkru, 0));
	/* Pairs with task_rights_not_running(). */
	smp_store_release(&p->thread.pkey_epoch, epoch);
}

/*
 * (G): The PKRU of a signal frame must not bring back rights from before a change
 * (contract F6, I4). Bits that the handler changed in the frame stay, and with them
 * the other bit of a key that was not re-issued since. A change that is made later
 * sets TIF_NOTIFY_RESUME, and the task applies it then.
 *
 * A frame with another id, or an epoch later than the last, is from another address
 * space, and counts as older than every change.
 */
void __pkeys_restore_sigframe(const struct _fpx_sw_bytes *sw_bytes, struct mm_pkeys *pkeys)
{
	/* Pairs with mm_pkeys_change(): the changes are read after this. */
	u64 epoch = smp_load_acquire(&pkeys->epoch);
	u64 saved = sw_bytes->pkey_stamp - 1;
	u32 pkru, keep = 0;

	if (sw_bytes->pkey_id != pkeys->id || saved > epoch)
		saved = 0;
	if (likely(saved == epoch))
		return;

	pkru = read_pkru();
	/* Was PKRU restored from the frame? If not, the handler changed nothing. */
	if (sw_bytes->xfeatures & XFEATURE_MASK_PKRU)
		keep = pkru ^ sw_bytes->pkru;
	write_pkru(pkru_changed(pkeys, saved, pkru, keep));
}

/*
 * Flag the threads of a group that use @mm, the current task excepted.
 * Return: how many use it, the current task included.
 */
static int mm_pkeys_flag(struct mm_struct *mm, struct task_struct *group)
{
	struct mm_struct *its_mm;
	struct task_struct *t;
	int users = 0;

	for_each_thread(group, t) {
		its_mm = READ_ONCE(t->mm);
		/* An exiting task has no mm; the others of a group share one mm. */
		if (its_mm && its_mm != mm)
			break;
		if (!its_mm)
			continue;

		users++;
		if (t != current)
			set_tsk_thread_flag(t, TIF_NOTIFY_RESUME);
	}
	return users;
}

static bool is_kthread(struct task_struct *t)
{
	/* A task changes its other flags meanwhile, but this one never. */
	return data_race(t->flags) & PF_KTHREAD;
}

static void pkey_ipi(void *mm)
{
}

/*
 * (A): Does @cpu run a task with @mm, or switch to one? A processor first stores
 * LOADED_MM_SWITCHING, or that it is not lazy any more. Then it executes a full
 * barrier: in switch_mm_irqs_off(), in the next __schedule(), or where
 * finish_task_switch() drops the lazy mm. Last it reads the flags of the task, on the
 * way to user mode.
 */
static bool cpu_runs_mm(int cpu, void *mm)
{
	struct mm_struct *loaded = READ_ONCE(per_cpu(cpu_tlbstate.loaded_mm, cpu));

	return (loaded == mm || loaded == LOADED_MM_SWITCHING) &&
		!READ_ONCE(per_cpu(cpu_tlbstate_shared.is_lazy, cpu));
}

/*
 * Make all other tasks that use @mm apply a change, before their next instruction in
 * user mode. Return: how many there are.
 */
static noinline int mm_pkeys_notify(struct mm_struct *mm)
{
	/* The sighand of current does not go away. */
	struct sighand_struct *sighand = rcu_dereference_protected(current->sighand, true);
	struct task_struct *group;
	unsigned long flags;
	int users, found;

	/*
	 * (B): the epoch first, then the list. Pairs with pkeys_sync_new_task().
	 * (A): the epoch first, then the flags. Pairs with resume_user_mode_work().
	 */
	smp_mb();

	/*
	 * No thread joins this group while siglock is held. If the group has as
	 * many tasks as the mm has users, there are no others. The users are read
	 * first: tasks that exit meanwhile, and users that are not tasks, only
	 * make @found less than @users. Pairs with mmput().
	 */
	spin_lock_irqsave(&sighand->siglock, flags);
	users = atomic_read_acquire(&mm->mm_users);
	found = mm_pkeys_flag(mm, current);
	spin_unlock_irqrestore(&sighand->siglock, flags);

	/*
	 * Do not stop at @users: a new task may have been counted in place of an
	 * old one not yet reached.
	 */
	if (found < users) {
		rcu_read_lock();
		/* A kernel thread that borrows the mm has the initial rights. */
		for_each_process(group)
			if (!is_kthread(group) && !same_thread_group(group, current))
				found += mm_pkeys_flag(mm, group);
		rcu_read_unlock();
	}

	/* The other users are no tasks, or not on the list yet: (B). */
	if (found == 1)
		return 0;

	/*
	 * (A): set the flags, then read which processors run the mm. Another one
	 * has to come through switch_mm_irqs_off() to use it, and will see the flag
	 * of the task that it then runs.
	 */
	smp_mb();
	on_each_cpu_cond_mask(cpu_runs_mm, pkey_ipi, mm, true, mm_cpumask(mm));
	return found - 1;
}

/*
 * Is the current task the only user of @mm? If so, no other task can join.
 * A reference through /proc, process_madvise() or userfaultfd does not allocate,
 * free or attach a key.
 * (E): what former users did is visible from here on.
 */
static bool mm_has_one_user(struct mm_struct *mm)
{
	return atomic_read_acquire(&mm->mm_users) == 1;
}

/*
 * Change the rights of all other tasks to one key. The caller has applied all earlier
 * changes and has set its own rights. Its epoch is stored before others see the new one,
 * so that task_rights_get() does not apply this change to it. If @others, the caller
 * holds mm_pkeys.lock. Return: the number of other tasks notified.
 */
static __always_inline int
mm_pkeys_change(struct mm_struct *mm, struct mm_pkeys *pkeys, bool others, int pkey, u32 mask,
		u32 access_rights)
{
	u64 epoch = pkeys->epoch + 1;

	WRITE_ONCE(current->thread.pkey_epoch, epoch);
	WRITE_ONCE(pkeys->change[pkey], pkey_change(epoch, mask, access_rights));
	/* Whoever reads this epoch sees which key it is. Pairs with pkru_sync(). */
	smp_store_release(&pkeys->epoch, epoch);

	return others ? mm_pkeys_notify(mm) : 0;
}

/**
 * mm_pkeys_create() - Make what an address space needs for its keys
 * @mm: The address space.
 *
 * Context: Process context. Several tasks may try at once, one succeeds.
 * Return: The keys of @mm, whoever made them, or NULL without memory.
 */
struct mm_pkeys *mm_pkeys_create(struct mm_struct *mm)
{
	struct mm_pkeys *pkeys, *old;

	pkeys = kzalloc_obj(*pkeys, GFP_KERNEL_ACCOUNT);
	if (!pkeys)
		return NULL;

	atomic64_set(&pkeys->map, pkey_map_init().word);
	mutex_init(&pkeys->lock);
	/* The id is not 0: frames of a process without keys have 0. */
	pkeys->id = get_random_u32() | 1;

	old = cmpxchg(&mm->context.pkeys, NULL, pkeys);
	if (!old)
		return pkeys;

	kfree(pkeys);
	return old;
}

static struct mm_pkeys *mm_pkeys_get(struct mm_struct *mm)
{
	return mm_pkeys(mm) ?: mm_pkeys_create(mm);
}

/* Free the keys of an mm that is gone, with all its mappings. */
void mm_pkeys_free(struct mm_struct *mm)
{
	kfree(mm->context.pkeys);
}

/*
 * Publish @new, if the map is still *@old, or else read it again into *@old. Success
 * implies a full barrier.
 */
static bool mm_pkeys_map_change(struct mm_pkeys *pkeys, union pkey_map *old, union pkey_map new)
{
	return atomic64_try_cmpxchg(&pkeys->map, (s64 *)&old->word, new.word);
}

/* A pin of a key is a bit in a union pkey_map. A pin of key 0 has no effect. */
static u64 pkey_pin(int pkey)
{
	return pkey_map_bits((union pkey_map){ .pinned = 1 }, pkey);
}

/* (F): pin the key that @vma has and the one that it gets, see vma_pkey_pin(). */
int __vma_pkey_pin(struct vm_area_struct *vma, int pkey)
{
	struct mm_pkeys *pkeys = mm_pkeys(vma->vm_mm);
	u64 pins = pkey_pin(vma_pkey(vma)) | pkey_pin(pkey);
	union pkey_map map = pkeys_map(pkeys), new;

	mmap_assert_write_locked(vma->vm_mm);
	/* mprotect_fixup() refuses to change it, and a refused call pins nothing (C3). */
	if (vma->vm_flags & VM_SEALED)
		return 0;

	do {
		/* An earlier mapping of the same call may have pinned it already. */
		if (!pkey_map_attachable(map, pkey) && pkey != map.exec_only &&
		    !(map.word & pkey_pin(pkey)))
			return -EINVAL;

		new.word = map.word | pins;
	} while (!mm_pkeys_map_change(pkeys, &map, new));

	return 0;
}

/* Unpin all keys, see mm_pkeys_unpin(). */
void __mm_pkeys_unpin(struct mm_pkeys *pkeys)
{
	union pkey_map pins = { .pinned = U16_MAX };

	/* The counts and the TLB flush come first. Pairs with mm_pkey_take(). */
	smp_mb__before_atomic();
	atomic64_andnot(pins.word, &pkeys->map);
}

/*
 * vm.pkey_reuse_mapped: may pkey_alloc() hand out a key that mappings still
 * carry, when there is no other (contract F3)? It is read without a lock.
 */
static int sysctl_pkey_reuse_mapped __read_mostly = 1;

static const struct ctl_table pkey_sysctls[] = {
	{
		.procname	= "pkey_reuse_mapped",
		.data		= &sysctl_pkey_reuse_mapped,
		.maxlen		= sizeof(sysctl_pkey_reuse_mapped),
		.mode		= 0644,
		.proc_handler	= proc_dointvec_minmax,
		.extra1		= SYSCTL_ZERO,
		.extra2		= SYSCTL_ONE,
	},
};

static int __init pkey_sysctl_init(void)
{
	register_sysctl_init("vm", pkey_sysctls);
	return 0;
}
late_initcall(pkey_sysctl_init);

/* May a key that mappings carry be taken for @use? */
static bool pkey_reuse_mapped(enum pkey_use use)
{
	return use == PKEY_USE_USER && READ_ONCE(sysctl_pkey_reuse_mapped);
}

/*
 * Choose a key for @use, and say in @origin which state it is in: retry without the
 * keys that mappings carry, then accept those, and the keys that an mprotect() under
 * way has pinned.
 *
 * @map was read first, the counts after it. A count falls to 0 after the key was
 * pinned, and the pin goes after the TLB flush. So either the map that was read has
 * the pin, or the map has changed when the caller tries to publish its choice, or
 * no TLB holds the key. The count of a key that is not pinned cannot rise from 0
 * meanwhile: the key is free, and the lock keeps others from taking it.
 */
static __always_inline int mm_pkey_choose(struct mm_pkeys *pkeys, union pkey_map map,
					  enum pkey_use use, enum pkey_origin *origin)
{
	u16 mapped = 0;
	int pkey;

	while ((pkey = pkey_map_choose(map, mapped, false)) > 0) {
		*origin = pkey_map_origin(map, mm_pkey_mappings(pkeys, pkey), pkey);
		if (*origin != PKEY_MAPPED)
			return pkey;

		mapped |= BIT(pkey);
	}

	pkey = pkey_map_choose(map, mapped, pkey_reuse_mapped(use));
	if (pkey > 0)
		*origin = pkey_map_origin(map, mm_pkey_mappings(pkeys, pkey), pkey);
	return pkey;
}

/* Take a key for @use, and say what it was before. */
static __always_inline int mm_pkey_take(struct mm_pkeys *pkeys, enum pkey_use use,
					enum pkey_origin *origin)
{
	union pkey_map map = pkeys_map(pkeys);
	int pkey;

	do {
		/*
		 * The map first, then the counts. Pairs with __mm_pkeys_unpin(), and
		 * with arch_pkey_free(), after which no mapping gets the key but by
		 * an mprotect() that has pinned it.
		 */
		smp_rmb();
		pkey = mm_pkey_choose(pkeys, map, use, origin);
		if (pkey < 0)
			return pkey;
	} while (!mm_pkeys_map_change(pkeys, &map, pkey_map_take(map, pkey, use)));

	return pkey;
}

/*
 * Take a key and set the rights to it: in scope process those of all tasks (I5),
 * otherwise those of the caller. In the latter case all other tasks lose their rights to
 * a clean key (F4), and keep those to a key that mappings carry (F3); a key that was never
 * used needs no change (F5). The counts alone decide: a key that is pinned but not
 * counted, which may be taken as the last resort, is clean here. If @others, the caller
 * holds mm_pkeys.lock.
 */
static __always_inline int mm_pkey_issue(struct mm_struct *mm, struct mm_pkeys *pkeys,
					 bool others, enum pkey_use use, u32 access_rights)
{
	enum pkey_origin origin;
	int pkey, notified;

	/* (C) */
	pkru_sync(pkeys);

	pkey = mm_pkey_take(pkeys, use, &origin);
	if (pkey < 0)
		return pkey;

	/* (D): under the lock. */
	pkru_set_rights(pkey, access_rights);
	WRITE_ONCE(pkeys->issues, pkeys->issues + 1);
	WRITE_ONCE(pkeys->issued[pkey], pkeys->issues);
	/* Write this before the epoch: sigreturn reads the epoch, then this. */
	if (origin == PKEY_CLEAN)
		WRITE_ONCE(pkeys->reissued[pkey], pkeys->epoch + 1);
	if (use == PKEY_USE_USER && arch_pkey_scope() == PR_PKEY_SCOPE_PROCESS) {
		notified = mm_pkeys_change(mm, pkeys, others, pkey, PKRU_BITS_MASK, access_rights);
		trace_pkey_set_rights(pkey, access_rights, pkeys->epoch, notified);
	} else if (origin == PKEY_CLEAN) {
		notified = mm_pkeys_change(mm, pkeys, others, pkey, PKRU_AD_BIT, PKRU_AD_BIT);
		if (others)
			trace_pkey_reissue(pkey, pkeys->epoch, notified);
	}

	trace_pkey_alloc(pkey, origin, use);
	return pkey;
}

static noinline int mm_pkey_alloc(struct mm_struct *mm, enum pkey_use use, u32 access_rights)
{
	struct mm_pkeys *pkeys = mm_pkeys_get(mm);
	int pkey;

	if (!pkeys)
		return -ENOSPC;

	mutex_lock(&pkeys->lock);
	pkey = mm_pkey_issue(mm, pkeys, !mm_has_one_user(mm), use, access_rights);
	mutex_unlock(&pkeys->lock);
	return pkey;
}

/**
 * arch_pkey_alloc() - Take a key for the current process
 * @access_rights: The caller's rights to it, PKEY_DISABLE_ACCESS and
 *	PKEY_DISABLE_WRITE; no other bit of PKRU changes (contract A5). In scope
 *	process the rights of all tasks (I5).
 *
 * Context: Process context, no lock needed. May wait for mm_pkeys.lock, never
 * for mmap_lock (G1).
 * Return: The key, 1 to 15 (contract A3), or -ENOSPC if there is none left
 * (A4), no memory to keep account of it, or if the processor has none or may
 * not use them (A2).
 */
int arch_pkey_alloc(unsigned long access_rights)
{
	struct mm_struct *mm = current->mm;
	struct mm_pkeys *pkeys = mm_pkeys(mm);

	if (!arch_pkeys_enabled())
		return -ENOSPC;
	/* The only user of the mm needs no lock: (E). */
	if (pkeys && mm_has_one_user(mm))
		return mm_pkey_issue(mm, pkeys, false, PKEY_USE_USER, access_rights);

	return mm_pkey_alloc(mm, PKEY_USE_USER, access_rights);
}

/**
 * arch_pkey_free() - Free a key of the current process
 * @pkey: Any number.
 *
 * Context: Process context, no lock needed: of two tasks that free the same key
 * one gets -EINVAL.
 * Return: 0, or -EINVAL if @pkey is not owned by user space (contract B1).
 */
int arch_pkey_free(int pkey)
{
	struct mm_pkeys *pkeys = mm_pkeys(current->mm);
	union pkey_map map;

	if (!pkeys)
		return -EINVAL;

	/* The key may be handed out again as soon as it is free. */
	if (!pkeys_enable_broadcast_for(pkeys, pkey))
		return -EINVAL;

	map = pkeys_map(pkeys);
	do {
		if (!pkey_map_owned(map, pkey))
			return -EINVAL;
	} while (!mm_pkeys_map_change(pkeys, &map, pkey_map_free(map, pkey)));

	trace_pkey_free(pkeys, pkey);
	return 0;
}

/**
 * arch_pkey_set_rights() - Give all tasks the same rights to a key (contract I)
 * @pkey: Any number.
 * @access_rights: PKEY_DISABLE_ACCESS and PKEY_DISABLE_WRITE.
 *
 * Context: Process context, no lock needed. May wait for mm_pkeys.lock.
 * Return: 0, or -EINVAL if @pkey is not owned by user space.
 */
int arch_pkey_set_rights(unsigned long pkey, unsigned long access_rights)
{
	struct mm_struct *mm = current->mm;
	struct mm_pkeys *pkeys = mm_pkeys(mm);
	int notified, ret = -EINVAL;

	if (!pkeys || pkey >= PKEY_MAP_KEYS || !pkeys_enable_broadcast_for(pkeys, pkey))
		return -EINVAL;

	mutex_lock(&pkeys->lock);
	if (pkey_map_owned(pkeys_map(pkeys), pkey)) {
		pkru_sync(pkeys);
		pkru_set_rights(pkey, access_rights);
		notified = mm_pkeys_change(mm, pkeys, !mm_has_one_user(mm), pkey, PKRU_BITS_MASK,
					   access_rights);
		trace_pkey_set_rights(pkey, access_rights, pkeys->epoch, notified);
		ret = 0;
	}
	mutex_unlock(&pkeys->lock);
	return ret;
}

/**
 * arch_pkey_set_scope() - Choose in which tasks pkey_alloc() sets rights (contract I5)
 * @scope: PR_PKEY_SCOPE_THREAD or PR_PKEY_SCOPE_PROCESS.
 *
 * Context: Process context, no lock needed. The scope is a flag of the mm.
 * Return: 0, or -EINVAL if the processor has no keys or may not use them.
 */
int arch_pkey_set_scope(unsigned long scope)
{
	if (!arch_pkeys_enabled())
		return -EINVAL;

	if (scope == PR_PKEY_SCOPE_PROCESS) {
		pkeys_enable_broadcast();
		mm_flags_set(MMF_PKEY_SCOPE_PROCESS, current->mm);
	} else {
		mm_flags_clear(MMF_PKEY_SCOPE_PROCESS, current->mm);
	}
	return 0;
}

/* The scope of the current address space. */
int arch_pkey_scope(void)
{
	return mm_flags_test(MMF_PKEY_SCOPE_PROCESS, current->mm) ?
		PR_PKEY_SCOPE_PROCESS : PR_PKEY_SCOPE_THREAD;
}

/* An execve() that gains privileges resets the scope to thread (contract I6). */
void pkeys_secure_exec(struct mm_struct *mm)
{
	mm_flags_clear(MMF_PKEY_SCOPE_PROCESS, mm);
}

/* fork(): move a mapping that carries a key, see vma_pkey_move(). */
int __vma_pkey_move(struct vm_area_struct *vma, struct mm_struct *mm)
{
	if (!mm_pkeys_get(mm))
		return -ENOMEM;

	vma_pkey_unaccount(vma);
	vma->vm_mm = mm;
	vma_pkey_account(vma);
	return 0;
}

/**
 * __mm_pkeys_dup() - Copy the keys of the parent to the child at fork() (contract E1)
 * @oldmm: The parent's address space, which has keys.
 * @mm: The child's, new: nobody else can see it. Its mappings have been counted
 *	as they were moved.
 *
 * Other tasks of @oldmm may go on allocating and freeing, mmap_lock does not
 * stop them. The lock keeps changes of rights out, so that what is copied of them
 * belongs together. Without it:
 *
 *	pkey_alloc()                         fork()
 *	  change of key 3: epoch 8
 *	                                       copies the changes, and epoch 7
 *	  epoch 8
 *
 * The first change in the child is number 8 too, and would apply to key 3 as well.
 *
 * Context: mmap_lock of both held for writing, so no key of @oldmm is pinned.
 * Return: 0, or -ENOMEM.
 */
int __mm_pkeys_dup(struct mm_struct *oldmm, struct mm_struct *mm)
{
	struct mm_pkeys *old = mm_pkeys(oldmm), *new = mm_pkeys_get(mm);

	if (!new)
		return -ENOMEM;

	mutex_lock(&old->lock);
	atomic64_set(&new->map, pkeys_map(old).word);
	memcpy(new->change, old->change, sizeof(new->change));
	memcpy(new->reissued, old->reissued, sizeof(new->reissued));
	memcpy(new->issued, old->issued, sizeof(new->issued));
	new->epoch = old->epoch;
	new->issues = old->issues;
	new->id = old->id;
	mutex_unlock(&old->lock);

	mm_pkeys_check(mm);
	return 0;
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
	struct mm_pkeys *pkeys = mm_pkeys(mm);
	struct vm_area_struct *vma;
	VMA_ITERATOR(vmi, mm, 0);
	int pkey;

	mmap_assert_locked(mm);
	if (!pkeys)
		return;

	for_each_vma(vmi, vma)
		walked[vma_pkey(vma)]++;

	for (pkey = 1; pkey < PKEY_MAP_KEYS; pkey++) {
		counted = mm_pkey_mappings(pkeys, pkey);
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
 * Return: The key, 1 to 15, or ARCH_DEFAULT_PKEY if there is none left, no memory
 * to keep account of it, or if the processor has none: execute-only memory is
 * readable then (D2).
 */
int execute_only_pkey(struct mm_struct *mm)
{
	struct mm_pkeys *pkeys;
	int pkey;

	if (!arch_pkeys_enabled())
		return ARCH_DEFAULT_PKEY;

	mmap_assert_write_locked(mm);
	pkeys = mm_pkeys(mm);
	pkey = pkeys ? pkeys_map(pkeys).exec_only : 0;
	if (!pkey) {
		pkey = mm_pkey_alloc(mm, PKEY_USE_EXEC_ONLY, PKEY_DISABLE_ACCESS);
		return pkey > 0 ? pkey : ARCH_DEFAULT_PKEY;
	}

	/* Where access is disabled already, the other bit stays as it is. */
	if (__pkru_allows_read(read_pkru(), pkey))
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
	} else if (vma_pkey(vma) != ARCH_DEFAULT_PKEY &&
		   vma_pkey(vma) == pkeys_map(mm_pkeys(mm)).exec_only) {
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
	return mappings ? "mapped" : "clean";
}

/*
 * The rights of a task, pending changes applied. The task does not run while they are
 * read: otherwise a change that it makes itself could be applied to it.
 */
struct task_rights {
	struct task_struct *task;
	struct mm_struct *mm;
	struct mm_pkeys *pkeys;
	u32 pkru;
	u64 issues;
	/* -EAGAIN until it is known what the rights are, or that there are none. */
	int err;
};

static void task_rights_fill(struct task_rights *rights, u64 epoch, u32 pkru)
{
	struct thread_struct *thread = &rights->task->thread;

	/* The task has exited or has another mm: the reader has no access to that. */
	if (READ_ONCE(rights->task->mm) != rights->mm) {
		rights->err = -ESRCH;
		return;
	}

	/* sigreturn is changing PKRU, see pkeys_begin_sigreturn(). */
	if (READ_ONCE(thread->pkey_sigreturn))
		return;

	pkru |= READ_ONCE(thread->pkey_default_rights);
	if (READ_ONCE(thread->pkey_sigframe))
		pkru = pkru_get_init_value();
	rights->pkru = pkru_changed(rights->pkeys, epoch, pkru, 0);
	rights->issues = READ_ONCE(thread->pkey_issues);
	rights->err = 0;
}

/* This runs on the processor where the task ran a moment ago. */
static void task_rights_running(void *info)
{
	struct task_rights *rights = info;

	if (rights->task == current)
		task_rights_fill(rights, current->thread.pkey_epoch, read_pkru());
}

/* The task is kept from being switched in or out. */
static int task_rights_not_running(struct task_struct *t, void *info)
{
	/* The epoch first, then PKRU. Pairs with __pkeys_sync_new_task(). */
	u64 epoch = smp_load_acquire(&t->thread.pkey_epoch);

	if (!task_curr(t))
		task_rights_fill(info, epoch, READ_ONCE(t->thread.pkru));
	return 0;
}

/*
 * Find out the rights with which a task executes its next instruction in user mode,
 * changes that are pending applied (contract K1). Return: 0, or -ESRCH if the task has
 * left the address space.
 */
static int task_rights_get(struct task_rights *rights)
{
	struct task_struct *t = rights->task;

	rights->err = -EAGAIN;
	for (;;) {
		task_call_func(t, task_rights_not_running, rights);
		if (rights->err == -EAGAIN)
			smp_call_function_single(task_cpu(t), task_rights_running, rights, 1);
		if (rights->err != -EAGAIN)
			return rights->err;
		/* It is being moved to another processor, or in sigreturn. */
		schedule_timeout_uninterruptible(1);
	}
}

/* The last two columns of /proc/PID/task/TID/pkeys. */
static void proc_show_rights(struct seq_file *m, const struct task_rights *rights,
			     union pkey_map map, int pkey)
{
	const char *may = "rw", *older = "-";

	if (!__pkru_allows_read(rights->pkru, pkey))
		may = "--";
	else if (!__pkru_allows_write(rights->pkru, pkey))
		may = "r-";

	if (pkey_map_owned(map, pkey))
		older = str_yes_no(READ_ONCE(rights->pkeys->issued[pkey]) > rights->issues);

	seq_printf(m, " %-6s %s", may, older);
}

static int proc_show_pkeys(struct seq_file *m, struct task_struct *task, bool with_rights)
{
	struct mm_struct *mm = mm_access(task, PTRACE_MODE_READ_FSCREDS);
	/* An address space without keys looks like one that has used none. */
	struct mm_pkeys none = { .map = ATOMIC64_INIT(pkey_map_init().word) };
	struct mm_pkeys *pkeys;
	union pkey_map map;
	int pkey, mappings;
	struct task_rights rights = { .task = task, .mm = mm };
	int err = 0;

	if (IS_ERR_OR_NULL(mm))
		return mm ? PTR_ERR(mm) : -ESRCH;

	pkeys = mm_pkeys(mm) ?: &none;
	map = pkeys_map(pkeys);
	rights.pkeys = pkeys;
	if (with_rights) {
		err = task_rights_get(&rights);
		if (err)
			goto out;
	}

	seq_printf(m, "key state        mappings%s\n", with_rights ? " rights older" : "");
	for (pkey = 0; pkey < PKEY_MAP_KEYS; pkey++) {
		if (!(map.used & BIT(pkey)))
			continue;

		mappings = mm_pkey_mappings(pkeys, pkey);
		seq_printf(m, "%3d %-12s ", pkey, pkey_state_name(map, pkey, mappings));
		if (pkey == ARCH_DEFAULT_PKEY)
			seq_puts(m, "       -");
		else
			seq_printf(m, "%8d", mappings);
		if (with_rights)
			proc_show_rights(m, &rights, map, pkey);
		seq_putc(m, '\n');
	}

out:
	mmput(mm);
	return err;
}

/**
 * proc_pid_pkeys() - Show the keys of a process in /proc/PID/pkeys
 * @m: The file.
 * @ns: Not used.
 * @pid: Not used.
 * @task: A task of the process.
 *
 * There is one line for each key that is or was in use. "mapped" is a key that was
 * freed and that mappings still carry, "clean" one that none carries. The lines of
 * different keys may be of slightly different moments.
 *
 * Context: Process context, no lock needed.
 * Return: 0, -EACCES for those who may not look at the memory of @task, or -ESRCH
 * if it has none.
 */
int proc_pid_pkeys(struct seq_file *m, struct pid_namespace *ns, struct pid *pid,
		   struct task_struct *task)
{
	return proc_show_pkeys(m, task, false);
}

/**
 * proc_tid_pkeys() - Show the keys, and one thread's rights to them (contract K1)
 * @m: The file, /proc/PID/task/TID/pkeys.
 * @ns: Not used.
 * @pid: Not used.
 * @task: The thread.
 *
 * The file has two columns more than /proc/PID/pkeys: the rights with which the thread
 * executes its next instruction in user mode, and whether the thread is older than
 * the issue of the key, that is, existed when the key was handed out.
 *
 * Context: Process context, no lock needed.
 * Return: As proc_pid_pkeys(); -ESRCH also if @task executes another program meanwhile.
 */
int proc_tid_pkeys(struct seq_file *m, struct pid_namespace *ns, struct pid *pid,
		   struct task_struct *task)
{
	return proc_show_pkeys(m, task, true);
}

/**
 * pkeys_trace_violation() - Trace an access that a protection key denied (contract K2)
 * @vma: The mapping. Its key may have changed since the access.
 * @address: Where the access was.
 *
 * Context: The page fault of the current task, mmap_lock or the lock of @vma held.
 */
void pkeys_trace_violation(struct vm_area_struct *vma, unsigned long address)
{
	struct mm_pkeys *pkeys = mm_pkeys(vma->vm_mm);
	int pkey = vma_pkey(vma);
	u32 rights = read_pkru() >> pkey * PKRU_BITS_PER_PKEY & PKRU_BITS_MASK;
	bool older = pkeys && READ_ONCE(pkeys->issued[pkey]) > current->thread.pkey_issues;

	trace_pkey_violation(pkey, address, rights, older);
}

/*
 * The value of PKRU after execve() and at the start of a signal handler:
 * access disabled for each key but key 0, so that a thread cannot reach memory
 * whose key somebody else allocates later. The boot parameter and the debugfs
 * file write it; pkru_get_init_value() reads it without a lock.
 */
u32 init_pkru_value = 0x55555554;

/* No setting may deny a program its ordinary memory, which has key 0. */
static int init_pkru_set(void *data, u64 val)
{
	if (val > U32_MAX || val & PKRU_BITS_MASK)
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
