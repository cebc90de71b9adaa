# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
#
# Skips.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

skip "on purpose"
