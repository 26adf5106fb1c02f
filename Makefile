# SPDX-License-Identifier: GPL-2.0
# The harness: apply the series to a kernel, build it, boot it, test it.

export BASE CONFIG UNPATCHED KERNEL BUILD TREE FROM TEST GDB SHARE LINT_PACKAGES LINT_LLVM

# Linux 7.3 needs clang 17 or later. The package clang of Debian 12 is older, clang-19 is not.
LINT_LLVM = $(if $(filter 7.3,$(BASE)),-19)
# Each entry is a package and a command in it.
LINT_PACKAGES = sparse:sparse coccinelle:spatch codespell:codespell \
	shellcheck:shellcheck mandoc:mandoc \
	clang$(LINT_LLVM):clang$(LINT_LLVM) lld$(LINT_LLVM):ld.lld$(LINT_LLVM) \
	llvm$(LINT_LLVM):llvm-ar$(LINT_LLVM) \
	python3-sphinx:sphinx-build python3-ply: python3-git:
DEB_PACKAGES = dpkg-dev:dpkg-buildpackage debhelper:dh fakeroot:fakeroot kmod:depmod \
	libdw-dev: openssl:openssl zstd:zstd

.DEFAULT_GOAL := help
.PHONY: help run check check-all build boot demo bench lint mutate bisect model litmus compare runtimes \
	test-harness image apply export verify port deb check-deb clean

help:
	@echo 'make run                   set up, build, boot, run the tests once'
	@echo 'make run TEST=pkey_revoke_test  one test program only, with arguments if need be'
	@echo 'make check                 all tests in all short boots; each patch builds; the harness'
	@echo 'make check-all             also other kernels, data races, coverage, lint, bisect and more'
	@echo 'make build                 build the kernel and the test programs'
	@echo 'make boot                  an interactive shell in the guest; with GDB=1 QEMU waits for'
	@echo '                           gdb, with SHARE=/path that directory is /share in the guest'
	@echo 'make demo                  a short program on the unpatched and the patched kernel'
	@echo 'make bench                 what the calls cost on both kernels'
	@echo 'make lint                  checkpatch, sparse, coccinelle, other compilers, documentation'
	@echo 'make mutate                break the kernel on purpose, see which tests notice; long'
	@echo 'make bisect                boot the kernel after each patch that changes it; long'
	@echo 'make model | litmus        check models of the protocols, of the memory accesses'
	@echo 'make compare               run random calls on the unpatched and the patched kernel'
	@echo 'make runtimes              run nodejs, deno and workerd on both kernels'
	@echo 'make test-harness          test these scripts, without a kernel, in a minute'
	@echo 'make -s image              print the path of the bzImage, built if need be'
	@echo 'make apply TREE=/path      apply the series to your own kernel git tree'
	@echo 'make export                write patches/ and the copies at kernel paths from the tree'
	@echo 'make verify                prove that patches/ gives these copies, and builds'
	@echo 'make port FROM=7.3 KERNEL=/path/to/newer   carry the series to another kernel'
	@echo 'make deb CONFIG=/path      Debian packages of the patched kernel; default: the'
	@echo '                           configuration of the running one; make check-deb boots one'
	@echo 'make clean                 remove what was built'
	@echo
	@echo 'BASE=6.12                  for which kernel: 6.1, 6.12, 7.3'
	@echo 'CONFIG=default             of configs/: $(sort $(patsubst configs/%.config,%,$(wildcard configs/*.config)))'
	@echo '                           run, build, boot and demo take quick if CONFIG is not set'
	@echo 'UNPATCHED=1                the unpatched kernel (run, build, boot, image)'
	@echo 'KERNEL=/path               this tree or tarball instead of the package, on a copy'
	@echo 'BUILD=/path                where to build; default: build/'

# This configuration has three fifths of the default to build, and no 9p, which SHARE= needs.
run build boot demo: export CONFIG := $(or $(CONFIG),$(if $(SHARE),default,quick))

run:
	@scripts/check.sh run

check:
	@scripts/check.sh check

check-all:
	@scripts/check.sh all

build:
	@scripts/setup.sh && scripts/tree.sh && scripts/build.sh && scripts/tests.sh

boot: build
	@scripts/boot.sh shell

demo:
	@scripts/demo.sh

bench:
	@scripts/bench.sh

lint:
	@PACKAGES="$(LINT_PACKAGES)" scripts/setup.sh && scripts/tree.sh && \
		UNPATCHED=1 scripts/tree.sh && scripts/lint.sh

mutate:
	@scripts/setup.sh && scripts/tree.sh && scripts/mutate.sh

bisect:
	@scripts/setup.sh && scripts/tree.sh && scripts/bisect.sh

model:
	@scripts/model.sh

litmus:
	@scripts/litmus.sh

compare:
	@scripts/compare.sh

runtimes:
	@scripts/runtimes.sh

test-harness:
	@prove -j2 --timer scripts/tests

image:
	@scripts/setup.sh && scripts/tree.sh && scripts/build.sh && scripts/image.sh

apply:
	@scripts/apply.sh

export:
	@scripts/export.sh

verify:
	@scripts/setup.sh && scripts/tree.sh && scripts/verify.sh

port:
	@scripts/port.sh

deb:
	@scripts/deb.sh config && PACKAGES="$(DEB_PACKAGES)" CONFIG= scripts/setup.sh && \
		CONFIG= scripts/tree.sh && CONFIG= scripts/tests.sh && scripts/deb.sh

check-deb:
	@PACKAGES="$(DEB_PACKAGES)" scripts/setup.sh && scripts/tree.sh && scripts/build.sh && \
		scripts/tests.sh && scripts/deb.sh check

clean:
	@scripts/clean.sh
