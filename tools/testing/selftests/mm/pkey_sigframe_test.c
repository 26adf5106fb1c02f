// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of signal frames and protection keys on x86: a frame brings no rights to
 * a re-issued key back, a frame that cannot be written changes no rights, and
 * sigreturn reads the whole frame before it takes the rights from it (F6).
 *
 * The main thread sends itself signals. sigreturn then loads PKRU from a frame
 * that is as old as the signal.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <ucontext.h>

#include "../kselftest_harness.h"
#include "pkey_util.h"

/* The key that the tests re-issue, and the keys beside it. */
#define KEY		7
#define KEY_BIT		(1u << KEY)
#define LAST_BIT	(1u << PKEY_MAX)
#define BESIDE_BITS	(1u << (KEY - 1) | 1u << (KEY + 1))

/* Where the software-reserved bytes are, from fpregs. */
#define SW_OFFSET	(FX_OFFSET + 464)

/* A frame that begins behind so many bytes is aligned for XSAVE. */
#define FX_PADDING	((64 - FX_OFFSET % 64) % 64)

/*
 * The words in the software-reserved bytes: magic, size, features (2), XSAVE size,
 * then PKRU, the stamp (2) and the identity of the address space.
 */
#define SW_EXTENDED_SIZE	1
#define SW_PKRU			5
#define SW_ID			8
#define SW_NR			12

#define MAX_FRAME	16384

/* PKRU as execve() left it for this program: that of each signal handler. */
static uint32_t pkru_at_start;

static char *frame_xsave(const ucontext_t *ucontext)
{
	return (char *)ucontext->uc_mcontext.fpregs + FX_OFFSET;
}

/* Send a signal to this thread; the kernel writes the frame below @sp. */
static int send_signal_on(char *sp, int sig)
{
#ifdef __x86_64__
	uint64_t ret = __NR_tgkill, stack = (uintptr_t)sp;

	asm volatile("xchgq %%rsp, %[stack]\n\t"
		     "syscall\n\t"
		     "xchgq %%rsp, %[stack]"
		     : "+a" (ret), [stack] "+r" (stack)
		     : "D" ((uint64_t)getpid()), "d" ((uint64_t)sig),
		       "S" ((uint64_t)pkey_gettid())
		     : "rcx", "r11", "memory");
#else
	uint32_t ret = __NR_tgkill, stack = (uintptr_t)sp;

	asm volatile("xchgl %%esp, %[stack]\n\t"
		     "int $0x80\n\t"
		     "xchgl %%esp, %[stack]"
		     : "+a" (ret), [stack] "+S" (stack)
		     : "b" (getpid()), "c" (pkey_gettid()),
		       "d" (sig)
		     : "memory");
#endif
	return (int)ret;
}

/*
 * Frames that are older than a re-issue.
 */

/* A handler makes one of these changes to its frame. */
enum frame_change {
	FRAME_AS_IT_IS,
	FRAME_WITHOUT_STAMP,
	FRAME_COPIED,
	FRAME_OPENED,
	FRAME_OPENED_LAST,
	FRAME_NARROWED,
	FRAME_LEGACY,
	FRAME_FOREIGN,
};

struct frame_plan {
	/* How the key changes its owner in the handler: not at all if NULL. */
	bool (*reissue)(void);
	enum frame_change change;
	/* How many handlers nest; 0 means 1. The innermost re-issues. */
	int depth;
	/* The owner is this thread, which opens the key in the handler. */
	bool open_again;
	/* The handler forks, and both processes return through their copy of the frame. */
	bool fork;
};

static struct {
	struct frame_plan plan;
	int depth;
	int failed;
	/* PKRU after the innermost handler has returned to the one outside. */
	uint32_t pkru_inside;
	pid_t child;
} frames;

/* The copy of a frame, with room to align it. */
static char frame_copy[MAX_FRAME + 128];

static bool reissue_here(void)
{
	return pkey_reissue(KEY);
}

static bool reissue_last_here(void)
{
	return pkey_reissue(PKEY_MAX);
}

