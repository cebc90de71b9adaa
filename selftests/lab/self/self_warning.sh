# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
#
# Succeeds, but the kernel complains.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

echo "WARNING: CPU: 0 PID: 1 at lab/self_warning" > /dev/kmsg
