# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=180 phases=2 host=no
# The kernel warns by itself when a server is killed that holds a request.
# lab: allow-log@6.17=WARNING: .* ublk_ch_release_work_fn
# lab: allow-log=I/O error, dev ublkb0, sector 8 op 0x0:.READ
#
# A server writes the scheduler of its own device from the thread that holds a request of it, or from a child
# which that thread waits for. gfs-trace proves the cycle, and says what helps: killing the server does when
# a child waits, and does not when the thread itself does. After that only a reset is left, so the second
# phase is there to make one.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/trace.lib
. "$LAB/scenarios/trace.lib"

verdict=verdict=freeze/self-deadlock

mkdisk cache
if [ "$PHASE" = 2 ]; then
	equal "devices after the reset" "$(new_devices)" ""
	exit 0
fi

# SIGKILL is bit 8 of the pending signals, of a thread or of all.
kill_pending()
{
	grep -qE '^(SigPnd|ShdPnd):[[:space:]]*[0-9a-f]*[13579bdf][0-9a-f]{2}$' "$1/status"
}

modprobe mq-deadline
trace_start --budget freeze=1s,attr=60s,request=60s

# A child.
bare_start child --child-deadlock
reader "$BARE_DEV" 1
finding_wait 30 "open=true,$verdict,blockers.0.owner.tgid=$BARE"
alive "$READER" || fail "the read was over before it was explained"
is="open=true,$verdict"
expect "$is" severity=critical catalogue=H10 device="$BARE_DEV" waiter.comm=sh waiter.state=D \
	attribute.name=scheduler attribute.value=mq-deadline \
	blockers.0.type=request blockers.0.op=R blockers.0.sector=8 blockers.0.state=server
between "length of the cycle" "$(field "$is" cycle.#)" 3 8
expect_that "$is" "cycle.*~$(field "$is" waiter.tid)" "cycle.*~$BARE"
for i in 0 1 2 3; do
	note "$(field "$is" "cycle.$i")"
done
id=$(field "$is" id)
bare_kill9
finding_wait 30 "event=close,$verdict,id=$id"
exit_status "$READER" "the read of a device whose server is gone" 1

# The thread itself.
bare_start self --self-deadlock
reader "$BARE_DEV" 1
finding_wait 30 "open=true,$verdict,waiter.tgid=$BARE"
is="open=true,$verdict,waiter.tgid=$BARE"
thread=$(field "$is" waiter.tid)
[ "$thread" != "$BARE" ] || fail "the main thread does not serve"
wait_for 10 "hang of thread $thread" in_state "$thread" D
expect "$is" severity=critical catalogue=H10 device="$BARE_DEV" waiter.comm=bare_server waiter.state=D \
	attribute.name=scheduler attribute.value=mq-deadline \
	blockers.0.type=request blockers.0.op=R blockers.0.sector=8 blockers.0.state=server \
	blockers.0.owner.tid="$thread"
expect_that "$is" "waiter.kstack.*~freeze_queue_wait" "advice~SIGKILL" "advice~eboot"
between "length of the cycle" "$(field "$is" cycle.#)" 2 8
expect_that "$is" "cycle.0~tid $thread" "cycle.*~freeze"

# It survives SIGKILL, and that is said.
kill -9 "$BARE"
wait_for 30 "pending SIGKILL" kill_pending "/proc/$BARE/task/$thread"
in_state "$BARE/task/$thread" D || fail "SIGKILL freed thread $thread"
finding_wait 30 "$is,waiter.killed=true"
in_state "$BARE/task/$thread" D || fail "SIGKILL freed thread $thread"
alive "$READER" || fail "SIGKILL freed the reader"
note "thread $thread is in D state with SIGKILL pending: $(field "$is" advice)"
trace_stop 3
next_phase
