# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=90
#
# Leaked devices with our identity are removed; those of a known volume, live ones,
# and those of other servers stay, quiesced or not.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

# start NAME PATTERN COMMAND...: in the background, until PATTERN is in its output.
start()
{
	start_log=$LAB_TMP/s/$1.log
	start_pattern=$2
	shift 2
	"$@" > "$start_log" 2>&1 &
	started=$!
	echo "$started" >> "$LAB_TMP/pids"
	wait_for 60 "answer of $1" grep -q "$start_pattern" "$start_log"
}

kill9()
{
	kill -9 "$1"
	wait "$1" 2>/dev/null || :
}

state()
{
	ublk-dev ls | sed -n "s/^$1 \([a-z-]*\) .*/\1/p"
}

in_state()
{
	[ "$(state "$1")" = "$2" ]
}

mkdisk cache
mkdir -p "$LAB_TMP/s"
start foreign ublkb bare_server --file "$LAB_MNT/cache/bare" --size 16777216 --recovery
kill9 "$started"
wait_for 30 "foreign device quiesced" in_state 0 quiesced

start leaked "ready 0" ublk_serve --dir "$LAB_MNT/cache/s" --size 16777216 --nr 3
kill9 "$started"
for id in 1 2 3; do
	wait_for 30 "device $id quiesced" in_state "$id" quiesced
done

# Only vol0 is known to this one.
start reaper "ready 0" ublk_serve --dir "$LAB_MNT/cache/s" --size 16777216 --nr 1 --recover --reap
grep -q "reaped 2" "$LAB_TMP/s/reaper.log" || fail "reaper: $(cat "$LAB_TMP/s/reaper.log")"
kept=$(sed -n 's,^/dev/ublkb\([0-9]*\) vol0,\1,p' "$LAB_TMP/s/reaper.log")
equal "state of the volume's device" "$(state "$kept")" live
equal "state of the foreign device" "$(state 0)" quiesced
equal "number of devices" "$(ublk-dev ls | wc -l)" 2
kill -TERM "$started"
wait "$started" || fail "reaper: $(cat "$LAB_TMP/s/reaper.log")"
equal "devices left" "$(ublk-dev ls | sed 's/ .*//')" 0
ublk-dev rm 0
