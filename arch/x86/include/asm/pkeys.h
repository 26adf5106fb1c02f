/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _ASM_X86_PKEYS_H
#define _ASM_X86_PKEYS_H

#ifdef CONFIG_X86_INTEL_MEMORY_PROTECTION_KEYS

#include <linux/atomic.h>
#include <linux/jump_label.h>
#include <linux/mm_types.h>
#include <linux/mutex.h>
#include <linux/sched.h>

#include <asm/cpufeature.h>
#include <asm/pkey_map.h>
#include <asm/pkru.h>
#include <asm/sigcontext.h>
#include <uapi/asm/mman.h>

struct pid;
struct pid_namespace;
struct seq_file;

/* The bits of vm_flags that hold the key of a mapping. */
#define ARCH_VM_PKEY_FLAGS (VM_PKEY_BIT0 | VM_PKEY_BIT1 | VM_PKEY_BIT2 | VM_PKEY_BIT3)

/**
 * struct mm_pkeys - All that an address space needs for its protection keys
 *
 * The first pkey_alloc() or execute-only mapping makes it, or fork() if the
 * parent has one. It is freed with the address space. mm->context.pkeys points to
 * it, and is set once, by cmpxchg().
 *
 * @map: A union pkey_map. Any task that uses the mm changes it, atomically. A key
 *	is taken under @lock. @pinned in it changes under mmap_lock held for writing.
 * @mappings: How many mappings carry each key. They change atomically: under mmap_lock
 *	held for writing, or where nobody else sees the mapping yet or any more.
 *	Entry 0 is not used.
 * @lock: Held to take a key or to change the rights of all tasks; pkey_alloc() does
 *	without it while the mm has but one user. It nests inside mmap_lock; RCU and
 *	siglock nest inside it. It protects all that follows; readers need no lock.
 * @epoch: How many changes of rights were made.
 * @change: For each key the last such change: its epoch and what it did, see
 *	pkey_change(). It is written before @epoch.
 * @reissued: For each key the epoch in which it was last handed out as clean.
 *	It is written before @epoch.
 * @issues: How often a key was handed out.
 * @issued: For each key the value of @issues when it was last handed out.
 * @id: A random number that identifies the address space that counts the epochs.
 *	Signal frames carry it; fork() copies it, with the epochs.
 */
struct mm_pkeys {
	atomic64_t	map;
	atomic_t	mappings[PKEY_MAP_KEYS];
	struct mutex	lock;
	u64		epoch;
	u64		change[PKEY_MAP_KEYS];
	u64		reissued[PKEY_MAP_KEYS];
	u64		issues;
	u64		issued[PKEY_MAP_KEYS];
	u32		id;
};

static inline bool arch_pkeys_enabled(void)
{
	return cpu_feature_enabled(X86_FEATURE_OSPKE);
}

static inline int vma_pkey(struct vm_area_struct *vma)
{
	return (vma->vm_flags & ARCH_VM_PKEY_FLAGS) >> VM_PKEY_SHIFT;
}

/* The keys of an mm, or NULL. */
static inline struct mm_pkeys *mm_pkeys(struct mm_struct *mm)
{
	/* Pairs with the cmpxchg() of mm_pkeys_create(). */
	return smp_load_acquire(&mm->context.pkeys);
}

static inline union pkey_map pkeys_map(struct mm_pkeys *pkeys)
{
	return (union pkey_map){ .word = atomic64_read(&pkeys->map) };
}

/* A new mm, which may be a byte copy of another, has no keys yet. */
static inline void mm_pkeys_init(struct mm_struct *mm)
{
	mm->context.pkeys = NULL;
}

struct mm_pkeys *mm_pkeys_create(struct mm_struct *mm);
int __mm_pkeys_dup(struct mm_struct *oldmm, struct mm_struct *mm);
void mm_pkeys_free(struct mm_struct *mm);

/* Copy the keys of the parent to the child at fork() (contract E1). */
static inline int mm_pkeys_dup(struct mm_struct *oldmm, struct mm_struct *mm)
{
	return mm_pkeys(oldmm) ? __mm_pkeys_dup(oldmm, mm) : 0;
}

