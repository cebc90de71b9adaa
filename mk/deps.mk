# SPDX-License-Identifier: GPL-2.0-or-later
# What a fresh Debian 12 or Ubuntu needs to build, test and demonstrate everything.

DEPS_BUILD := build-essential pkg-config clang libclang-rt-dev llvm bpftool liburing-dev libbpf-dev \
	libcurl4-openssl-dev libjson-c-dev libelf-dev libdw-dev libzstd-dev libxxhash-dev \
	libmicrohttpd-dev libexpat1-dev libinih-dev libsystemd-dev systemtap-sdt-dev uthash-dev \
	libcap-ng-dev libncurses-dev libssl-dev zlib1g-dev linux-libc-dev
DEPS_TEST := libcmocka-dev gdb python3 git qemu-utils
DEPS_LAB := qemu-system-x86 busybox-static cpio kmod xz-utils fio dmsetup e2fsprogs dpkg-dev \
	debian-archive-keyring curl udev s3backer
# A radosgw of one's own (selftests/rgw).
DEPS_S3 := radosgw ceph-mon ceph-osd ceph-common openssl
# What figures are compared with (selftests/bench).
DEPS_BENCH := iproute2 s3backer nbdkit nbdkit-plugin-python python3-boto3 nbd-client zstd cpio
DEPS_LINT := clang-format cppcheck shellcheck codespell

.PHONY: deps deps-bench deps-lint
# Installs only what is missing, and needs root only then.
deps: DEPS := $(DEPS_BUILD) $(DEPS_TEST) $(DEPS_LAB) $(DEPS_S3)
deps-bench: DEPS := $(DEPS_BENCH)
deps-lint: DEPS := $(DEPS_LINT)
deps deps-bench deps-lint:
	@missing=; for p in $(DEPS); do \
		dpkg-query -W -f='$${db:Status-Status}\n' $$p 2>/dev/null | grep -qx installed || missing="$$missing $$p"; \
	done; \
	[ -z "$$missing" ] && exit 0; \
	command -v apt-get >/dev/null || { echo "these packages are missing, and there is no apt-get:$$missing"; exit 1; }; \
	[ "$$(id -u)" = 0 ] || { echo "missing:$$missing"; echo "run: sudo make $@"; exit 1; }; \
	echo "  DEPS    installing:$$missing"; \
	log=$$(mktemp); \
	{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing; } \
		>$$log 2>&1 || { tail -n 30 $$log; rm -f $$log; exit 1; }; rm -f $$log
