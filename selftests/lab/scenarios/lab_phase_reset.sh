# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=60 phases=2
#
# The lab itself: a reset between phases keeps the disks and what was to be
# remembered, and nothing else.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

mkdisk cache
case $PHASE in
1)
	dd if=/dev/urandom of="$LAB_MNT/cache/file" bs=4k count=256 2>/dev/null
	sync
	remember sum "$(sha256sum < "$LAB_MNT/cache/file")"
	touch /tmp/before
	next_phase
	;;
2)
	[ ! -e /tmp/before ] || fail "the guest was not reset"
	# shellcheck disable=SC2154 # remembered
	equal "synced file after a reset" "$(sha256sum < "$LAB_MNT/cache/file")" "$sum"
	;;
esac
