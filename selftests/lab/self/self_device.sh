# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
#
# A device nobody serves is found and removed by the cleanup.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

no_devices || fail "devices at the start: $(new_devices)"
id=$(ublk-dev add)
wait_for 10 "ublkc$id" test -c "/dev/ublkc$id"
equal "new devices" "$(new_devices)" "$id"
note "$(ublk-dev ls)"
