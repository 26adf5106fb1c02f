/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Helpers for the tests of pkey_alloc(), pkey_free() and pkey_mprotect() on
 * x86: the raw system calls, the rights register PKRU, memory accesses that
 * may fault, mappings as /proc/self/smaps describes them, and child processes
 * whose verdict counts.
 *
 * The clauses that the tests cite, A1 and so on, are those of
 * Documentation/core-api/protection-keys.rst.
 */
#ifndef PKEY_UTIL_H
#define PKEY_UTIL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <asm/unistd.h>
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * Seconds after which a test counts as hanging. Tests wait for what happens and not
 * for time, but an emulated processor on a busy machine is slow.
 */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	180

/* The keys of an address space, key 0 included, and the highest of them. */
#define PKEY_NR			16
#define PKEY_MAX		(PKEY_NR - 1)

/* A mask of keys in which only key 0, or each key, is. */
#define PKEY_MASK_DEFAULT	0x0001u
#define PKEY_MASK_ALL		0xffffu

#define PKEY_RIGHTS_MASK	(PKEY_DISABLE_ACCESS | PKEY_DISABLE_WRITE)

/* The bits of PKRU that belong to key 0: set, they deny a program its stack. */
#define PKRU_KEY0_MASK		PKEY_RIGHTS_MASK

#define RW			(PROT_READ | PROT_WRITE)

/* The size of a huge page. */
#define HUGE_SIZE		(2UL << 20)

/* The number that execve() loads into PKRU unless init_pkru= says otherwise. */
#define PKRU_INIT		0x55555554u

/* Bit 9 of XCR0 and of the header of an XSAVE area is that of PKRU. */
#define XFEATURE_PKRU		9

/* Where the header is in an XSAVE area. */
#define XSAVE_HEADER		512

/* Where the XSAVE area is, from fpregs of a signal frame. */
#ifdef __x86_64__
#define FX_OFFSET		0
#else
#define FX_OFFSET		112
#endif

#define PKEY_SETTING		"/proc/sys/vm/pkey_reuse_mapped"

/* Variables that several tasks use, or that a signal handler changes. */
#define LOAD(_x)	__atomic_load_n(&(_x), __ATOMIC_SEQ_CST)
#define STORE(_x, _v)	__atomic_store_n(&(_x), _v, __ATOMIC_SEQ_CST)
#define ADD(_x, _v)	__atomic_add_fetch(&(_x), _v, __ATOMIC_SEQ_CST)

static inline void delay(unsigned int turns)
{
	while (turns--)
		asm volatile("pause");
}

/* Return when the task that counts in @counter has run. */
static inline void wait_for_progress(unsigned int *counter)
{
	const unsigned int before = LOAD(*counter);

	while (LOAD(*counter) == before)
		;
}

#ifndef SEGV_PKUERR
#define SEGV_PKUERR		4
#endif

/*
 * An argument as wide as the register that carries it. For an x32 program that
 * is more than an unsigned long.
 */
#ifdef __x86_64__
typedef uint64_t pkey_arg_t;
#else
typedef uint32_t pkey_arg_t;
#endif

#define PKEY_ARG_BITS		(8 * (int)sizeof(pkey_arg_t))

/* Execute the system call instruction itself; return -errno on failure. */
static inline int pkey_raw_syscall(unsigned int nr, pkey_arg_t arg1, pkey_arg_t arg2,
				   pkey_arg_t arg3, pkey_arg_t arg4)
{
#ifdef __x86_64__
	uint64_t ret = nr;

	asm volatile("movq %[arg4], %%r10\n\t"
		     "syscall"
		     : "+a" (ret)
		     : "D" (arg1), "S" (arg2), "d" (arg3), [arg4] "r" (arg4)
		     : "rcx", "r10", "r11", "memory");
#else
	uint32_t ret = nr;

	asm volatile("int $0x80"
		     : "+a" (ret)
		     : "b" (arg1), "c" (arg2), "d" (arg3), "S" (arg4)
		     : "memory");
#endif
	return (int)ret;
}

/*
 * Do what pkey_raw_syscall() does, and store PKRU as the next instruction of this
 * task finds it. This needs pku_enabled().
 */