static void *reissue_key_thread(void *arg)
{
	*(bool *)arg = pkey_reissue(KEY);
	return NULL;
}

static bool reissue_in_thread(void)
{
	pthread_t thread;
	bool done = false;

	return !pthread_create(&thread, NULL, reissue_key_thread, &done) &&
	       !pthread_join(thread, NULL) && done;
}

static bool reissue_for_execute_only(void)
{
	return !sys_pkey_free(KEY) && pkey_of(pkey_map_code(PROT_EXEC)) == KEY;
}

static bool free_only(void)
{
	return !sys_pkey_free(KEY);
}

static bool reissue_others(void)
{
	return pkey_reissue(KEY - 1) && pkey_reissue(KEY + 1);
}

static bool change_frame(ucontext_t *ucontext)
{
	char *fpregs = (char *)ucontext->uc_mcontext.fpregs;
	uint32_t *pkru = (uint32_t *)(fpregs + FX_OFFSET + xsave_pkru_offset());
	uint32_t *sw = (uint32_t *)(fpregs + SW_OFFSET);
	char *copy;

	switch (frames.plan.change) {
	case FRAME_AS_IT_IS:
		return true;
	case FRAME_WITHOUT_STAMP:
		memset(sw + SW_PKRU, 0, (SW_NR - SW_PKRU) * sizeof(*sw));
		return true;
	case FRAME_COPIED:
		copy = (char *)(((uintptr_t)frame_copy + 63) & ~63ul) + FX_PADDING;
		if (sw[SW_EXTENDED_SIZE] > MAX_FRAME)
			return false;
		memcpy(copy, fpregs, sw[SW_EXTENDED_SIZE]);
		memset(fpregs, 0, sw[SW_EXTENDED_SIZE]);
		ucontext->uc_mcontext.fpregs = (void *)copy;
		return true;
	case FRAME_OPENED:
		*pkru = pkru_with_rights(*pkru, KEY, 0);
		return true;
	case FRAME_OPENED_LAST:
		*pkru = pkru_with_rights(*pkru, PKEY_MAX, 0);
		return true;
	case FRAME_NARROWED:
		*pkru |= PKEY_DISABLE_WRITE << 2 * KEY;
		return true;
	case FRAME_LEGACY:
		/* The second magic number, behind all else. */
		memset(fpregs + sw[SW_EXTENDED_SIZE] - 4, 0, 4);
		return true;
	case FRAME_FOREIGN:
		sw[SW_ID]++;
		return true;
	}
	return false;
}

static void on_signal(ucontext_t *ucontext)
{
	const struct frame_plan *plan = &frames.plan;
	int depth = ++frames.depth;

	if (depth < plan->depth && pkey_raise(SIGUSR2, &frames.pkru_inside))
		frames.failed++;
	if (depth == plan->depth && plan->reissue && !plan->reissue())
		frames.failed++;
	if (depth == plan->depth && plan->open_again)
		pkru_set_rights(KEY, 0);
	if (depth == plan->depth && plan->fork)
		frames.child = fork();
	if (ucontext && !change_frame(ucontext))
		frames.failed++;
}

/* Send the signal with @pkru, and return PKRU after the handler. */
static uint32_t run_frame(const struct frame_plan *plan, int flags, uint32_t pkru)
{
	uint32_t after;

	memset(&frames, 0, sizeof(frames));
	frames.plan = *plan;
	if (!plan->depth)
		frames.plan.depth = 1;
	if (!pkey_handle_signal(SIGUSR2, flags, on_signal))
		frames.failed++;

	wrpkru(pkru);
	if (pkey_raise(SIGUSR2, &after))
		frames.failed++;
	if (frames.depth < frames.plan.depth)
		frames.failed++;
	return after;
}

