// SPDX-License-Identifier: GPL-2.0
/// The key map of an mm is changed by mm_pkey_map_change() only, and set where
/// nobody else can see it. It is read by mm_pkey_map() only.
virtual report

@r@
identifier f != {mm_pkey_map_change, mm_pkey_map, mm_pkeys_init, mm_pkeys_dup};
expression c;
position p;
@@
f(...)
{
<+...
c.pkey_map@p
...+>
}

@script:python depends on report@
p << r.p;
@@
coccilib.report.print_report(p[0], "pkey_map is used without its accessors")
