# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=300
#
# The flight recorder keeps the seconds before the event that triggers it; check gives the exit status that it
# promises (0 clean, 2 over a budget, 3 stalled, 4 cannot run here), around a command and for a while; reports are
# made from a capture in every format.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/trace.lib
. "$LAB/scenarios/trace.lib"

budget=start_dev=1s,command=60s,freeze=1s,attr=60s,request=60s

# check_is STATUS OPTIONS...: of gfs-trace check.
check_is()
{
	want=$1
	shift
	status=0
	within 120 gfs-trace check --json --budget "$budget" "$@" > "$LAB_TMP/check.json" \
		2> "$LAB_TMP/check.err" || status=$?
	[ "$status" = "$want" ] ||
		fail "check $*: $status, want $want: $(cat "$LAB_TMP/check.err" "$LAB_TMP/check.json")"
}

modprobe mq-deadline
mkdisk cache
bare_start one
bare_stop
file="--file $LAB_MNT/cache/one --size $((16 << 20)) --depth 32"

# --- record ---------------------------------------------------------------------------
# Short enough for the first server to be dropped, long enough for the second to be kept.
gfs-trace record --json -o "$LAB_TMP/ring" --ring 30s --trigger 'start_dev>1s' --duration 600s --budget "$budget" \
	< /dev/null > "$TRACE_JSON" 2> "$LAB_TMP/trace.log" 9>&- &
TRACE_PID=$!
echo "$TRACE_PID" >> "$LAB_TMP/pids"
wait_for 60 "gfs-trace record" jsonq "$TRACE_JSON" type=ready
bare_start one
first=$BARE
bare_stop
[ ! -s "$LAB_TMP/ring" ] || fail "the recorder wrote before its trigger"
bare_start one --arm-delay-ms 3000
late=$BARE
wait_for 60 "finding" jsonq "$TRACE_JSON" "type=finding,verdict=start-dev/late-fetch"
bare_stop
kill -TERM "$TRACE_PID"
exit_status "$TRACE_PID" "gfs-trace record" 2
[ -s "$LAB_TMP/ring" ] || fail "the trigger wrote nothing"
# The seconds before: a server that was gone when the trigger struck.
grep -q "\"tgid\":${first}[,}]" "$LAB_TMP/ring" || fail "what was before the trigger is not in the capture"
grep -q "\"tgid\":${late}[,}]" "$LAB_TMP/ring" || fail "what triggered is not in the capture"

# --- report ---------------------------------------------------------------------------
status=0
gfs-trace report "$LAB_TMP/ring" --html "$LAB_TMP/r.html" --perfetto "$LAB_TMP/r.perfetto" \
	--folded "$LAB_TMP/r.folded" > "$LAB_TMP/r.txt" 2> "$LAB_TMP/r.err" || status=$?
equal "exit status of a report" "$status" 2
grep -q 'start-dev/late-fetch' "$LAB_TMP/r.txt" || fail "the report: $(cat "$LAB_TMP/r.txt")"
sed 's/^/# /' "$LAB_TMP/r.txt" | head -n 40
grep -q 'start-dev/late-fetch' "$LAB_TMP/r.html" || fail "the page has no finding"
! grep -qE '(src|href)="?https?:' "$LAB_TMP/r.html" || fail "the page needs the network"
tr -d '\n' < "$LAB_TMP/r.perfetto" > "$LAB_TMP/r.one"
echo >> "$LAB_TMP/r.one"
between "events for Perfetto" "$(jsonq "$LAB_TMP/r.one" "" traceEvents.#)" 10 100000000
[ -s "$LAB_TMP/r.folded" ] || fail "no folded stacks"
awk '!/^[^ ].* [0-9]+$/ { exit 1 }' "$LAB_TMP/r.folded" || fail "folded: $(cat "$LAB_TMP/r.folded")"

# --- check ----------------------------------------------------------------------------
check_is 0 --duration 2s
equal "findings of a quiet check" "$(jsonq --count "$LAB_TMP/check.json" type=finding)" 0
equal "lines of another version" "$(jsonq --count "$LAB_TMP/check.json" 'v!=1')" 0

cat > "$LAB_TMP/serve" <<'END'
#!/bin/sh
# serve OUT ARGUMENTS...: a server that comes and goes.
out=$1
shift
bare_server "$@" > "$out" &
until [ -s "$out" ]; do
	kill -0 $! || exit 1
	usleep 20000
done
kill -TERM $!
wait $!
END
# shellcheck disable=SC2086 # options
check_is 0 -- sh "$LAB_TMP/serve" "$LAB_TMP/out0" $file
# shellcheck disable=SC2086 # options
check_is 2 -- sh "$LAB_TMP/serve" "$LAB_TMP/out1" $file --arm-delay-ms 3000
equal "verdict" "$(jsonq "$LAB_TMP/check.json" type=finding,event=open verdict)" start-dev/late-fetch

# Still stalled when the time is over.
bare_start one --hold-ms 20000 --hold-sector 8000
reader "$BARE_DEV" 1000
wait_for 20 "read in the driver" in_flight "$BARE_DEV"
writer "$BARE_DEV" scheduler mq-deadline
wait_for 20 "hang of the writer" in_state "$WRITER" D
check_is 3 --duration 5s
equal "verdict" "$(jsonq "$LAB_TMP/check.json" type=finding,event=open verdict)" freeze/pinned
alive "$WRITER" || note "the hang was over before check was"
exit_status "$READER" "the read" 0
exit_status "$WRITER" "the write" 0
bare_stop

# The filter by device.
check_is 0 -d /dev/ublkb77 -- sh -c ":"

# Nobody: it says what is missing.
if command -v setpriv > /dev/null; then
	status=0
	setpriv --reuid 65534 --regid 65534 --clear-groups gfs-trace check --duration 1s \
		> "$LAB_TMP/nobody" 2>&1 || status=$?
	equal "exit status for nobody" "$status" 4
	grep -q 'CAP_' "$LAB_TMP/nobody" || fail "no capability is named: $(cat "$LAB_TMP/nobody")"
	sed 's/^/# nobody: /' "$LAB_TMP/nobody"
else
	note "no setpriv on the host that made this guest"
fi

# Bad use.
for bad in "check --duration never" "record" "live --budget nonsense=1s" "nonsense" "replay /nonexistent"; do
	status=0
	# shellcheck disable=SC2086 # words
	within 30 gfs-trace $bad > "$LAB_TMP/bad" 2>&1 || status=$?
	equal "exit status of gfs-trace $bad" "$status" 1
	[ -s "$LAB_TMP/bad" ] || fail "gfs-trace $bad says nothing"
done
# doctor and probes tell in lines that can be read by programs too.
status=0
gfs-trace doctor --json > "$LAB_TMP/doctor.json" || status=$?
equal "exit status of doctor" "$status" 0
[ "$(jsonq --count "$LAB_TMP/doctor.json" v=1,type=doctor,check!=)" -ge 5 ] || fail "doctor: $(cat "$LAB_TMP/doctor.json")"
gfs-trace probes --json > "$LAB_TMP/probes.json"
[ "$(jsonq --count "$LAB_TMP/probes.json" v=1,type=hook,hook!=)" -ge 5 ] || fail "probes: $(cat "$LAB_TMP/probes.json")"
