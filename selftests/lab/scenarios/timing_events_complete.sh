# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=420
#
# Each step of a create is reported exactly once, when it succeeds and whatever fails, with the same
# operation id and the same result in all three sinks: the JSON log, the USDT probe, the histograms of
# /metrics.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/trace.lib
. "$LAB/scenarios/trace.lib"
# shellcheck source=selftests/lab/scenarios/create.lib
. "$LAB/scenarios/create.lib"

capture=$LAB_TMP/capture
started='ublk.start_dev:0 ublk.start_dev.prepare:0 ublk.start_dev.wait:0 ublk.start_dev.command:0'
armed='ublk.add_dev:0 ublk.set_params:0 ublk.open_cdev:0 ublk.arm_queues:0'
opened='layer.recover:0'
device="$opened register_device:0 $armed $started ublk.udev:*"
root='save_export:0 object.put:0'
unroot='object.get:0 object.delete:0'
undevice='ublk.stop_dev:0 ublk.del_dev:0'

mkdisk cache store
daemon_config a
# The probe of the program, in each process that will run it.
gfs-trace record --json -o "$capture" --duration 900s --budget attr=60s,freeze=60s,request=60s,command=60s,start_dev=60s \
	< /dev/null > "$TRACE_JSON" 2> "$LAB_TMP/trace.log" 9>&- &
TRACE_PID=$!
echo "$TRACE_PID" >> "$LAB_TMP/pids"
wait_for 60 "gfs-trace record" jsonq "$TRACE_JSON" type=ready

# lines FILE EVENT-PATH CONDITION: "event:result" of each, sorted; what udev did depends on the host.
sorted()
{
	sed 's/^ublk.udev:.*/ublk.udev:*/' | sort
}

# case_of NAME STATUS RULES DEVICE-FAILURE EVENT:RESULT...
case_of()
{
	name=$1 want_status=$2 rules=$3 device_fails=$4
	shift 4
	log=$(host_dir a)/timing.jsonl
	rm -f "$log"
	GFS_UBLK_FAIL=$device_fails daemon_start a "store.fault=$rules" daemon.pending_reap_s=600
	is_status "create of $name" "$(create "$name")" "$want_status"
	# The reaper, which is told of a root that was written, is part of what the sinks must agree about.
	case " $* " in
	*" object.delete:"*) wait_for 60 "the reaper" grep -q "volume $name: its failed create is undone" "$(host_dir a)/glidefsd.log" ;;
	esac
	wait_for 30 "the line of the create" jsonq "$log" "event=create_export,export=$name"
	id=$(jsonq "$log" "event=create_export,export=$name" op_id)
	[ "${id:-0}" -gt 0 ] || fail "$name: operation id '$id'"
	echo "$*" | tr ' ' '\n' | sorted > "$LAB_TMP/want"

	# 1: the JSON log.
	jsonq --all "$log" "op_id=$id" event > "$LAB_TMP/events"
	jsonq --all "$log" "op_id=$id" result > "$LAB_TMP/results"
	paste -d: "$LAB_TMP/events" "$LAB_TMP/results" | sorted > "$LAB_TMP/have"
	cmp -s "$LAB_TMP/have" "$LAB_TMP/want" ||
		fail "$name: in the log: $(diff "$LAB_TMP/want" "$LAB_TMP/have")"
	equal "lines of $name with another volume" \
		"$(jsonq --count "$log" "op_id=$id,export!=$name")" 0

	# 2: the histograms, of all events of this daemon.
	metric glidefs_timing_dropped_total > "$LAB_TMP/dropped"
	equal "lines that were dropped" "$(cat "$LAB_TMP/dropped")" 0
	sed -n 's/^glidefs_event_duration_seconds_count{event="\([^"]*\)"} \([0-9]*\)$/\1 \2/p' \
		"$LAB_TMP/metrics" | sort > "$LAB_TMP/counts"
	jsonq --all "$log" "" event | sort | uniq -c | awk '{ print $2, $1 }' | sort > "$LAB_TMP/lines"
	cmp -s "$LAB_TMP/counts" "$LAB_TMP/lines" ||
		fail "$name: in /metrics: $(diff "$LAB_TMP/lines" "$LAB_TMP/counts")"
	sed -n 's/^glidefs_event_errors_total{event="\([^"]*\)"} \([1-9][0-9]*\)$/\1 \2/p' \
		"$LAB_TMP/metrics" | sort > "$LAB_TMP/counts"
	jsonq --all "$log" "result!=0" event | sort | uniq -c | awk '{ print $2, $1 }' | sort > "$LAB_TMP/lines"
	cmp -s "$LAB_TMP/counts" "$LAB_TMP/lines" ||
		fail "$name: failures in /metrics: $(diff "$LAB_TMP/lines" "$LAB_TMP/counts")"

	# 3: the probe, in the capture when gfs-trace has ended.
	echo "$name $(daemon_pid a) $id $*" >> "$LAB_TMP/probes"
	daemon_stop a
	note "$name: $# events, once each"
}

