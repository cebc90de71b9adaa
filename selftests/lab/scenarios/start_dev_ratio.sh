# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=480 timeout-full=1800
#
# START_DEV of a created volume takes no longer than the bare server's, and a store whose every GET takes
# 2 s does not make that of a cold volume longer.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

size=$((64 << 20))
# Enough for an interval that decides; "full" is what measuring.md asks for.
pairs=40 seconds=45
if [ "$LAB_FULL" = 1 ]; then
	pairs=200 seconds=700
fi

# measure ARGUMENTS...: a figure, with a deadline. Fails when it is over its limit.
measure()
{
	status=0
	within $((seconds + 120)) start_dev_pairs --min-pairs "$pairs" --seconds "$seconds" "$@" \
		> "$LAB_TMP/figure" 2>&1 || status=$?
	cat "$LAB_TMP/figure"
	case $status in
	0) ;;
	1) fail "over the limit" ;;
	3) undecided=1 ;;
	*) fail "start_dev_pairs: $(tail -n 1 "$LAB_TMP/figure")" ;;
	esac
}

undecided=0
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

# Cold volumes, of two hosts that never saw them: one has a slow store. An attach there takes several GETs,
# so more of them are under way.
for side in slow:24 fast:8; do
	count=${side#*:}
	apicall --jobs 8 --count "$count" "$sock" PUT "/api/exports/${side%:*}-%d" \
		"{\"size\": $size}" > "$LAB_TMP/answers" || fail "create: $(cat "$LAB_TMP/answers")"
	for d in $(new_devices); do
		dd if=/dev/urandom of="/dev/ublkb$d" bs=64k count=1 oflag=direct 2> "$LAB_TMP/dd.out"
	done
	apicall --jobs 8 --count "$count" "$sock" POST "/api/exports/${side%:*}-%d/detach" \
		> "$LAB_TMP/answers" || fail "detach: $(cat "$LAB_TMP/answers")"
done
daemon_stop a
daemon_start b ublk.queues=2 ublk.depth=64 "store.fault=get delay=2000"
daemon_start c ublk.queues=2 ublk.depth=64
measure --max 1.2 --beat-ms 1000 start_dev_slow_store_ratio \
	"attach:$(host_dir b)/glidefs.sock:slow-%d:24" "attach:$(host_dir c)/glidefs.sock:fast-%d:8"
# It was slow indeed.
grep -c '"event":"object.get"' "$(host_dir b)/timing.jsonl" | sed 's/^/# GETs of the slow host: /'
daemon_stop b
daemon_stop c
# A wide interval is no pass, but on a busy machine a reduced count proves nothing either way.
if [ "$undecided" = 1 ]; then
	[ "$LAB_FULL" = 1 ] && fail "no verdict within $seconds s for each figure"
	skip "no verdict within $seconds s: make bench measures longer"
fi
