# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
#
# Fails by a command that fails.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

echo "plain output"
false