static inline int pkey_raw_syscall_pkru(unsigned int nr, pkey_arg_t arg1, pkey_arg_t arg2,
					pkey_arg_t arg3, pkey_arg_t arg4, uint32_t *pkru)
{
#ifdef __x86_64__
	uint64_t ret, value = nr;

	asm volatile("movq %[arg4], %%r10\n\t"
		     "syscall\n\t"
		     "movq %%rax, %[ret]\n\t"
		     "xorl %%ecx, %%ecx\n\t"
		     ".byte 0x0f, 0x01, 0xee"
		     : [ret] "=&r" (ret), "+a" (value), "+d" (arg3)
		     : "D" (arg1), "S" (arg2), [arg4] "r" (arg4)
		     : "rcx", "r10", "r11", "memory");
#else
	uint32_t ret, value = nr;

	asm volatile("int $0x80\n\t"
		     "movl %%eax, %[ret]\n\t"
		     "xorl %%ecx, %%ecx\n\t"
		     ".byte 0x0f, 0x01, 0xee"
		     : [ret] "=&r" (ret), "+a" (value), "+c" (arg2), "+d" (arg3)
		     : "b" (arg1), "S" (arg4)
		     : "memory");
#endif
	*pkru = value;
	return (int)ret;
}

static inline int pkey_syscall(unsigned int nr, pkey_arg_t arg1, pkey_arg_t arg2,
			       pkey_arg_t arg3, pkey_arg_t arg4)
{
	int ret = pkey_raw_syscall(nr, arg1, arg2, arg3, arg4);

	if (ret >= 0)
		return ret;

	errno = -ret;
	return -1;
}

static inline int sys_pkey_alloc(pkey_arg_t flags, pkey_arg_t access_rights)
{
	return pkey_syscall(__NR_pkey_alloc, flags, access_rights, 0, 0);
}

static inline int sys_pkey_free(int pkey)
{
	return pkey_syscall(__NR_pkey_free, pkey, 0, 0, 0);
}

static inline int sys_pkey_mprotect(const void *addr, pkey_arg_t len, int prot, int pkey)
{
	return pkey_syscall(__NR_pkey_mprotect, (uintptr_t)addr, len, prot, pkey);
}

/* mprotect() with the same wide arguments, to compare pkey_mprotect() with. */
static inline int sys_mprotect(const void *addr, pkey_arg_t len, int prot)
{
	return pkey_syscall(__NR_mprotect, (uintptr_t)addr, len, prot, 0);
}

static inline pid_t pkey_gettid(void)
{
	return pkey_raw_syscall(__NR_gettid, 0, 0, 0, 0);
}

/*
 * Send a signal to this task, and store PKRU as it is after the handler. Return 0 or
 * -errno. This needs pku_enabled().
 */
static inline int pkey_raise(int sig, uint32_t *pkru)
{
	return pkey_raw_syscall_pkru(__NR_tgkill, getpid(), pkey_gettid(), sig, 0, pkru);
}

/* Let this task run on that processor alone. Some callers have no errno. */
static inline bool pkey_stay_on(int processor)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(processor, &one);
	return pkey_raw_syscall(__NR_sched_setaffinity, 0, sizeof(one), (uintptr_t)&one, 0) >= 0;
}

/* Has the kernel set CR4.PKE? This asks CPUID, not the calls under test. */
static inline bool cpu_ospke(void)
{
	const unsigned int ospke = 1 << 4;
	unsigned int eax, ebx, ecx, edx;

	if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
		return false;

	return ecx & ospke;
}

/* Has the processor protection keys, whether or not the kernel uses them? */
static inline bool cpu_pku(void)
{
	const unsigned int pku = 1 << 3;
	unsigned int eax, ebx, ecx, edx;

	if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
		return false;

	return ecx & pku;
}

/* Does XSAVE save PKRU? This asks XCR0, which the kernel sets. */
static inline bool cpu_xsaves_pkru(void)
{
	const unsigned int osxsave = 1 << 27;
	unsigned int eax, ebx, ecx, edx;

	if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & osxsave))
		return false;

	asm volatile(".byte 0x0f, 0x01, 0xd0" : "=a" (eax), "=d" (edx) : "c" (0));
	return eax & 1 << XFEATURE_PKRU;
}

