# SPDX-License-Identifier: GPL-2.0
# Options that have another name in 7.3, or something else in their place, or are new.
s/^CONFIG_PROC_SYSCTL=/CONFIG_SYSCTL=/
s/^CONFIG_PREEMPT_VOLUNTARY=/CONFIG_PREEMPT_LAZY=/
s/^CONFIG_KUNIT_DEFAULT_ENABLED=y/&\nCONFIG_KUNIT_AUTORUN_ENABLED=y/
s/^CONFIG_RSEQ=y/&\nCONFIG_RSEQ_SLICE_EXTENSION=y/
