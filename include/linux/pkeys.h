/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_PKEYS_H
#define _LINUX_PKEYS_H

#include <linux/errno.h>
#include <linux/mm.h>

/* The key of a mapping that was given no other key. */
#define ARCH_DEFAULT_PKEY	0

#ifdef CONFIG_ARCH_HAS_PKEYS
#include <asm/pkeys.h>
#else

/* Without protection keys pkey_alloc() fails as if all keys were allocated. */
#define ARCH_VM_PKEY_FLAGS	0

static inline bool arch_pkeys_enabled(void)
{
	return false;
}

static inline int vma_pkey(struct vm_area_struct *vma)
{
	return ARCH_DEFAULT_PKEY;
}

static inline bool mm_pkey_is_allocated(struct mm_struct *mm, int pkey)
{
	return false;
}

static inline int execute_only_pkey(struct mm_struct *mm)
{
	return ARCH_DEFAULT_PKEY;
}

static inline int arch_override_mprotect_pkey(struct vm_area_struct *vma,
					      int prot, int pkey)
{
	return ARCH_DEFAULT_PKEY;
}

#define arch_pkey_alloc arch_pkey_alloc
static inline int arch_pkey_alloc(unsigned long access_rights)
{
	return -ENOSPC;
}

static inline int arch_pkey_free(int pkey)
{
	return -EINVAL;
}

#endif /* CONFIG_ARCH_HAS_PKEYS */

/*
 * Architectures that do not count the mappings of each key: those without
 * keys, and those whose freed keys are handed out at once.
 */
#ifndef vma_pkey_pin
static inline void mm_pkeys_unpin(struct mm_struct *mm)
{
}

static inline int vma_pkey_pin(struct vm_area_struct *vma, vm_flags_t newflags, int pkey)
{
	return 0;
}

static inline void vma_pkey_change(struct vm_area_struct *vma, vm_flags_t newflags)
{
}

static inline void vma_pkey_account(struct vm_area_struct *vma)
{
}

static inline void vma_pkey_unaccount(struct vm_area_struct *vma)
{
}

static inline int vma_pkey_move(struct vm_area_struct *vma, struct mm_struct *mm)
{
	vma->vm_mm = mm;
	return 0;
}
#endif /* vma_pkey_pin */

/* Architectures where no task's rights are changed by another. */
#ifndef pkeys_sync
static inline void pkeys_sync(void)
{
}

static inline void pkeys_sync_new_task(struct task_struct *p)
{
}
#endif /* pkeys_sync */

/* Architectures without rights in all threads (contract I). */
#ifndef arch_pkey_set_rights
static inline int arch_pkey_set_rights(unsigned long pkey, unsigned long access_rights)
{
	return -EINVAL;
}

static inline int arch_pkey_set_scope(unsigned long scope)
{
	return -EINVAL;
}

static inline int arch_pkey_scope(void)
{
	return 0;
}

static inline void pkeys_secure_exec(struct mm_struct *mm)
{
}
#endif /* arch_pkey_set_rights */

/* Architectures where the kernel does not open key 0 for accesses of its own. */
#ifndef pkey_open_default
static inline u32 pkey_open_default(void)
{
	return 0;
}

static inline void pkey_restore_default(u32 rights)
{
}

static inline bool pkey_default_is_closed(void)
{
	return false;
}
#endif /* pkey_open_default */

int pkey_prctl(unsigned long op, unsigned long arg3, unsigned long arg4,
	       unsigned long arg5);

#endif /* _LINUX_PKEYS_H */