/*
 * Are there protection keys? A processor whose XSAVE does not save PKRU counts as
 * one without keys (A2).
 */
static inline bool pku_enabled(void)
{
	static int enabled = -1;

	if (enabled < 0)
		enabled = cpu_ospke() && cpu_xsaves_pkru();
	return enabled;
}

/* Where XSAVE puts PKRU; 0 if it has no place for it. */
static inline uint32_t xsave_pkru_offset(void)
{
	uint32_t size, offset, ecx, edx;

	if (!__get_cpuid_count(0xd, XFEATURE_PKRU, &size, &offset, &ecx, &edx))
		return 0;
	return offset;
}

/* The PKRU that XRSTOR would load from an XSAVE area: 0 if the header bit is clear. */
static inline uint32_t xsave_get_pkru(const void *area)
{
	const char *bytes = area;
	uint64_t features;
	uint32_t pkru;

	memcpy(&features, bytes + XSAVE_HEADER, sizeof(features));
	memcpy(&pkru, bytes + xsave_pkru_offset(), sizeof(pkru));
	return features & 1 << XFEATURE_PKRU ? pkru : 0;
}

static inline void xsave_set_pkru(void *area, uint32_t pkru)
{
	uint64_t features;
	char *bytes = area;

	memcpy(&features, bytes + XSAVE_HEADER, sizeof(features));
	features |= 1 << XFEATURE_PKRU;
	memcpy(bytes + XSAVE_HEADER, &features, sizeof(features));
	memcpy(bytes + xsave_pkru_offset(), &pkru, sizeof(pkru));
}

/* Reasons of a skip. */
#define NO_PKU		"needs protection keys"
#define HAS_PKU		"needs a kernel without protection keys"

/* RDPKRU and WRPKRU; they need pku_enabled(). */
static inline uint32_t rdpkru(void)
{
	uint32_t eax, edx;

	asm volatile(".byte 0x0f, 0x01, 0xee" : "=a" (eax), "=d" (edx) : "c" (0));
	return eax;
}

static inline void wrpkru(uint32_t pkru)
{
	asm volatile(".byte 0x0f, 0x01, 0xef"
		     : : "a" (pkru), "c" (0), "d" (0) : "memory");
}

/* Do the same where there may be no PKRU. */
static inline uint32_t pkru_save(void)
{
	return pku_enabled() ? rdpkru() : 0;
}

static inline void pkru_restore(uint32_t pkru)
{
	if (pku_enabled())
		wrpkru(pkru);
}

static inline uint32_t pkru_with_rights(uint32_t pkru, int pkey, unsigned int rights)
{
	pkru &= ~((uint32_t)PKEY_RIGHTS_MASK << (2 * pkey));
	return pkru | rights << (2 * pkey);
}

static inline unsigned int pkru_get_rights(int pkey)
{
	return rdpkru() >> (2 * pkey) & PKEY_RIGHTS_MASK;
}

static inline void pkru_set_rights(int pkey, unsigned int rights)
{
	wrpkru(pkru_with_rights(rdpkru(), pkey, rights));
}

/* PKRU without the bits of one key, to compare those of the others. */
static inline uint32_t pkru_without(uint32_t pkru, int pkey)
{
	return pkru_with_rights(pkru, pkey, 0);
}

static inline bool pkru_denies(uint32_t pkru, int pkey)
{
	return pkru >> (2 * pkey) & PKEY_DISABLE_ACCESS;
}

/* Is access to the key disabled, and has nothing else changed? */
static inline bool pkru_only_revoked(uint32_t before, int pkey, uint32_t after)
{
	return pkru_denies(after, pkey) &&
	       pkru_without(before, pkey) == pkru_without(after, pkey);
}

#define EXPECT_REVOKED(_before, _pkey, _after)					\
	EXPECT_TRUE(pkru_only_revoked(_before, _pkey, _after))			\
		TH_LOG("PKRU was %08x, is %08x", _before, _after)

/* Values to find in PKRU and to leave there: none, each and every second bit. */
static const uint32_t pkru_patterns[] = {
	0x00000000, 0xfffffffc, 0x55555554, 0xaaaaaaa8, 0x33333330, 0xccccccccu,
	0x0f0f0f0c, 0xf0f0f0f0, 0x12345678, 0x87654320,
};