/* May user space attach the key? do_mprotect_pkey() asks, under mmap_lock (contract C1). */
static inline bool mm_pkey_is_allocated(struct mm_struct *mm, int pkey)
{
	struct mm_pkeys *pkeys = mm_pkeys(mm);

	if (!pkey)
		return arch_pkeys_enabled();

	return pkeys && pkey_map_owned(pkeys_map(pkeys), pkey);
}

/* How many mappings carry the key? */
static inline unsigned int mm_pkey_mappings(struct mm_pkeys *pkeys, int pkey)
{
	return atomic_read(&pkeys->mappings[pkey]);
}

#ifdef CONFIG_DEBUG_VM
void mm_pkeys_check(struct mm_struct *mm);
#else
static inline void mm_pkeys_check(struct mm_struct *mm)
{
}
#endif

/*
 * The mappings of each key
 * ------------------------
 * The kernel never prefers a key that a page table or TLB still holds to one that
 * none holds. The counts change with vm_flags. mprotect() changes those before the
 * page tables, so it pins the keys concerned until the TLBs are flushed.
 */

/* Account a mapping to the key in its vm_flags. */
static inline void vma_pkey_account(struct vm_area_struct *vma)
{
	int pkey = vma_pkey(vma);

	if (unlikely(pkey))
		atomic_inc(&vma->vm_mm->context.pkeys->mappings[pkey]);
}

/* Unaccount a mapping. Its page table entries are gone from all TLBs. */
static inline void vma_pkey_unaccount(struct vm_area_struct *vma)
{
	int pkey = vma_pkey(vma);

	if (likely(!pkey))
		return;

	/* The TLB flush comes first: pairs with mm_pkey_take(). */
	smp_mb__before_atomic();
	atomic_dec(&vma->vm_mm->context.pkeys->mappings[pkey]);
}

int __vma_pkey_move(struct vm_area_struct *vma, struct mm_struct *mm);

/**
 * vma_pkey_move() - fork(): move a copied mapping to the child
 * @vma: The copy, from vm_area_dup(), counted in its old mm.
 * @mm: The child's, which nobody else sees yet.
 *
 * Set vma->vm_mm, and move the count of the key.
 *
 * Context: mmap_lock of both address spaces held for writing.
 * Return: 0, or -ENOMEM; then @vma is as it was.
 */
static inline int vma_pkey_move(struct vm_area_struct *vma, struct mm_struct *mm)
{
	if (unlikely(vma_pkey(vma)))
		return __vma_pkey_move(vma, mm);

	vma->vm_mm = mm;
	return 0;
}

int __vma_pkey_pin(struct vm_area_struct *vma, int pkey);

#define vma_pkey_pin vma_pkey_pin
/**
 * vma_pkey_pin() - Pin the old and the new key of a mapping, for mprotect()
 * @vma: The mapping, of which all or a part changes.
 * @newflags: Its vm_flags afterwards.
 * @pkey: The key that pkey_mprotect() attaches, -1 for mprotect().
 *
 * Checking that @pkey is allocated and pinning it are one atomic step (contract
 * C3): a key that is freed before is refused; one that is freed later is not handed
 * out as clean until mm_pkeys_unpin(). The key that @vma loses is pinned also: page
 * tables and TLBs have it until then. A call that is refused earlier has pinned nothing.
 *
 * Context: Process context, mmap_lock held for writing.
 * Return: 0, or -EINVAL if @pkey has been freed since mm_pkey_is_allocated(). Only the
 * first mapping of a call can fail so: the key stays pinned for the others.
 */
static inline int vma_pkey_pin(struct vm_area_struct *vma, vm_flags_t newflags, int pkey)
{
	if (likely(pkey <= 0 && !((vma->vm_flags ^ newflags) & ARCH_VM_PKEY_FLAGS)))
		return 0;

	return __vma_pkey_pin(vma, (newflags & ARCH_VM_PKEY_FLAGS) >> VM_PKEY_SHIFT);
}

void __mm_pkeys_unpin(struct mm_pkeys *pkeys);

/* Unpin all keys, after the mprotect() that pinned them has flushed the TLBs. */
static inline void mm_pkeys_unpin(struct mm_struct *mm)
{
	struct mm_pkeys *pkeys = mm_pkeys(mm);

	if (unlikely(pkeys) && pkeys_map(pkeys).pinned)
		__mm_pkeys_unpin(pkeys);
}

