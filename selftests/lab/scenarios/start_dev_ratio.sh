# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=300 timeout-full=1500
#
# START_DEV of a created volume takes no longer than the bare server's, and a store whose every GET takes
# 2 s does not make that of a cold volume longer.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

size=$((64 << 20))
# Enough for an interval that decides; "full" is what measuring.md asks for.
pairs=60 seconds=120
if [ "$LAB_FULL" = 1 ]; then
	pairs=200 seconds=700
fi

# measure ARGUMENTS...: a figure, with a deadline; fails unless it passes.
measure()
{
	status=0
	within $((seconds + 120)) start_dev_pairs --min-pairs "$pairs" --seconds "$seconds" "$@" \
		|| status=$?
	case $status in
	0) ;;
	1) fail "over the limit" ;;
	3) fail "no verdict: too few pairs within $seconds s" ;;
	*) fail "start_dev_pairs: $status" ;;
	esac
}

mkdisk cache store
daemon_start a ublk.queues=2 ublk.depth=64
sock=$(host_dir a)/glidefs.sock

# The reference asks for the flags that our devices have.
dev=$(volume_create probe 64M)
ours=$(ublk-dev ls | sed -n "s/^${dev#/dev/ublkb} .*\(queues=.*\)/\1/p")
note "our device: $ours"
glidefs rm probe
measure --max 1.05 --pairs "$LAB_TMP/pairs" start_dev_ratio \
	"create:$sock:{\"size\": $size}" \
	"bare:--file $LAB_MNT/cache/bare --size $size --queues 2 --depth 64 --flags ${ours##*flags=}"
no_devices || fail "devices left: $(new_devices)"

# Cold volumes, of two hosts that never saw them: one has a slow store.
for v in 1 2 3 4 5 6 7 8; do
	for side in slow fast; do
		dev=$(volume_create "$side$v" 64M)
		dd if=/dev/urandom of="$dev" bs=64k count=1 conv=fsync 2> "$LAB_TMP/dd.out"
		dd if=/dev/urandom of="$dev" bs=64k count=1 seek=1023 conv=fsync 2> "$LAB_TMP/dd.out"
		glidefs detach "$side$v" > "$LAB_TMP/detach.out"
	done
done
daemon_stop a
daemon_start b ublk.queues=2 ublk.depth=64 "store.fault=get delay=2000"
daemon_start c ublk.queues=2 ublk.depth=64
measure --max 1.2 start_dev_slow_store_ratio \
	"attach:$(host_dir b)/glidefs.sock:slow1,slow2,slow3,slow4,slow5,slow6,slow7,slow8" \
	"attach:$(host_dir c)/glidefs.sock:fast1,fast2,fast3,fast4,fast5,fast6,fast7,fast8"
# It was slow indeed.
grep -c '"event":"object.get"' "$(host_dir b)/timing.jsonl" | sed 's/^/# GETs of the slow host: /'
daemon_stop b
daemon_stop c
