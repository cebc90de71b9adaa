# SPDX-License-Identifier: GPL-2.0-or-later
# GlideFS. `make help` lists the targets. Quiet by default, V=1 shows commands, O=DIR builds elsewhere,
# SAN=address,undefined or SAN=thread builds with sanitizers, CC=clang works too.

MAKEFLAGS += --no-print-directory --no-builtin-rules
.SUFFIXES:
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:

srctree := $(CURDIR)
VERSION := 0.1.0
SAN ?=
O ?= $(srctree)/build$(if $(SAN),-$(firstword $(subst $(comma), ,$(SAN))))
comma := ,
B := $(abspath $(O))

ifeq ($(V),1)
Q :=
say = @:
else
Q := @
say = @printf '  %-7s %s\n'
endif

CC := $(if $(filter default,$(origin CC)),gcc,$(CC))
CLANG ?= clang
BPFTOOL ?= $(firstword $(wildcard /usr/sbin/bpftool) bpftool)
PKGS := liburing libbpf libcurl json-c libelf libdw libzstd libxxhash libmicrohttpd expat inih \
	libcap-ng libcrypto
# pkg-config runs once per build directory, and again when the Makefile changes.
# Goals that need no libraries, or install them first, do without it.
NOCONFIG := deps deps-bench deps-lint help clean lint lint-% check soak bench demo
ifneq ($(filter-out $(NOCONFIG),$(or $(MAKECMDGOALS),all)),)
include $(B)/config.mk
endif

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 \
	-Wno-format-nonliteral -Werror=implicit -Wno-unused-parameter -Wno-sign-compare
HARDEN := -fstack-protector-strong -fPIE $(if $(SAN),,-D_FORTIFY_SOURCE=2)
OPT ?= -O2 -g
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=undefined)
CFLAGS_ALL := -std=gnu11 $(OPT) $(WARN) $(HARDEN) $(SANFLAGS) -fno-omit-frame-pointer -pthread \
	-D_GNU_SOURCE -DGFS_VERSION=\"$(VERSION)\" -I$(srctree) -I$(srctree)/daemon -I$(B) $(PKG_CFLAGS) \
	$(CFLAGS)
LDFLAGS_ALL := -pie -Wl,-z,relro,-z,now -pthread $(SANFLAGS) $(LDFLAGS)
LIBS_COMMON := -lcrypto -lcurl -lexpat -lxxhash -lzstd -luring -ljson-c -lm
LIBS_DAEMON := $(LIBS_COMMON) -lmicrohttpd -linih -lcap-ng $(SYSTEMD_LIBS)
LIBS_TRACE := $(LIBS_COMMON) -lbpf -ldw -lelf -lz -lncursesw -ltinfo -lcap-ng
LIBS_CLI := $(LIBS_COMMON) -linih -lcap-ng

src = $(patsubst $(srctree)/%,%,$(sort $(wildcard $(addprefix $(srctree)/,$(1)))))
obj = $(patsubst %.c,$(B)/%.o,$(1))

