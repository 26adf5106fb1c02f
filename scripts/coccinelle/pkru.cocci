// SPDX-License-Identifier: GPL-2.0
/// PKRU is written by the helper that changes the two bits of one key, by the two that
/// apply what other tasks changed, and where the kernel opens key 0 for itself.
virtual report

@r@
identifier f != {pkru_set_rights, pkru_apply, __pkeys_restore_sigframe,
	pkey_open_default, pkey_restore_default};
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
