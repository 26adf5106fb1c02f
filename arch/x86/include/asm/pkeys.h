/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _ASM_X86_PKEYS_H
#define _ASM_X86_PKEYS_H

#ifdef CONFIG_X86_INTEL_MEMORY_PROTECTION_KEYS

#include <linux/atomic.h>
#include <linux/pkey_map.h>
#include <linux/string.h>

#include <asm/cpufeature.h>
#include <uapi/asm/mman.h>
#include <asm/sigcontext.h>

struct pid;
struct pid_namespace;
struct seq_file;

/* The bits of vm_flags that hold the key of a mapping. */
#define ARCH_VM_PKEY_FLAGS (VM_PKEY_BIT0 | VM_PKEY_BIT1 | VM_PKEY_BIT2 | VM_PKEY_BIT3)

static inline bool arch_pkeys_enabled(void)
{
	return cpu_feature_enabled(X86_FEATURE_OSPKE);
}

static inline int vma_pkey(struct vm_area_struct *vma)
{
	return (vma->vm_flags & ARCH_VM_PKEY_FLAGS) >> VM_PKEY_SHIFT;
}

static inline union pkey_map mm_pkey_map(struct mm_struct *mm)
{
	return (union pkey_map){ .word = atomic64_read(&mm->context.pkey_map) };
}

/* What pkey_mprotect() adds to the count of mappings, in its upper half. */
#define PKEY_ATTACHING		BIT_ULL(32)

/* How many mappings carry the key? */
static inline unsigned int mm_pkey_mappings(struct mm_struct *mm, int pkey)
{
	return lower_32_bits(atomic64_read(&mm->context.pkey_mappings[pkey]));
}

#ifdef CONFIG_DEBUG_VM
void mm_pkeys_check(struct mm_struct *mm);
#else
static inline void mm_pkeys_check(struct mm_struct *mm)
{
}
#endif

/* The mm is new, nobody else can see it. It may be a byte copy of another. */
static inline void mm_pkeys_init(struct mm_struct *mm)
{
	atomic64_set(&mm->context.pkey_map, pkey_map_init().word);
	memset(mm->context.pkey_mappings, 0, sizeof(mm->context.pkey_mappings));
	memset(mm->context.pkey_reissued, 0, sizeof(mm->context.pkey_reissued));
	mm->context.pkey_epoch = 0;
	mutex_init(&mm->context.pkey_reissue_lock);
}

void mm_pkeys_dup(struct mm_struct *oldmm, struct mm_struct *mm);
void pkeys_copy_thread(struct task_struct *p);

/* execve(): the re-issues of the new mm are counted from 1. */
static inline void pkeys_flush_thread(void)
{
	current->thread.pkey_epoch = 0;
}

#define pkeys_task_visible pkeys_task_visible
void pkeys_task_visible(struct task_struct *p);

/* A signal frame is made: say in it how old the rights are that it holds. */
static inline void pkeys_save_sigframe(struct _fpx_sw_bytes *sw_bytes, u32 pkru)
{
	if (!arch_pkeys_enabled())
		return;

	sw_bytes->pkey_stamp = current->thread.pkey_epoch + 1;
	sw_bytes->pkru = pkru;
}

void __pkeys_restore_sigframe(const struct _fpx_sw_bytes *sw_bytes, u64 epoch);

/**
 * pkeys_restore_sigframe() - sigreturn has loaded PKRU from a signal frame
 * @sw_bytes: What the frame says about that PKRU.
 *
 * Context: Process context, on the way to user mode.
 */
static inline void pkeys_restore_sigframe(const struct _fpx_sw_bytes *sw_bytes)
{
	/* Pairs with mm_pkey_stamp(): the keys are read after this. */
	u64 epoch = smp_load_acquire(&current->mm->context.pkey_epoch);

	/* Nothing was re-issued since, or the frame does not say. */
	if (likely(sw_bytes->pkey_stamp == epoch + 1 || !sw_bytes->pkey_stamp))
		return;

	__pkeys_restore_sigframe(sw_bytes, epoch);
}

/* May user space attach the key? For do_mprotect_pkey(). */
static inline bool mm_pkey_is_allocated(struct mm_struct *mm, int pkey)
{
	return pkey_map_attachable(mm_pkey_map(mm), pkey);
}

int proc_pid_pkeys(struct seq_file *m, struct pid_namespace *ns, struct pid *pid,
		   struct task_struct *task);

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
	if (likely(prot != PROT_EXEC && vma_pkey(vma) == ARCH_DEFAULT_PKEY))
		return ARCH_DEFAULT_PKEY;

	return __arch_override_mprotect_pkey(vma, prot);
}

#define arch_pkey_alloc arch_pkey_alloc
int arch_pkey_alloc(unsigned long access_rights);
int arch_pkey_free(int pkey);

