# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
#
# A deadline passes inside the scenario.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

wait_for 1 "file that never comes" test -e /tmp/never
