// SPDX-License-Identifier: GPL-2.0
/// The numbers of changes and issues grow under mm_pkeys.lock, or with one user of the mm.
/// Everybody else reads them with READ_ONCE() or smp_load_acquire().
virtual report

@marked@
struct mm_pkeys *k;
position p;
identifier member = {epoch, change, issues, issued};
@@
(
READ_ONCE(k->member@p)
|
READ_ONCE(k->member@p[...])
|
WRITE_ONCE(k->member@p, ...)
|
WRITE_ONCE(k->member@p[...], ...)
|
smp_load_acquire(&k->member@p)
|
smp_store_release(&k->member@p, ...)
)

@r@
identifier f != {mm_pkeys_change, mm_pkeys_create, __mm_pkeys_dup, mm_pkey_issue, mm_pkey_choose, arch_pkey_set_rights};
struct mm_pkeys *k;
identifier member = {epoch, change, issues, issued};
position p != marked.p;
@@
f(...)
{
<+...
k->member@p
...+>
}

@script:python depends on report@
p << r.p;
@@
coccilib.report.print_report(p[0], "read without READ_ONCE() or the lock")
