// SPDX-License-Identifier: GPL-2.0
/*
 * Protection keys: pkey_alloc(2), pkey_free(2), pkey_mprotect(2) and PR_PKEY.
 *
 * A protection key is a small number that a mapping carries. Each thread has a
 * register that says, for each key, whether the thread may read and whether it
 * may write the mappings that carry it. A program changes that register without
 * the kernel; handing out the numbers and attaching them to mappings is the
 * kernel's part and is done here.
 *
 * This file is the contract: it checks arguments, in a fixed order, and gives
 * the same answers on every architecture, so that a program can always make
 * these calls. It is built always. The mechanism is the architecture's, which
 * provides:
 *
 *  - arch_pkey_alloc(): take a free key and set the caller's rights to it;
 *  - arch_pkey_free(): free a key;
 *  - vma_pkey_pin(), mm_pkeys_unpin(): check a key that pkey_mprotect() is to
 *    attach, and keep it from being handed out as clean meanwhile;
 *  - arch_pkey_set_rights(), arch_pkey_set_scope(), arch_pkey_scope(): rights in
 *    all threads;
 *  - what <linux/pkeys.h> calls to count mappings and to apply changes of rights.
 *
 * An architecture that has keys but none of these (arm64, powerpc) is served
 * by the functions below that change its allocation map under mmap_lock.
 *
 * The life of a key, on x86:
 *
 *  1. It is never used. Nobody in the process has had it.
 *  2. It is allocated: pkey_alloc() takes the lowest free key that no mapping
 *     carries. The caller has the rights that it asked for, and pkey_mprotect()
 *     attaches the key to mappings. PR_PKEY_SET_RIGHTS gives all threads the same
 *     rights to it.
 *  3. pkey_free() frees it at once: no call accepts it any more. If mappings
 *     carry it, it is mapped: they keep it, and tasks keep the rights that they
 *     have. pkey_alloc() hands it out only if there is no other key, and not even
 *     then if vm.pkey_reuse_mapped is 0.
 *  4. Without such mappings it is clean. When pkey_alloc() hands it out again, all
 *     other tasks of the address space lose the rights to it that they still have,
 *     before the call returns. The key is allocated, as in 2.
 *
 * Key 0 is that of ordinary memory: always allocated, and nobody owns it. For the
 * first mapping that is PROT_EXEC alone the kernel takes a key in the same way, for
 * itself, and keeps it while the address space lives.
 *
 * The letters and numbers in the comments, such as A1, are the clauses of the
 * contract in Documentation/core-api/protection-keys.rst.
 */

#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/pkeys.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/syscalls.h>

#include "internal.h"

#ifndef arch_pkey_alloc

static int mm_pkey_alloc_rights(struct mm_struct *mm, unsigned long access_rights)
{
	int pkey, err;

	mmap_assert_write_locked(mm);
	pkey = mm_pkey_alloc(mm);
	if (pkey < 0)
		return -ENOSPC;

	err = arch_set_user_pkey_access(pkey, access_rights);
	if (!err)
		return pkey;

	mm_pkey_free(mm, pkey);
	return err;
}

static int arch_pkey_alloc(unsigned long access_rights)
{
	struct mm_struct *mm = current->mm;
	int ret;

	mmap_write_lock(mm);
	ret = mm_pkey_alloc_rights(mm, access_rights);
	mmap_write_unlock(mm);
	return ret;
}

static int arch_pkey_free(int pkey)
{
	struct mm_struct *mm = current->mm;
	int ret;

	mmap_write_lock(mm);
	ret = mm_pkey_free(mm, pkey);
	mmap_write_unlock(mm);
	return ret;
}

#endif /* arch_pkey_alloc */

