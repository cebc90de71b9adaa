# SPDX-License-Identifier: GPL-2.0-or-later
.PHONY: lint lint-format lint-cppcheck lint-shell lint-spell
LINT_C = $(shell cd $(srctree) && git ls-files '*.c' '*.h')
LINT_SH = $(shell cd $(srctree) && git grep -lE '^\#!.*(sh|bash)$$' -- . ; cd $(srctree) && git ls-files '*.sh')

lint: lint-format lint-cppcheck lint-shell lint-spell
lint-format:
	@cd $(srctree) && clang-format --dry-run -Werror $(LINT_C)
# preprocessorErrorDirective: it cannot expand nested variadic macros. ctuuninitvar: it takes every output argument for an uninitialised input. memleak: children of tests that
# end at once; the address sanitizer looks for the rest.
lint-cppcheck:
	@cd $(srctree) && cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 \
		--enable=warning,portability --suppress=missingInclude --suppress=missingIncludeSystem \
		--suppress=normalCheckLevelMaxBranches --suppress=ctuuninitvar --suppress=preprocessorErrorDirective --suppress=memleak:*_test.c -DGFS_VERSION='"x"' -D__x86_64__ -D_GNU_SOURCE \
		-D'LIBBPF_OPTS(t,n,...)=struct t n={__VA_ARGS__}' -D'bpf_object__for_each_program(p,o)=for(p=0;;)' \
		-I. -Idaemon $(filter-out bpf/%,$(filter %.c,$(LINT_C)))
lint-shell:
	@cd $(srctree) && shellcheck -x -S warning -P SCRIPTDIR -P selftests/lab $(sort $(LINT_SH))
lint-spell:
	@cd $(srctree) && git ls-files | grep -v '^LICENSES/' | xargs codespell -q 3 -L crate,fo,inout,nd,ot,te,ser,keeper,mut,clen,claus,unsynced
