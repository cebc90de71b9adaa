# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=60 net=yes host=no
#
# The guest reaches its gateway, which stands for the host.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

wait_for 20 "answer of the gateway" ping -c 1 -W 2 10.0.2.2
