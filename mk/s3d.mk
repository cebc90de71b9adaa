# SPDX-License-Identifier: GPL-2.0-or-later
# The S3 server of the tests that breaks on request. It links nothing of the project.

S3D := $(B)/selftests/s3d/s3d
LAB_DEPS += $(S3D)
tools: $(S3D)
# Tests start it.
$(UNIT_BIN): | $(S3D)
$(S3D): $(call obj,$(call src,selftests/s3d/*.c))
	$(say) LD $(patsubst $(B)/%,%,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ -lssl -lcrypto