/*
 * Take keys until there is none left. Return their number, and store the keys
 * in the order they came, if @keys is not NULL.
 */
static inline int pkey_take_all(int *keys)
{
	int pkey, nr = 0;

	while (nr < PKEY_NR) {
		pkey = sys_pkey_alloc(0, 0);
		if (pkey < 0)
			break;
		if (keys)
			keys[nr] = pkey;
		nr++;
	}
	return nr;
}

/* Free the key and allocate it again. */
static inline bool pkey_reissue_with_rights(int pkey, unsigned int rights)
{
	return !sys_pkey_free(pkey) && sys_pkey_alloc(0, rights) == pkey;
}

static inline bool pkey_reissue(int pkey)
{
	return pkey_reissue_with_rights(pkey, 0);
}

/* How many keys could be had? They are free again afterwards, but used. */
static inline int pkey_count_free(void)
{
	int nr, i, keys[PKEY_NR];

	nr = pkey_take_all(keys);
	for (i = 0; i < nr; i++)
		sys_pkey_free(keys[i]);
	return nr;
}

static inline size_t pkey_page_size(void)
{
	return getpagesize();
}

/* mmap(), but NULL if it fails; nobody wants memory at address 0 here. */
static inline void *pkey_mmap(void *addr, size_t size, int prot, int flags, int fd)
{
	void *map;

	map = mmap(addr, size, prot, flags, fd, 0);
	return map == MAP_FAILED ? NULL : map;
}