static bool set_ordinary_altstack(void)
{
	const size_t size = 64 * pkey_page_size();
	stack_t stack = { .ss_size = size };

	stack.ss_sp = pkey_mmap(NULL, size, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	return stack.ss_sp && !sigaltstack(&stack, NULL);
}

FIXTURE(frame)
{
};

/* All masks are masks of keys. */
FIXTURE_VARIANT(frame)
{
	struct frame_plan plan;
	/* How the key changes its owner before the signal. */
	bool (*reissue_before)(void);
	/* Access to these is disabled before the signal, and they are open after it. */
	unsigned int opened;
	/* Access to these is disabled after it, and nothing else has changed. */
	unsigned int revoked;
	/* One signal is enough: the key is not there a second time. */
	bool once;
};

#define FRAME(_name, _reissue, _change, ...)					\
	FIXTURE_VARIANT_ADD(frame, _name) {					\
		.plan.reissue = _reissue, .plan.change = FRAME_##_change, __VA_ARGS__ }

FRAME(restores_rights, NULL, AS_IT_IS);
FRAME(older_than_reissue_in_handler, reissue_here, AS_IT_IS, .revoked = KEY_BIT);
FRAME(older_than_reissue_in_thread, reissue_in_thread, AS_IT_IS, .revoked = KEY_BIT);
FRAME(older_than_execute_only_key, reissue_for_execute_only, AS_IT_IS, .revoked = KEY_BIT,
      .once = true);
FRAME(older_than_reissue_of_others, reissue_others, AS_IT_IS, .revoked = BESIDE_BITS);
FRAME(older_than_free, free_only, AS_IT_IS, .once = true);
FRAME(younger_than_reissue, NULL, AS_IT_IS, .reissue_before = reissue_here);
FRAME(younger_than_reissue_in_thread, NULL, AS_IT_IS, .reissue_before = reissue_in_thread);
/* The handler has the rights that it opens for itself, but only there. */
FRAME(older_than_rights_of_handler, reissue_here, AS_IT_IS, .plan.open_again = true,
      .revoked = KEY_BIT);
/* The innermost of several handlers re-issues: all frames are older. */
FRAME(nested_all_older, reissue_in_thread, AS_IT_IS, .plan.depth = 4, .revoked = KEY_BIT);
/* A frame that does not tell its age is a program's: it is restored as it is. */
FRAME(without_stamp_is_restored, reissue_in_thread, WITHOUT_STAMP);
/* H3: a handler gives the code that it interrupted rights to a key, in the frame. */
FRAME(opened_by_handler, reissue_here, OPENED, .opened = KEY_BIT);
FRAME(last_key_opened_by_handler, reissue_last_here, OPENED_LAST, .opened = LAST_BIT);
/* A handler that takes rights away in the frame has given none. */
FRAME(narrowed_by_handler, reissue_in_thread, NARROWED, .revoked = KEY_BIT);
/* A copy of a frame, at another place, is as good as the frame, and as old. */
FRAME(copied_restores_rights, NULL, COPIED);
FRAME(copied_is_as_old, reissue_in_thread, COPIED, .revoked = KEY_BIT);
/* A frame from another address space counts as older than every re-issue in this one. */
FRAME(from_another_address_space, NULL, FOREIGN, .reissue_before = reissue_in_thread,
      .revoked = KEY_BIT);

FIXTURE_SETUP(frame)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	ASSERT_TRUE(set_ordinary_altstack());
}

FIXTURE_TEARDOWN(frame)
{
}

/* The bits of PKRU that belong to these keys, with the same rights for each. */
static uint32_t pkru_bits(unsigned int keys, unsigned int rights)
{
	uint32_t bits = 0;
	int pkey;

	for (pkey = 0; pkey <= PKEY_MAX; pkey++)
		if (keys & 1u << pkey)
			bits |= rights << 2 * pkey;
	return bits;
}

/* All patterns, with all rights to the key, and with those to read. */
#define NR_FRAMES	(2 * ARRAY_SIZE(pkru_patterns))

static uint32_t frame_pkru(size_t i)
{
	return pkru_with_rights(pkru_patterns[i / 2], KEY, i & 1 ? PKEY_DISABLE_WRITE : 0);
}

static void run_frames(struct __test_metadata *_metadata,
		       const FIXTURE_VARIANT(frame) * variant, int flags)
{
	const uint32_t opened = pkru_bits(variant->opened, PKEY_RIGHTS_MASK);
	const uint32_t revoked = pkru_bits(variant->revoked, PKEY_RIGHTS_MASK);
	const uint32_t denied = pkru_bits(variant->revoked, PKEY_DISABLE_ACCESS);
	uint32_t before, after;
	size_t i;

	for (i = variant->once ? NR_FRAMES / 2 : 0; i < NR_FRAMES; i++) {
		before = (frame_pkru(i) & ~opened) |
			 pkru_bits(variant->opened, PKEY_DISABLE_ACCESS);
		if (variant->reissue_before)
			ASSERT_TRUE(variant->reissue_before());
		after = run_frame(&variant->plan, flags, before);
		EXPECT_EQ(0, frames.failed);
		EXPECT_EQ(before & ~opened & ~revoked, after & ~revoked) {
			TH_LOG("PKRU was %08x, is %08x", before, after);
		}
		EXPECT_EQ(denied, after & denied) {
			TH_LOG("PKRU was %08x, is %08x", before, after);
		}
		if (variant->once)
			break;
	}
}

/* F6 */
TEST_F(frame, with_info)
{
	run_frames(_metadata, variant, SA_SIGINFO);
}

/* F6: on 32-bit x86 this is another frame, and another sigreturn. */
TEST_F(frame, without_info)
{
	if (variant->plan.change)
		SKIP(return, "needs SA_SIGINFO to find the frame");

	run_frames(_metadata, variant, 0);
}

/* F6 */
TEST_F(frame, on_other_stack)
{
	run_frames(_metadata, variant, SA_SIGINFO | SA_ONSTACK);
}

FIXTURE(handler)
{
};

FIXTURE_VARIANT(handler)
{
	int flags;
};

FIXTURE_VARIANT_ADD(handler, with_info) { .flags = SA_SIGINFO };
FIXTURE_VARIANT_ADD(handler, without_info) { .flags = 0 };
FIXTURE_VARIANT_ADD(handler, on_other_stack) { .flags = SA_SIGINFO | SA_ONSTACK };

FIXTURE_SETUP(handler)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	ASSERT_TRUE(set_ordinary_altstack());
}

