/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * This header has functions for rights to memory protection keys on x86, for programs
 * in C (C11) and C++ (C++11).
 *
 * The header needs no library beside the C library. It works on every kernel: where
 * there are no keys, all functions may be called and do nothing, and their return value
 * shows this. It never executes RDPKRU or WRPKRU on a processor or a kernel without
 * keys; pkey_set() and pkey_get() of glibc raise SIGILL there.
 *
 *	int pkey = pkey_alloc(0, PKEY_DISABLE_ACCESS);	// -1 where there are no keys
 *	char *secret = pkey_mmap_with_key(NULL, size, PROT_READ | PROT_WRITE,
 *					  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, pkey);
 *	int before = pkey_open(pkey, 0);
 *
 *	secret[0] = 1;
 *	pkey_close(pkey, before);
 *
 * Every function accepts -1 as "no key" and does nothing then, so a program that got
 * no key from pkey_alloc() can go on unchanged, without the protection.
 *
 * A thread changes its rights by reading PKRU and writing it back with some bits
 * changed. On kernels with prctl(PR_PKEY) other threads can change its rights, and a
 * change that comes between the two instructions would be undone by the second. In
 * these functions both are in one restartable sequence (rseq) that ends with WRPKRU:
 * the kernel restarts the sequence if it is interrupted. This needs glibc 2.35 or
 * later, which registers each thread for rseq. A thread that is not registered executes
 * the two instructions without a sequence; pkey_rights_restart() returns 0 for it.
 *
 * 64-bit, 32-bit and x32 programs have the restartable sequence. On other
 * architectures the functions behave as where there are no keys.
 *
 * Limits:
 *
 *  - A debugger that single-steps restarts the sequence with each step. Step over
 *    these functions.
 *  - The kernel reads 4 bytes of the program's code when it restarts the sequence.
 *    The code must therefore not be execute-only memory.
 *  - A task made by clone(CLONE_VM) without CLONE_SETTLS shares the registration of
 *    its creator. Only one of the two may use these functions at a time.
 *
 * All functions can be called in signal handlers.
 */
#ifndef _TOOLS_MM_PKEY_H
#define _TOOLS_MM_PKEY_H

#if defined(__STRICT_ANSI__) && !defined(_GNU_SOURCE)
#error "pkey.h: define _GNU_SOURCE before the first #include"
#endif

#include <errno.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#ifndef PKEY_DISABLE_ACCESS
#define PKEY_DISABLE_ACCESS	0x1
#endif
#ifndef PKEY_DISABLE_WRITE
#define PKEY_DISABLE_WRITE	0x2
#endif

/* prctl(PR_PKEY, operation, ...), see PR_PKEY(2const). */
#ifndef PR_PKEY
#define PR_PKEY			0x504b4559
#define PR_PKEY_SET_RIGHTS	1
#define PR_PKEY_SET_SCOPE	2
#define PR_PKEY_GET_SCOPE	3
#define PR_PKEY_SCOPE_THREAD	0
#define PR_PKEY_SCOPE_PROCESS	1
#endif

/* The return value of a function that did nothing because there is no key. */
#define PKEY_NO_KEY		1

/* The implementation begins here. Programs should not use its names, pkey__*. */

#define PKEY__RIGHTS		((unsigned int)(PKEY_DISABLE_ACCESS | PKEY_DISABLE_WRITE))
#define PKEY__MAX		15

#if defined(__x86_64__) || defined(__i386__)

#include <cpuid.h>

/*
 * glibc's struct rseq of this thread is at this offset from the thread pointer. Other
 * C libraries and older versions do not have these symbols.
 */
extern const ptrdiff_t __rseq_offset __attribute__((__weak__));
extern const unsigned int __rseq_size __attribute__((__weak__));

#ifdef __x86_64__
typedef int64_t pkey__offset;
#define PKEY__TLS		"%%fs:"
/* The descriptor has addresses of 64 bits. */
#ifdef __ILP32__
#define PKEY__ADDRESS(label)	".long " label ", 0\n\t"
#else
#define PKEY__ADDRESS(label)	".quad " label "\n\t"
#endif
/* These set the field rseq_cs of struct rseq to the descriptor, label 3, or to 0. */
#define PKEY__ENTER		"leaq	3b(%%rip), %%rax\n\t"			\
				"movq	%%rax, %%fs:8(%[offset])\n\t"
