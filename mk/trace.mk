# SPDX-License-Identifier: GPL-2.0-or-later
# The pictures of gfs-trace: what the program contains of tracing/html/, and the test of the report in a browser.

# .incbin is invisible to the compiler's dependencies.
$(B)/tracing/sink_html.o: $(addprefix $(srctree)/,$(call src,tracing/html/*))

# The made-up session, for unit tests and for the browser.
$(B)/selftests/unit/trace_views_test $(B)/selftests/unit/trace_live_test: $(B)/selftests/browser/sample.o
TRACE_SAMPLE := $(B)/selftests/browser/trace_sample
$(TRACE_SAMPLE): $(call obj,selftests/browser/trace_sample.c selftests/browser/sample.c) $(TRACE_A) $(CORE_A)
	$(say) LD $(patsubst $(B)/%,%,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS_TRACE)

.PHONY: check-browser
# Opens the report in a headless Chromium and uses it; screenshots go to the build directory.
check-browser: $(TRACE_SAMPLE)
	$(Q)python3 $(srctree)/selftests/browser/check.py $(TRACE_SAMPLE) $(B)/browser
