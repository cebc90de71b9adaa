# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=420 host=no
#
# By the time create answers, our device has no scheduler, no write-back throttling, no entropy and no
# read-ahead, by udev's hand alone, with one freeze at most and none when all is right already. Devices of
# others are never touched, not even one with the number of a device whose daemon was killed. The rule is
# installed by a start that finds another; without udev, or with one that hangs, create answers in time and
# says so.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/trace.lib
. "$LAB/scenarios/trace.lib"
# shellcheck source=selftests/lab/scenarios/create.lib
. "$LAB/scenarios/create.lib"
# shellcheck source=selftests/lab/scenarios/udev.lib
. "$LAB/scenarios/udev.lib"

rule=/run/udev/rules.d/99-glidefs-ublk.rules
capture=$LAB_TMP/capture

# settings DEVICE
settings()
{
	for attribute in queue/scheduler queue/wbt_lat_usec queue/add_random bdi/read_ahead_kb; do
		echo "${attribute#*/}=$(cat "/sys/block/${1#/dev/}/$attribute")"
	done | tr '\n' ' '
}

# set_up DEVICE: as the rule wants it.
set_up()
{
	is=$(settings "$1")
	case $is in
	"scheduler=[none]"*"wbt_lat_usec=0 add_random=0 read_ahead_kb=0 ") ;;
	*"[none]"*"wbt_lat_usec=0 add_random=0 read_ahead_kb=0 ") ;;
	*) echo "$is"; return 1 ;;
	esac
}

# udev_event NAME: the result of the last ublk.udev of that volume.
udev_event()
{
	wait_for 30 "the line of ublk.udev" jsonq "$(host_dir a)/timing.jsonl" "event=ublk.udev,export=$1"
	jsonq --last "$(host_dir a)/timing.jsonl" "event=ublk.udev,export=$1" result || :
}

# of DEVICE: the condition for its records. A number of 0 is not in them.
of()
{
	of_id=$(dev_id "$1")
	[ "$of_id" != 0 ] || of_id=
	echo "dev=$of_id"
}

# recorded KIND DEVICE: how many such records of it.
recorded()
{
	jsonq --count "$capture" "kind=$1,$(of "$2")"
}

# written DEVICE: for wait_for.
written()
{
	[ "$(recorded attr "$1")" -ge 1 ]
}

modprobe mq-deadline || :
mkdisk cache store
udev_start

# Slow to answer under emulation, where a process takes 100 ms to start; the default is for hardware.
wait_ms=10000
daemon_start a udev.wait_ms=$wait_ms "store.fault=put delay=500"
[ -f "$rule" ] || fail "the rule was not installed: $(ls /run/udev/rules.d)"
cp "$rule" "$LAB_TMP/rule"
gfs-trace record --json -o "$capture" --duration 600s --budget attr=60s,freeze=60s,request=60s,command=60s,start_dev=60s \
	< /dev/null > "$TRACE_JSON" 2> "$LAB_TMP/trace.log" 9>&- &
TRACE_PID=$!
echo "$TRACE_PID" >> "$LAB_TMP/pids"
wait_for 60 "gfs-trace record" jsonq "$TRACE_JSON" type=ready

# --- ours, and not another's ---------------------------------------------------------------
bare_start foreign --recovery
foreign=$BARE_DEV
foreign_server=$BARE
udev_settle
foreign_is=$(settings "$foreign")
note "a foreign device: $foreign_is"
set_up "$foreign" > "$LAB_TMP/out" && fail "the kernel's own settings are ours: nothing to be seen here"

is_status "create" "$(create vm1)" 201
for d in $(new_devices); do
	[ "/dev/ublkb$d" = "$foreign" ] || ours=/dev/ublkb$d
done
note "ours when create answered: $(settings "$ours")"
set_up "$ours" > "$LAB_TMP/out" || fail "not set up when create answered: $(cat "$LAB_TMP/out")"
equal "result of ublk.udev" "$(udev_event vm1)" 0
equal "a foreign device" "$(settings "$foreign")" "$foreign_is"

# --- no freeze that can be avoided ---------------------------------------------------------
udev_settle
wait_for 30 "attribute write in the capture" written "$ours"
jsonq --all "$capture" "kind=attr,$(of "$ours")" | cut -c -300 | sed 's/^/# written: /'
equal "queue attributes that were written" \
	"$(jsonq --all "$capture" "kind=attr,$(of "$ours")" attr)" "wbt_lat_usec"
