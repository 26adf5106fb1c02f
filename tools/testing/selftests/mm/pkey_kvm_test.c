// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of what happens to the rights of a thread that runs a KVM guest on x86 while
 * another thread changes them. KVM saves the PKRU of such a thread before it enters the
 * guest, and restores it when the guest has left if the guest uses protection keys itself.
 * A change that arrives in between must not be undone by that.
 *
 * The guest is a loop of a few instructions in 64-bit mode, without interrupts.
 */
#define _GNU_SOURCE
#include <linux/kvm.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "../kselftest_harness.h"
#include "pkey_prctl.h"
#include "pkey_util.h"

/*
 * Each round can miss the moment that it aims at: if the thread of the guest is preempted
 * after it has lost its rights, KVM saves its PKRU anew in any case.
 */
#define ROUNDS		20

/* Pages of the guest, at the same address in its physical and its linear memory. */
#define GUEST_PML4	0x1000
#define GUEST_PDPT	0x2000
#define GUEST_PD	0x3000
#define GUEST_CODE	0x4000
#define GUEST_DATA	0x5000
#define GUEST_SIZE	0x6000

/* PKRU of the guest, which no thread of the test has. */
#define GUEST_PKRU	0xaaaaaaa8

/* Bits of the page tables and of the control registers. */
#define PTE_PRESENT	(1ull << 0)
#define PTE_WRITE	(1ull << 1)
#define PTE_HUGE	(1ull << 7)
#define CR0_PE		(1ull << 0)
#define CR0_PG		(1ull << 31)
#define CR4_PAE		(1ull << 5)
#define CR4_PKE		(1ull << 22)
#define EFER_LME	(1ull << 8)
#define EFER_LMA	(1ull << 10)

/* CPUID leaf 7, ECX: the guest may use protection keys. */
#define CPUID_7_ECX_PKU	(1u << 3)

#define MAX_CPUID	256

/* GUEST_DATA, which the guest and the test share. */
struct guest_data {
	/* The number of turns of the guest's loop. */
	uint32_t turns;
	/* The test sets this to make the guest leave. */
	uint32_t leave;
	/* PKRU as the guest finds it at the end. */
	uint32_t pkru;
};

/*
 * The guest uses protection keys if EBX is not 0. It sets PKRU to GUEST_PKRU, loops until
 * data.leave is set, stores PKRU, and leaves by writing to an I/O port.
 */
static const unsigned char guest_code[] = {
	/*	xorl %ecx, %ecx; xorl %edx, %edx */
	0x31, 0xc9, 0x31, 0xd2,
	/*	testl %ebx, %ebx; jz turn */
	0x85, 0xdb, 0x74, 0x08,
	/*	movl $GUEST_PKRU, %eax; wrpkru */
	0xb8, 0xa8, 0xaa, 0xaa, 0xaa, 0x0f, 0x01, 0xef,
	/* turn: incl data.turns */
	0xff, 0x04, 0x25, 0x00, 0x50, 0x00, 0x00,
	/*	cmpl $0, data.leave; je turn */
	0x83, 0x3c, 0x25, 0x04, 0x50, 0x00, 0x00, 0x00, 0x74, 0xef,
	/*	testl %ebx, %ebx; jz leave */
	0x85, 0xdb, 0x74, 0x0a,
	/*	rdpkru; movl %eax, data.pkru */
	0x0f, 0x01, 0xee, 0x89, 0x04, 0x25, 0x08, 0x50, 0x00, 0x00,
	/* leave: outb %al, $0x10 */
	0xe6, 0x10,
};

/* The thread that runs the guest, and its results. */
struct vcpu_thread {
	int fd;
	struct kvm_run *run;
	int pkey;

	pthread_t thread;
	uint32_t pkru_before;
	uint32_t pkru_after;
	int error;
	bool done;
};

static void *vcpu_thread(void *arg)
{
	struct vcpu_thread *vcpu = arg;

	pkru_set_rights(vcpu->pkey, 0);
	vcpu->pkru_before = rdpkru();
	if (ioctl(vcpu->fd, KVM_RUN, 0))
		vcpu->error = errno;
	vcpu->pkru_after = rdpkru();
	STORE(vcpu->done, true);
	return NULL;
}

FIXTURE(kvm)
{
	int kvm;
	int vm;
	int vcpu;
	char *memory;
	struct guest_data *data;
	struct kvm_run *run;
	size_t run_size;
	int keys[PKEY_NR];
	int nr_keys;
};

FIXTURE_VARIANT(kvm)
{
	bool guest_uses_keys;
};

FIXTURE_VARIANT_ADD(kvm, guest_with_keys)
{
	.guest_uses_keys = true,
};