static inline void *pkey_map(size_t pages, int prot)
{
	return pkey_mmap(NULL, pages * pkey_page_size(), prot,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

/* Pages with a key, and with nothing around them that they could merge with. */
static inline char *pkey_map_isolated(size_t pages, int prot, int pkey)
{
	const size_t size = pkey_page_size();
	char *around;

	around = pkey_map(pages + 2, PROT_NONE);
	if (!around || sys_pkey_mprotect(around + size, pages * size, prot, pkey))
		return NULL;

	munmap(around, size);
	munmap(around + (pages + 1) * size, size);
	return around + size;
}

/*
 * Which keys can user space attach? Ask pkey_mprotect() with a page of its
 * own, which changes no key. 0 means that there is no such page.
 */
static inline unsigned int pkey_attachable_mask(void)
{
	const size_t size = pkey_page_size();
	unsigned int mask = 0;
	void *page;
	int pkey;

	page = pkey_map(1, PROT_READ);
	if (!page)
		return 0;

	for (pkey = 0; pkey < PKEY_NR; pkey++)
		if (!sys_pkey_mprotect(page, size, PROT_READ, pkey))
			mask |= 1u << pkey;
	munmap(page, size);
	return mask;
}

enum pkey_access {
	PKEY_READ,
	PKEY_WRITE,
	PKEY_EXEC,
};

/* How an access to memory went. */
struct pkey_fault {
	bool hit;
	/* Of siginfo_t, if the access hit a fault. */
	int code;
	int pkey;
	void *addr;
};

/* mov $42, %eax; ret: the same in 32-bit and in 64-bit code. */
static const unsigned char pkey_code[] = { 0xb8, 0x2a, 0x00, 0x00, 0x00, 0xc3 };

#define PKEY_CODE_RESULT	42

/* The access that this thread is trying. */
static __thread struct {
	bool running;
	uint32_t pkru;
	sigjmp_buf env;
	struct pkey_fault fault;
} pkey_try;

static inline void pkey_on_segv(int sig, siginfo_t *info, void *ucontext)
{
	if (!pkey_try.running) {
		/* The access faults again on return, and kills. */
		signal(sig, SIG_DFL);
		return;
	}

	pkey_try.fault.hit = true;
	pkey_try.fault.code = info->si_code;
	pkey_try.fault.pkey = info->si_pkey;
	pkey_try.fault.addr = info->si_addr;
	siglongjmp(pkey_try.env, 1);
}

/* Use one instruction, so that the compiler neither drops nor repeats the access. */
static inline void pkey_touch(enum pkey_access access, void *addr)
{
	int (*code)(void) = (int (*)(void))(uintptr_t)addr;
	char byte = 0;

	switch (access) {
	case PKEY_READ:
		asm volatile("movb (%1), %0" : "=q" (byte) : "r" (addr) : "memory");
		break;
	case PKEY_WRITE:
		asm volatile("movb %0, (%1)" : : "q" (byte), "r" (addr) : "memory");
		break;
	case PKEY_EXEC:
		if (code() != PKEY_CODE_RESULT)
			pkey_try.fault.hit = true;
		break;
	}
}

/* The handler of a signal. Without SA_SIGINFO it gets NULL instead of the ucontext. */
static void (*pkey_signal_handler)(ucontext_t *ucontext);

static inline void pkey_on_signal_with_info(int sig, siginfo_t *info, void *ucontext)
{
	pkey_signal_handler(ucontext);
}

static inline void pkey_on_signal(int sig)
{
	pkey_signal_handler(NULL);
}

/* Let @handler handle the signal, which may come again while it runs. */
static inline bool pkey_handle_signal(int sig, int flags, void (*handler)(ucontext_t *ucontext))
{
	struct sigaction action = { .sa_flags = SA_NODEFER | flags };

	pkey_signal_handler = handler;
	if (flags & SA_SIGINFO)
		action.sa_sigaction = pkey_on_signal_with_info;
	else
		action.sa_handler = pkey_on_signal;
	return !sigaction(sig, &action, NULL);
}

/*
 * Try one access. A write stores a zero byte, an execution needs pkey_code
 * at @addr. The handler runs with the initial PKRU and siglongjmp() does not
 * bring the former value back, so this function does.
 */
static inline struct pkey_fault pkey_probe(enum pkey_access access, void *addr)
{
	const struct sigaction action = {
		.sa_sigaction = pkey_on_segv,
		.sa_flags = SA_SIGINFO,
	};

	sigaction(SIGSEGV, &action, NULL);
	memset(&pkey_try.fault, 0, sizeof(pkey_try.fault));
	pkey_try.pkru = pkru_save();
	pkey_try.running = true;
	if (!sigsetjmp(pkey_try.env, 1))
		pkey_touch(access, addr);
	pkey_try.running = false;
	pkru_restore(pkey_try.pkru);
	return pkey_try.fault;
}

static inline bool pkey_can(enum pkey_access access, void *addr)
{
	return !pkey_probe(access, addr).hit;
}

/* Is the access refused, by just this key? */
static inline bool pkey_refused(enum pkey_access access, void *addr, int pkey)
{
	struct pkey_fault fault = pkey_probe(access, addr);

	return fault.hit && fault.code == SEGV_PKUERR && fault.pkey == pkey &&
	       fault.addr == addr;
}

/* A page that holds pkey_code, with the protection that is asked for. */
static inline void *pkey_map_code(int prot)
{
	const size_t size = pkey_page_size();
	void *code;

	code = pkey_map(1, PROT_READ | PROT_WRITE);
	if (!code)
		return NULL;

	memcpy(code, pkey_code, sizeof(pkey_code));
	if (!sys_mprotect(code, size, prot))
		return code;

	munmap(code, size);
	return NULL;
}

/* One mapping, as /proc/self/smaps describes it. */
struct pkey_vma {
	uint64_t start;
	uint64_t end;
	char perms[5];
	/* Where it begins in its file. */
	uint64_t offset;
	/* 0 where the kernel prints none. */
	int pkey;
	/* In KiB. */
	unsigned long anon_huge;
};

/* Read up to @max mappings that overlap the range; return their number. */
static inline int pkey_read_vmas(const void *start, size_t len, struct pkey_vma *vmas,
				 int max)
{
	const uint64_t first = (uintptr_t)start, last = first + len - 1;
	unsigned long long vma_start, vma_end, offset;
	struct pkey_vma *vma = NULL;
	char line[512], perms[5];
	unsigned long value;
	FILE *smaps;
	int nr = 0;

	smaps = fopen("/proc/self/smaps", "r");
	if (!smaps)
		return 0;

	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%llx-%llx %4s %llx", &vma_start, &vma_end, perms,
			   &offset) == 4) {
			vma = NULL;
			if (vma_end <= first || vma_start > last || nr == max)
				continue;
			vma = &vmas[nr++];
			memset(vma, 0, sizeof(*vma));
			vma->start = vma_start;
			vma->end = vma_end;
			memcpy(vma->perms, perms, sizeof(perms));
			vma->offset = offset;
		} else if (vma && sscanf(line, "ProtectionKey: %lu", &value) == 1) {
			vma->pkey = value;
		} else if (vma && sscanf(line, "AnonHugePages: %lu", &value) == 1) {
			vma->anon_huge = value;
		}
	}
	fclose(smaps);
	return nr;
}