#define PKEY__LEAVE		"movq	$0, %%fs:8(%[offset])\n\t"
#define PKEY__INPUT(value)	"r" (value)
#define PKEY__OUTPUT(value)	"=&r" (value)
#else
typedef int32_t pkey__offset;
#define PKEY__TLS		"%%gs:"
#define PKEY__ADDRESS(label)	".long " label ", 0\n\t"
#ifdef __PIC__
#define PKEY__ENTER		"call	6f\n"					\
				"6:\n\t"					\
				"popl	%%eax\n\t"				\
				"leal	3b - 6b(%%eax), %%eax\n\t"		\
				"movl	%%eax, %%gs:8(%[offset])\n\t"
#else
#define PKEY__ENTER		"movl	$3b, %%gs:8(%[offset])\n\t"
#endif
/* The upper half of the field is always 0. */
#define PKEY__LEAVE		"movl	$0, %%gs:8(%[offset])\n\t"
/* i386 does not have enough registers for these operands. */
#define PKEY__INPUT(value)	"m" (value)
#define PKEY__OUTPUT(value)	"=m" (value)
#endif

#define PKEY__RDPKRU		".byte	0x0f, 0x01, 0xee\n\t"
#define PKEY__WRPKRU		".byte	0x0f, 0x01, 0xef\n\t"

static inline int pkey__has_keys(void)
{
	/* 0 until it is known, then 1 or -1: CPUID is slow in virtual machines. */
	static int state;
	unsigned int eax, ebx, ecx = 0, edx;
	int known = __atomic_load_n(&state, __ATOMIC_RELAXED);

	if (!known) {
		/* Leaf 7, ECX bit 4: OSPKE, the kernel has turned the keys on. */
		if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
			ecx = 0;
		known = ecx & 1 << 4 ? 1 : -1;
		__atomic_store_n(&state, known, __ATOMIC_RELAXED);
	}
	return known > 0;
}

/* Is the calling thread registered for rseq? Its cpu_id is negative until then. */
static inline int pkey__has_rseq(void)
{
	int32_t cpu_id;

	if (!&__rseq_offset || !&__rseq_size || !__rseq_size)
		return 0;

	__asm__ __volatile__("movl " PKEY__TLS "4(%1), %0"
			     : "=r" (cpu_id) : "r" ((pkey__offset)__rseq_offset));
	return cpu_id >= 0;
}

static inline uint32_t pkey__rdpkru(void)
{
	uint32_t pkru, edx;

	__asm__ __volatile__(PKEY__RDPKRU : "=a" (pkru), "=d" (edx) : "c" (0) : "memory");
	return pkru;
}

static inline void pkey__wrpkru(uint32_t pkru)
{
	__asm__ __volatile__(PKEY__WRPKRU : : "a" (pkru), "c" (0), "d" (0) : "memory");
}

/*
 * Set PKRU to (PKRU & @keep) | @set if PKRU & @look is @expect. This is a restartable
 * sequence from label 1 to label 2, whose last instruction is WRPKRU. If the kernel
 * interrupts the sequence, the thread goes on at label 4, behind the signature that
 * glibc registers, and begins again at label 0. Return the former value.
 *
 * The function is not inline: the linker may discard copies of C++ inline functions,
 * and the descriptor refers to the labels.
 */
