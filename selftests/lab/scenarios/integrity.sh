# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=180 timeout-full=2400
#
# What is read is what was written: hashed blocks, in order, sparse, through chains of forks, overwritten, by concurrent
# writers, in parts of blocks, over many blocks at once, and for a while.  Each is read where it was written and on
# another host, which has only the store.  "make integrity" runs the full sizes.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/oracle.lib
. "$LAB/scenarios/oracle.lib"

hashed=4M sequential=12M depth=3 rounds=2 written=8M ops=200 soak=2 reads=8
if [ "$LAB_FULL" = 1 ]; then
	hashed=256M sequential=1G depth=32 rounds=20 written=64M ops=20000 soak=30 reads=200
fi

# fio_verified DEVICE SIZE OPTIONS...: writes hashed blocks and reads them, or with --verify_only reads them.
fio_verified()
{
	lab_dev=$1
	lab_size=$2
	shift 2
	within 600 fio --minimal --name=verify --filename="$lab_dev" --size="$lab_size" --direct=1 --thread \
		--ioengine=io_uring --iodepth=8 --verify=xxhash --verify_fatal=1 --do_verify=1 --norandommap=0 \
		--randseed="$LAB_SEED" "$@" < /dev/null > "$LAB_TMP/fio.log" 2>&1 ||
		fail "$*: $(tail -n 5 "$LAB_TMP/fio.log")"
}

# elsewhere NAME: the volume leaves host a for host b; prints its device there.
elsewhere()
{
	GLIDEFS_SECONDS=600 glidefs detach "$1" > /dev/null
	HOST=b glidefs attach "$1" > /dev/null
	HOST=b volume_dev "$1"
}

noise() # FILE BYTES
{
	head -c "$2" /dev/urandom > "$1"
}

# same WHAT FILE DEVICE BYTE LENGTH: that part of both.  One request, as far as the kernel lets it be one.
same()
{
	dd if="$3" bs="$5" count=1 skip="$4" iflag=skip_bytes,direct of="$LAB_TMP/part" 2> /dev/null
	dd if="$2" bs="$5" count=1 skip="$4" iflag=skip_bytes of="$LAB_TMP/want" 2> /dev/null
	cmp "$LAB_TMP/part" "$LAB_TMP/want" || fail "$1: $5 bytes at $4 differ (seed $LAB_SEED)"
}

block_hashes()
{
	dev=$(volume_create hashed "$hashed")
	fio_verified "$dev" "$hashed" --rw=randwrite --bs=64k
	fio_verified "$(elsewhere hashed)" "$hashed" --rw=randwrite --bs=64k --verify_only=1
	HOST=b glidefs rm hashed
}

in_order()
{
	dev=$(volume_create sequential "$sequential")
	fio_verified "$dev" "$sequential" --rw=write --bs=1M
	fio_verified "$(elsewhere sequential)" "$sequential" --rw=write --bs=1M --verify_only=1
	HOST=b glidefs rm sequential
}

# sparse_check DEVICE: the pieces, and zeros beside them.
sparse_check()
{
	for lab_at in $sparse_at; do
		dd if="$1" bs=65536 count=1 skip="$lab_at" iflag=skip_bytes,direct 2> /dev/null |
			cmp - "$LAB_TMP/piece" || fail "sparse: the piece at $lab_at is lost"
		[ "$lab_at" = 0 ] || dd if="$1" bs=65536 count=1 skip="$((lab_at - 65536))" iflag=skip_bytes,direct \
			2> /dev/null | cmp - "$LAB_TMP/zeros" || fail "sparse: no zeros before $lab_at"
	done
}

