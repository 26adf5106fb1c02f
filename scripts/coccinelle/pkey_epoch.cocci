// SPDX-License-Identifier: GPL-2.0
/// The numbers of the re-issues change under pkey_reissue_lock: others read them
/// with READ_ONCE() or smp_load_acquire().
virtual report

@marked@
expression c;
position p;
identifier member = {pkey_epoch, pkey_reissued};
@@
(
READ_ONCE(c.member@p[...])
|
WRITE_ONCE(c.member@p[...], ...)
|
smp_load_acquire(&c.member@p)
|
smp_store_release(&c.member@p, ...)
)

@r@
identifier f != {mm_pkey_stamp, mm_pkeys_init, mm_pkeys_dup, mm_pkeys_revoke};
expression mm;
identifier member = {pkey_epoch, pkey_reissued};
position p != marked.p;
@@
f(...)
{
<+...
mm->context.member@p
...+>
}

@script:python depends on report@
p << r.p;
@@
coccilib.report.print_report(p[0], "read without READ_ONCE() or the lock")