static __attribute__((__noinline__, __unused__)) uint32_t
pkey__update_by_rseq(uint32_t keep, uint32_t set, uint32_t look, uint32_t expect)
{
	uint32_t old, eax, edx;

	__asm__ __volatile__(
		/* struct rseq_cs: version, flags, start_ip, post_commit_offset, abort_ip */
		".pushsection __rseq_cs, \"aw\"\n\t"
		".balign	32\n"
		"3:\n\t"
		".long	0, 0\n\t"
		PKEY__ADDRESS("1f")
		PKEY__ADDRESS("2f - 1f")
		PKEY__ADDRESS("4f")
		".popsection\n"
		"0:\n\t"
		PKEY__ENTER
		"1:\n\t"
		PKEY__RDPKRU
		"movl	%%eax, %[old]\n\t"
		"movl	%%eax, %%edx\n\t"
		"andl	%[look], %%edx\n\t"
		"cmpl	%[expect], %%edx\n\t"
		"jne	2f\n\t"
		"andl	%[keep], %%eax\n\t"
		"orl	%[set], %%eax\n\t"
		"xorl	%%edx, %%edx\n\t"
		PKEY__WRPKRU
		"2:\n\t"
		/* dlclose() may unmap the descriptor later. */
		PKEY__LEAVE
		"jmp	5f\n\t"
		/* ud1 0x53053053(%rip), %edi */
		".byte	0x0f, 0xb9, 0x3d\n\t"
		".long	0x53053053\n"
		"4:\n\t"
		"jmp	0b\n"
		"5:"
		: [old] PKEY__OUTPUT(old), "=&a" (eax), "=&d" (edx)
		: [keep] PKEY__INPUT(keep), [set] PKEY__INPUT(set),
		  [look] PKEY__INPUT(look), [expect] PKEY__INPUT(expect),
		  "c" (0), [offset] "r" ((pkey__offset)__rseq_offset)
		: "cc", "memory");
	return old;
}

static inline uint32_t pkey__update(uint32_t keep, uint32_t set, uint32_t look,
				    uint32_t expect)
{
	uint32_t old;

	if (pkey__has_rseq())
		return pkey__update_by_rseq(keep, set, look, expect);

	old = pkey__rdpkru();
	if ((old & look) == expect)
		pkey__wrpkru((old & keep) | set);
	return old;
}

#else /* not x86 */

static inline int pkey__has_keys(void)
{
	return 0;
}

static inline int pkey__has_rseq(void)
{
	return 0;
}

static inline uint32_t pkey__rdpkru(void)
{
	return 0;
}

static inline void pkey__wrpkru(uint32_t pkru)
{
	(void)pkru;
}

static inline uint32_t pkey__update(uint32_t keep, uint32_t set, uint32_t look,
				    uint32_t expect)
{
	(void)keep;
	(void)set;
	(void)look;
	return expect;
}

#endif

/*
 * Return 0 if there is such a key, PKEY_NO_KEY if @pkey is -1 or there are no keys, and
 * -1 with errno EINVAL if @pkey is no key or @rights are no rights. No restriction of
 * key 0 is allowed: the stack has key 0, and the caller would crash.
 */
static inline int pkey__check(int pkey, unsigned int rights)
{
	if (pkey < -1 || pkey > PKEY__MAX || rights & ~PKEY__RIGHTS || (!pkey && rights)) {
		errno = EINVAL;
		return -1;
	}
	return pkey == -1 || !pkey__has_keys() ? PKEY_NO_KEY : 0;
}

static inline uint32_t pkey__bits(int pkey, unsigned int rights)
{
	return (uint32_t)rights << 2 * pkey;
}

static inline unsigned int pkey__rights(int pkey, uint32_t pkru)
{
	return pkru >> 2 * pkey & PKEY__RIGHTS;
}

/* Set the rights to @to if they are @from, otherwise update @from. Return if they were set. */
static inline int pkey__change(int pkey, unsigned int *from, unsigned int to)
{
	const uint32_t mask = pkey__bits(pkey, PKEY__RIGHTS);
	const unsigned int expected = *from;

	if (expected == to)
		return 1;

	*from = pkey__rights(pkey, pkey__update(~mask, pkey__bits(pkey, to), mask,
						pkey__bits(pkey, expected)));
	return *from == expected;
}

/* The implementation ends here. What follows is for programs. */

/**
 * pkey_supported() - Are there protection keys?
 *
 * A program should call pkey_alloc() to get a key or to find out that there is none.
 * This function returns whether the other functions of this header do anything.
 *
 * Return: 1 if the processor has keys and the kernel uses them, otherwise 0.
 */
static inline int pkey_supported(void)
{
	return pkey__has_keys();
}

