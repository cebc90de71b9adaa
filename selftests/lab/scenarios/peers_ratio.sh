# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=900 timeout-full=2400 store=rgw mem=2048
#
# Beside s3backer, on the same radosgw, in turn, both with 64 KiB blocks and otherwise as they come: 4 KiB
# random writes to a cold volume are at least 50 times as many, a cold read in order is at least twice as fast.
# s3backer acknowledges a write in its memory, ours when it survives the daemon.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

size_mb=64 slice_mb=8
most=12 batch=6
if [ "$LAB_FULL" = 1 ]; then
	most=40 batch=20
fi
peer=$LAB_MNT/s3backer/file

command -v s3backer > /dev/null || skip "s3backer is not installed where the image was made"

mount_peer()
{
	modprobe fuse 2> "$LAB_TMP/modprobe" || :
	mkdir -p "$LAB_MNT/s3backer"
	s3backer --accessId="$LAB_S3_ACCESS_KEY" --accessKey="$LAB_S3_SECRET_KEY" \
		--baseURL="$LAB_S3_ENDPOINT/" --authVersion=aws4 \
		--prefix="$LAB_NAME/s3backer/" --blockSize=64k --size="${size_mb}m" \
		--blockCacheSize=$((size_mb * 16 / 4)) --noAutoDetect --force -f \
		"$LAB_S3_BUCKET" "$LAB_MNT/s3backer" < /dev/null >> "$LAB_TMP/s3backer.log" 2>&1 9>&- &
	peer_pid=$!
	echo "$peer_pid" >> "$LAB_TMP/pids"
	echo "$LAB_MNT/s3backer" >> "$LAB_TMP/mounts"
	# A mount that failed silently measures the local disk.
	wait_for 60 "s3backer's mount" is_mounted "$LAB_MNT/s3backer"
	wait_for 60 "s3backer's file" test -f "$peer"
}

# read_rate FILE SLICE: MiB/s of one slice, in order, around caches of the kernel.
read_rate()
{
	skip_mb=$(($2 * slice_mb % size_mb))
	lab_t=$(now_ms)
	dd if="$1" of=/dev/null bs=1M count="$slice_mb" skip="$skip_mb" iflag=direct 2> "$LAB_TMP/dd.out"
	lab_t=$(($(now_ms) - lab_t))
	awk -v mb="$slice_mb" -v ms="$lab_t" 'BEGIN { printf "%.2f\n", mb * 1000 / (ms ? ms : 1) }'
}

# write_rate FILE SLICE: IOPS of one second of 4 KiB random writes, in a part of the file of its own.
write_rate()
{
	within 120 fio --minimal --name=w --filename="$1" --rw=randwrite --bs=4k --direct=1 \
		--ioengine=libaio --iodepth=32 --time_based --runtime=2 --norandommap --randrepeat=0 \
		--offset=$(($2 * slice_mb % size_mb))m --size="${slice_mb}m" \
		--output="$LAB_TMP/fio.out" > "$LAB_TMP/fio.err" 2>&1 ||
		fail "fio: $(cat "$LAB_TMP/fio.err" "$LAB_TMP/fio.out")"
	awk -F';' '{ print $49 }' "$LAB_TMP/fio.out"
}

compare() # NAME LIMIT FUNCTION
{
	: > "$LAB_TMP/pairs"
	n=0
	low=0
	while [ "$low" = 0 ] && [ "$n" -lt "$most" ]; do
		i=0
		while [ "$i" -lt "$batch" ]; do
			echo "$("$3" "$dev" "$n") $("$3" "$peer" "$n")" >> "$LAB_TMP/pairs"
			i=$((i + 1))
			n=$((n + 1))
		done
		command figure "$1" < "$LAB_TMP/pairs" > "$LAB_TMP/figure"
		# A factor of a hundred has a wide interval: all of it is beyond the limit, or not.
		low=$(sed -n 's/.* lo=\([0-9.]*\) .*/\1/p' "$LAB_TMP/figure" |
			awk -v limit="$2" '{ print ($1 >= limit) }')
	done
	sed 's/^/# ours, s3backer: /' "$LAB_TMP/pairs"
	cat "$LAB_TMP/figure"
	[ "$low" = 1 ] || missed="$missed $1"
}

missed=
mkdisk cache store
mount_peer
dd if=/dev/urandom of="$peer" bs=64k count=$((size_mb * 16)) conv=notrunc 2> "$LAB_TMP/dd.out"
sync -f "$peer"

daemon_start a upload.dirty_bytes=16M upload.age_s=600
dev=$(volume_create vm "${size_mb}M")
dd if=/dev/urandom of="$dev" bs=1M count="$size_mb" oflag=direct conv=notrunc 2> "$LAB_TMP/dd.out"
GLIDEFS_SECONDS=300 glidefs detach vm
daemon_stop
daemon_start b "cache.memory_bytes=$((size_mb / 4))M" io.slow_ms=off
HOST=b glidefs attach vm
dev=$(HOST=b volume_dev vm)

compare cold_read_s3backer_ratio 2 read_rate
compare cold_write_s3backer_ratio 50 write_rate

HOST=b GLIDEFS_SECONDS=300 glidefs detach vm
daemon_stop b
umount "$LAB_MNT/s3backer" || umount -l "$LAB_MNT/s3backer"
kill -TERM "$peer_pid" 2> "$LAB_TMP/kill" || :
[ -z "$missed" ] || fail "beyond the limit:$missed"
