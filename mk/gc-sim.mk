# SPDX-License-Identifier: GPL-2.0-or-later
# The simulation takes the place of clocks and random numbers of the program it is linked to: of this test alone.

$(B)/selftests/unit/gc_sim_test: $(call obj,$(addprefix selftests/unit/sim/,gc_sim.c gc_store.c gc_hosts.c))
