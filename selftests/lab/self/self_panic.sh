# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
#
# Crashes the guest on purpose.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

echo c > /proc/sysrq-trigger
