/* SPDX-License-Identifier: GPL-2.0 */
/*
 * prctl(PR_PKEY): the rights to a protection key in all tasks that share an
 * address space, and the scope of pkey_alloc().
 */
#ifndef PKEY_PRCTL_H
#define PKEY_PRCTL_H

#include <sys/prctl.h>

#include "pkey_util.h"

#ifndef PR_PKEY
#define PR_PKEY			0x504b4559
#define PR_PKEY_SET_RIGHTS	1
#define PR_PKEY_SET_SCOPE	2
#define PR_PKEY_GET_SCOPE	3
#define PR_PKEY_SCOPE_THREAD	0
#define PR_PKEY_SCOPE_PROCESS	1
#endif

/* Execute the system call instruction itself; return -errno on failure. */
static inline int pkey_raw_prctl(pkey_arg_t arg2, pkey_arg_t arg3, pkey_arg_t arg4,
				 pkey_arg_t arg5)
{
#ifdef __x86_64__
	uint64_t ret = __NR_prctl;

	asm volatile("movq %[arg4], %%r10\n\t"
		     "movq %[arg5], %%r8\n\t"
		     "syscall"
		     : "+a" (ret)
		     : "D" ((pkey_arg_t)PR_PKEY), "S" (arg2), "d" (arg3),
		       [arg4] "r" (arg4), [arg5] "r" (arg5)
		     : "rcx", "r8", "r10", "r11", "memory");
#else
	uint32_t ret = __NR_prctl;

	asm volatile("int $0x80"
		     : "+a" (ret)
		     : "b" (PR_PKEY), "c" (arg2), "d" (arg3), "S" (arg4), "D" (arg5)
		     : "memory");
#endif
	return (int)ret;
}

static inline int sys_pkey_prctl(pkey_arg_t arg2, pkey_arg_t arg3, pkey_arg_t arg4,
				 pkey_arg_t arg5)
{
	int ret = pkey_raw_prctl(arg2, arg3, arg4, arg5);

	if (ret >= 0)
		return ret;

	errno = -ret;
	return -1;
}

static inline int pkey_set_rights_everywhere(int pkey, unsigned int rights)
{
	return sys_pkey_prctl(PR_PKEY_SET_RIGHTS, pkey, rights, 0);
}

static inline int pkey_set_scope(unsigned int scope)
{
	return sys_pkey_prctl(PR_PKEY_SET_SCOPE, scope, 0, 0);
}

static inline int pkey_get_scope(void)
{
	return sys_pkey_prctl(PR_PKEY_GET_SCOPE, 0, 0, 0);
}

/* Let a process that shares memory be killed when its parent ends. */
static inline void pkey_die_with_parent(void)
{
	pkey_raw_syscall(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0);
}

#endif /* PKEY_PRCTL_H */
