// SPDX-License-Identifier: GPL-2.0
/*
 * Protection keys: pkey_alloc(2), pkey_free(2) and pkey_mprotect(2).
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
 *  - arch_pkey_free(): give it back;
 *  - arch_pkey_get(), arch_pkey_put(): between the two a key that may be
 *    attached to mappings stays what it is.
 *
 * An architecture that has keys but none of these (arm64, powerpc) is served
 * by the functions below that change its allocation map under mmap_lock.
 *
 * The life of a key, on x86:
 *
 *  1. It was never used. pkey_alloc() takes these first, the lowest of them.
 *  2. It is allocated. The caller has the rights that it asked for, and
 *     pkey_mprotect() attaches the key to mappings.
 *  3. pkey_free() gives it up at once: no call accepts it any more. Mappings that
 *     carry it keep it, and tasks keep the rights that they have.
 *  4. As long as a mapping carries it, it is handed out only if there is no other
 *     key, and not even then if vm.pkey_reuse_mapped is 0. Without such mappings
 *     it is clean.
 *  5. A clean key is handed out again when all keys have been used. Before
 *     pkey_alloc() returns, all other tasks of the address space lose the rights
 *     to it that they still have. The key is allocated again, as in 2.
 *
 * Key 0 is that of ordinary memory: always allocated, and nobody's. For the first
 * mapping that is PROT_EXEC alone the kernel takes a key in the same way, for
 * itself, and keeps it while the address space lives.
 *
 * The letters and numbers in the comments, such as A1, are the clauses of the
 * contract in Documentation/core-api/protection-keys.rst.
 */

#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/pkeys.h>
#include <linux/pkeys_compat.h>
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

/* These architectures look at the key under mmap_lock, in do_mprotect_pkey(). */
static bool arch_pkey_get(int pkey)
{
	return true;
}

static void arch_pkey_put(int pkey)
{
}

#endif /* arch_pkey_alloc */

/**
 * sys_pkey_alloc - Allocate a protection key
 * @flags: Must be 0, no flags are defined.
 * @access_rights: The calling thread's rights to the new key: 0 for all, or
 *	PKEY_DISABLE_ACCESS, PKEY_DISABLE_WRITE or both, and what else the
 *	architecture defines in PKEY_ACCESS_MASK.
 *
 * The arguments are checked before anything else, so that they are judged alike
 * on every machine (A1).
 *
 * Context: Process context. Does not take mmap_lock on x86 (G1).
 * Return:
 * * The new key, greater than 0 (A3), or
 * * -EINVAL if @flags or @access_rights has an unknown bit (A1),
 * * -ENOSPC if no key is left (A4), or if the architecture, the configuration,
 *   the processor or the command line leave the kernel without keys (A2).
 */
SYSCALL_DEFINE2(pkey_alloc, unsigned long, flags, unsigned long, access_rights)
{
	if (flags || access_rights & ~PKEY_ACCESS_MASK)
		return -EINVAL;

	return arch_pkey_alloc(access_rights);
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
 * Context: Process context. Takes mmap_lock for writing, as mprotect() does.
 * Return: 0, -EINVAL if @pkey is none of -1, 0 and the allocated keys (C1), or
 * what mprotect() returns (C2).
 */
SYSCALL_DEFINE4(pkey_mprotect, unsigned long, start, size_t, len,
		unsigned long, prot, int, pkey)
{
	int ret;

	if (pkey == -1)
		return do_mprotect_pkey(start, len, prot, pkey);

	if (!arch_pkey_get(pkey))
		return -EINVAL;

	ret = do_mprotect_pkey(start, len, prot, pkey);
	arch_pkey_put(pkey);
	return ret;
}
#endif /* CONFIG_MMU */