static inline bool pkey_find_vma(const void *addr, struct pkey_vma *vma)
{
	return pkey_read_vmas(addr, 1, vma, 1) == 1;
}

/* The key of the mapping at @addr, or -1 if there is none. */
static inline int pkey_of(const void *addr)
{
	struct pkey_vma vma;

	return pkey_find_vma(addr, &vma) ? vma.pkey : -1;
}

/* Memory that a child can store its results in. */
static inline void *pkey_map_shared(size_t size)
{
	return pkey_mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1);
}

/* Wait for a child of any kind; return its status, or -1. */
static inline int pkey_wait_for(pid_t pid)
{
	int status;

	if (pid <= 0 || waitpid(pid, &status, __WALL) != pid)
		return -1;
	return status;
}

#define PKEY_STACK_PAGES	16

/* The upper end of a stack for a new task, or NULL. */
static inline char *pkey_map_stack(void)
{
	char *stack = pkey_map(PKEY_STACK_PAGES, RW);

	return stack ? stack + PKEY_STACK_PAGES * pkey_page_size() : NULL;
}

/* Start a task with a stack of its own. Return its number, or -1. */
static inline pid_t pkey_clone(int (*fn)(void *arg), void *arg, int flags)
{
	char *stack = pkey_map_stack();

	return stack ? clone(fn, stack, flags, arg) : -1;
}

/* The calls without a timeout of 32 bits, which not every kernel has. */
#ifdef __NR_futex_time64
#define PKEY_NR_FUTEX	__NR_futex_time64
#else
#define PKEY_NR_FUTEX	__NR_futex
#endif

#define FUTEX_OP_WAIT	0
#define FUTEX_OP_WAKE	1

/* Wait until *@word is not @value. This does not use errno, which tasks may share. */
static inline void pkey_wait_while(unsigned int *word, unsigned int value)
{
	while (LOAD(*word) == value)
		pkey_raw_syscall(PKEY_NR_FUTEX, (uintptr_t)word, FUTEX_OP_WAIT, value, 0);
}

static inline void pkey_set_and_wake(unsigned int *word, unsigned int value)
{
	STORE(*word, value);
	pkey_raw_syscall(PKEY_NR_FUTEX, (uintptr_t)word, FUTEX_OP_WAKE, INT_MAX, 0);
}

#define PKEY_STRING_(_x)	#_x
#define PKEY_STRING(_x)		PKEY_STRING_(_x)

/* A signal handler that ends the process and touches no memory. */
static __attribute__((naked, unused)) void pkey_exit_handler(int sig)
{
#ifdef __x86_64__
	asm volatile("movl $" PKEY_STRING(__NR_exit_group) ", %eax\n\t"
		     "xorl %edi, %edi\n\t"
		     "syscall");
#else
	asm volatile("movl $" PKEY_STRING(__NR_exit_group) ", %eax\n\t"
		     "xorl %ebx, %ebx\n\t"
		     "int $0x80");
#endif
}

/* The reason of a skip where pkey_frames_open_keys() returns false. */
#define NO_KEYED_FRAMES	"needs a kernel that writes frames to memory with a closed key"

/*
 * Does the kernel write a signal frame to a stack whose key the thread has closed? A
 * child tries: it gets a signal, and its exit status tells whether the handler ran.
 */
static inline bool pkey_frames_open_keys(const stack_t *stack, int pkey)
{
	const struct sigaction action = {
		.sa_handler = pkey_exit_handler,
		.sa_flags = SA_ONSTACK,
	};
	pid_t pid;

	pid = fork();
	if (!pid) {
		sigaltstack(stack, NULL);
		sigaction(SIGUSR2, &action, NULL);
		pkru_set_rights(pkey, PKEY_DISABLE_ACCESS);
		raise(SIGUSR2);
		_exit(1);
	}
	return pkey_wait_for(pid) == 0;
}

