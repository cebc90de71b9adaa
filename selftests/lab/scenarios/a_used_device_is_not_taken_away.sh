# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=120
#
# What an operator can get wrong: detach and rm of a volume that is mounted are refused with the reason and
# change nothing; a device whose daemon died is found by doctor, and served again by the next daemon; a
# stop leaves devices and mounts.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

# status_of COMMAND...: its exit status, its output in LAB_TMP/out.
status_of()
{
	lab_status=0
	"$@" > "$LAB_TMP/out" 2>&1 || lab_status=$?
	echo "$lab_status"
}

mkdisk cache store
daemon_start a
dev=$(volume_create vm1 64M)
mkfs.ext4 -q "$dev"
mkdir -p "$LAB_TMP/mnt"
mount "$dev" "$LAB_TMP/mnt"
echo "still here" > "$LAB_TMP/mnt/file"
sync

equal "detach of a mounted volume" "$(status_of glidefs detach vm1)" 5
grep -q "in use" "$LAB_TMP/out" || fail "no reason: $(cat "$LAB_TMP/out")"
equal "rm of a mounted volume" "$(status_of glidefs rm vm1)" 5
grep -q "in use" "$LAB_TMP/out" || fail "no reason: $(cat "$LAB_TMP/out")"
equal "its device" "$(volume_dev vm1)" "$dev"
echo "and writable" >> "$LAB_TMP/mnt/file"
sync

status_of glidefs doctor --cache-dir "$LAB_MNT/cache/a/cache" > /dev/null
cat "$LAB_TMP/out"
grep -q "^ok *devices *all served" "$LAB_TMP/out" || fail "doctor finds a fault in a served device"
grep -q "^ok *scheduler" "$LAB_TMP/out" || fail "doctor finds a wrong scheduler"

daemon_kill9 a
# Queues are let go a moment after the process.
doctor_sees_quiesced()
{
	status_of glidefs doctor --cache-dir "$LAB_MNT/cache/a/cache" > /dev/null
	grep -q "$(basename "$dev") is QUIESCED" "$LAB_TMP/out"
}
wait_for 30 "doctor to find the device without a server" doctor_sees_quiesced
daemon_start
equal "its device after a kill" "$(volume_dev vm1)" "$dev"
equal "content" "$(cat "$LAB_TMP/mnt/file")" "still here
and writable"

daemon_stop a
daemon_start
equal "its device after a stop" "$(volume_dev vm1)" "$dev"
echo "after a stop" >> "$LAB_TMP/mnt/file"
sync
umount "$LAB_TMP/mnt"
glidefs detach vm1
[ ! -e "$dev" ] || fail "$dev is still there"
equal "rm of a detached volume" "$(status_of glidefs rm vm1)" 0
equal "show of a removed volume" "$(status_of glidefs show vm1)" 4
daemon_stop a
