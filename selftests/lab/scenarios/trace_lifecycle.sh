# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=400 timeout-full=900
#
# gfs-trace comes and goes, by SIGINT and by SIGKILL, while a file system's worth of verified I/O runs: no I/O is
# lost and nothing of it stays in the kernel. A capture, also one that was cut short by SIGKILL or by a full
# disk, replays to what was said live.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/trace.lib
. "$LAB/scenarios/trace.lib"

rounds=3
[ "$LAB_FULL" != 1 ] || rounds=20
budget=start_dev=60s,command=60s,freeze=60s,attr=60s,request=60s

# bpf_is WHAT: the programs, maps and links in the kernel are those of before; for wait_for.
bpf_is()
{
	bpf_runtime --list "" | awk '{ print $1, $2 }' > "$LAB_TMP/bpf.now" || :
	cmp "$LAB_TMP/bpf.before" "$LAB_TMP/bpf.now" || cat "$LAB_TMP/bpf.now"
	cmp -s "$LAB_TMP/bpf.before" "$LAB_TMP/bpf.now"
}

# same_findings FILE FILE: verdict, device, catalogue and beginning of each.
same_findings()
{
	for what in verdict dev catalogue since_ns waiter.tid blockers.0.tag; do
		equal "$what of the findings of a replay" \
			"$(jsonq --all "$2" type=finding,event=open "$what")" \
			"$(jsonq --all "$1" type=finding,event=open "$what")"
	done
}

modprobe mq-deadline
mkdisk cache store
: > "$LAB_TMP/bpf.before"
bpf_runtime --list "" | awk '{ print $1, $2 }' > "$LAB_TMP/bpf.before" || :
daemon_start a
dev=$(volume_create vm 64M)

# --- comes and goes ---------------------------------------------------------------------
fio --minimal --name=verify --filename="$dev" --ioengine=io_uring --direct=1 --rw=randrw --bs=4k \
	--iodepth=8 --size=16m --loops=1000 --time_based=1 --runtime=3600 --verify=crc32c \
	--verify_backlog=256 --verify_fatal=1 < /dev/null > "$LAB_TMP/fio.out" 2>&1 9>&- &
fio=$!
echo "$fio" >> "$LAB_TMP/pids"
i=0
while [ "$i" -lt "$rounds" ]; do
	trace_start --budget "$budget"
	before=$(sed -n 's/^ *\([0-9]*\).*/\1/p' "/sys/block/${dev#/dev/}/stat")
	wait_for 30 "I/O under tracing" \
		sh -c "[ \$(awk '{ print \$1 }' /sys/block/${dev#/dev/}/stat) -gt $((before + 50)) ]"
	if [ $((i % 2)) = 0 ]; then
		kill -INT "$TRACE_PID"
		exit_status "$TRACE_PID" "gfs-trace after SIGINT" 0 20
		equal "findings" "$(findings)" 0
	else
		kill -KILL "$TRACE_PID"
		wait_for 20 "end of a killed gfs-trace" ended "$TRACE_PID"
		wait "$TRACE_PID" 2> /dev/null || :
	fi
	alive "$fio" || fail "fio ended: $(cat "$LAB_TMP/fio.out")"
	i=$((i + 1))
done
kill -INT "$fio"
wait_for 60 "end of fio" ended "$fio"
status=0
wait "$fio" || status=$?
! grep -qi 'verify' "$LAB_TMP/fio.out" || grep -q '^3;' "$LAB_TMP/fio.out" ||
	fail "fio: $(cat "$LAB_TMP/fio.out")"
grep -q '^3;' "$LAB_TMP/fio.out" || fail "fio ended with $status: $(cat "$LAB_TMP/fio.out")"
equal "errors of fio" "$(awk -F';' '$1 == 3 { print $5 }' "$LAB_TMP/fio.out")" 0
# The kernel frees programs a little after the last reference is gone.
wait_for 30 "end of all programs, maps and links" bpf_is before
glidefs rm vm
daemon_stop a

# --- captures ---------------------------------------------------------------------------
# A freeze that is pinned, then a server that dies.
trouble()
{
	reader "$dev" 1000
	wait_for 20 "read in the driver" in_flight "$dev"
	writer "$dev" scheduler "$1"
	finding_wait 20 "open=true,verdict=freeze/pinned"
}
budget=freeze=1s,attr=600s,request=600s,command=600s,start_dev=600s