FIXTURE_TEARDOWN(handler)
{
}

static struct {
	uint32_t inner;
	uint32_t outer;
} newer;

static void handler_of_inner_signal(int sig)
{
}

/* Re-issue the key, open it as its new owner, and send a second signal. */
static void handler_of_outer_signal(int sig)
{
	if (!reissue_here())
		frames.failed++;
	wrpkru(pkru_without(PKRU_INIT, KEY));
	signal(SIGUSR2, handler_of_inner_signal);
	if (pkey_raise(SIGUSR2, &newer.inner))
		frames.failed++;
}

/* F6: the frame that is younger brings rights back, the one outside does not. */
TEST_F(handler, nested_inner_is_younger)
{
	const struct sigaction action = {
		.sa_handler = handler_of_outer_signal,
		.sa_flags = SA_NODEFER | (variant->flags & SA_ONSTACK),
	};

	memset(&frames, 0, sizeof(frames));
	ASSERT_EQ(0, sigaction(SIGUSR2, &action, NULL));
	wrpkru(0);
	ASSERT_EQ(0, pkey_raise(SIGUSR2, &newer.outer));
	EXPECT_EQ(0, frames.failed);
	EXPECT_EQ(pkru_without(PKRU_INIT, KEY), newer.inner);
	EXPECT_REVOKED(0, KEY, newer.outer);
}

/*
 * F6: a frame without its extended part, PKRU among it, opens all keys, but not those
 * that were re-issued.
 */
TEST_F(handler, frame_without_extended_part)
{
	struct frame_plan plan = { .change = FRAME_LEGACY };
	uint32_t before, after;

	if (!(variant->flags & SA_SIGINFO))
		SKIP(return, "needs SA_SIGINFO to find the frame");

	before = run_frame(&plan, variant->flags, PKRU_INIT);
	plan.reissue = reissue_in_thread;
	after = run_frame(&plan, variant->flags, PKRU_INIT);
	EXPECT_EQ(0, frames.failed);
	EXPECT_REVOKED(before, KEY, after);
}

