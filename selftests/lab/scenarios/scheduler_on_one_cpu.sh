# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=120 cpus=1 boot=own host=no
#
# On one CPU the kernel grants one queue and chooses a scheduler for it. That is stated, never changed: the
# volume works, and the daemon writes nothing to sysfs.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

modprobe mq-deadline || note "no mq-deadline in this kernel"
mkdisk cache store
daemon_start a ublk.queues=2
pid=$(daemon_pid a)
sysfs_obs < /dev/null > "$LAB_TMP/sysfs_obs" 2>&1 9>&- &
echo $! >> "$LAB_TMP/pids"
wait_for 60 "sysfs_obs" grep -q '^ready' "$LAB_TMP/sysfs_obs"
ublk_obs < /dev/null > "$LAB_TMP/ublk_obs" 2>&1 9>&- &
echo $! >> "$LAB_TMP/pids"
wait_for 60 "ublk_obs" grep -q '^ready' "$LAB_TMP/ublk_obs"

dev=$(volume_create vm 64M)
name=${dev#/dev/}
queues=$(ls "/sys/block/$name/mq" | wc -l)
wait_for 20 "START_DEV" grep -q 'cmd=START_DEV .*res=0' "$LAB_TMP/ublk_obs"
note "$(nproc) cpu: asked for 2 queues, granted $queues, scheduler" \
	"$(cat "/sys/block/$name/queue/scheduler"), elevator switches in START_DEV:" \
	"$(grep -c 'elevator_switch.*during=START_DEV' "$LAB_TMP/ublk_obs" || :)"
equal "granted queues on $(nproc) cpu" "$queues" "$(nproc)"
dd if=/dev/urandom of="$LAB_TMP/data" bs=64k count=16 2> "$LAB_TMP/dd.out"
dd if="$LAB_TMP/data" of="$dev" bs=64k oflag=direct 2> "$LAB_TMP/dd.out"
dd if="$dev" bs=64k count=16 iflag=direct 2> "$LAB_TMP/dd.out" | cmp - "$LAB_TMP/data" ||
	fail "data differs"
glidefs rm vm
if grep "tgid=$pid " "$LAB_TMP/sysfs_obs"; then
	fail "the daemon wrote to sysfs"
fi
daemon_stop a