/**
 * arch_pkey_get() - Keep a key from being re-issued while it is attached
 * @pkey: Any number.
 *
 * From here on a key that is allocated is not clean (contract F1), if it is freed,
 * until its new mappings are counted:
 *
 *	pkey_mprotect(p, n, prot, 5)         another task
 *	  5 is allocated
 *	                                     pkey_free(5)
 *	                                     pkey_alloc(): no mapping has 5
 *	                                       5 is handed out as clean
 *	  a mapping of p gets key 5
 *
 * What counts is the second look at the map, by do_mprotect_pkey() under mmap_lock:
 * this counts, then that looks; pkey_alloc() reads the map, then the count. The
 * first look, here, keeps calls with a wrong key from disturbing the count.
 *
 * Context: Process context, no lock needed. Undone by arch_pkey_put().
 * Return: False if @pkey may not be attached to mappings (contract C1).
 */
static inline bool arch_pkey_get(int pkey)
{
	struct mm_struct *mm = current->mm;

	if (!mm_pkey_is_allocated(mm, pkey))
		return false;

	/* A locked instruction, so a full barrier on x86. */
	if (pkey != ARCH_DEFAULT_PKEY)
		atomic64_add(PKEY_ATTACHING, &mm->context.pkey_mappings[pkey]);
	return true;
}

/* The key is attached, or could not be. */
static inline void arch_pkey_put(int pkey)
{
	if (pkey != ARCH_DEFAULT_PKEY)
		atomic64_sub(PKEY_ATTACHING, &current->mm->context.pkey_mappings[pkey]);
}

/* Count a mapping in, under the key that its vm_flags say. */
#define vma_pkey_add vma_pkey_add
static inline void vma_pkey_add(struct vm_area_struct *vma)
{
	int pkey = vma_pkey(vma);

	if (unlikely(pkey != ARCH_DEFAULT_PKEY))
		atomic64_inc(&vma->vm_mm->context.pkey_mappings[pkey]);
}

/* Count a mapping out. Its page table entries are gone from all TLBs. */
static inline void vma_pkey_del(struct vm_area_struct *vma)
{
	int pkey = vma_pkey(vma);

	if (unlikely(pkey != ARCH_DEFAULT_PKEY))
		atomic64_dec(&vma->vm_mm->context.pkey_mappings[pkey]);
}

/*
 * Count a mapping over from the key it has to the one it is about to get.
 * arch_pkey_get() keeps the new key from going, mm_pkey_hold() the old.
 */
static inline void vma_pkey_change(struct vm_area_struct *vma, unsigned long newflags)
{
	int pkey = (newflags & ARCH_VM_PKEY_FLAGS) >> VM_PKEY_SHIFT;

	if (likely(!((vma->vm_flags ^ newflags) & ARCH_VM_PKEY_FLAGS)))
		return;

	if (pkey != ARCH_DEFAULT_PKEY)
		atomic64_inc(&vma->vm_mm->context.pkey_mappings[pkey]);
	vma_pkey_del(vma);
}

/*
 * mprotect() is about to change the key of some or all of @vma. Until
 * mm_pkeys_release() the old key stays counted: page table entries and TLBs
 * still have it. @held has one bit for each key that is kept so: one count more
 * is enough, however many mappings had it. Under mmap_lock held for writing.
 */
static inline void mm_pkey_hold(struct vm_area_struct *vma, unsigned long newflags,
				unsigned long *held)
{
	unsigned long pkey = BIT(vma_pkey(vma));

	if (likely(!((vma->vm_flags ^ newflags) & ARCH_VM_PKEY_FLAGS)) || *held & pkey)
		return;

	*held |= pkey;
	vma_pkey_add(vma);
}

/* mprotect() is done, and the TLBs are flushed. */
static inline void mm_pkeys_release(struct mm_struct *mm, unsigned long held)
{
	for (held &= ~BIT(ARCH_DEFAULT_PKEY); unlikely(held); held &= held - 1)
		atomic64_dec(&mm->context.pkey_mappings[__ffs(held)]);
}

#else

/* What the rest of x86 calls, in a kernel without keys. */
struct _fpx_sw_bytes;
struct mm_struct;
struct task_struct;

static inline void mm_pkeys_init(struct mm_struct *mm)
{
}

static inline void mm_pkeys_dup(struct mm_struct *oldmm, struct mm_struct *mm)
{
}

static inline void mm_pkeys_check(struct mm_struct *mm)
{
}

static inline void pkeys_copy_thread(struct task_struct *p)
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

#endif /* CONFIG_X86_INTEL_MEMORY_PROTECTION_KEYS */

#endif /* _ASM_X86_PKEYS_H */