attrs=$(recorded attr "$ours")
freezes=$(recorded freeze "$ours")
for d in "$ours" "$foreign"; do
	echo change > "/sys/block/${d#/dev/}/uevent"
done
udev_settle
# A write that is seen: what the capture has from before it is all there was.
echo 1 > "/sys/block/${foreign#/dev/}/queue/iostats"
wait_for 30 "a write by hand in the capture" written "$foreign"
equal "writes to a device that is right already" "$(recorded attr "$ours")" "$attrs"
equal "freezes of a device that is right already" "$(recorded freeze "$ours")" "$freezes"
equal "writes to a foreign device" "$(jsonq --all "$capture" "kind=attr,$(of "$foreign")" attr)" iostats
equal "a foreign device" "$(settings "$foreign")" "$foreign_is"
kill -TERM "$TRACE_PID"
exit_status "$TRACE_PID" "gfs-trace record" 0

# --- the number of a device whose daemon was killed --------------------------------------------
number=$(dev_id "$ours")
daemon_kill9 a
wait_for 60 "quiesced device" dev_in_state "$ours" quiesced
ublk-dev rm "$number"
wait_for 30 "end of device $number" gone "/sys/block/ublkb$number"
[ -L "/run/glidefs/devices/ublkb$number" ] || fail "no mark was left to be misunderstood"
bare_start heir
equal "number of the foreign device" "$(dev_id "$BARE_DEV")" "$number"
udev_settle
equal "a foreign device with the number of ours" "$(settings "$BARE_DEV")" "$foreign_is"
bare_stop
BARE=$foreign_server
bare_stop

# --- the successor's rule --------------------------------------------------------------------------
echo '# of another version' > "$rule"
daemon_start a
cmp -s "$rule" "$LAB_TMP/rule" || fail "another version of the rule was left: $(cat "$rule")"
[ -z "$(ls /run/glidefs/devices)" ] || equal "marks after a start" "$(ls /run/glidefs/devices)" "ublkb$(dev_id "$(volume_dev vm1)")"
inode=$(ls -i "$rule")
daemon_stop a
equal "marks after a stop" "$(ls /run/glidefs/devices)" ""
daemon_start a
equal "the rule that was right already" "$(ls -i "$rule")" "$inode"
removed vm1

# --- a udev that hangs -----------------------------------------------------------------------------
daemon_stop a
daemon_start a udev.wait_ms=300 "store.fault="
is_status "create" "$(create before)" 201
removed before
kill -STOP "$UDEV_PID"
from=$(now_ms)
is_status "create" "$(create hung)" 201
took=$(($(now_ms) - from))
equal "result of ublk.udev" "$(udev_event hung)" -110
waited=$(jsonq --last "$(host_dir a)/timing.jsonl" event=ublk.udev,export=hung duration_us)
between "wait for udev (us)" "$waited" 300000 5000000
grep -q "udev has not set up the queue of device" "$(host_dir a)/glidefsd.log" || fail "no warning"
note "with udev stopped a create takes $took ms, of them $waited us waiting for it"
kill -CONT "$UDEV_PID"
hung=$(volume_dev hung)
wait_for 60 "settings that come later" set_up "$hung"
removed hung
# A start whose reload hangs goes on too.
echo '# of another version' > "$rule"
kill -STOP "$UDEV_PID"
daemon_stop a
from=$(now_ms)
daemon_start a
note "with udev stopped a start that installs the rule takes $(($(now_ms) - from)) ms"
grep -q "udevadm control --reload' failed" "$(host_dir a)/glidefsd.log" || note "the reload did not fail"
kill -CONT "$UDEV_PID"
daemon_stop a

# --- no udev, or none of our business ---------------------------------------------------------------
udev_stop
daemon_start a udev.wait_ms=5000
from=$(now_ms)
is_status "create" "$(create alone)" 201
equal "result of ublk.udev" "$(udev_event alone)" -2
between "wait for a udev that is not there (us)" \
	"$(jsonq --last "$(host_dir a)/timing.jsonl" event=ublk.udev,export=alone duration_us)" 0 3000000
removed alone
daemon_stop a
rm -rf /run/udev
daemon_start a udev.install=no
[ ! -e "$rule" ] || fail "installed, with udev.install=no"
daemon_stop a
