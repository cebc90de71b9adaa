# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=300
#
# Whoever writes queue attributes under a slow read is named, with the attribute and how much of the time was
# the freeze: a shell, and a udev rule where this host has udev. What does not freeze is not complained of:
# bdi/read_ahead_kb under the same read, and any attribute of a device that is idle, even without a server.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/trace.lib
. "$LAB/scenarios/trace.lib"
# shellcheck source=selftests/lab/scenarios/udev.lib
. "$LAB/scenarios/udev.lib"

verdict=verdict=attr/slow

held_read()
{
	reader "$dev" 1000
	wait_for 20 "read in the driver" in_flight "$dev"
}

# named COMM ATTRIBUTE VALUE: what is said of a write that had to wait for the held read.
named()
{
	is="$verdict,attribute.name=$2"
	finding_wait 30 "event=close,$is"
	is="event=close,$is"
	expect "$is" device="$dev" dev="$(dev_id "$dev")" open=false waiter.comm="$1" \
		attribute.name="$2" attribute.value="$3"
	ms=$(field "$is" duration_ms)
	frozen=$(field "$is" attribute.freeze_ms)
	between "duration of the write to $2" "$ms" 1000 "$((hold_ms + 2000))"
	between "freeze in it" "$frozen" "$(awk -v m="$ms" 'BEGIN { print m * 0.8 }')" "$ms"
	note "$2: $ms ms, of them frozen $frozen ms"
}

hold_ms=4000
mkdisk cache
bare_start held --recovery --hold-ms "$hold_ms" --hold-sector 8000
dev=$BARE_DEV
queue=/sys/block/${dev#/dev/}/queue
trace_start --budget attr=1s,freeze=60s,request=60s,command=60s,start_dev=60s

# Each of these freezes on every kernel there is.
for setting in nr_requests=16 max_sectors_kb=128 wbt_lat_usec=0 iostats=0; do
	attr=${setting%=*}
	held_read
	writer "$dev" "$attr" "${setting#*=}"
	exit_status "$READER" "the read" 0
	exit_status "$WRITER" "the write to $attr" 0
	named sh "$attr" "${setting#*=}"
	expect "$is" waiter.tgid="$WRITER"
	expect_that "$is" "waiter.cmdline~$attr"
done
said=$(findings event=open)

# This one does not freeze.
held_read
began=$(now_ms)
echo 256 > "/sys/block/${dev#/dev/}/bdi/read_ahead_kb"
alive "$READER" || fail "the read was over before the write to bdi/read_ahead_kb"
between "duration of the write to bdi/read_ahead_kb" "$(($(now_ms) - began))" 0 3000
exit_status "$READER" "the read" 0

# Nor does any, when the device is idle; nor when nobody serves it.
echo 32 > "$queue/nr_requests"
bare_kill9
wait_for 30 "quiesced device" dev_in_state "$dev" quiesced
began=$(now_ms)
echo 1 > "$queue/iostats"
between "duration of a write to a quiesced idle device" "$(($(now_ms) - began))" 0 3000
[ "$(findings event=open)" = "$said" ] || {
	findings_show
	fail "a write that did not wait is complained of"
}
bare_start held --recover "$(dev_id "$dev")" --hold-ms "$hold_ms" --hold-sector 8000

# udev: the rule is one of those that hosts have.
if [ -x "$UDEVD" ]; then
	mkdir -p /run/udev/rules.d
	echo 'ACTION=="change", KERNEL=="ublkb*", ATTR{queue/add_random}="1"' \
		> /run/udev/rules.d/60-lab.rules
	udev_start
	held_read
	echo change > "/sys/block/${dev#/dev/}/uevent"
	exit_status "$READER" "the read" 0
	wait_for 30 "the rule's write" grep -q 1 "$queue/add_random"
	is="$verdict,attribute.name=add_random"
	finding_wait 30 "event=close,$is"
	comm=$(field "event=close,$is" waiter.comm)
	case $comm in
	*udev*) ;;
	*) fail "the rule's writer is called '$comm'" ;;
	esac
	named "$comm" add_random 1
	expect_that "$is" "waiter.cmdline~udev"
	udev_stop
else
	note "no udev on the host that made this guest: only shells write"
fi
bare_stop
trace_stop 2
