# SPDX-License-Identifier: GPL-2.0-or-later
# Fuzzing: selftests/fuzz/fuzz_NAME.c is one libFuzzer program around one parser, built by clang with
# sanitizers, whatever CC is. `make fuzz FUZZ_SECONDS=60` runs each, then the API under mad requests.

FUZZ_SECONDS ?= 60
FUZZ_REQUESTS ?= 100000
FUZZ_FLAGS := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined
FUZZ_CFLAGS = $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link $(filter-out -O2 -fsanitize=%,$(CFLAGS_ALL))
FUZZ_LIB_SRC := $(LIB_SRC) $(STORE_SRC) $(ENGINE_SRC) $(UBLK_SRC) $(CONTROL_SRC)
FUZZ_BIN := $(patsubst selftests/%.c,$(B)/%,$(call src,selftests/fuzz/fuzz_*.c))
FUZZ_A := $(B)/fuzz/libgfs-fuzz.a

$(B)/fuzz/obj/%.o: $(srctree)/%.c $(B)/config.mk
	@mkdir -p $(@D)
	$(say) CC 'fuzz/$*.o'
	$(Q)$(CLANG) $(FUZZ_CFLAGS) -Wno-unused-function -MMD -MP -c -o $@ $<
$(B)/fuzz/obj/daemon/control/routes.o: $(srctree)/Documentation/openapi.json
$(FUZZ_A): $(patsubst %.c,$(B)/fuzz/obj/%.o,$(FUZZ_LIB_SRC))
	$(say) AR $(patsubst $(B)/%,%,$@)
	$(Q)rm -f $@ && ar rcs $@ $^
$(FUZZ_BIN): $(B)/fuzz/%: $(B)/fuzz/obj/selftests/fuzz/%.o $(FUZZ_A)
	$(say) LD $(patsubst $(B)/%,%,$@)
	$(Q)$(CLANG) $(FUZZ_FLAGS) -fsanitize=fuzzer -pthread -o $@ $^ $(LIBS_DAEMON)

.PHONY: fuzz fuzz-bin
fuzz-bin: $(FUZZ_BIN)
fuzz: $(FUZZ_BIN) $(B)/selftests/unit/api_limits_test
	$(Q)$(srctree)/selftests/fuzz/run $(B) $(FUZZ_SECONDS)
	$(Q)HAMMER_REQUESTS=$(FUZZ_REQUESTS) HAMMER_SEED=$$(date +%s) $(B)/selftests/unit/api_limits_test
