# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=90
#
# START_DEVs that wait for FETCHes which never come end at their deadline, nothing
# of them stays in the kernel, and other control commands are answered meanwhile.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

within 80 ublk_hung_commands
equal "devices left" "$(ublk-dev ls)" ""
