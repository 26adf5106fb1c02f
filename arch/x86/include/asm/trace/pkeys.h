/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM pkeys

#if !defined(_TRACE_PKEYS_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_PKEYS_H

#include <linux/tracepoint.h>

#include <asm/pkey_map.h>
#include <asm/pkeys.h>

#define PKEY_ORIGIN						\
	EM(PKEY_NEVER_USED,	"never used")			\
	EM(PKEY_CLEAN,		"clean")			\
	EMe(PKEY_MAPPED,	"mapped")

#define PKEY_USE						\
	EM(PKEY_USE_USER,	"user")				\
	EMe(PKEY_USE_EXEC_ONLY,	"execute-only")

/* The two rights bits of a key: PKEY_DISABLE_ACCESS and PKEY_DISABLE_WRITE. */
#define show_pkey_rights(rights)				\
	__print_symbolic(rights, { 0, "rw" }, { 1, "--" }, { 2, "r-" }, { 3, "--" })

/* First make the values of the enums known to user space. */
#undef EM
#undef EMe
#define EM(a, b)	TRACE_DEFINE_ENUM(a);
#define EMe(a, b)	TRACE_DEFINE_ENUM(a);

PKEY_ORIGIN
PKEY_USE

/* Then what __print_symbolic() wants. */
#undef EM
#undef EMe
#define EM(a, b)	{ a, b },
#define EMe(a, b)	{ a, b }

#define show_pkeys(mask)	__print_flags(mask, ",",	\
	{ BIT(1), "1" }, { BIT(2), "2" }, { BIT(3), "3" },	\
	{ BIT(4), "4" }, { BIT(5), "5" }, { BIT(6), "6" },	\
	{ BIT(7), "7" }, { BIT(8), "8" }, { BIT(9), "9" },	\
	{ BIT(10), "10" }, { BIT(11), "11" }, { BIT(12), "12" },\
	{ BIT(13), "13" }, { BIT(14), "14" }, { BIT(15), "15" })

/**
 * pkey_alloc - a key is handed out, or reserved for execute-only memory
 * @pkey: The key.
 * @origin: What it was before.
 * @use: Who gets it.
 */
TRACE_EVENT(pkey_alloc,

	TP_PROTO(int pkey, enum pkey_origin origin, enum pkey_use use),

	TP_ARGS(pkey, origin, use),

	TP_STRUCT__entry(
		__field(int, pkey)
		__field(int, origin)
		__field(int, use)
	),

	TP_fast_assign(
		__entry->pkey = pkey;
		__entry->origin = origin;
		__entry->use = use;
	),

	TP_printk("key %d, was %s, for %s", __entry->pkey,
		  __print_symbolic(__entry->origin, PKEY_ORIGIN),
		  __print_symbolic(__entry->use, PKEY_USE))
);

/**
 * pkey_free - a key is freed
 * @pkeys: The keys of the address space.
 * @pkey: The key.
 *
 * The event says how many mappings still carry the key.
 */
TRACE_EVENT(pkey_free,

	TP_PROTO(struct mm_pkeys *pkeys, int pkey),

	TP_ARGS(pkeys, pkey),

	TP_STRUCT__entry(
		__field(int, pkey)
		__field(int, mappings)
	),

	TP_fast_assign(
		__entry->pkey = pkey;
		__entry->mappings = mm_pkey_mappings(pkeys, pkey);
	),

	TP_printk("key %d, %d mappings carry it", __entry->pkey, __entry->mappings)
);

/**
 * pkey_reissue - a clean key is handed out again
 * @pkey: The key.
 * @epoch: The number of the change of rights.
 * @tasks: How many other tasks were notified.
 *
 * There is no event if the caller is the only user of the address space.
 */
TRACE_EVENT(pkey_reissue,

	TP_PROTO(int pkey, u64 epoch, int tasks),

	TP_ARGS(pkey, epoch, tasks),

	TP_STRUCT__entry(
		__field(int, pkey)
		__field(u64, epoch)
		__field(int, tasks)
	),

	TP_fast_assign(
		__entry->pkey = pkey;
		__entry->epoch = epoch;
		__entry->tasks = tasks;
	),

	TP_printk("key %d, epoch %llu, notified %d tasks", __entry->pkey,
		  __entry->epoch, __entry->tasks)
);

/**
 * pkey_set_rights - all tasks get the same rights to a key
 * @pkey: The key.
 * @rights: The rights.
 * @epoch: The number of the change of rights.
 * @tasks: How many other tasks were notified.
 *
 * The cause is PR_PKEY_SET_RIGHTS, or pkey_alloc() in scope process.
 */
TRACE_EVENT(pkey_set_rights,

	TP_PROTO(int pkey, u32 rights, u64 epoch, int tasks),

	TP_ARGS(pkey, rights, epoch, tasks),

	TP_STRUCT__entry(
		__field(int, pkey)
		__field(u32, rights)
		__field(u64, epoch)
		__field(int, tasks)
	),

	TP_fast_assign(
		__entry->pkey = pkey;
		__entry->rights = rights;
		__entry->epoch = epoch;
		__entry->tasks = tasks;
	),

	TP_printk("key %d, rights %s, epoch %llu, notified %d tasks", __entry->pkey,
		  show_pkey_rights(__entry->rights), __entry->epoch, __entry->tasks)
);

/**
 * pkey_revoke - the current task applies changes of rights that another task made
 * @pkeys: One bit a key: the rights to it change.
 * @epoch: The epoch up to which the task is in sync now.
 *
 * There is no event if the task had these rights already, nor in sigreturn and clone().
 */
TRACE_EVENT(pkey_revoke,

	TP_PROTO(u16 pkeys, u64 epoch),

	TP_ARGS(pkeys, epoch),

	TP_STRUCT__entry(
		__field(u16, pkeys)
		__field(u64, epoch)
	),

	TP_fast_assign(
		__entry->pkeys = pkeys;
		__entry->epoch = epoch;
	),

	TP_printk("keys %s, up to epoch %llu", show_pkeys(__entry->pkeys), __entry->epoch)
);

/**
 * pkey_violation - a key denies the current task an access
 * @pkey: The key of the mapping.
 * @address: Where the access was.
 * @rights: The task's rights to the key.
 * @older: Is the task older than the issue of the key?
 */
TRACE_EVENT(pkey_violation,

	TP_PROTO(int pkey, unsigned long address, u32 rights, bool older),

	TP_ARGS(pkey, address, rights, older),

	TP_STRUCT__entry(
		__field(int, pkey)
		__field(unsigned long, address)
		__field(u32, rights)
		__field(bool, older)
	),

	TP_fast_assign(
		__entry->pkey = pkey;
		__entry->address = address;
		__entry->rights = rights;
		__entry->older = older;
	),

	TP_printk("key %d, address 0x%lx, rights %s, task is %s the key's issue",
		  __entry->pkey, __entry->address, show_pkey_rights(__entry->rights),
		  __entry->older ? "older than" : "not older than")
);

#undef EM
#undef EMe

#endif /* _TRACE_PKEYS_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH asm/trace/
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE pkeys

/* This part must be outside protection */
#include <trace/define_trace.h>
