# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=180
#
# A process writes the scheduler of a device while one of its reads waits for the store. While both hang,
# gfs-trace names the writer, the request that holds the queue (queue, tag, sector, age) and the GET that
# the daemon makes for it.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/trace.lib
. "$LAB/scenarios/trace.lib"

verdict=verdict=freeze/pinned

modprobe mq-deadline
mkdisk cache store
cold_volume vm1 16 "get:chunks/* delay=7000"
dev=$(HOST=b glidefs attach vm1)
wait_for 30 "$dev" test -b "$dev"
equal "scheduler before" "$(grep -o '\[.*\]' "/sys/block/${dev#/dev/}/queue/scheduler")" "[none]"
server=$(daemon_pid b)
# The block is not the first: 4 KiB block 3000 is sector 24000.
trace_start --budget freeze=1s,attr=60s,request=60s
reader "$dev" 3000
read_in_flight "$dev"
writer_hangs "$dev" scheduler mq-deadline

finding_wait 20 "open=true,$verdict,blockers.0.span.event=object.get,blockers.0.owner.ustack.#>=1"
explained=$(now_ms)
alive "$WRITER" || fail "the writer was through before it was explained"
is="open=true,$verdict"
expect "$is" severity=critical catalogue=H10 dev="$(dev_id "$dev")" device="$dev" volume=vm1 \
	waiter.tgid="$WRITER" waiter.tid="$WRITER" waiter.comm=sh waiter.state=D \
	attribute.name=scheduler attribute.value=mq-deadline \
	blockers.#=1 blockers.0.type=request blockers.0.queue="$QUEUE" blockers.0.tag="$TAG" \
	blockers.0.op=R blockers.0.sector=24000 blockers.0.nsectors=8 blockers.0.state=server \
	blockers.0.owner.tgid="$server" blockers.0.io_span.stage=store blockers.0.io_span.volume=vm1
expect_that "$is" "waiter.kstack.*~freeze_queue_wait" "waiter.cmdline~mq-deadline" \
	"blockers.0.owner.kstack.#>=1" "summary~vm1"
between "beginning of the freeze, ms" "$(field "$is" since_ns | sed 's/......$//')" "$FROZEN_MS" "$HUNG_MS"
read_age "$is"
key=$(field "$is" blockers.0.span.key)
case $key in
chunks/*) ;;
*) fail "key of the GET: '$key'" ;;
esac
[ -e "$LAB_MNT/store/objects/$key" ] || fail "there is no object $key"
between "age of the GET, ms" "$(field "$is" blockers.0.span.age_ms)" 1 \
	"$(field "$is" blockers.0.age_ms)"

exit_status "$READER" "the read" 0
exit_status "$WRITER" "the write" 0
over=$(now_ms_up)
finding_wait 20 "event=close,$verdict"
expect "event=close,$verdict" open=false dev="$(dev_id "$dev")"
between "duration of the freeze, ms" "$(field "event=close,$verdict" duration_ms)" \
	"$((explained - HUNG_MS))" "$((over - FROZEN_MS))"
equal "scheduler after" "$(grep -o '\[.*\]' "/sys/block/${dev#/dev/}/queue/scheduler")" "[mq-deadline]"
trace_stop 2
daemon_stop b
