# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=60
#
# The lab itself: ublk is there, disks take a file system, and give it back.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

[ -c /dev/ublk-control ] || fail "no /dev/ublk-control"
mkdisk cache store
for disk in cache store; do
	echo "written to $disk" > "$LAB_MNT/$disk/file"
	equal "file on $disk" "$(cat "$LAB_MNT/$disk/file")" "written to $disk"
done
fio --name=probe --filename="$LAB_MNT/cache/fio" --size=1M --rw=write --bs=64k \
	--end_fsync=1 --output="$LAB_TMP/fio.out" || fail "fio: $(cat "$LAB_TMP/fio.out")"
if [ "$LAB_HOST" = 0 ]; then
	for module in dm-flakey dm-log-writes null_blk; do
		modprobe "$module" || fail "no module $module"
	done
fi
note "$(nproc) cpus, $(sed -n 's/^MemAvailable: *//p' /proc/meminfo) available, $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