/**
 * pkey_rights_restart() - Are this thread's changes of rights restartable sequences?
 *
 * Return: 1 if the functions of this header, except pkey_siglongjmp(), never undo a
 * change of this thread's rights that another thread makes by pkey_alloc() or
 * prctl(PR_PKEY); 0 if they undo a change that comes between RDPKRU and WRPKRU.
 */
static inline int pkey_rights_restart(void)
{
	return pkey__has_keys() && pkey__has_rseq();
}

/**
 * pkey_rights_get() - The calling thread's rights to a key
 * @pkey: The key, or -1 for none.
 *
 * Return: PKEY_DISABLE_ACCESS, PKEY_DISABLE_WRITE, both, or 0; also 0 if @pkey is -1 or
 * there are no keys; -1 with errno EINVAL if @pkey is no key.
 */
static inline int pkey_rights_get(int pkey)
{
	int none = pkey__check(pkey, 0);

	if (none)
		return none < 0 ? -1 : 0;

	return (int)pkey__rights(pkey, pkey__rdpkru());
}

/**
 * pkey_rights_set() - Set the calling thread's rights to a key
 * @pkey: The key, or -1 for none.
 * @rights: PKEY_DISABLE_ACCESS, PKEY_DISABLE_WRITE, both, or 0.
 *
 * The rights to other keys do not change.
 *
 * Return: 0 on success; PKEY_NO_KEY if nothing was done, because @pkey is -1 or there
 * are no keys; -1 with errno EINVAL if @pkey is no key, if @rights are no rights,
 * and for any restriction of key 0.
 */
static inline int pkey_rights_set(int pkey, unsigned int rights)
{
	int none = pkey__check(pkey, rights);

	if (!none)
		pkey__update(~pkey__bits(pkey, PKEY__RIGHTS), pkey__bits(pkey, rights),
			     0, 0);
	return none;
}

/**
 * pkey_open() - Open a key for the calling thread, until pkey_close()
 * @pkey: The key, or -1 for none.
 * @rights: The rights that remain disabled: 0, or PKEY_DISABLE_WRITE.
 *
 * pkey_open() only gives rights, and pkey_close() only takes them away, so pairs can be
 * nested.
 *
 * Return: The thread's rights before the call, for pkey_close(); -1 if nothing was
 * done, because there is no key or an argument is wrong.
 */
static inline int pkey_open(int pkey, unsigned int rights)
{
	unsigned int old;

	if (pkey__check(pkey, rights))
		return -1;

	old = pkey__rights(pkey, pkey__rdpkru());
	while (!(rights & PKEY_DISABLE_ACCESS) &&
	       !pkey__change(pkey, &old, old & PKEY_DISABLE_ACCESS ? rights : old & rights))
		;
	return (int)old;
}

/**
 * pkey_close() - Close what pkey_open() has opened
 * @pkey: The same key.
 * @before: What pkey_open() returned.
 *
 * The thread has the rights from before pkey_open() again, except that rights that this
 * thread or another has taken away since then do not come back.
 */
static inline void pkey_close(int pkey, int before)
{
	unsigned int now, then = (unsigned int)before;

	if (before < 0 || pkey__check(pkey, then))
		return;

	now = pkey__rights(pkey, pkey__rdpkru());
	while (!(now & PKEY_DISABLE_ACCESS) &&
	       !pkey__change(pkey, &now, then & PKEY_DISABLE_ACCESS ? then : now | then))
		;
}

/**
 * pkey_rights_set_all() - Set the rights to a key in all threads
 * @pkey: The key.
 * @rights: As for pkey_rights_set().
 *
 * This is prctl(PR_PKEY, PR_PKEY_SET_RIGHTS), for all tasks that share the address space.
 *
 * Return: 0 on success, PKEY_NO_KEY if @pkey is -1, otherwise -1 with errno. It is
 * EINVAL if @pkey is not allocated, and where the kernel has no such call or no keys.
 */
static inline int pkey_rights_set_all(int pkey, unsigned int rights)
{
	if (pkey == -1)
		return PKEY_NO_KEY;

	return (int)syscall(SYS_prctl, PR_PKEY, PR_PKEY_SET_RIGHTS, (unsigned long)pkey,
			    (unsigned long)rights, 0UL);
}

