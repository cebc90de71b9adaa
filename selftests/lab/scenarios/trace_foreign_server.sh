# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=240
#
# A server that tells nothing of itself: what pins a freeze, and that nobody serves a device, are seen from the
# kernel alone.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/trace.lib
. "$LAB/scenarios/trace.lib"

modprobe mq-deadline
mkdisk cache
bare_start foreign --recovery --hold-ms 7000 --hold-sector 8000
dev=$BARE_DEV
trace_start --budget freeze=1s,attr=600s,request=600s,command=600s,start_dev=600s

# Pinned.
reader "$dev" 1000
read_in_flight "$dev"
writer_hangs "$dev" scheduler mq-deadline
finding_wait 20 "open=true,verdict=freeze/pinned,blockers.0.owner.ustack.#>=1"
explained=$(now_ms)
alive "$WRITER" || fail "the writer was through before it was explained"
is="open=true,verdict=freeze/pinned"
expect "$is" severity=critical catalogue=H10 dev="$(dev_id "$dev")" device="$dev" volume= \
	waiter.tgid="$WRITER" waiter.comm=sh waiter.state=D \
	attribute.name=scheduler attribute.value=mq-deadline \
	blockers.#=1 blockers.0.type=request blockers.0.queue="$QUEUE" blockers.0.tag="$TAG" \
	blockers.0.op=R blockers.0.sector=8000 blockers.0.nsectors=8 blockers.0.state=server \
	blockers.0.owner.tgid="$BARE" blockers.0.owner.comm=bare_server blockers.0.span= blockers.0.io_span=
expect_that "$is" "blockers.0.owner.kstack.#>=1"
read_age "$is"
exit_status "$READER" "the read" 0
exit_status "$WRITER" "the write" 0
over=$(now_ms_up)
finding_wait 20 "event=close,verdict=freeze/pinned"
between "duration of the freeze, ms" "$(field "event=close,verdict=freeze/pinned" duration_ms)" \
	"$((explained - HUNG_MS))" "$((over - FROZEN_MS))"

# No server.
server=$BARE
died=$(now_ms)
bare_kill9
wait_for 30 "quiesced device" dev_in_state "$dev" quiesced
dead=$(now_ms)
reader "$dev" 50
wait_for 20 "wait of the reader" in_state "$READER" D
writer_hangs "$dev" scheduler none
finding_wait 30 "open=true,verdict=freeze/no-server"
alive "$WRITER" || fail "the writer was through before it was explained"
is="open=true,verdict=freeze/no-server"
expect "$is" severity=critical catalogue=H15 device="$dev" waiter.tgid="$WRITER" \
	attribute.name=scheduler attribute.value=none \
	blockers.0.type=no-server blockers.0.tgid="$server" blockers.0.comm=bare_server
between "time of death, ms" "$(field "$is" blockers.0.since_ns | sed 's/......$//')" \
	"$((died - 20))" "$((dead + 20))"
back=$(now_ms)
bare_start foreign --recover "$(dev_id "$dev")"
exit_status "$READER" "the read" 0
exit_status "$WRITER" "the write" 0
over=$(now_ms_up)
finding_wait 30 "event=close,verdict=freeze/no-server"
between "duration, ms" "$(field "event=close,verdict=freeze/no-server" duration_ms)" \
	"$((back - HUNG_MS))" "$((over - FROZEN_MS))"
equal "findings" "$(findings event=open)" 2
bare_stop
trace_stop 3
