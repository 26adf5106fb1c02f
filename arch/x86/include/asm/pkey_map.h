/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The state of the protection keys of one address space, as a value of 64 bits
 * and pure functions on it: no locks, no hardware, nothing but the arguments.
 * arch/x86/mm/pkeys.c updates the real one with cmpxchg(), so every reader sees
 * a consistent state without a lock.
 *
 * A key goes through these states:
 *
 *	never used --take--> allocated --free--> mapped --(no mapping)--> clean
 *	                         ^                  |                       |
 *	                         |                  '--take: last resort--. |
 *	                         '-------------------take-----------------+-'
 *
 *	never used	neither in @allocated nor in @used
 *	allocated	in both
 *	mapped		in @used only, and some mapping carries the key
 *	clean		in @used only, and no mapping carries the key
 *
 * Which keys mappings carry is not part of the value: the caller passes it.
 *
 * Key 0 is allocated from the start, for ever, and nobody owns it. The
 * execute-only key is an allocated key that the kernel owns and keeps.
 */
#ifndef _ASM_X86_PKEY_MAP_H
#define _ASM_X86_PKEY_MAP_H

#include <linux/bitops.h>
#include <linux/errno.h>
#include <linux/types.h>

/* The number of keys, key 0 included. */
#define PKEY_MAP_KEYS	16

/**
 * union pkey_map - State of the protection keys of an address space
 * @allocated: One bit a key: key 0, a key that was handed out, or the execute-only key.
 * @used: One bit a key: the key is, or was at some time, in @allocated.
 * @pinned: One bit a key: the mprotect() under way attaches the key to mappings or
 *	takes it away from them. pkey_map_choose() treats it as mapped.
 * @exec_only: The number of the execute-only key, 0 while there is none.
 * @word: The whole state, for cmpxchg().
 */
union pkey_map {
	struct {
		u16 allocated;
		u16 used;
		u16 pinned;
		u16 exec_only;
	};
	u64 word;
};

/**
 * enum pkey_origin - State of a key before it is taken
 * @PKEY_NEVER_USED: Nobody in the address space had it before.
 * @PKEY_CLEAN: It was freed, and no mapping carries it.
 * @PKEY_MAPPED: It was freed, and some mapping carries it.
 */
enum pkey_origin {
	PKEY_NEVER_USED,
	PKEY_CLEAN,
	PKEY_MAPPED,
};

/**
 * enum pkey_use - Who gets a key
 * @PKEY_USE_USER: pkey_alloc() hands it out.
 * @PKEY_USE_EXEC_ONLY: The kernel keeps it for execute-only memory.
 */
enum pkey_use {
	PKEY_USE_USER,
	PKEY_USE_EXEC_ONLY,
};

/* The bits that @one sets for key 0, moved to those of @pkey. */
static inline u64 pkey_map_bits(union pkey_map one, int pkey)
{
	return one.word << pkey;
}

/**
 * pkey_map_init() - State of the keys of a new address space (contract E3)
 *
 * Return: The state with key 0 allocated and all others never used.
 */
static inline union pkey_map pkey_map_init(void)
{
	return (union pkey_map){ .allocated = BIT(0), .used = BIT(0) };
}

/**
 * pkey_map_owned() - Is this key one that pkey_alloc() has handed out?
 * @map: State of the keys.
 * @pkey: Any number.
 *
 * Return: True for the keys that may be freed (contract B1): those allocated,
 * without key 0 and the execute-only key.
 */
static inline bool pkey_map_owned(union pkey_map map, int pkey)
{
	return pkey > 0 && pkey < PKEY_MAP_KEYS && pkey != map.exec_only &&
	       map.allocated & BIT(pkey);
}

/**
 * pkey_map_attachable() - May user space attach this key to a mapping?
 * @map: State of the keys.
 * @pkey: Any number.
 *
 * Return: True for key 0 and for the keys that pkey_map_owned() is true for
 * (contract C1).
 */
static inline bool pkey_map_attachable(union pkey_map map, int pkey)
{
	return pkey == 0 || pkey_map_owned(map, pkey);
}

/**
 * pkey_map_choose() - Choose the next key to hand out
 * @map: State of the keys.
 * @mapped: One bit a key: mappings carry it. Bits of allocated keys do not matter.
 * @reuse_mapped: Take a mapped key when there is no other (contract F3).
 *
 * Choose the lowest key that no mapping carries, never used or clean (contract F2, A6).
 * If there is none and @reuse_mapped is set, choose the lowest free key (F3).
 *
 * Return: The key, 1 to 15, or -ENOSPC (contract A4).
 */
static inline int pkey_map_choose(union pkey_map map, u16 mapped, bool reuse_mapped)
{
	u16 free = ~map.allocated;
	u16 choice = free & ~(mapped | map.pinned);

	if (!choice && reuse_mapped)
		choice = free;
	if (!choice)
		return -ENOSPC;

	return __ffs(choice);
}

/**
 * pkey_map_origin() - Which state is a free key in?
 * @map: State of the keys.
 * @mapped: Do mappings carry the key?
 * @pkey: A key that is not allocated.
 *
 * Return: Its state.
 */
static inline enum pkey_origin pkey_map_origin(union pkey_map map, bool mapped, int pkey)
{
	if (mapped)
		return PKEY_MAPPED;

	return map.used & BIT(pkey) ? PKEY_CLEAN : PKEY_NEVER_USED;
}

/**
 * pkey_map_take() - Hand a key out
 * @map: State of the keys.
 * @pkey: A key from pkey_map_choose().
 * @use: Who gets it.
 *
 * Return: The state with the key allocated.
 */
static inline union pkey_map pkey_map_take(union pkey_map map, int pkey, enum pkey_use use)
{
	map.word |= pkey_map_bits((union pkey_map){ .allocated = 1, .used = 1 }, pkey);
	if (use == PKEY_USE_EXEC_ONLY)
		map.exec_only = pkey;
	return map;
}

/**
 * pkey_map_free() - Free a key
 * @map: State of the keys.
 * @pkey: A key that pkey_map_owned() is true for.
 *
 * Return: The state with the key mapped or clean.
 */
static inline union pkey_map pkey_map_free(union pkey_map map, int pkey)
{
	map.word &= ~pkey_map_bits((union pkey_map){ .allocated = 1 }, pkey);
	return map;
}

#endif /* _ASM_X86_PKEY_MAP_H */
