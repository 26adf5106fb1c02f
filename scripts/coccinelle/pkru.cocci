// SPDX-License-Identifier: GPL-2.0
/// PKRU changes by the helper that changes the two bits of one key, and where
/// rights are taken away.
virtual report

@r@
identifier f != {pkru_set_rights, pkru_revoke, __pkeys_restore_sigframe};
identifier write = {wrpkru, write_pkru, __write_pkru};
position p;
@@
f(...)
{
<+...
write@p(...)
...+>
}

@script:python depends on report@
p << r.p;
@@
coccilib.report.print_report(p[0], "PKRU is written outside the helpers")