sparse()
{
	sparse_at="0 1073803264 18253611008 34359734272 68719411200"
	noise "$LAB_TMP/piece" 65536
	head -c 65536 /dev/zero > "$LAB_TMP/zeros"
	dev=$(volume_create sparse 64G)
	for lab_at in $sparse_at; do
		dd if="$LAB_TMP/piece" of="$dev" bs=65536 seek="$lab_at" oflag=seek_bytes,direct conv=notrunc 2> /dev/null
	done
	sparse_check "$dev"
	before=$(store_ls chunks/ | wc -l)
	dev=$(elsewhere sparse)
	sparse_check "$dev"
	after=$(store_ls chunks/ | wc -l)
	# A piece may lie in two chunks.
	[ "$((after - before))" -le 10 ] || fail "sparse: $((after - before)) packs for five pieces"
	glidefs export-image volume:sparse "$LAB_MNT/store/sparse.img" --config "$(host_dir a)/glidefsd.conf" \
		2> /dev/null
	sparse_check "$LAB_MNT/store/sparse.img"
	[ "$(du -k "$LAB_MNT/store/sparse.img" | cut -f1)" -lt 4096 ] || fail "sparse: its export is not"
	rm "$LAB_MNT/store/sparse.img"
	HOST=b glidefs rm sparse
}

fork_chain()
{
	bytes=2097152
	noise "$LAB_TMP/chain" $bytes
	dev=$(volume_create level0 2M)
	dd if="$LAB_TMP/chain" of="$dev" bs=1M oflag=direct 2> /dev/null
	i=0
	while [ "$i" -lt "$depth" ]; do
		i=$((i + 1))
		dev=$(glidefs fork "level$i" --from "volume:level$((i - 1))")
		wait_for 30 "$dev" test -b "$dev"
		# Each level changes a part of a block; some write nothing.
		[ $((i % 4)) = 0 ] && continue
		noise "$LAB_TMP/piece" 4096
		for lab_to in "$LAB_TMP/chain" "$dev"; do
			dd if="$LAB_TMP/piece" of="$lab_to" bs=512 seek="$((i * 97))" conv=notrunc,fsync \
				2> /dev/null
		done
	done
	same "the last of $depth forks" "$LAB_TMP/chain" "$dev" 0 $bytes
	same "the last of $depth forks, on another host" "$LAB_TMP/chain" "$(elsewhere "level$depth")" 0 $bytes
	HOST=b glidefs rm "level$depth"
	while [ "$i" -gt 0 ]; do
		i=$((i - 1))
		glidefs rm "level$i"
	done
}

overwritten()
{
	bytes=4194304
	dev=$(volume_create overwritten 4M)
	i=0
	while [ "$i" -lt "$rounds" ]; do
		i=$((i + 1))
		noise "$LAB_TMP/over" $bytes
		dd if="$LAB_TMP/over" of="$dev" bs=256k oflag=direct 2> /dev/null
		[ $((i % 2)) = 0 ] || glidefs drain overwritten
	done
	same "overwritten $rounds times" "$LAB_TMP/over" "$dev" 0 $bytes
	daemon_kill9 a
	daemon_start a
	same "overwritten, after SIGKILL" "$LAB_TMP/over" "$(volume_dev overwritten)" 0 $bytes
	dev=$(elsewhere overwritten)
	same "overwritten, on another host" "$LAB_TMP/over" "$dev" 0 $bytes
	# Many blocks in one request, from anywhere to anywhere.
	i=0
	while [ "$i" -lt "$reads" ]; do
		i=$((i + 1))
		random 2048
		at=$((RND * 512))
		random 4096
		same "blocks at once" "$LAB_TMP/over" "$dev" "$at" "$(((RND + 256) * 512))"
	done
	HOST=b glidefs rm overwritten
}

# Writers that know what each sector must hold: eight at once, then by parts of blocks, then everything for a while.
writers()
{
	dev=$(volume_create written "$written")
	oracle_start "$dev" --threads 8 --ops "$ops"
	oracle_wait 600
	oracle_start "$dev" --threads 4 --ops "$ops" --max-bytes 4096
	oracle_wait 600
	oracle_start "$dev" --threads 8 --seconds "$soak" --discard 5 --zeroes 5
	oracle_wait $((soak + 120))
	oracle_verify "$dev"
	oracle_verify "$(elsewhere written)"
	HOST=b glidefs rm written
}

mkdisk cache store
daemon_start a upload.dirty_bytes=16M upload.age_s=2 upload.age_min_s=1
daemon_start b
for part in block_hashes in_order sparse fork_chain overwritten writers; do
	start=$(now_ms)
	"$part"
	note "$part: $(($(now_ms) - start)) ms"
done
daemon_stop b
daemon_stop
