# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=240
#
# A cold volume asks for partitions and its first block comes late from the store. Where the kernel scans inside
# START_DEV (up to 6.17), gfs-trace names the read and the GET behind it before START_DEV returns; where it
# does not, START_DEV is clean and the read is reported as a slow request. The same of a foreign server, which
# has no spans to tell.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/trace.lib
. "$LAB/scenarios/trace.lib"

case $LAB_KERNEL in
6.12.* | 6.16.* | 6.17.*) verdict=verdict=start-dev/partition-scan ;;
*) verdict=verdict=request/slow ;;
esac
budget=start_dev=1s,request=1500ms

# attaching, starting: START_DEV has not returned, where it waits for the scan at all.
attaching()
{
	[ "$verdict" = verdict=request/slow ] || alive "$attach"
}

starting()
{
	[ "$verdict" = verdict=request/slow ] || [ ! -s "$BARE_OUT" ]
}

# scan_named COMM TGID WAITS GOES_ON: what is said of the scan by this server while WAITS goes on.
scan_named()
{
	finding_wait 60 "open=true,$verdict,blockers.0.owner.tgid=$2${3:+,$3}"
	"$4" || fail "START_DEV returned before it was explained"
	is="open=true,$verdict,blockers.0.owner.tgid=$2"
	expect "$is" blockers.#=1 blockers.0.type=request blockers.0.op=R blockers.0.sector=0 \
		blockers.0.state=server
	[ "$verdict" != verdict=start-dev/partition-scan ] ||
		expect "$is" catalogue=H5 stage=part-scan command.name=START_DEV command.tgid="$2" \
			command.comm="$1" command.stage=part-scan
	between "age of the read" "$(field "$is" blockers.0.age_ms)" 1 5000
}

# What must not be said on a kernel that scans elsewhere, and what must end where it does not.
scan_over()
{
	finding_wait 60 "event=close,$verdict"
	[ "$verdict" = verdict=start-dev/partition-scan ] ||
		equal "findings about START_DEV" "$(findings "verdict~start-dev")" 0
}

mkdisk cache store
# The daemon's own remedy, which makes these blocks resident before START_DEV, is off.
export GFS_DEBUG_NO_EDGE_PREFETCH=1
cold_volume vm1 16 "get:chunks/* delay=4000" --partitions
unset GFS_DEBUG_NO_EDGE_PREFETCH
server=$(daemon_pid b)

trace_start --budget "$budget"
"$GLIDEFS" --socket "$(host_dir b)/glidefs.sock" attach vm1 < /dev/null > "$LAB_TMP/attach.out" 2>&1 9>&- &
attach=$!
echo "$attach" >> "$LAB_TMP/pids"
scan_named glidefsd "$server" blockers.0.span.event=object.get attaching
expect "$is" volume=vm1 blockers.0.span.event=object.get
key=$(field "$is" blockers.0.span.key)
case $key in
chunks/*) ;;
*) fail "key of the GET: '$key'" ;;
esac
[ -e "$LAB_MNT/store/objects/$key" ] || fail "there is no object $key"
note "the scan waits for $key"
exit_status "$attach" "attach" 0
grep -q 'GFS_DEBUG_NO_EDGE_PREFETCH' "$(host_dir b)/glidefsd.log" || fail "the switch was not announced"
dev=$(cat "$LAB_TMP/attach.out")
scan_over
wait_for 60 "$dev" test -b "$dev"
# The daemon's way is immune.
HOST=b glidefs detach vm1
daemon_stop b
trace_stop 2

daemon_start b "store.fault=get:chunks/* delay=4000"
trace_start --budget start_dev=1s,request=60s,command=60s
HOST=b glidefs attach vm1 > "$LAB_TMP/attach.out"
equal "findings about a daemon that prefetches" "$(findings event=open)" 0
trace_stop
daemon_stop b

trace_start --budget "$budget"
bare_spawn foreign --part-scan --hold-ms 4000 --hold-sector 0
scan_named bare_server "$BARE" "" starting
equal "span of a foreign server" "$(field "$is" blockers.0.span)" ""
bare_ready
scan_over
bare_stop
trace_stop 2
