# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=1500 timeout-full=5400 store=rgw mem=2048 nbdkit=1G
#
# Beside s3backer and nbdkit's S3 plugin, on the same radosgw, in turn, all with 64 KiB blocks and otherwise as
# they come: on a cold volume 4 KiB random writes are at least 50 times as many as s3backer's, and reads in
# order at least twice as fast. Cold random reads, uploads, and everything of nbdkit are figures without a limit.
#
# What an acknowledged write survives differs: with s3backer nothing, with ours the end of the daemon and, flushed,
# a power loss, with nbdkit (which has no cache) also the loss of the host. Ours and s3backer have as large a
# cache in memory; each batch of reads finds it empty. nbdkit runs beside the radosgw, not in the guest.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

size_mb=64 read_mb=16 upload_mb=8 random_reads=32 write_s=2
pairs=12 batch=4
if [ "$LAB_FULL" = 1 ]; then
	size_mb=256 upload_mb=16 pairs=48 batch=16
fi
granules=$((size_mb * 256 / pairs))
s3b=$LAB_MNT/s3backer
nbd=/dev/nbd0

for tool in s3backer nbd-client; do
	command -v "$tool" > /dev/null || skip "$tool is not installed where the image was made: make deps-bench"
done
[ -n "${LAB_NBDKIT:-}" ] || skip "nbdkit or its S3 plugin is not installed: make deps-bench"

s3b_up()
{
	s3backer --accessId="$LAB_S3_ACCESS_KEY" --accessKey="$LAB_S3_SECRET_KEY" \
		--baseURL="$LAB_S3_ENDPOINT/" --prefix="$LAB_NAME/s3backer/" --blockSize=64k \
		--size="${size_mb}m" --noAutoDetect --force -f "$LAB_S3_BUCKET" "$s3b" \
		< /dev/null >> "$LAB_TMP/s3backer.log" 2>&1 9>&- &
	s3b_pid=$!
	echo "$s3b_pid" >> "$LAB_TMP/pids"
	# A mount that failed silently measures the local disk.
	wait_for 60 "s3backer's mount" is_mounted "$s3b"
	wait_for 60 "s3backer's file" test -f "$s3b/file"
}

s3b_clean()
{
	grep -q '^block_cache_dirty_ratio *0\.0000' "$s3b/stats"
}

# It uploads what is dirty and ends after the mount is gone.
s3b_down()
{
	umount "$s3b"
	wait_for 120 "end of s3backer" gone "/proc/$s3b_pid/exe"
	wait "$s3b_pid" || fail "s3backer ended with $?"
}

ours_up() # [SECTION.KEY=VALUE...]
{
	daemon_start b cache.memory_bytes=62500K cache.ssd_bytes=0 "$@"
	HOST=b glidefs attach vm > "$LAB_TMP/attach"
	ours=$(HOST=b volume_dev vm)
}

ours_down()
{
	HOST=b GLIDEFS_SECONDS=300 glidefs detach vm
	daemon_stop b
}

file_of()
{
	case $1 in
	ours) echo "$ours" ;;
	s3backer) echo "$s3b/file" ;;
	nbdkit) echo "$nbd" ;;
	esac
}

# settle SIDE: everything it was given is in S3, so that nobody works during another's turn.
settle()
{
	case $1 in
	ours) HOST=b GLIDEFS_SECONDS=300 glidefs drain vm > "$LAB_TMP/drain" ;;
	s3backer) wait_for 300 "s3backer's upload" s3b_clean ;;
	nbdkit) blockdev --flushbufs "$nbd" ;;
	esac
}

# io SIDE FIELD OPTIONS...: a field of fio's terse output (7 and 8: KiB/s and IOPS of reads; 49: of writes).
io()
{
	io_side=$1 io_field=$2
	shift 2
	within 300 fio --minimal --name="$io_side" --direct=1 --ioengine=io_uring --thread --invalidate=0 \
		--output="$LAB_TMP/fio.out" "$@" > "$LAB_TMP/fio.err" 2>&1 ||
		fail "fio: $(cat "$LAB_TMP/fio.err" "$LAB_TMP/fio.out")"
	awk -F';' -v f="$io_field" '{ print $f }' "$LAB_TMP/fio.out"
}

# replay SIDE FROM COUNT KIND: the lines FROM.. of `order` as fio's log of requests, 4 KiB each.
replay()
{
	sed -n "$(($2 + 1)),$(($2 + $3))p" "$LAB_TMP/order" | awk -v f="$(file_of "$1")" -v kind="$4" '
		BEGIN { print "fio version 2 iolog"; print f, "add"; print f, "open" }
		{ print f, kind, $1 * 4096, 4096 }
		END { print f, "close" }' > "$LAB_TMP/iolog"
}

# Nothing is in a cache. The daemon's mount namespace holds what was mounted when it started: a mount that
# is taken away meanwhile does not end.
cold()
{
	ours_down
	s3b_down
	s3b_up
	# Ours uploads when a write is 30 s old, s3backer after a quarter of a second: a slice that is shorter than
	# that must not find the uploads of the slices before it.
	case $name in
	cold_write) ours_up upload.age_s=86400 upload.age_min_s=86400 upload.dirty_bytes=4G ;;
	*) ours_up ;;
	esac
}