FIXTURE_VARIANT_ADD(kvm, guest_without_keys)
{
	.guest_uses_keys = false,
};

/* Enable all CPUID features of KVM. Return whether protection keys are among them. */
static bool set_cpuid(int kvm, int vcpu)
{
	struct kvm_cpuid2 *cpuid;
	bool has_pku = false;
	unsigned int i;

	cpuid = calloc(1, sizeof(*cpuid) + MAX_CPUID * sizeof(cpuid->entries[0]));
	if (!cpuid)
		return false;

	cpuid->nent = MAX_CPUID;
	if (!ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid) &&
	    !ioctl(vcpu, KVM_SET_CPUID2, cpuid)) {
		for (i = 0; i < cpuid->nent; i++)
			if (cpuid->entries[i].function == 7 && cpuid->entries[i].index == 0)
				has_pku = cpuid->entries[i].ecx & CPUID_7_ECX_PKU;
	}
	free(cpuid);
	return has_pku;
}

/* Set 64-bit mode, with one page of 2 MiB whose linear addresses are the physical ones. */
static bool set_long_mode(int vcpu, char *memory, bool guest_uses_keys)
{
	const struct kvm_segment code = {
		.limit = 0xffffffff, .selector = 0x8, .type = 0xb, .present = 1, .s = 1,
		.l = 1, .g = 1,
	};
	const struct kvm_segment data = {
		.limit = 0xffffffff, .selector = 0x10, .type = 0x3, .present = 1, .s = 1,
		.db = 1, .g = 1,
	};
	struct kvm_sregs sregs;

	*(uint64_t *)(memory + GUEST_PML4) = GUEST_PDPT | PTE_PRESENT | PTE_WRITE;
	*(uint64_t *)(memory + GUEST_PDPT) = GUEST_PD | PTE_PRESENT | PTE_WRITE;
	*(uint64_t *)(memory + GUEST_PD) = PTE_PRESENT | PTE_WRITE | PTE_HUGE;

	if (ioctl(vcpu, KVM_GET_SREGS, &sregs))
		return false;

	sregs.cs = code;
	sregs.ds = data;
	sregs.es = data;
	sregs.fs = data;
	sregs.gs = data;
	sregs.ss = data;
	sregs.cr0 = CR0_PE | CR0_PG;
	sregs.cr3 = GUEST_PML4;
	sregs.cr4 = CR4_PAE | (guest_uses_keys ? CR4_PKE : 0);
	sregs.efer = EFER_LME | EFER_LMA;
	return !ioctl(vcpu, KVM_SET_SREGS, &sregs);
}

FIXTURE_SETUP(kvm)
{
	struct kvm_userspace_memory_region region = { .memory_size = GUEST_SIZE };
	bool guest_has_pku;
	int i;

	if (!pku_enabled())
		SKIP(return, NO_PKU);

	self->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (self->kvm < 0)
		SKIP(return, "needs KVM: /dev/kvm cannot be opened");

	self->vm = ioctl(self->kvm, KVM_CREATE_VM, 0);
	ASSERT_LE(0, self->vm);
	self->memory = pkey_map_shared(GUEST_SIZE);
	ASSERT_TRUE(!!self->memory);
	memcpy(self->memory + GUEST_CODE, guest_code, sizeof(guest_code));
	self->data = (struct guest_data *)(self->memory + GUEST_DATA);
	region.userspace_addr = (uintptr_t)self->memory;
	ASSERT_EQ(0, ioctl(self->vm, KVM_SET_USER_MEMORY_REGION, &region));

	self->vcpu = ioctl(self->vm, KVM_CREATE_VCPU, 0);
	ASSERT_LE(0, self->vcpu);
	self->run_size = ioctl(self->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	self->run = pkey_mmap(NULL, self->run_size, RW, MAP_SHARED, self->vcpu);
	ASSERT_TRUE(!!self->run);

	guest_has_pku = set_cpuid(self->kvm, self->vcpu);
	if (variant->guest_uses_keys && !guest_has_pku)
		SKIP(return, "needs a KVM that offers protection keys to guests (nested paging)");
	ASSERT_TRUE(set_long_mode(self->vcpu, self->memory, variant->guest_uses_keys));

	/* All keys are taken, so that the next pkey_alloc() returns the one that is freed. */
	self->nr_keys = pkey_take_all(self->keys);
	ASSERT_LT(0, self->nr_keys);
	for (i = 0; i < self->nr_keys; i++)
		pkru_set_rights(self->keys[i], PKEY_DISABLE_ACCESS);
}

FIXTURE_TEARDOWN(kvm)
{
	int i;

	for (i = 0; i < self->nr_keys; i++)
		sys_pkey_free(self->keys[i]);
}

/* Start the guest in a thread of its own and return when it runs. */
static bool start_guest(struct vcpu_thread *vcpu, struct guest_data *data,
			bool guest_uses_keys)
{
	struct kvm_regs regs = {
		.rip = GUEST_CODE,
		.rflags = 2,
		.rbx = guest_uses_keys,
	};

	memset(data, 0, sizeof(*data));
	if (ioctl(vcpu->fd, KVM_SET_REGS, &regs) ||
	    pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu))
		return false;

	while (!LOAD(data->turns) && !LOAD(vcpu->done))
		sched_yield();
	return true;
}

