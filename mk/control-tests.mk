# SPDX-License-Identifier: GPL-2.0-or-later
# What the tests of the control part link beyond the core, the programs that they run, and the rule in them.

CONTROL_TESTS := $(patsubst %,$(B)/selftests/unit/%_test,config json_input host host_create host_fork host_owner api)
$(CONTROL_TESTS): $(call obj,$(CONTROL_SRC))
$(CONTROL_TESTS): LIBS_COMMON += -lmicrohttpd -linih
# .incbin is invisible to the compiler's dependencies.
$(B)/daemon/control/udev_rule.o: $(addprefix $(srctree)/,$(call src,udev/*.rules))
$(patsubst %,$(B)/selftests/unit/%_test,api api_limits api_images): | $(PROGS)
# Files of the tree that tests compare with the program.
$(patsubst %,$(B)/selftests/unit/%.o,api_test api_harness trace_sink_test): CFLAGS_ALL += -DGFS_SRCTREE=\"$(srctree)\"
