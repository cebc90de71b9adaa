# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=240 timeout-full=900 phases=2 boot=own
#
# The power goes.  The cache directory lies on a disk whose volatile cache dm-log-writes models; marks are
# set at moments of the load, with what was flushed until then noted on another disk, and the store
# copied.  Then the guest is reset.  After it, for each mark, a disk is made that holds everything flushed
# up to there and a random part of the rest; a daemon recovers from it, under another boot id: everything
# covered by a completed FLUSH or FUA is there or newer, and no sector is torn.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/oracle.lib
. "$LAB/scenarios/oracle.lib"

cuts=4
[ "$LAB_STORE" = file ] || cuts=3
[ "$LAB_FULL" = 0 ] || cuts=20
journal=$LAB_MNT/store/oracle.journal
cache_disk=$(lab_disk cache)
log_disk=$(lab_disk log)
sectors=1048576 # 512 MiB

marked()
{
	logreplay --log "$log_disk" --find "$1"
}

set_mark() # NAME
{
	dmsetup message volatile 0 mark "$1"
	wait_for 60 "mark $1 in the log" marked "$1"
}

phase_1()
{
	modprobe dm-log-writes
	dm_create volatile "0 $sectors log-writes $cache_disk $log_disk"
	mkfs_fast /dev/mapper/volatile
	mount_at /dev/mapper/volatile "$LAB_MNT/cache"
	daemon_start a upload.dirty_bytes=4M upload.age_s=3 cache.min_free_bytes=16M
	dev=$(volume_create vm1 64M)
	oracle_start "$dev" --journal "$journal" --threads 6 --buffered 1 --flush 6 --fua 10 \
		--discard 3 --zeroes 3 --max-bytes 128K --rate 300
	i=1
	while [ "$i" -le "$cuts" ]; do
		random 120
		# The kernel writes back the shared maps whenever it likes: what is then on the disk of
		# them is neither all nor only what was flushed.
		[ $((i % 2)) = 0 ] || sync -f "$LAB_MNT/cache"
		oracle_progress "$((RND + 30))"
		# The power goes for disk and store at one moment: what is flushed by then is in the log
		# before the mark, and nothing is published between mark and copy.
		kill -STOP "$(daemon_pid)"
		remember "position_$i" "$(oracle position --journal "$journal")"
		set_mark "m$i"
		store_copy "objects.m$i"
		kill -CONT "$(daemon_pid)"
		i=$((i + 1))
	done
	sync -f "$LAB_MNT/store"
	set_mark end
	next_phase
}

# What a reset after mark $1 may have left, recovered and judged.
judge() # INDEX
{
	eval "position=\$position_$1"
	# shellcheck disable=SC2154 # eval
	note "cut $1: $position promises, $(logreplay --log "$log_disk" --mark "m$1" --zero \
		--seed "$((LAB_SEED + $1))" --target /dev/mapper/replayed)"
	mount_at /dev/mapper/replayed "$LAB_MNT/cache"
	daemon_start a "store.url=$(store_url "objects.m$1")" cache.min_free_bytes=16M
	dev=$(volume_dev vm1)
	[ -b "$dev" ] || fail "cut $1: no device after recovery: $(glidefs show vm1)"
	oracle_verify "$dev" --journal "$journal" --position "$position" --after-power-loss
	daemon_kill9
	# shellcheck disable=SC2046 # a list of numbers
	ublk-dev rm $(new_devices)
	umount "$LAB_MNT/cache"
}

mkdisk store
case $PHASE in
1)
	phase_1
	;;
2)
	modprobe dm-mod
	dm_create replayed "0 $sectors linear $cache_disk $((2 * sectors))"
	i=1
	while [ "$i" -le "$cuts" ]; do
		judge "$i"
		i=$((i + 1))
	done
	;;
esac