/**
 * sys_pkey_alloc - Allocate a protection key
 * @flags: Must be 0, no flags are defined.
 * @init_val: The calling thread's rights to the new key: 0 for all, or
 *	PKEY_DISABLE_ACCESS, PKEY_DISABLE_WRITE or both, and what else the
 *	architecture defines in PKEY_ACCESS_MASK. In scope process (I5) the rights of
 *	all threads.
 *
 * The arguments are checked before anything else, with the same result on every
 * machine (A1). pkey_alloc(2) calls the second access_rights; here it has the name of
 * a field of the trace event sys_enter_pkey_alloc.
 *
 * Context: Process context. Does not take mmap_lock on x86 (G1).
 * Return:
 * * The new key, greater than 0 (A3), or
 * * -EINVAL if @flags or @init_val has an unknown bit (A1),
 * * -ENOSPC if no key is left (A4), if there is no memory to keep account of it,
 *   or if the architecture, the configuration, the processor or the command line
 *   leave the kernel without keys (A2).
 */
SYSCALL_DEFINE2(pkey_alloc, unsigned long, flags, unsigned long, init_val)
{
	if (flags || init_val & ~PKEY_ACCESS_MASK)
		return -EINVAL;

	return arch_pkey_alloc(init_val);
}

/**
 * sys_pkey_free - Free a protection key
 * @pkey: A key from pkey_alloc().
 *
 * Mappings may still carry the key, and threads may have rights to it (B2).
 *
 * Context: Process context. Does not take mmap_lock on x86 (G1).
 * Return: 0, or -EINVAL if @pkey is not a key that pkey_alloc() returned and
 * that is still allocated (B1). On x86 that is the answer for key 0 too.
 */
SYSCALL_DEFINE1(pkey_free, int, pkey)
{
	return arch_pkey_free(pkey);
}

#ifdef CONFIG_MMU
/**
 * sys_pkey_mprotect - Set protection and protection key of a range of memory
 * @start: First address, page aligned.
 * @len: Length in bytes, rounded up to whole pages.
 * @prot: PROT_* bits, as for mprotect().
 * @pkey: The key for the mappings of the range; -1 makes this mprotect() (C1).
 *
 * The key is checked under mmap_lock, after the range (C2, C3).
 *
 * Context: Process context. Takes mmap_lock for writing, as mprotect() does.
 * Return: 0, -EINVAL if @pkey is none of -1, 0 and the allocated keys (C1), or
 * what mprotect() returns (C2).
 */
SYSCALL_DEFINE4(pkey_mprotect, unsigned long, start, size_t, len,
		unsigned long, prot, int, pkey)
{
	return do_mprotect_pkey(start, len, prot, pkey);
}
#endif /* CONFIG_MMU */

/**
 * pkey_prctl() - prctl(PR_PKEY): rights to a key in all threads
 * @op: PR_PKEY_SET_RIGHTS, PR_PKEY_SET_SCOPE or PR_PKEY_GET_SCOPE.
 * @arg3: SET_RIGHTS: the key (I1). SET_SCOPE: PR_PKEY_SCOPE_THREAD or
 *	PR_PKEY_SCOPE_PROCESS (I5). Otherwise 0.
 * @arg4: SET_RIGHTS: the rights, as for pkey_alloc(). Otherwise 0.
 * @arg5: Must be 0.
 *
 * Context: Process context. Does not take mmap_lock.
 * Return: 0, for PR_PKEY_GET_SCOPE the scope, or -EINVAL for an unknown operation,
 * an argument that it does not take, a key that pkey_free() would refuse, and
 * where there are no keys.
 */
int pkey_prctl(unsigned long op, unsigned long arg3, unsigned long arg4,
	       unsigned long arg5)
{
	if (arg5)
		return -EINVAL;

	switch (op) {
	case PR_PKEY_SET_RIGHTS:
		if (arg4 & ~PKEY_ACCESS_MASK)
			return -EINVAL;
		return arch_pkey_set_rights(arg3, arg4);
	case PR_PKEY_SET_SCOPE:
		if (arg3 > PR_PKEY_SCOPE_PROCESS || arg4)
			return -EINVAL;
		return arch_pkey_set_scope(arg3);
	case PR_PKEY_GET_SCOPE:
		if (arg3 || arg4)
			return -EINVAL;
		return arch_pkey_scope();
	default:
		return -EINVAL;
	}
}
