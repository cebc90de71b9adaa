# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=180
#
# However many control commands there are at once, each is carried out as it was
# asked: it is not refused, and does nothing to another's device.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

within 170 ublk_command_storm
equal "devices left" "$(ublk-dev ls)" ""
