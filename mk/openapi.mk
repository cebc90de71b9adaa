# SPDX-License-Identifier: GPL-2.0-or-later
# The daemon carries its own description; .incbin is invisible to the compiler's dependencies.

$(B)/daemon/control/routes.o: $(srctree)/Documentation/openapi.json