/* F6, E1: a child that leaves the handler of its parent has the frame of its parent. */
TEST_F(handler, frame_in_forked_child)
{
	const struct frame_plan plan = { .reissue = reissue_here, .fork = true };
	const uint32_t before = pkru_with_rights(frame_pkru(8), KEY + 1, 0);
	uint32_t after;

	/* The frame is younger than this, in the child too: KEY + 1 stays open. */
	ASSERT_TRUE(pkey_reissue(KEY + 1));
	after = run_frame(&plan, variant->flags, before);
	EXPECT_EQ(0, frames.failed);
	EXPECT_REVOKED(before, KEY, after);
	if (!frames.child)
		pkey_child_end(_metadata);
	EXPECT_CHILD_PASSED(frames.child);
}

FIXTURE(none_used)
{
};

FIXTURE_SETUP(none_used)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);
}

FIXTURE_TEARDOWN(none_used)
{
}

static bool first_use(void)
{
	return sys_pkey_alloc(0, PKEY_DISABLE_ACCESS) > 0;
}

/* F6: in the handler a key is used for the first time: nobody had rights to it. */
TEST_F(none_used, frame_older_than_first_use)
{
	const struct frame_plan plan = { .reissue = first_use };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(pkru_patterns); i++) {
		EXPECT_EQ(pkru_patterns[i], run_frame(&plan, SA_SIGINFO, pkru_patterns[i]));
		EXPECT_EQ(0, frames.failed);
	}
}

static bool use_all_and_reissue(void)
{
	return pkey_take_all(NULL) == PKEY_MAX && reissue_in_thread();
}

/* F6, G4: when the frame was written the address space had no key of its own. */
TEST_F(none_used, frame_older_than_first_use_and_reissue)
{
	const struct frame_plan plan = { .reissue = use_all_and_reissue };
	uint32_t after;

	after = run_frame(&plan, SA_SIGINFO, 0);
	EXPECT_EQ(0, frames.failed);
	EXPECT_REVOKED(0, KEY, after);
}

/*
 * Frames that do not fit.
 *
 * SIGUSR1 comes while the stack pointer is near the end of writable memory. Its
 * handler uses no stack. Where the frame does not fit, SIGSEGV comes instead, on
 * another stack.
 */
static unsigned int usr1_seen asm("usr1_seen") __attribute__((used));
void usr1_handler(int sig);

#ifdef __x86_64__
asm(".pushsection .text\n"
    "usr1_handler:\n\t"
    "incl usr1_seen(%rip)\n\t"
    "ret\n"
    ".popsection");
#else
asm(".pushsection .text\n"
    "usr1_handler:\n\t"
    "incl usr1_seen\n\t"
    "ret\n"
    ".popsection");
#endif

static struct {
	unsigned int seen;
	int code;
	/* PKRU of the code that it came to, and of the handler itself. */
	uint32_t in_frame;
	uint32_t in_handler;
} segv;

static void segv_handler(int sig, siginfo_t *info, void *ucontext)
{
	segv.in_handler = rdpkru();
	segv.in_frame = xsave_get_pkru(frame_xsave(ucontext));
	segv.code = info->si_code;
	segv.seen++;
}

/* Each of these prepares the memory below the writable memory. */
static bool below_is_prot_none(char *addr, size_t size)
{
	return !mprotect(addr, size, PROT_NONE);
}

static bool below_is_read_only(char *addr, size_t size)
{
	return !mprotect(addr, size, PROT_READ);
}

static bool below_is_nothing(char *addr, size_t size)
{
	return !munmap(addr, size);
}

/* Pages of a file behind its end. */
static bool below_is_end_of_file(char *addr, size_t size)
{
	int fd = memfd_create("pkey_sigframe_test", 0);
	bool done;

	done = fd >= 0 && pkey_mmap(addr, size, RW, MAP_SHARED | MAP_FIXED, fd);
	close(fd);
	return done;
}

/* A frame is smaller than that, with all that XSAVE may have to save. */
#define ROOM		(8 * 4096)

/* How far the stack pointer moves from signal to signal: less than any copy. */
#define SWEEP_STEP	16