bare_start held --hold-ms 5000 --hold-sector 8000
dev=$BARE_DEV
trace_start --budget "$budget" -o "$LAB_TMP/whole"
trouble mq-deadline
exit_status "$READER" "the read" 0
exit_status "$WRITER" "the write" 0
finding_wait 20 "event=close,verdict=freeze/pinned"
trace_stop 2
cp "$TRACE_JSON" "$LAB_TMP/live.json"
status=0
gfs-trace replay "$LAB_TMP/whole" --json > "$LAB_TMP/replay.json" || status=$?
equal "exit status of a replay" "$status" 2
same_findings "$LAB_TMP/live.json" "$LAB_TMP/replay.json"
near "duration in a replay" "$(jsonq --last "$LAB_TMP/replay.json" type=finding,event=close duration_ms)" \
	"$(jsonq --last "$LAB_TMP/live.json" type=finding,event=close duration_ms)" 1

# Killed in the midst of it.
trace_start --budget "$budget" -o "$LAB_TMP/killed"
trouble none
kill -KILL "$TRACE_PID"
wait_for 20 "end of a killed gfs-trace" ended "$TRACE_PID"
exit_status "$READER" "the read" 0
exit_status "$WRITER" "the write" 0
wait_for 30 "end of all programs, maps and links" bpf_is before
cp "$TRACE_JSON" "$LAB_TMP/live.json"
cut=$LAB_TMP/killed
[ -s "$cut" ] || fail "SIGKILL left no capture"
status=0
gfs-trace replay "$cut" --json > "$LAB_TMP/replay.json" || status=$?
equal "exit status of a replay that ends in a stall" "$status" 3
same_findings "$LAB_TMP/live.json" "$LAB_TMP/replay.json"

# Cut anywhere.
size=$(stat -c %s "$LAB_TMP/whole")
for part in 20 50 80 99; do
	head -c $((size * part / 100)) "$LAB_TMP/whole" > "$LAB_TMP/cut"
	status=0
	gfs-trace replay "$LAB_TMP/cut" --json > "$LAB_TMP/replay.json" 2> "$LAB_TMP/replay.err" || status=$?
	case $status in
	0 | 2 | 3) ;;
	*) fail "replay of $part % of a capture: $status: $(cat "$LAB_TMP/replay.err")" ;;
	esac
done

# A full disk: said, nothing stays attached, and what was written replays.
mkdir -p "$LAB_MNT/tiny"
mount -t tmpfs -o size=16k tiny "$LAB_MNT/tiny"
echo "$LAB_MNT/tiny" >> "$LAB_TMP/mounts"
gfs-trace --json --budget "$budget" -o "$LAB_MNT/tiny/full" < /dev/null > "$TRACE_JSON" \
	2> "$LAB_TMP/full.err" 9>&- &
TRACE_PID=$!
echo "$TRACE_PID" >> "$LAB_TMP/pids"
wait_for 60 "ready or an end" sh -c "grep -q ready $TRACE_JSON || [ ! -e /proc/$TRACE_PID/exe ]"
trouble_seen=0
! alive "$TRACE_PID" || { reader "$dev" 1000 && writer "$dev" scheduler mq-deadline && trouble_seen=1; }
if [ "$trouble_seen" = 1 ]; then
	exit_status "$READER" "the read" 0
	exit_status "$WRITER" "the write" 0
fi
kill -TERM "$TRACE_PID" 2> /dev/null || :
exit_status "$TRACE_PID" "gfs-trace with a full disk" 1
grep -qi 'no space' "$LAB_TMP/full.err" || fail "a full disk is not named: $(cat "$LAB_TMP/full.err")"
wait_for 30 "end of all programs, maps and links" bpf_is before
[ -s "$LAB_MNT/tiny/full" ] || fail "a full disk left no capture"
for f in "$LAB_MNT/tiny/"*; do
	status=0
	gfs-trace replay "$f" --json > "$LAB_TMP/replay.json" 2> "$LAB_TMP/replay.err" || status=$?
	case $status in
	0 | 2 | 3) ;;
	*) fail "replay of what a full disk left: $status: $(cat "$LAB_TMP/replay.err")" ;;
	esac
done
bare_stop
