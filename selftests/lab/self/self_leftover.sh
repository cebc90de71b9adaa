# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
#
# Leaves a process behind.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

setsid sleep 1000 &