FIXTURE(half_frame)
{
	char *edge;
	/* A later mmap() would put it into the hole. */
	char *page;
};

FIXTURE_VARIANT(half_frame)
{
	bool (*below)(char *addr, size_t size);
	int flags;
};

#define HALF_FRAME(_name, ...) FIXTURE_VARIANT_ADD(half_frame, _name) { __VA_ARGS__ }

HALF_FRAME(prot_none, below_is_prot_none, SA_SIGINFO);
HALF_FRAME(prot_none_without_info, below_is_prot_none, 0);
HALF_FRAME(read_only, below_is_read_only, SA_SIGINFO);
HALF_FRAME(read_only_without_info, below_is_read_only, 0);
HALF_FRAME(unmapped, below_is_nothing, SA_SIGINFO);
HALF_FRAME(unmapped_without_info, below_is_nothing, 0);
HALF_FRAME(end_of_file, below_is_end_of_file, SA_SIGINFO);
HALF_FRAME(end_of_file_without_info, below_is_end_of_file, 0);

FIXTURE_SETUP(half_frame)
{
	const struct sigaction on_segv = {
		.sa_sigaction = segv_handler,
		.sa_flags = SA_SIGINFO | SA_ONSTACK,
	};
	const struct sigaction on_usr1 = {
		.sa_handler = usr1_handler,
		.sa_flags = variant->flags,
	};
	char *memory;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_TRUE(set_ordinary_altstack());
	ASSERT_EQ(0, sigaction(SIGSEGV, &on_segv, NULL));
	ASSERT_EQ(0, sigaction(SIGUSR1, &on_usr1, NULL));
	self->page = pkey_map(1, RW);
	ASSERT_TRUE(!!self->page);
	memory = pkey_mmap(NULL, 2 * ROOM, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	ASSERT_TRUE(!!memory);
	ASSERT_TRUE(variant->below(memory, ROOM));
	self->edge = memory + ROOM;
}

FIXTURE_TEARDOWN(half_frame)
{
}

/* Send one signal. Return what is wrong after it, or NULL. */
static const char *try_half_frame(char *sp, uint32_t pkru)
{
	uint32_t after;

	usr1_seen = 0;
	segv.seen = 0;
	wrpkru(pkru);
	send_signal_on(sp, SIGUSR1);
	after = rdpkru();
	wrpkru(PKRU_INIT);

	if (after != pkru)
		return "PKRU has changed";
	if (usr1_seen + segv.seen != 1)
		return "not one of SIGUSR1 and SIGSEGV has come";
	if (segv.seen && segv.in_frame != pkru)
		return "PKRU in the frame of SIGSEGV is another";
	if (segv.seen && segv.in_handler != pkru_at_start)
		return "the handler of SIGSEGV has other rights";
	return NULL;
}

/*
 * F6: whatever part of a frame did not fit, the thread, the frame of the SIGSEGV that
 * follows and what its return restores have the PKRU from before.
 */
TEST_F(half_frame, changes_no_rights)
{
	unsigned int fitted = 0, failed = 0, wrong = 0;
	const char *what;
	size_t room, p;

	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		for (room = SWEEP_STEP; room < ROOM; room += SWEEP_STEP) {
			what = try_half_frame(self->edge + room, pkru_patterns[p]);
			if (what && !wrong++)
				TH_LOG("%s: PKRU %08x, room for %d bytes", what,
				       pkru_patterns[p], (int)room);
			failed += segv.seen;
			fitted += usr1_seen;
			/* From here on the whole frame fits. */
			if (usr1_seen)
				break;
		}
	}
	EXPECT_EQ(0, wrong);
	EXPECT_EQ(ARRAY_SIZE(pkru_patterns), fitted);
	EXPECT_LT(10 * ARRAY_SIZE(pkru_patterns), failed);
}

/*
 * F6: a thread that has no rights to a key and executes no WRPKRU gets none, whichever
 * frame did not fit.
 */
