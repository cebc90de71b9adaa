# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=240 timeout-full=900
#
# The method of start_dev_ratio is honest: the bare server against itself is 1.0.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

mkdisk cache
args="--size $((64 << 20)) --queues 2 --depth 64 --recovery"
pairs=60 seconds=150
if [ "$LAB_FULL" = 1 ]; then
	pairs=200 seconds=800
fi
status=0
timeout -s KILL $((seconds + 60)) start_dev_pairs --max 1.05 --min-pairs "$pairs" --seconds "$seconds" start_dev_bare_ratio \
	"bare:--file $LAB_MNT/cache/one $args" "bare:--file $LAB_MNT/cache/two $args" \
	> "$LAB_TMP/out" 2>&1 || status=$?
cat "$LAB_TMP/out"
# It must be 1 as a figure and not only small enough.
awk '/^# figure/ { split($4, lo, "="); split($5, hi, "="); if (lo[2] > 1 || hi[2] < 1) exit 1 }' \
	"$LAB_TMP/out" || note "1.0 is outside of the interval"
[ "$status" = 0 ] || fail "start_dev_pairs: $status"
