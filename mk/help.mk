# SPDX-License-Identifier: GPL-2.0-or-later
.PHONY: help
help:
	@printf '%s\n' \
	'make                 build glidefsd, glidefs and the tests into build/ (O=DIR elsewhere)' \
	'make deps            install what is missing (Debian, Ubuntu; root)' \
	'make demo            the main job on a real kernel: this host, or a virtual machine' \
	'make check           unit tests, sanitizers, lab scenarios on 6.12 and 7.3 (reduced counts)' \
	'make unit            unit and integration tests of this build (T=pattern)' \
	'make lab             scenarios on a kernel: KERNEL=6.17 T=name[,name] [FULL=1] [CPUS=n] [HOST=1]' \
	'make integrity       hashes, forks, sparse, overwrites, writers and a soak on a kernel, full sizes' \
	'make fuzz            parsers under libFuzzer, the API under mad requests (FUZZ_SECONDS=60 FUZZ_REQUESTS=100000)' \
	'make check-browser   the HTML report of gfs-trace, clicked through in headless Chromium' \
	'make bench           figures beside the bare server, libcurl, s3backer, nbdkit and zstd, and a table of them' \
	'make soak            full counts, all kernels' \
	'make lint            clang-format, cppcheck, shellcheck, codespell' \
	'make install         DESTDIR= PREFIX=/usr' \
	'make clean           remove the build directory' \
	'' \
	'V=1 shows commands. SAN=address,undefined or SAN=thread builds with sanitizers. CC=clang works.'