TEST_F(half_frame, opens_no_key)
{
	int pkey, opened = 0;
	size_t room;

	pkey = sys_pkey_alloc(0, PKEY_DISABLE_ACCESS);
	ASSERT_LE(1, pkey);
	ASSERT_EQ(0, sys_pkey_mprotect(self->page, pkey_page_size(), RW, pkey));
	usr1_seen = 0;
	for (room = SWEEP_STEP; room < ROOM && !usr1_seen; room += SWEEP_STEP) {
		send_signal_on(self->edge + room, SIGUSR1);
		if (pkru_get_rights(pkey) != PKEY_DISABLE_ACCESS)
			opened++;
	}
	EXPECT_EQ(0, opened);
	EXPECT_EQ(1, usr1_seen);
	EXPECT_TRUE(pkey_refused(PKEY_READ, self->page, pkey));
}

/* D1, F6: the thread gets no rights to execute-only memory either. */
TEST_F(half_frame, leaves_execute_only_memory_closed)
{
	int pkey, opened = 0;
	size_t room;

	ASSERT_EQ(0, sys_mprotect(self->page, pkey_page_size(), PROT_EXEC));
	pkey = pkey_of(self->page);
	ASSERT_LE(1, pkey);
	usr1_seen = 0;
	for (room = SWEEP_STEP; room < ROOM && !usr1_seen; room += SWEEP_STEP) {
		send_signal_on(self->edge + room, SIGUSR1);
		if (!(pkru_get_rights(pkey) & PKEY_DISABLE_ACCESS))
			opened++;
	}
	EXPECT_EQ(0, opened);
	EXPECT_EQ(1, usr1_seen);
	EXPECT_TRUE(pkey_refused(PKEY_READ, self->page, pkey));
}

/*
 * sigreturn on a stack that a key protects.
 *
 * The handler opens its stack before it uses it, calls keyed_handler_body() and
 * returns. keyed_handler_body() gets the address of the frame.
 */
void keyed_handler(int sig);
void keyed_handler_body(char *frame, ucontext_t *ucontext);

#ifdef __x86_64__
asm(".pushsection .text\n"
    "keyed_handler:\n\t"
    "movq %rdx, %rsi\n\t"
    "movq %rsp, %rdi\n\t"
    "xorl %eax, %eax\n\t"
    "xorl %ecx, %ecx\n\t"
    "xorl %edx, %edx\n\t"
    ".byte 0x0f, 0x01, 0xef\n\t"
    "subq $8, %rsp\n\t"
    "call keyed_handler_body\n\t"
    "addq $8, %rsp\n\t"
    "ret\n"
    ".popsection");
#else
asm(".pushsection .text\n"
    "keyed_handler:\n\t"
    "xorl %eax, %eax\n\t"
    "xorl %ecx, %ecx\n\t"
    "xorl %edx, %edx\n\t"
    ".byte 0x0f, 0x01, 0xef\n\t"
    "movl %esp, %eax\n\t"
    "subl $4, %esp\n\t"
    "pushl 16(%esp)\n\t"
    "pushl %eax\n\t"
    "call keyed_handler_body\n\t"
    "addl $12, %esp\n\t"
    "ret\n"
    ".popsection");
#endif

static struct {
	int flags;
	unsigned int seen;
	/* The handler writes @pkru to its frame, if @change. */
	bool change;
	uint32_t pkru;
} keyed;

__attribute__((used)) void keyed_handler_body(char *frame, ucontext_t *ucontext)
{
	char *xsave;

#ifndef __x86_64__
	/* It is behind the return address and the number of the signal. */
	if (!(keyed.flags & SA_SIGINFO))
		xsave = (char *)((struct sigcontext *)(frame + 8))->fpstate + FX_OFFSET;
	else
#endif
		xsave = frame_xsave(ucontext);
	if (keyed.change)
		xsave_set_pkru(xsave, keyed.pkru);
	keyed.seen++;
}

FIXTURE(keyed_stack)
{
	stack_t stack;
};

FIXTURE_VARIANT(keyed_stack)
{
	int flags;
	/* The interrupted code has closed the key; otherwise its handler does, in the frame. */
	bool closed_before;
};