case_of success 201 "" "" create_export:0 $root $device
case_of put-fails 503 "put error=EIO" "" create_export:-5 save_export:-5 object.put:-5 $device $undevice
case_of put-denied 503 "put error=EACCES" "" create_export:-13 save_export:-13 object.put:-13 $device $undevice
case_of put-unanswered 201 "put ambiguous=after count=1" "" create_export:0 save_export:0 object.put:-110 \
	object.put:-17 object.get:0 $device
case_of no-add 507 "" ADD_DEV:12 create_export:-12 $root $opened register_device:-12 ublk.add_dev:-12 $unroot
case_of no-params 507 "" SET_PARAMS:12 create_export:-12 $root $opened register_device:-12 ublk.add_dev:0 \
	ublk.set_params:-12 $undevice $unroot
case_of no-start 500 "" START_DEV:5 create_export:-5 $root $opened register_device:-5 $armed ublk.start_dev:-5 \
	ublk.start_dev.prepare:0 ublk.start_dev.wait:-5 ublk.start_dev.command:-5 $undevice $unroot
case_of no-undo 500 "delete error=EIO count=1" START_DEV:5 create_export:-5 $root $opened register_device:-5 $armed \
	ublk.start_dev:-5 ublk.start_dev.prepare:0 ublk.start_dev.wait:-5 ublk.start_dev.command:-5 $undevice \
	object.get:0 object.delete:-5

kill -TERM "$TRACE_PID"
exit_status "$TRACE_PID" "gfs-trace record" 0
equal "events that were dropped" "$(jsonq --last "$TRACE_JSON" type=summary dropped)" 0
while read -r name pid id want; do
	echo "$want" | tr ' ' '\n' | sorted > "$LAB_TMP/want"
	is="kind=span,pid=$pid,op_id=$id,open!=true"
	jsonq --all "$capture" "$is" event > "$LAB_TMP/events"
	: > "$LAB_TMP/have"
	# A result of 0 is not in the record.
	sort -u "$LAB_TMP/events" | while read -r event; do
		n=$(jsonq --count "$capture" "$is,event=$event")
		jsonq --all "$capture" "$is,event=$event,result!=" result | sed "s/^/$event:/" > "$LAB_TMP/failed"
		cat "$LAB_TMP/failed"
		good=$((n - $(wc -l < "$LAB_TMP/failed")))
		while [ "$good" -gt 0 ]; do
			echo "$event:0"
			good=$((good - 1))
		done
	done | sorted > "$LAB_TMP/have"
	cmp -s "$LAB_TMP/have" "$LAB_TMP/want" ||
		fail "$name: by the probe: $(diff "$LAB_TMP/want" "$LAB_TMP/have")"
done < "$LAB_TMP/probes"
