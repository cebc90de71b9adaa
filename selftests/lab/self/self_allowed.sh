# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=30 allow-log=I/O error, dev lab[0-9], sector
#
# The kernel complains as declared; figures and notes come through.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

echo "I/O error, dev lab0, sector 8" > /dev/kmsg
figure probe 1.01 0.99 1.03 40 ratio
note "a note"