#define KEYED_STACK(_name, ...) FIXTURE_VARIANT_ADD(keyed_stack, _name) { __VA_ARGS__ }

KEYED_STACK(closed_by_handler, SA_SIGINFO);
KEYED_STACK(closed_by_handler_without_info, 0);
KEYED_STACK(closed_before, SA_SIGINFO, true);
KEYED_STACK(closed_before_without_info, 0, true);

FIXTURE_SETUP(keyed_stack)
{
	const size_t size = 16 * pkey_page_size();

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	ASSERT_EQ(PKEY_MAX, pkey_take_all(NULL));
	self->stack.ss_sp = pkey_mmap(NULL, size, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	self->stack.ss_size = size;
	ASSERT_TRUE(!!self->stack.ss_sp);
	ASSERT_EQ(0, sys_pkey_mprotect(self->stack.ss_sp, size, RW, KEY));
	if (variant->closed_before && !pkey_frames_open_keys(&self->stack, KEY))
		SKIP(return, NO_KEYED_FRAMES);
}

FIXTURE_TEARDOWN(keyed_stack)
{
}

/*
 * F6: sigreturn reads all of the frame before it takes the rights from it, which
 * close the memory that the frame is in.
 */
TEST_F(keyed_stack, sigreturn_reads_frame_first)
{
	const struct sigaction action = {
		.sa_handler = keyed_handler,
		.sa_flags = SA_ONSTACK | variant->flags,
	};
	uint32_t before, closed, after = 0;
	stack_t stack;
	size_t p;

	for (p = 0; p < ARRAY_SIZE(pkru_patterns); p++) {
		IN_CHILD {
			closed = pkru_with_rights(pkru_patterns[p], KEY, PKEY_DISABLE_ACCESS);
			before = variant->closed_before ? closed : pkru_without(closed, KEY);
			keyed.flags = variant->flags;
			keyed.change = !variant->closed_before;
			keyed.pkru = closed;
			ASSERT_EQ(0, sigaltstack(&self->stack, NULL));
			ASSERT_EQ(0, sigaction(SIGUSR2, &action, NULL));
			wrpkru(before);
			ASSERT_EQ(0, pkey_raise(SIGUSR2, &after));
			EXPECT_EQ(1, keyed.seen);
			EXPECT_EQ(closed, after);
			ASSERT_EQ(0, sigaltstack(NULL, &stack));
			EXPECT_EQ((uintptr_t)self->stack.ss_sp, (uintptr_t)stack.ss_sp);
			EXPECT_EQ(self->stack.ss_size, stack.ss_size);
		}
	}
}

FIXTURE(altstack)
{
};

FIXTURE_SETUP(altstack)
{
	if (!pku_enabled())
		SKIP(return, NO_PKU);
	if (sizeof(long) == 8)
		SKIP(return, "needs a 32-bit or x32 program: in 64-bit ones kernels differ");

	ASSERT_TRUE(set_ordinary_altstack());
}

FIXTURE_TEARDOWN(altstack)
{
}

static void *other_stack;

/* Make sigreturn set another stack. */
static void handler_that_changes_stack(int sig, siginfo_t *info, void *context)
{
	ucontext_t *ucontext = context;

	ucontext->uc_stack.ss_sp = other_stack;
}

/* H4, F6: the stack_t of a frame is read early, and takes effect as late as before. */
TEST_F(altstack, of_frame_is_applied)
{
	const struct sigaction action = {
		.sa_sigaction = handler_that_changes_stack,
		.sa_flags = SA_SIGINFO | SA_ONSTACK,
	};
	stack_t stack;

	other_stack = pkey_map(64, RW);
	ASSERT_TRUE(!!other_stack);
	ASSERT_EQ(0, sigaction(SIGUSR2, &action, NULL));
	ASSERT_EQ(0, raise(SIGUSR2));
	ASSERT_EQ(0, sigaltstack(NULL, &stack));
	EXPECT_EQ((uintptr_t)other_stack, (uintptr_t)stack.ss_sp);
}

int main(int argc, char **argv)
{
	pkru_at_start = pkru_save();
	return test_harness_run(argc, argv);
}
