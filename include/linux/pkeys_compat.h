/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The same files serve several kernels. What those call differently is named
 * here as the newest of them has it.
 */
#ifndef _LINUX_PKEYS_COMPAT_H
#define _LINUX_PKEYS_COMPAT_H

#include <linux/version.h>

/* 6.1 and 6.12, arm64 and powerpc: wants to be told the task, which is always current. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 3, 0)
#define arch_set_user_pkey_access(pkey, access_rights) \
	arch_set_user_pkey_access(current, pkey, access_rights)
#endif

#endif /* _LINUX_PKEYS_COMPAT_H */
