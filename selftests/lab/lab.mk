# SPDX-License-Identifier: GPL-2.0-or-later
# The lab: scenarios on real kernels (Documentation/lab.rst).
#
#   make lab KERNEL=6.17 T=name[,name] CPUS=1 FULL=1 HOST=1 STORE=rgw JSON=file
#
# LAB_DEPS is what must be built first; other fragments append to it.

LAB_CHECK_KERNELS ?= 6.12 7.3
LAB_ALL_KERNELS ?= 6.12 6.16 6.17 6.18 7.2 7.3
KERNEL ?= 6.12

LAB := $(srctree)/selftests/lab
LAB_DEV := $(B)/selftests/lab/ublk-dev
LAB_DEPS += $(PROGS) $(TOOL_BIN) $(BENCH_BIN) $(LAB_DEV)

$(LAB_DEV): $(LAB_DEV).o
	$(say) LD $(patsubst $(B)/%,%,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $< -luring

lab_run = $(LAB)/lab.py --build $(B) $(if $(T),--tests '$(T)') $(if $(HOST),--host) \
	$(if $(CPUS),--cpus $(CPUS)) $(if $(MEM),--mem $(MEM)) $(if $(FULL),--full) \
	$(if $(STORE),--store $(STORE)) $(if $(KEEP),--keep) $(if $(filter 1,$(V)),--verbose) $(if $(SEED),--seed $(SEED))

.PHONY: integrity lab lab-deps lab-check lab-list lab-kernels lab-selftest
# All that a run needs, so that several runs can share the build.
lab-deps: $(LAB_DEPS)
lab: $(LAB_DEPS)
	$(Q)$(lab_run) --kernel $(KERNEL) $(if $(JSON),--json $(JSON))
# Every kernel is tried, also when an earlier one fails.
lab-check: $(LAB_DEPS)
	$(Q)bad=; for k in $(LAB_CHECK_KERNELS); do \
		$(lab_run) --kernel $$k --json $(B)/lab/result-$$k.json || bad="$$bad $$k"; \
	done; [ -z "$$bad" ] || { echo "failed on:$$bad"; exit 1; }
# What is read is what was written, at full sizes.
integrity: $(LAB_DEPS)
	$(Q)bad=; for k in $(LAB_CHECK_KERNELS); do \
		$(LAB)/lab.py --build $(B) --full --tests integrity $(if $(STORE),--store $(STORE)) \
			--kernel $$k --json $(B)/lab/integrity-$$k.json || bad="$$bad $$k"; \
	done; [ -z "$$bad" ] || { echo "failed on:$$bad"; exit 1; }
lab-list:
	$(Q)$(LAB)/lab.py --list
lab-kernels:
	$(Q)$(LAB)/fetch-kernel $(LAB_ALL_KERNELS)
lab-selftest: $(LAB_DEV)
	$(Q)$(LAB)/selftest.sh $(B) $(KERNEL)