/* The regset of the extended registers, and more bytes than it has. */
#define PKEY_NT_X86_XSTATE	0x202
#define PKEY_XSTATE_SIZE	16384

struct pkey_xstate {
	char bytes[PKEY_XSTATE_SIZE];
	size_t size;
};

/* Read the extended registers of a stopped task as a debugger does. */
static inline bool pkey_get_xstate(pid_t pid, struct pkey_xstate *xstate)
{
	struct iovec iov = { .iov_base = xstate->bytes, .iov_len = PKEY_XSTATE_SIZE };

	if (ptrace(PTRACE_GETREGSET, pid, PKEY_NT_X86_XSTATE, &iov))
		return false;
	xstate->size = iov.iov_len;
	return true;
}

static inline bool pkey_set_xstate(pid_t pid, struct pkey_xstate *xstate)
{
	struct iovec iov = { .iov_base = xstate->bytes, .iov_len = xstate->size };

	return !ptrace(PTRACE_SETREGSET, pid, PKEY_NT_X86_XSTATE, &iov);
}

/* The state of a task: 'S' sleeps, 'D' waits for a lock; '?' if there is no such task. */
static inline char pkey_task_state(pid_t tid)
{
	char path[64], state = '?';
	FILE *stat;

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	stat = fopen(path, "r");
	if (!stat)
		return '?';

	if (fscanf(stat, "%*d (%*[^)]) %c", &state) != 1)
		state = '?';
	fclose(stat);
	return state;
}

/* Store the result of one read() of a file as text. Return false if there is nothing. */
static inline bool pkey_read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t len;

	if (fd < 0)
		return false;

	len = read(fd, text, size - 1);
	close(fd);
	text[len > 0 ? len : 0] = '\0';
	return len > 0;
}

static inline bool pkey_write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC);
	ssize_t len;

	if (fd < 0)
		return false;

	len = write(fd, text, strlen(text));
	close(fd);
	return len == (ssize_t)strlen(text);
}

/* The number that a file of /proc/sys holds, or -1. */
static inline int pkey_read_setting(const char *path)
{
	char text[32];
	int value;

	if (!pkey_read_file(path, text, sizeof(text)) || sscanf(text, "%d", &value) != 1)
		return -1;
	return value;
}

/* Return 0 or errno. */
static inline int pkey_write_setting(const char *path, const char *value)
{
	errno = 0;
	return pkey_write_file(path, value) ? 0 : errno;
}

/*
 * The state of a key as /proc/self/pkeys has it: "-" for a key never used, NULL if the
 * kernel has no such file.
 */
static inline const char *pkey_state(int pkey)
{
	static char state[32];
	char line[128];
	FILE *file;
	int number;

	file = fopen("/proc/self/pkeys", "r");
	if (!file)
		return NULL;

	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%d %31s", &number, state) == 2 && number == pkey) {
			fclose(file);
			return state;
		}
	}
	fclose(file);
	return "-";
}

/* Is that the state of the key, as far as the kernel shows it? */
static inline bool pkey_state_is(int pkey, const char *expected)
{
	const char *state = pkey_state(pkey);

	return !state || !strcmp(state, expected);
}

#ifdef __KSELFTEST_HARNESS_H
/*
 * The verdict of a child process reaches its parent by its exit status. The harness
 * does not share it on all kernels, and never for a TEST() without a fixture.
 */
static inline void pkey_child_end(struct __test_metadata *_metadata)
{
	_exit(__test_passed(_metadata) ? KSFT_PASS : KSFT_FAIL);
}

#define EXPECT_CHILD_PASSED(_pid) EXPECT_EQ(0, pkey_wait_for(_pid))

static inline bool pkey_child_runs(struct __test_metadata *_metadata, pid_t pid)
{
	if (pid)
		EXPECT_CHILD_PASSED(pid);
	return !pid;
}

/*
 * The block after IN_CHILD runs in a child of fork(), and the parent waits for its
 * end. Each EXPECT_ and ASSERT_ that fails in the block makes the test fail.
 */
#define IN_CHILD								\
	for (pid_t _pid = fork(); pkey_child_runs(_metadata, _pid);		\
	     pkey_child_end(_metadata))
#endif

#endif /* PKEY_UTIL_H */
