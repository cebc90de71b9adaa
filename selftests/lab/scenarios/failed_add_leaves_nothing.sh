# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=120
#
# Whatever step of adding a device fails, the error names the step and its errno,
# and nothing of the device is left.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

# serve ARGUMENTS...: until it has an answer; then its log is in $log.
serve()
{
	log=$LAB_TMP/s/serve.log
	rm -f "$log"
	ublk_serve --dir "$LAB_MNT/cache/s" --size 16777216 --depth 32 "$@" > "$log" 2>&1 &
	server=$!
	echo "$server" >> "$LAB_TMP/pids"
	wait_for 60 "answer of ublk_serve" grep -q ready "$log"
}

stop()
{
	kill -TERM "$server"
	wait "$server" || :
}

no_device()
{
	[ -z "$(ublk-dev ls)" ]
}

mkdisk cache
mkdir -p "$LAB_TMP/s"
for step in ADD_DEV SET_PARAMS START_DEV; do
	GFS_UBLK_FAIL=$step:12 serve
	grep "$step.* failed: .*errno 12" "$log" > /dev/null || fail "$step: $(cat "$log")"
	no_device || fail "left after a failed $step: $(ublk-dev ls)"
	stop
done

# A worker that comes late: the queue is given up at the deadline and never arms.
serve --pause 1:5000 --timeout-ms 1000
grep "arming of queues of device 0 did not end within 1.0 s" "$log" > /dev/null ||
	fail "paused worker: $(cat "$log")"
wait_for 30 "end of the device" no_device
stop
