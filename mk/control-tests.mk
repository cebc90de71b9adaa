# SPDX-License-Identifier: GPL-2.0-or-later
# What the tests of the control part link beyond the core, the programs that they run, and the rule in them.

CONTROL_TESTS := $(patsubst %,$(B)/selftests/unit/%_test,config json_input host api)
$(CONTROL_TESTS): $(call obj,$(CONTROL_SRC))
$(CONTROL_TESTS): LIBS_COMMON += -lmicrohttpd -linih
$(B)/selftests/unit/api_test: | $(PROGS)

# .incbin is invisible to the compiler's dependencies.
$(B)/daemon/control/udev_rule.o: $(addprefix $(srctree)/,$(call src,udev/*.rules))
