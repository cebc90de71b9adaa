# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=400 timeout-full=1500
# The kernel warns by itself when a server is killed that holds a request.
# lab: allow-log@6.17=WARNING: .* ublk_ch_release_work_fn
#
# The daemon is stopped by SIGTERM and by SIGKILL in turn, and started again, under load on two volumes, one
# with a file system: no hang, no error for anybody, no loss.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/oracle.lib
. "$LAB/scenarios/oracle.lib"

restarts=16
[ "$LAB_STORE" = file ] || restarts=8
[ "$LAB_FULL" = 0 ] || restarts=200

mkdisk cache store
daemon_start a upload.dirty_bytes=4M upload.age_s=3
dev=$(volume_create vm1 64M)
fs=$(volume_create fs1 64M)
mkfs_fast "$fs"
mount_at "$fs" "$LAB_MNT/fs"
background fio --name=load --directory="$LAB_MNT/fs" --size=8M --rw=randrw --bs=4k --direct=1 \
	--ioengine=libaio --iodepth=4 --verify=crc32c --verify_backlog=64 --time_based --runtime=86400 \
	--rate_iops=100 --output="$LAB_TMP/fio.log"
fio=$LAB_PID
oracle_start "$dev" --threads 4 --buffered 1 --discard 1 --zeroes 1 --max-bytes 64K --rate 400

i=0
while [ "$i" -lt "$restarts" ]; do
	random 300
	usleep "$((RND * 1000))"
	if [ $((i % 2)) = 0 ]; then
		daemon_stop
	else
		daemon_kill9
	fi
	daemon_start
	oracle_read
	[ -d "/proc/$fio" ] || fail "fio ended: $(tail -n 20 "$LAB_TMP/fio.log")"
	# Each restart is followed by some work, so that the next one finds requests in flight.
	oracle_progress 20
	i=$((i + 1))
done
oracle_check
oracle_stop
kill -INT "$fio"
status=0
wait "$fio" || status=$?
grep -q 'err= *0' "$LAB_TMP/fio.log" || fail "fio: $(cat "$LAB_TMP/fio.log")"
# 128: ended by the signal we sent.
[ "$status" = 0 ] || [ "$status" = 128 ] || fail "fio exited with $status: $(cat "$LAB_TMP/fio.log")"
umount "$LAB_MNT/fs"
e2fsck -fn "$fs" > "$LAB_TMP/fsck.log" 2>&1 || fail "e2fsck is not content"
oracle_verify "$dev"
# shellcheck disable=SC2154 # set by oracle_read
note "$restarts restarts, $acked requests acknowledged, slowest $max_ms ms"
daemon_stop
