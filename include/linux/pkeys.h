/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_PKEYS_H
#define _LINUX_PKEYS_H

#include <linux/errno.h>
#include <linux/mm.h>

/* The key of a mapping that nobody gave another one. */
#define ARCH_DEFAULT_PKEY	0

#ifdef CONFIG_ARCH_HAS_PKEYS
#include <asm/pkeys.h>
#else

/*
 * Without protection keys each address space has key 0 and no other: the calls
 * give the answers of a process whose keys are all taken.
 */
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
	return pkey == ARCH_DEFAULT_PKEY;
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

static inline bool arch_pkey_get(int pkey)
{
	return pkey == ARCH_DEFAULT_PKEY;
}

static inline void arch_pkey_put(int pkey)
{
}

#endif /* CONFIG_ARCH_HAS_PKEYS */

/*
 * Architectures that do not count the mappings of each key: those without
 * keys, and those whose freed keys are handed out at once.
 */
#ifndef vma_pkey_add
static inline void vma_pkey_add(struct vm_area_struct *vma)
{
}

static inline void vma_pkey_del(struct vm_area_struct *vma)
{
}

static inline void vma_pkey_change(struct vm_area_struct *vma, unsigned long newflags)
{
}

static inline void mm_pkey_hold(struct vm_area_struct *vma, unsigned long newflags,
				unsigned long *held)
{
}

static inline void mm_pkeys_release(struct mm_struct *mm, unsigned long held)
{
}
#endif /* vma_pkey_add */

/* Architectures where no task loses rights to keys that are handed out again. */
#ifndef pkeys_task_visible
static inline void pkeys_task_visible(struct task_struct *p)
{
}
#endif

#endif /* _LINUX_PKEYS_H */