/* Move the count of a mapping from the key it has to the one it is about to get. */
static inline void vma_pkey_change(struct vm_area_struct *vma, vm_flags_t newflags)
{
	int pkey = (newflags & ARCH_VM_PKEY_FLAGS) >> VM_PKEY_SHIFT;

	if (likely(!((vma->vm_flags ^ newflags) & ARCH_VM_PKEY_FLAGS)))
		return;

	if (pkey)
		atomic_inc(&vma->vm_mm->context.pkeys->mappings[pkey]);
	vma_pkey_unaccount(vma);
}

/*
 * Changes of rights
 * -----------------
 * See the top comment of arch/x86/mm/pkeys.c.
 */

DECLARE_STATIC_KEY_FALSE(pkeys_broadcast_key);
void __pkeys_sync(void);

#define pkeys_sync pkeys_sync
/**
 * pkeys_sync() - Apply changes of rights before anything acts for the current task
 *
 * Context: Any task, process context, also with siglock held. PKRU is the task's own:
 * the kernel has not opened keys for itself.
 */
static __always_inline void pkeys_sync(void)
{
	if (static_branch_unlikely(&pkeys_broadcast_key))
		__pkeys_sync();
}

void __pkeys_sync_new_task(struct task_struct *p, struct mm_pkeys *pkeys);

/**
 * pkeys_sync_new_task() - Apply changes of rights to a task new on the task list
 * @p: The task. It does not run yet.
 *
 * This is case (B) of arch/x86/mm/pkeys.c.
 *
 * Context: tasklist_lock held for writing, and siglock.
 */
static inline void pkeys_sync_new_task(struct task_struct *p)
{
	struct mm_pkeys *pkeys;

	if (!arch_pkeys_enabled() || !p->mm)
		return;

	/* No other task can change the rights of a child of fork() yet. */
	if (p->mm == current->mm) {
		/* (B): the list first, then the epoch. Pairs with mm_pkeys_notify(). */
		smp_mb();
	}
	pkeys = mm_pkeys(p->mm);
	if (pkeys)
		__pkeys_sync_new_task(p, pkeys);
}

/* execve(): the new mm counts its epochs and issues from 0. */
static inline void pkeys_flush_thread(void)
{
	current->thread.pkey_epoch = 0;
	current->thread.pkey_issues = 0;
}

/* Stamp a signal frame with PKRU, the address space and the epoch. */
static inline void pkeys_save_sigframe(struct _fpx_sw_bytes *sw_bytes, u32 pkru)
{
	struct mm_pkeys *pkeys = mm_pkeys(current->mm);

	if (!arch_pkeys_enabled())
		return;

	sw_bytes->pkru = pkru;
	sw_bytes->pkey_id = pkeys ? pkeys->id : 0;
	sw_bytes->pkey_stamp = current->thread.pkey_epoch + 1;
}

/*
 * sigreturn loads PKRU from the frame and then applies what has changed since. Whoever
 * looks at the rights of the task waits until both are done (contract K1). The task is
 * not preempted meanwhile.
 */
static inline void pkeys_begin_sigreturn(void)
{
	WRITE_ONCE(current->thread.pkey_sigreturn, true);
}

static inline void pkeys_end_sigreturn(void)
{
	WRITE_ONCE(current->thread.pkey_sigreturn, false);
}

void __pkeys_restore_sigframe(const struct _fpx_sw_bytes *sw_bytes,
			      struct mm_pkeys *pkeys);

/**
 * pkeys_restore_sigframe() - Apply later changes to the PKRU that sigreturn has loaded
 * @sw_bytes: What the frame says about that PKRU.
 *
 * Context: The current task, fpregs_lock() held since PKRU was loaded.
 */
static inline void pkeys_restore_sigframe(const struct _fpx_sw_bytes *sw_bytes)
{
	struct mm_pkeys *pkeys = mm_pkeys(current->mm);

	/* A frame without a stamp was built by the program. It is restored as it is. */
	if (unlikely(pkeys) && sw_bytes->pkey_stamp)
		__pkeys_restore_sigframe(sw_bytes, pkeys);
	pkeys_end_sigreturn();
}

/*
 * Signal delivery opens all keys to write the frame. What the task executes next
 * is a signal handler, with the initial rights (contract K1).
 */
static inline void pkeys_begin_sigframe(void)
{
	WRITE_ONCE(current->thread.pkey_sigframe, true);
}

static inline void pkeys_end_sigframe(void)
{
	WRITE_ONCE(current->thread.pkey_sigframe, false);
}

