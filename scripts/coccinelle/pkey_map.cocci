// SPDX-License-Identifier: GPL-2.0
/// The key map of an mm is read by pkeys_map() only. It is changed by
/// mm_pkeys_map_change(), by the unpin, and where nobody else can see it.
virtual report

@r@
identifier f != {pkeys_map, mm_pkeys_map_change, __mm_pkeys_unpin, mm_pkeys_create, __mm_pkeys_dup};
struct mm_pkeys *k;
position p;
@@
f(...)
{
<+...
k->map@p
...+>
}

@script:python depends on report@
p << r.p;
@@
coccilib.report.print_report(p[0], "the key map is used without its accessors")
