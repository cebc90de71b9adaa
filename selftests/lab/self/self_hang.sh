# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=10
#
# Hangs on purpose: a read of a suspended device.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

dm_create stuck "0 2048 linear $(lab_disk cache) 0"
dmsetup suspend --noudevsync --nolockfs stuck
dd if=/dev/mapper/stuck of=/dev/null bs=4k count=1