# --- one slice: SIDE and the number of the slice ------------------------------------------

cold_read() # MiB/s of 1 MiB reads in order, one at a time
{
	# From the last part of the volume to the first: nothing is read ahead that a later slice would find.
	io "$1" 7 --filename="$(file_of "$1")" --rw=read --bs=1M --iodepth=1 \
		--offset="$((size_mb - read_mb - $2 % batch * read_mb))M" --size="${read_mb}M" |
		awk '{ printf "%.3f\n", $1 / 1024 }'
}

cold_random() # 4 KiB reads per second, one at a time, each in a block that nobody has read
{
	replay "$1" $(($2 * random_reads)) "$random_reads" read
	io "$1" 8 --read_iolog="$LAB_TMP/iolog" --iodepth=1
}

cold_write() # 4 KiB writes per second, 32 in flight, each in a place that nobody has written
{
	replay "$1" $(($2 * granules)) "$granules" write
	io "$1" 49 --read_iolog="$LAB_TMP/iolog" --iodepth=32 --runtime="$write_s"
	[ "$1" = ours ] || settle "$1"
}

upload() # MiB/s of writes in order until everything is in S3
{
	upload_ms=$(now_ms)
	dd if="$LAB_TMP/fresh" of="$(file_of "$1")" bs=1M seek=$(($2 * upload_mb % size_mb)) oflag=direct \
		conv=notrunc 2> "$LAB_TMP/dd.out"
	settle "$1"
	awk -v mb="$upload_mb" -v ms=$(($(now_ms) - upload_ms)) 'BEGIN { printf "%.3f\n", mb * 1000 / ms }'
}

# verdict NAME PEER [LIMIT]
verdict()
{
	command figure "$1_$2_ratio" < "$LAB_TMP/$1_$2" > "$LAB_TMP/figure_$2" || [ $? = 3 ] ||
		fail "$1 beside $2: no figure of $(cat "$LAB_TMP/$1_$2")"
	[ $# -gt 2 ] || return 0
	# All of the interval is beyond the limit, however wide it is.
	[ "$(sed -n 's/^# figure .* lo=\([0-9.]*\) .*/\1/p' "$LAB_TMP/figure_$2" |
		awk -v limit="$3" '{ print ($1 >= limit) }')" = 1 ]
}

# compare FUNCTION [LIMIT]: slices of all three, in turn.
compare()
{
	name=$1 n=0
	shift
	while [ "$n" -lt "$pairs" ]; do
		if [ $((n % batch)) = 0 ]; then
			cold
		fi
		[ "$name" != upload ] || dd if=/dev/urandom of="$LAB_TMP/fresh" bs=1M count="$upload_mb" 2> "$LAB_TMP/dd.out"
		o=$("$name" ours "$n")
		s=$("$name" s3backer "$n")
		k=$("$name" nbdkit "$n")
		echo "$o $s" >> "$LAB_TMP/${name}_s3backer"
		echo "$o $k" >> "$LAB_TMP/${name}_nbdkit"
		note "$name: ours $o, s3backer $s, nbdkit $k"
		n=$((n + 1))
	done
	verdict "$name" s3backer "$@" || missed="$missed ${name}_s3backer_ratio (at least $1)"
	verdict "$name" nbdkit
	cat "$LAB_TMP/figure_s3backer" "$LAB_TMP/figure_nbdkit"
}

# A permutation of UNITS, each spread to a random place of its STEP: the same requests for all.
shuffle() # UNITS STEP
{
	awk -v n="$1" -v step="$2" -v seed="$LAB_SEED" 'BEGIN {
		srand(seed)
		for (i = 0; i < n; i++) v[i] = i
		for (i = n - 1; i > 0; i--) { j = int(rand() * (i + 1)); t = v[i]; v[i] = v[j]; v[j] = t }
		for (i = 0; i < n; i++) print v[i] * step + int(rand() * step)
	}' > "$LAB_TMP/order"
}

missed=
mkdisk cache store
modprobe fuse 2> "$LAB_TMP/modprobe" || :
modprobe nbd
mkdir -p "$s3b"
echo "$s3b" >> "$LAB_TMP/mounts"
s3b_up
# shellcheck disable=SC2086 # host and port
within 60 nbd-client $LAB_NBDKIT "$nbd" > "$LAB_TMP/nbd.log" 2>&1 || fail "nbd-client $LAB_NBDKIT $nbd"
daemon_start a
ours=$(volume_create vm "${size_mb}M")
for side in ours s3backer nbdkit; do
	fill_ms=$(now_ms)
	dd if=/dev/urandom of="$(file_of "$side")" bs=1M count="$size_mb" oflag=direct conv=notrunc 2> "$LAB_TMP/dd.out"
	note "$side: $size_mb MiB written in $(($(now_ms) - fill_ms)) ms"
done
GLIDEFS_SECONDS=300 glidefs detach vm
daemon_stop
settle s3backer
ours_up

compare cold_read 2
shuffle $((size_mb * 16)) 16
compare cold_random
compare upload
shuffle $((size_mb * 256)) 1
compare cold_write 50

ours_down
s3b_down
nbd-client -d "$nbd" >> "$LAB_TMP/nbd.log" 2>&1
[ -z "$missed" ] || fail "beyond the limit:$missed"
