/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Changes of PKRU in a restartable sequence (rseq): RDPKRU and WRPKRU are in one
 * critical section whose commit is the WRPKRU. The kernel aborts the section when
 * another task changes the rights in between (F7).
 */
#ifndef PKEY_RSEQ_H
#define PKEY_RSEQ_H

#include <stddef.h>

#include "pkey_util.h"

/* The first 32 bytes of struct rseq, in every version of it. */
struct pkey_rseq {
	uint32_t cpu_id_start;
	uint32_t cpu_id;
	uint64_t rseq_cs;
	uint32_t flags;
	uint32_t unused[3];
} __attribute__((aligned(32)));

/* The operand of the ud1 before each abort handler. */
#define PKEY_RSEQ_SIG		0x53053053

/* glibc has these since 2.35. Elsewhere the addresses are NULL. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

/* Register a task that the C library has not registered. Return 0 or -errno. */
static inline int pkey_rseq_register(struct pkey_rseq *rseq)
{
	memset(rseq, 0, sizeof(*rseq));
	rseq->cpu_id = -1;
	return pkey_raw_syscall(__NR_rseq, (uintptr_t)rseq, sizeof(*rseq), 0, PKEY_RSEQ_SIG);
}

/* The area that the C library has registered for this thread, or NULL. */
static inline struct pkey_rseq *pkey_rseq_of_thread(void)
{
	char *thread;

	if (!&__rseq_size || !__rseq_size)
		return NULL;

#ifdef __x86_64__
	asm("mov %%fs:0, %0" : "=r" (thread));
#else
	asm("movl %%gs:0, %0" : "=r" (thread));
#endif
	return (struct pkey_rseq *)(thread + __rseq_offset);
}

/* One change: PKRU = (PKRU & @keep) | @set, and what holds it up. */
struct pkey_window {
	uint32_t keep;
	uint32_t set;
	/* The result of RDPKRU. */
	uint32_t before;
	/* Set between RDPKRU and WRPKRU. */
	unsigned int entered;
	/* The task spins there until this is not 0, or until @turns is 0. */
	unsigned int release;
	/* This goes down by one with each turn of the spin. */
	unsigned int turns;
};

#define PKEY_RDPKRU		"xorl %%ecx, %%ecx\n\t.byte 0x0f, 0x01, 0xee\n\t"
/* %eax holds the value. */
#define PKEY_WRPKRU		"xorl %%ecx, %%ecx\n\t"				\
				"xorl %%edx, %%edx\n\t"				\
				".byte 0x0f, 0x01, 0xef\n\t"

/* An address in struct rseq_cs. */
#ifdef __LP64__
#define PKEY_RSEQ_ADDRESS(_label)	".quad " _label "\n\t"
#else
#define PKEY_RSEQ_ADDRESS(_label)	".long " _label ", 0\n\t"
#endif

/* Label 9 is struct rseq_cs of the section from label 1 to 2, aborted to label 4. */
#define PKEY_RSEQ_CS							\
	".pushsection __rseq_cs, \"aw\"\n\t"				\
	".balign 32\n"							\
	"9:\n\t"							\
	".long 0, 0\n\t"						\
	PKEY_RSEQ_ADDRESS("1f")						\
	PKEY_RSEQ_ADDRESS("2f - 1f")					\
	PKEY_RSEQ_ADDRESS("4f")						\
	".popsection\n\t"

/* Store its address in @rseq, a register. The programs are linked statically. */
#ifdef __x86_64__
#define PKEY_RSEQ_ENTER(_rseq)						\
	"leaq 9b(%%rip), %%rcx\n\t"					\
	"movq %%rcx, 8(" _rseq ")\n\t"
#else
#define PKEY_RSEQ_ENTER(_rseq)						\
	"movl $9b, 8(" _rseq ")\n\t"
#endif

#define PKEY_RSEQ_ABORT(_code)						\
	".pushsection __rseq_failure, \"ax\"\n\t"			\
	".byte 0x0f, 0xb9, 0x3d\n\t"					\
	".long 0x53053053\n"						\
	"4:\n\t"							\
	_code								\
	".popsection\n\t"

/* Execute RDPKRU, change the value in %eax, and spin. */
#define PKEY_WINDOW							\
	PKEY_RDPKRU							\
	"movl %%eax, %c[before](%[window])\n\t"				\
	"andl %c[keep](%[window]), %%eax\n\t"				\
	"orl %c[set](%[window]), %%eax\n\t"				\
	"movl $1, %c[entered](%[window])\n"				\
	"5:\n\t"							\
	"cmpl $0, %c[release](%[window])\n\t"				\
	"jne 6f\n\t"							\
	"pause\n\t"							\
	"subl $1, %c[turns](%[window])\n\t"				\
	"jnz 5b\n"							\
	"6:\n\t"

#define PKEY_WINDOW_OPERANDS						\
	[before] "i" (offsetof(struct pkey_window, before)),		\
	[keep] "i" (offsetof(struct pkey_window, keep)),		\
	[set] "i" (offsetof(struct pkey_window, set)),			\
	[entered] "i" (offsetof(struct pkey_window, entered)),		\
	[release] "i" (offsetof(struct pkey_window, release)),		\
	[turns] "i" (offsetof(struct pkey_window, turns))

/*
 * Return true if the change is made, false if the section was aborted and PKRU is
 * what it was. The address of the section stays in @rseq, as the kernel allows.
 */
static inline bool pkey_rseq_change(struct pkey_rseq *rseq, struct pkey_window *window)
{
	asm goto(PKEY_RSEQ_CS
		 PKEY_RSEQ_ENTER("%[rseq]")
		 "1:\n\t"
		 PKEY_WINDOW
		 PKEY_WRPKRU
		 "2:\n\t"
		 PKEY_RSEQ_ABORT("jmp %l[aborted]\n\t")
		 : : [rseq] "r" (rseq), [window] "r" (window), PKEY_WINDOW_OPERANDS
		 : "eax", "ecx", "edx", "cc", "memory" : aborted);
	return true;

aborted:
	return false;
}

/* Make the change without a section. Return PKRU as it was just before WRPKRU. */
static inline uint32_t pkey_plain_change(struct pkey_window *window)
{
	uint32_t inside;

	asm volatile(PKEY_WINDOW
		     "movl %%eax, %[value]\n\t"
		     PKEY_RDPKRU
		     "xchgl %%eax, %[value]\n\t"
		     PKEY_WRPKRU
		     : [value] "=&r" (inside)
		     : [window] "r" (window), PKEY_WINDOW_OPERANDS
		     : "eax", "ecx", "edx", "cc", "memory");
	return inside;
}

#endif /* PKEY_RSEQ_H */