/**
 * pkey_scope_set() - Choose for which threads pkey_alloc() sets rights
 * @scope: PR_PKEY_SCOPE_PROCESS for all tasks that share the address space,
 *	PR_PKEY_SCOPE_THREAD for the caller alone.
 *
 * Return: 0 on success; -1 with errno EINVAL where the kernel has no such call, or no
 * keys.
 */
static inline int pkey_scope_set(int scope)
{
	return (int)syscall(SYS_prctl, PR_PKEY, PR_PKEY_SET_SCOPE, (unsigned long)scope,
			    0UL, 0UL);
}

/**
 * pkey_scope_get() - What pkey_scope_set() has set
 *
 * Return: PR_PKEY_SCOPE_PROCESS or PR_PKEY_SCOPE_THREAD; -1 with errno EINVAL where the
 * kernel has no such call. pkey_alloc() sets the caller's rights alone there.
 */
static inline int pkey_scope_get(void)
{
	return (int)syscall(SYS_prctl, PR_PKEY, PR_PKEY_GET_SCOPE, 0UL, 0UL, 0UL);
}

/**
 * pkey_mmap_with_key() - Map memory that carries a key from the first moment
 * @addr: As for mmap().
 * @len: As for mmap(). For huge pages a multiple of their size.
 * @prot: As for mmap(): the protection that the memory has in the end.
 * @flags: As for mmap(). MAP_POPULATE has no effect if there is a key.
 * @fd: As for mmap().
 * @offset: As for mmap().
 * @pkey: The key, or -1 for none: this function is mmap() then.
 *
 * The memory is inaccessible until it gets its key and its protection, both at once.
 * After an error nothing is mapped there; a mapping that MAP_FIXED has replaced does not
 * come back.
 *
 * Return: The address, or MAP_FAILED with the errno of mmap() or pkey_mprotect().
 */
static inline void *pkey_mmap_with_key(void *addr, size_t len, int prot, int flags, int fd,
				       off_t offset, int pkey)
{
	void *map;
	int err;

	map = mmap(addr, len, pkey == -1 ? prot : PROT_NONE, flags, fd, offset);
	if (map == MAP_FAILED || pkey == -1)
		return map;
	if (!syscall(SYS_pkey_mprotect, map, len, (unsigned long)prot, (unsigned long)pkey))
		return map;

	err = errno;
	munmap(map, len);
	errno = err;
	return MAP_FAILED;
}

/* For pkey_sigsetjmp() and pkey_siglongjmp(). */
struct pkey_jmp_buf {
	sigjmp_buf env;
	uint32_t pkru;
};

static inline uint32_t pkey__pkru_or_0(void)
{
	return pkey__has_keys() ? pkey__rdpkru() : 0;
}

/**
 * pkey_sigsetjmp() - sigsetjmp() that stores the thread's rights too
 * @buf: A pointer to a struct pkey_jmp_buf, in memory with key 0.
 * @savemask: As for sigsetjmp().
 *
 * Return: As sigsetjmp().
 */
#define pkey_sigsetjmp(buf, savemask)						\
	sigsetjmp(((buf)->pkru = pkey__pkru_or_0(), (buf)->env), savemask)

/**
 * pkey_siglongjmp() - siglongjmp() that brings the thread's rights back
 * @buf: Where pkey_sigsetjmp() has stored them.
 * @val: As for siglongjmp().
 *
 * A signal handler runs with the initial rights, all keys but key 0 closed, and a
 * program that leaves it by siglongjmp() goes on with these. pkey_siglongjmp() writes
 * the whole PKRU that pkey_sigsetjmp() has stored.
 *
 * This also brings back rights that another thread has taken away since then, by
 * pkey_alloc() or prctl(PR_PKEY). sigreturn() leaves such rights out, but no program can:
 * in a handler the initial rights hide what was taken away, and the kernel records it
 * for sigreturn() alone. Close such a key again after the jump, or return from the
 * handler instead.
 */
static inline __attribute__((__noreturn__)) void
pkey_siglongjmp(struct pkey_jmp_buf *buf, int val)
{
	if (pkey__has_keys())
		pkey__wrpkru(buf->pkru);
	siglongjmp(buf->env, val);
}

#endif /* _TOOLS_MM_PKEY_H */
