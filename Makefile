# SPDX-License-Identifier: GPL-2.0
# The harness: apply the series to a kernel, build it, boot it, test it.

export BASE CONFIG UNPATCHED KERNEL BUILD TREE FROM LINT_PACKAGES

# Package, and a command in it.
LINT_PACKAGES = sparse:sparse coccinelle:spatch codespell:codespell \
	shellcheck:shellcheck mandoc:mandoc clang:clang lld:ld.lld llvm:llvm-ar \
	python3-sphinx:sphinx-build python3-ply: python3-git:
DEB_PACKAGES = dpkg-dev:dpkg-buildpackage debhelper:dh fakeroot:fakeroot kmod:depmod \
	libdw-dev: openssl:openssl zstd:zstd

.DEFAULT_GOAL := help
.PHONY: help run check check-all build boot demo bench lint mutate image apply export verify \
	port deb check-deb clean

help:
	@echo 'make run                   set up, build, boot, run the tests once'
	@echo 'make check                 all tests in eight boots, and that each patch builds'
	@echo 'make check-all             and the other kernels, fault injection, data races, coverage, lint'
	@echo 'make build                 build the kernel and the test programs'
	@echo 'make boot                  an interactive shell in the guest'
	@echo 'make demo                  a short program on the stock kernel and on ours, side by side'
	@echo 'make bench                 what the calls cost on both kernels'
	@echo 'make lint                  what reads the series without running it'
	@echo 'make mutate                break the kernel on purpose, see which tests notice; long'
	@echo 'make -s image              print the path of the bzImage, built if need be'
	@echo 'make apply TREE=/path      apply the series to your own kernel git tree'
	@echo 'make export                write patches/ and our files from the kernel git tree'
	@echo 'make verify                prove that patches/ gives our files, and builds'
	@echo 'make port FROM=7.3 KERNEL=/path/to/newer'
	@echo '                           carry the series to another kernel, by rebase'
	@echo 'make deb CONFIG=/path/to/config'
	@echo '                           Debian packages of the patched kernel; default: the'
	@echo '                           configuration of the running one'
	@echo 'make check-deb             the same in the small configuration, and boot it'
	@echo 'make clean                 remove what was built'
	@echo
	@echo 'BASE=6.12                  for which kernel: 6.1, 6.12, 7.3'
	@echo 'CONFIG=default             which file of configs/: default, nopkeys, debug, fault, kcsan, gcov, bench'
	@echo 'UNPATCHED=1                the stock kernel (build, boot, image)'
	@echo 'KERNEL=/path               this tree or tarball instead of the package, on a copy'
	@echo 'BUILD=/path                where to build; default: build/'

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
	@PACKAGES="$(DEB_PACKAGES)" CONFIG= scripts/setup.sh && CONFIG= scripts/tree.sh && \
		CONFIG= scripts/tests.sh && scripts/deb.sh

check-deb:
	@PACKAGES="$(DEB_PACKAGES)" scripts/setup.sh && scripts/tree.sh && scripts/build.sh && \
		scripts/tests.sh && scripts/deb.sh check

clean:
	@scripts/clean.sh