/* Let the guest run on for a moment, then leave. Return when its thread has ended. */
static bool end_guest(struct vcpu_thread *vcpu, struct guest_data *data)
{
	uint32_t turns = LOAD(data->turns);

	while (LOAD(data->turns) == turns && !LOAD(vcpu->done))
		sched_yield();
	STORE(data->leave, 1);
	return !pthread_join(vcpu->thread, NULL);
}

/* The thread must end by the guest's write to the port, with the guest's PKRU unchanged. */
#define ASSERT_GUEST_LEFT(_vcpu)						\
	do {									\
		ASSERT_EQ(0, (_vcpu).error)					\
			TH_LOG("KVM_RUN: %s", strerror((_vcpu).error));		\
		ASSERT_EQ(KVM_EXIT_IO, (_vcpu).run->exit_reason);		\
		if (variant->guest_uses_keys)					\
			ASSERT_EQ(GUEST_PKRU, self->data->pkru);		\
	} while (0)

/* Without a change of rights the thread has the PKRU that it had before. */
TEST_F(kvm, kvm_keeps_pkru)
{
	struct vcpu_thread vcpu = {
		.fd = self->vcpu,
		.run = self->run,
		.pkey = self->keys[0],
	};

	ASSERT_TRUE(start_guest(&vcpu, self->data, variant->guest_uses_keys));
	ASSERT_TRUE(end_guest(&vcpu, self->data));
	ASSERT_GUEST_LEFT(vcpu);
	EXPECT_EQ(vcpu.pkru_before, vcpu.pkru_after);
}

/* F4: a re-issue while the guest runs takes the rights of its thread away. */
TEST_F(kvm, kvm_reissue_revokes)
{
	const size_t size = pkey_page_size();
	struct vcpu_thread vcpu;
	int pkey, round;
	void *page;

	pkey = self->keys[0];
	for (round = 0; round < ROUNDS; round++) {
		page = pkey_map(1, RW);
		ASSERT_TRUE(!!page);
		ASSERT_EQ(0, sys_pkey_mprotect(page, size, RW, pkey));

		vcpu = (struct vcpu_thread) {
			.fd = self->vcpu,
			.run = self->run,
			.pkey = pkey,
		};
		ASSERT_TRUE(start_guest(&vcpu, self->data, variant->guest_uses_keys));
		EXPECT_EQ(0, munmap(page, size));
		EXPECT_TRUE(pkey_reissue(pkey));
		ASSERT_TRUE(end_guest(&vcpu, self->data));

		ASSERT_GUEST_LEFT(vcpu);
		EXPECT_REVOKED(vcpu.pkru_before, pkey, vcpu.pkru_after);
		if (!pkru_only_revoked(vcpu.pkru_before, pkey, vcpu.pkru_after))
			break;
	}
}

/* I2: rights that another thread sets while the guest runs are those of its thread. */
TEST_F(kvm, kvm_set_rights)
{
	struct vcpu_thread vcpu;
	int pkey, round;

	pkey = self->keys[0];
	for (round = 0; round < ROUNDS; round++) {
		vcpu = (struct vcpu_thread) {
			.fd = self->vcpu,
			.run = self->run,
			.pkey = pkey,
		};
		ASSERT_TRUE(start_guest(&vcpu, self->data, variant->guest_uses_keys));
		ASSERT_EQ(0, pkey_set_rights_everywhere(pkey, PKEY_DISABLE_WRITE));
		ASSERT_TRUE(end_guest(&vcpu, self->data));

		ASSERT_GUEST_LEFT(vcpu);
		ASSERT_EQ(pkru_with_rights(vcpu.pkru_before, pkey, PKEY_DISABLE_WRITE),
			  vcpu.pkru_after)
			TH_LOG("round %d: PKRU was %08x, is %08x", round, vcpu.pkru_before,
			       vcpu.pkru_after);
	}
}

TEST_HARNESS_MAIN
