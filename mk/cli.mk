# SPDX-License-Identifier: GPL-2.0-or-later
# What the command line shares with the daemon: the configuration, for commands that use the store themselves.

$(B)/glidefs: $(call obj,daemon/control/config.c daemon/control/config_store.c)
