# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=240
#
# The daemon is killed, and then somebody writes the scheduler of its device, with a read outstanding. gfs-trace
# says that nobody serves the device, and since when; after recovery the finding is closed with how
# long it was.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/trace.lib
. "$LAB/scenarios/trace.lib"

verdict=verdict=freeze/no-server

modprobe mq-deadline
mkdisk cache store
daemon_start a
dev=$(volume_create vm1 16M)
dd if=/dev/urandom of="$LAB_TMP/data" bs=4k count=1 2> "$LAB_TMP/dd.out"
dd if="$LAB_TMP/data" of="$dev" bs=4k seek=100 oflag=direct 2> "$LAB_TMP/dd.out"

trace_start --budget freeze=1s,attr=600s,request=600s,command=600s,start_dev=600s
server=$(daemon_pid a)
died=$(now_ms)
kill -9 "$server"
wait_for 30 "quiesced device" dev_in_state "$dev" quiesced
daemon_kill9 a 2> /dev/null || :
dead=$(now_ms)
reader "$dev" 100
wait_for 20 "wait of the reader" in_state "$READER" D
writer_hangs "$dev" scheduler mq-deadline

finding_wait 30 "open=true,$verdict,waiter.tgid=$WRITER"
alive "$WRITER" || fail "the writer was through before it was explained"
is="open=true,$verdict,waiter.tgid=$WRITER"
expect "$is" severity=critical catalogue=H15 dev="$(dev_id "$dev")" device="$dev" volume=vm1 \
	waiter.comm=sh waiter.state=D attribute.name=scheduler attribute.value=mq-deadline
# The read that nobody serves is named, though it never got as far as the driver.
expect_that "$is" "blockers.*.type=request" "blockers.*.sector=800" "blockers.*.state=requeued"
expect "$is" blockers.0.type=no-server blockers.0.tgid="$server" blockers.0.comm=glidefsd
between "time of death, ms" "$(field "$is" blockers.0.since_ns | sed 's/......$//')" \
	"$((died - 20))" "$((dead + 20))"
age=$(field "$is" blockers.0.age_ms)
note "no server for $age ms"
alive "$READER" || fail "the read was answered by nobody"

# A new daemon takes the device over: everybody is free.
back=$(now_ms)
daemon_start a
exit_status "$READER" "the read" 0
exit_status "$WRITER" "the write" 0
over=$(now_ms_up)
cmp "$LAB_TMP/read" "$LAB_TMP/data" || fail "data differs after recovery"
finding_wait 30 "event=close,$verdict"
expect "event=close,$verdict" open=false
between "duration, ms" "$(field "event=close,$verdict" duration_ms)" "$((back - HUNG_MS))" \
	"$((over - FROZEN_MS))"
equal "open findings" "$(jsonq --last "$TRACE_JSON" type=finding open)" false
trace_stop 3
daemon_stop a
