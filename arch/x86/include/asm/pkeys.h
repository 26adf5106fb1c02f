/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _ASM_X86_PKEYS_H
#define _ASM_X86_PKEYS_H

#ifdef CONFIG_X86_INTEL_MEMORY_PROTECTION_KEYS

#include <linux/atomic.h>
#include <linux/pkey_map.h>

#include <asm/cpufeature.h>
#include <asm/sigcontext.h>

struct mmu_gather;
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

#ifdef CONFIG_DEBUG_VM
void mm_pkeys_check(struct mm_struct *mm, bool exact);
#else
static inline void mm_pkeys_check(struct mm_struct *mm, bool exact)
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

#define pkeys_task_visible pkeys_task_visible
void pkeys_task_visible(struct task_struct *p);

/*
 * The stamp of a signal frame is the epoch of the PKRU in it, plus 1: 0 is what
 * frames have that the kernel did not make. It lies in two of the words that
 * XSAVE leaves to software.
 */
static inline u64 pkeys_sigframe_stamp(const struct _fpx_sw_bytes *sw_bytes)
{
	return sw_bytes->padding[1] | (u64)sw_bytes->padding[2] << 32;
}

static inline void pkeys_save_sigframe(struct _fpx_sw_bytes *sw_bytes)
{
	u64 stamp = current->thread.pkey_epoch + 1;

	if (!arch_pkeys_enabled())
		return;

	sw_bytes->padding[1] = lower_32_bits(stamp);
	sw_bytes->padding[2] = upper_32_bits(stamp);
}

void pkeys_restore_sigframe(u64 stamp);

/* May user space attach the key? For do_mprotect_pkey(). */
static inline bool mm_pkey_is_allocated(struct mm_struct *mm, int pkey)
{
	return pkey_map_attachable(mm_pkey_map(mm), pkey);
}

int proc_pid_pkeys(struct seq_file *m, struct pid_namespace *ns, struct pid *pid,
		   struct task_struct *task);

int execute_only_pkey(struct mm_struct *mm);
int arch_override_mprotect_pkey(struct vm_area_struct *vma, int prot, int pkey);

#define arch_pkey_alloc arch_pkey_alloc
int arch_pkey_alloc(unsigned long access_rights);
int arch_pkey_free(int pkey);

bool arch_pkey_get(int pkey);
void arch_pkey_put(int pkey);

void __vma_pkey_change(struct vm_area_struct *vma, unsigned long newflags);
int __mm_pkey_retag_begin(struct vm_area_struct *vma);
void __mm_pkey_retag_end(struct mm_struct *mm, struct mmu_gather *tlb, int pkey);

/* Count a mapping in, under the key that its vm_flags say. */
#define vma_pkey_add vma_pkey_add
static inline void vma_pkey_add(struct vm_area_struct *vma)
{
	int pkey = vma_pkey(vma);

	if (unlikely(pkey != ARCH_DEFAULT_PKEY))
		atomic_inc(&vma->vm_mm->context.pkey_mappings[pkey]);
}

/* Count a mapping out. Its page table entries are gone from all TLBs. */
static inline void vma_pkey_del(struct vm_area_struct *vma)
{
	int pkey = vma_pkey(vma);

	if (unlikely(pkey != ARCH_DEFAULT_PKEY))
		atomic_dec(&vma->vm_mm->context.pkey_mappings[pkey]);
}

/* Count a mapping over from the key it has to the one it is about to get. */
static inline void vma_pkey_change(struct vm_area_struct *vma, unsigned long newflags)
{
	if (unlikely((vma->vm_flags ^ newflags) & ARCH_VM_PKEY_FLAGS))
		__vma_pkey_change(vma, newflags);
}

/*
 * mprotect() is about to change the key of some or all of @vma. Until
 * mm_pkey_retag_end(), which gets what this function returns, the old key
 * stays counted: page table entries and TLBs still have it.
 */
static inline int mm_pkey_retag_begin(struct vm_area_struct *vma, unsigned long newflags)
{
	if (likely(!((vma->vm_flags ^ newflags) & ARCH_VM_PKEY_FLAGS)))
		return ARCH_DEFAULT_PKEY;

	return __mm_pkey_retag_begin(vma);
}

static inline void mm_pkey_retag_end(struct mm_struct *mm, struct mmu_gather *tlb, int pkey)
{
	if (unlikely(pkey != ARCH_DEFAULT_PKEY))
		__mm_pkey_retag_end(mm, tlb, pkey);
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

static inline void mm_pkeys_check(struct mm_struct *mm, bool exact)
{
}

static inline void pkeys_copy_thread(struct task_struct *p)
{
}

static inline u64 pkeys_sigframe_stamp(const struct _fpx_sw_bytes *sw_bytes)
{
	return 0;
}

static inline void pkeys_save_sigframe(struct _fpx_sw_bytes *sw_bytes)
{
}

static inline void pkeys_restore_sigframe(u64 stamp)
{
}

#endif /* CONFIG_X86_INTEL_MEMORY_PROTECTION_KEYS */

#endif /* _ASM_X86_PKEYS_H */
