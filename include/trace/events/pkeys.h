/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM pkeys

#if !defined(_TRACE_PKEYS_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_PKEYS_H

#include <linux/pkey_map.h>
#include <linux/tracepoint.h>

#define PKEY_ORIGIN						\
	EM(PKEY_NEVER_USED,	"never used")			\
	EM(PKEY_CLEAN,		"clean")			\
	EMe(PKEY_MAPPED,	"mapped")

#define PKEY_USE						\
	EM(PKEY_USE_USER,	"user")				\
	EMe(PKEY_USE_EXEC_ONLY,	"execute-only")

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
 * pkey_free - a key is given back
 * @pkey: The key.
 * @mappings: How many mappings still carry it.
 */
TRACE_EVENT(pkey_free,

	TP_PROTO(int pkey, int mappings),

	TP_ARGS(pkey, mappings),

	TP_STRUCT__entry(
		__field(int, pkey)
		__field(int, mappings)
	),

	TP_fast_assign(
		__entry->pkey = pkey;
		__entry->mappings = mappings;
	),

	TP_printk("key %d, %d mappings carry it", __entry->pkey, __entry->mappings)
);

/**
 * pkey_reissue - a clean key gets a new owner
 * @pkey: The key.
 * @epoch: The number of the re-issue.
 * @tasks: How many other tasks were asked to give up their rights.
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

	TP_printk("key %d, re-issue %llu, asked %d tasks", __entry->pkey,
		  __entry->epoch, __entry->tasks)
);

/**
 * pkey_revoke - the current task gives up rights
 * @pkeys: One bit a key, those that it gives up.
 * @epoch: The re-issue up to which it has done so.
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

	TP_printk("keys %s, up to re-issue %llu", show_pkeys(__entry->pkeys),
		  __entry->epoch)
);

#undef EM
#undef EMe

#endif /* _TRACE_PKEYS_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
