# SPDX-License-Identifier: GPL-2.0-or-later
# Tests and figures; the lists of scenarios are in selftests/lab/*.list.

.PHONY: check soak bench demo unit-san matrix
# Everything a change must pass: unit tests (plain and under sanitizers), and every scenario with reduced
# counts on the kernels of LAB_CHECK_KERNELS.
check: deps
	$(Q)$(srctree)/selftests/check $(B)

# Full counts, and the other kernels.
soak: deps
	$(Q)$(srctree)/selftests/check --full $(B)

# Side-by-side figures, full number of pairs, and one table of them.
bench: deps deps-bench
	$(Q)$(srctree)/selftests/check --bench $(B)

# The main job on a real kernel, told step by step.
demo: deps
	$(Q)$(srctree)/selftests/demo $(B)