int proc_pid_pkeys(struct seq_file *m, struct pid_namespace *ns, struct pid *pid,
		   struct task_struct *task);
int proc_tid_pkeys(struct seq_file *m, struct pid_namespace *ns, struct pid *pid,
		   struct task_struct *task);
void pkeys_trace_violation(struct vm_area_struct *vma, unsigned long address);

int execute_only_pkey(struct mm_struct *mm);
int __arch_override_mprotect_pkey(struct vm_area_struct *vma, int prot);

/**
 * arch_override_mprotect_pkey() - Choose the key that mprotect() gives a mapping
 * @vma: The mapping, of the current process.
 * @prot: The new protection.
 * @pkey: What pkey_mprotect() asks for, -1 for mprotect().
 *
 * Context: Process context, mmap_lock held for writing.
 * Return: The key, 0 to 15.
 */
static inline int arch_override_mprotect_pkey(struct vm_area_struct *vma, int prot, int pkey)
{
	if (pkey != -1)
		return pkey;
	if (likely(prot != PROT_EXEC && !vma_pkey(vma)))
		return 0;

	return __arch_override_mprotect_pkey(vma, prot);
}

#define arch_pkey_alloc arch_pkey_alloc
int arch_pkey_alloc(unsigned long access_rights);
int arch_pkey_free(int pkey);

#define arch_pkey_set_rights arch_pkey_set_rights
int arch_pkey_set_rights(unsigned long pkey, unsigned long access_rights);
int arch_pkey_set_scope(unsigned long scope);
int arch_pkey_scope(void);
void pkeys_secure_exec(struct mm_struct *mm);

#define pkey_open_default pkey_open_default
/**
 * pkey_open_default() - Open key 0 for the kernel's own accesses to user memory
 *
 * A thread may close key 0, which its registered rseq memory usually has.
 *
 * Context: The current task, which may be preempted meanwhile.
 * Return: The rights before, for pkey_restore_default().
 */
static inline u32 pkey_open_default(void)
{
	u32 pkru = read_pkru();

	/* The thread has these rights to key 0 meanwhile (contract K1). */
	WRITE_ONCE(current->thread.pkey_default_rights, pkru & (PKRU_AD_BIT | PKRU_WD_BIT));
	write_pkru(pkru & ~(PKRU_AD_BIT | PKRU_WD_BIT));
	return pkru;
}

/**
 * pkey_restore_default() - Restore the rights to key 0
 * @rights: From pkey_open_default().
 *
 * Rights to other keys, which may have changed meanwhile, stay as they are.
 */
static inline void pkey_restore_default(u32 rights)
{
	u32 mask = PKRU_AD_BIT | PKRU_WD_BIT;

	write_pkru((read_pkru() & ~mask) | (rights & mask));
	WRITE_ONCE(current->thread.pkey_default_rights, 0);
}

/* Has the current task closed key 0? */
static inline bool pkey_default_is_closed(void)
{
	return read_pkru() & (PKRU_AD_BIT | PKRU_WD_BIT);
}

#else

/* The same functions in a kernel without protection keys. */
struct _fpx_sw_bytes;
struct mm_struct;
struct vm_area_struct;

static inline void mm_pkeys_init(struct mm_struct *mm)
{
}

static inline int mm_pkeys_dup(struct mm_struct *oldmm, struct mm_struct *mm)
{
	return 0;
}

static inline void mm_pkeys_free(struct mm_struct *mm)
{
}

static inline void mm_pkeys_check(struct mm_struct *mm)
{
}

static inline void pkeys_flush_thread(void)
{
}

static inline void pkeys_save_sigframe(struct _fpx_sw_bytes *sw_bytes, u32 pkru)
{
}

static inline void pkeys_restore_sigframe(const struct _fpx_sw_bytes *sw_bytes)
{
}

static inline void pkeys_begin_sigframe(void)
{
}

static inline void pkeys_end_sigframe(void)
{
}

static inline void pkeys_begin_sigreturn(void)
{
}

static inline void pkeys_end_sigreturn(void)
{
}

static inline void pkeys_trace_violation(struct vm_area_struct *vma, unsigned long address)
{
}

#endif /* CONFIG_X86_INTEL_MEMORY_PROTECTION_KEYS */

#endif /* _ASM_X86_PKEYS_H */