LIB_SRC := $(call src,lib/*.c)
STORE_SRC := $(call src,daemon/store/*.c)
ENGINE_SRC := $(call src,daemon/engine/*.c)
UBLK_SRC := $(call src,daemon/ublk/*.c)
CONTROL_SRC := $(call src,daemon/control/*.c)
CLI_SRC := $(call src,daemon/cli/*.c)

CORE_A := $(B)/libgfs-core.a
$(CORE_A): $(call obj,$(LIB_SRC) $(STORE_SRC) $(ENGINE_SRC) $(UBLK_SRC))
	$(say) AR $(patsubst $(B)/%,%,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

PROGS := $(B)/glidefsd $(B)/glidefs $(B)/gfs-trace
$(B)/glidefsd: $(call obj,daemon/glidefsd.c $(CONTROL_SRC)) $(CORE_A)
	$(say) LD $(patsubst $(B)/%,%,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS_DAEMON)
$(B)/glidefs: $(call obj,daemon/glidefs.c $(CLI_SRC)) $(CORE_A)
	$(say) LD $(patsubst $(B)/%,%,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS_CLI)

# gfs-trace: everything but main() is a library, for the tests.
TRACE_SRC := $(filter-out tracing/gfs-trace.c,$(call src,tracing/*.c))
TRACE_A := $(B)/libgfs-trace.a
$(TRACE_A): $(call obj,$(TRACE_SRC))
	$(say) AR $(patsubst $(B)/%,%,$@)
	$(Q)rm -f $@ && ar rcs $@ $^
$(B)/gfs-trace: $(call obj,tracing/gfs-trace.c) $(TRACE_A) $(CORE_A)
	$(say) LD $(patsubst $(B)/%,%,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS_TRACE)

# Each selftests/unit/NAME_test.c, selftests/tools/NAME.c and selftests/bench/NAME.c is one program.
UNIT_SRC := $(call src,selftests/unit/*_test.c)
UNIT_COMMON := $(filter-out $(UNIT_SRC),$(call src,selftests/unit/*.c))
UNIT_BIN := $(patsubst selftests/%.c,$(B)/selftests/%,$(UNIT_SRC))
TOOL_SRC := $(call src,selftests/tools/*.c)
TOOL_BIN := $(patsubst selftests/%.c,$(B)/selftests/%,$(TOOL_SRC))
BENCH_SRC := $(call src,selftests/bench/*.c)
BENCH_BIN := $(patsubst selftests/%.c,$(B)/selftests/%,$(BENCH_SRC))
TRACE_TEST := $(filter $(B)/selftests/unit/trace_%,$(UNIT_BIN))
$(TRACE_TEST): $(TRACE_A)
$(TRACE_TEST): LIBS_UNIT := $(LIBS_TRACE)
$(UNIT_BIN): %: %.o $(call obj,$(UNIT_COMMON)) $(CORE_A)
	$(say) LD $(patsubst $(B)/%,%,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) $(filter %trace.a,$^) $(CORE_A) $(LIBS_COMMON) -lcmocka -lcap-ng $(LIBS_UNIT)
$(TOOL_BIN) $(BENCH_BIN): %: %.o $(CORE_A)
	$(say) LD $(patsubst $(B)/%,%,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS_COMMON) -lcap-ng -lbpf -lelf -lz

# BPF: NAME.bpf.c -> NAME.skel.h, included as "bpf/NAME.skel.h".
BPF_SRC := $(call src,bpf/*.bpf.c)
SKEL := $(patsubst %.bpf.c,$(B)/%.skel.h,$(BPF_SRC))
# Kept: make would take them for intermediate files.
.SECONDARY: $(SKEL) $(patsubst %.skel.h,%.bpf.o,$(SKEL))
$(B)/bpf/%.bpf.o: $(srctree)/bpf/%.bpf.c
	@mkdir -p $(@D)
	$(say) BPF $(patsubst $(B)/%,%,$@)
	$(Q)$(CLANG) -target bpf -D__TARGET_ARCH_x86 -O2 -g -Wall -I$(srctree) -I$(srctree)/bpf \
		-idirafter /usr/include/x86_64-linux-gnu -MMD -MP -c $< -o $@
$(B)/bpf/%.skel.h: $(B)/bpf/%.bpf.o
	$(say) SKEL $(patsubst $(B)/%,%,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name $(subst -,_,$*)_bpf > $@
$(call obj,$(BENCH_SRC) $(TOOL_SRC) $(TRACE_SRC)): | $(SKEL)

$(B)/%.o: $(srctree)/%.c $(B)/config.mk
	@mkdir -p $(@D)
	$(say) CC $(patsubst $(B)/%,%,$@)
	$(Q)$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(B)/config.mk: $(srctree)/Makefile
	@mkdir -p $(@D)
	@pkg-config --exists $(PKGS) 2>/dev/null || { \
		echo "libraries are missing:$$(for p in $(PKGS); do pkg-config --exists $$p 2>/dev/null || printf ' %s' $$p; done)"; \
		echo "install them with: sudo make deps"; exit 1; }
	@{ echo "PKG_CFLAGS := $$(pkg-config --cflags $(PKGS))"; \
	   if pkg-config --exists libsystemd; then echo "PKG_CFLAGS += -DHAVE_SYSTEMD"; \
		echo "SYSTEMD_LIBS := $$(pkg-config --libs libsystemd)"; fi; } > $@

-include $(call src,mk/*.mk)
-include $(srctree)/selftests/lab/lab.mk
-include $(shell test -d $(B) && find $(B) -name '*.d' 2>/dev/null)

.PHONY: all core tools unit clean
all: $(PROGS) tools unit-bin
core: $(CORE_A)
tools: $(TOOL_BIN) $(BENCH_BIN)
.PHONY: unit-bin glidefsd-bin
glidefsd-bin: $(PROGS)
unit-bin: $(UNIT_BIN)
# Run the unit and integration tests of this build (T=pattern selects by program name).
unit: $(UNIT_BIN)
	$(Q)$(srctree)/selftests/unit/run $(B) $(if $(T),'$(T)')
clean:
	$(Q)rm -rf $(B)
