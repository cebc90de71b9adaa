# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=120
#
# A device has no scheduler from birth: with two queues the kernel chooses "none" by itself, so nothing
# switches an elevator while a volume is created, the daemon writes nothing to sysfs, and "[none]" is
# there before anybody opens the device.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

# watch PROGRAM: in the background; its lines go to LAB_TMP/PROGRAM.
watch()
{
	"$1" < /dev/null > "$LAB_TMP/$1" 2>&1 9>&- &
	echo $! > "$LAB_TMP/$1.pid"
	echo $! >> "$LAB_TMP/pids"
	wait_for 60 "$1" grep -q '^ready' "$LAB_TMP/$1"
}

# unwatch PROGRAM: stopped, with all it saw written.
unwatch()
{
	kill -TERM "$(cat "$LAB_TMP/$1.pid")"
	wait_for 20 "totals of $1" grep -q '^total' "$LAB_TMP/$1"
	grep -q 'dropped=0' "$LAB_TMP/$1" || fail "$1 lost events: $(tail -n 1 "$LAB_TMP/$1")"
}

# What the kernel would choose must be there to be chosen.
modprobe mq-deadline || skip "this kernel has no mq-deadline"
mkdisk cache store
daemon_start a
pid=$(daemon_pid a)
sock=$(host_dir a)/glidefs.sock
watch ublk_obs
watch sysfs_obs

apicall --count 8 --jobs 4 "$sock" PUT /api/exports/vm-%d '{"size": "64M"}' > "$LAB_TMP/created" ||
	fail "create: $(cat "$LAB_TMP/created")"
for d in $(new_devices); do
	# Only sysfs is read: nothing has opened the device yet.
	scheduler=$(cat "/sys/block/ublkb$d/queue/scheduler")
	queues=$(ls "/sys/block/ublkb$d/mq" | wc -l)
	[ "$queues" -ge 2 ] || fail "device $d was granted $queues queue"
	case $scheduler in
	*'[none]'*) ;;
	*) fail "device $d has scheduler $scheduler" ;;
	esac
done
note "8 devices of $queues queues, scheduler $scheduler"
wait_for 20 "START_DEVs seen by the observer" \
	awk -v tgid="tgid=$pid" '/cmd=START_DEV/ && $3 == tgid && /res=0/ { n++ } END { exit n != 8 }' \
	"$LAB_TMP/ublk_obs"
if grep '^elevator_switch' "$LAB_TMP/ublk_obs" > "$LAB_TMP/switches"; then
	fail "elevator switches during create: $(cat "$LAB_TMP/switches")"
fi
if grep "tgid=$pid " "$LAB_TMP/sysfs_obs" > "$LAB_TMP/writes"; then
	fail "the daemon wrote to sysfs: $(cat "$LAB_TMP/writes")"
fi

# The observers are not blind: what a hand does, they see.
dev=ublkb$(new_devices | awk '{ print $1 }')
echo mq-deadline > "/sys/block/$dev/queue/scheduler"
wait_for 20 "elevator switch by hand" grep -q '^elevator_switch' "$LAB_TMP/ublk_obs"
wait_for 20 "sysfs write by hand" grep -q 'file=queue/scheduler' "$LAB_TMP/sysfs_obs"

apicall --count 8 --jobs 4 "$sock" DELETE /api/exports/vm-%d > "$LAB_TMP/removed" ||
	fail "rm: $(cat "$LAB_TMP/removed")"
unwatch ublk_obs
unwatch sysfs_obs
# Not by the removal either.
if grep "tgid=$pid " "$LAB_TMP/sysfs_obs" > "$LAB_TMP/writes"; then
	fail "the daemon wrote to sysfs: $(cat "$LAB_TMP/writes")"
fi
daemon_stop a
