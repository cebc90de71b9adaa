# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=600 timeout-full=2400
#
# 4 KiB random reads and writes of local data reach 0.9 of the bare server's rate, at depth 1 and 32. The
# first write into a hole is a figure without a limit.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

size_mb=128
pairs=20 most=40 runtime=1 figures="hit_read_qd1 hit_read_qd32 hit_write_qd1 hit_write_qd32"
if [ "$LAB_FULL" = 1 ]; then
	pairs=40 most=160
fi
[ -z "${HIT_FIGURES:-}" ] || figures=$HIT_FIGURES
batch=20

# jobs COUNT RW DEPTH FIRST: alternating slices, ours and reference; each as one fio job that waits for the
# one before it. hole_write: each slice of ours has 256 MiB of the volume that nobody has written.
jobs()
{
	cat <<-END
		[global]
		ioengine=io_uring
		direct=1
		bs=4k
		rw=$2
		iodepth=$3
		time_based=1
		runtime=$runtime
		norandommap=1
		randrepeat=0
		thread=1
		group_reporting=0
		invalidate=0
	END
	i=0
	while [ "$i" -lt "$1" ]; do
		cat <<-END
			[ours]
			stonewall
			filename=$ours
			offset=$([ "$4" = - ] && echo 0 || echo $(((($4 + i) * 256 + size_mb) << 20)))
			size=$([ "$4" = - ] && echo "${size_mb}m" || echo 256m)
			[ref]
			stonewall
			filename=$ref
			offset=0
			size=${size_mb}m
		END
		i=$((i + 1))
	done
}

# slices COUNT RW DEPTH FIRST: appends "ours reference" lines in IOPS to LAB_TMP/pairs.
slices()
{
	jobs "$@" > "$LAB_TMP/fio.job"
	within $(($1 * 20 + 120)) fio --minimal --output="$LAB_TMP/fio.out" "$LAB_TMP/fio.job" \
		> "$LAB_TMP/fio.err" 2>&1 || fail "fio: $(cat "$LAB_TMP/fio.err" "$LAB_TMP/fio.out")"
	# Terse format 3: the job's name is field 3, IOPS of reads and writes 8 and 49.
	awk -F';' '$3 == "ours" { o = $8 + $49 } $3 == "ref" { print o, $8 + $49 }' \
		"$LAB_TMP/fio.out" >> "$LAB_TMP/pairs"
}

# ratio NAME RW DEPTH [LIMIT]: batches of slices until there is a verdict.
ratio()
{
	: > "$LAB_TMP/pairs"
	n=0
	verdict=3
	while [ "$verdict" = 3 ] && [ "$n" -lt "$most" ]; do
		slices "$batch" "$2" "$3" "$([ $# -gt 3 ] && echo - || echo "$((hole_first + n))")"
		n=$((n + batch))
		verdict=0
		command figure --min-pairs "$pairs" ${4:+--min "$4"} "${1}_ratio" \
			< "$LAB_TMP/pairs" > "$LAB_TMP/figure" || verdict=$?
	done
	cat "$LAB_TMP/figure"
	# Without a limit the number is all there is to say.
	[ $# -gt 3 ] || return 0
	case $verdict in
	0) ;;
	1) fail "$1 is below the limit" ;;
	3) undecided="$undecided $1" ;;
	*) fail "figure: $verdict" ;;
	esac
}

mkdisk cache store
daemon_start a upload.dirty_bytes=4G upload.age_s=86400 upload.age_min_s=86400 io.slow_ms=off
ours=$(volume_create vm 200G)
ublk=$(ublk-dev ls | sed -n "s/^${ours#/dev/ublkb} .*flags=\(.*\)/\1/p")
bare_server --file "$LAB_MNT/cache/bare" --size $((size_mb << 20)) --queues 2 --depth 64 --flags "$ublk" \
	< /dev/null > "$LAB_TMP/bare.out" 2>&1 9>&- &
echo $! >> "$LAB_TMP/pids"
wait_for 120 "bare server" grep -q /dev/ublkb "$LAB_TMP/bare.out"
ref=$(cat "$LAB_TMP/bare.out")
# Everything is local and was written before it is measured, and the disk has it.
for dev in "$ours" "$ref"; do
	dd if=/dev/urandom of="$dev" bs=1M count="$size_mb" oflag=direct conv=fsync 2> "$LAB_TMP/dd.out"
done
sync

undecided=
hole_first=0
for f in $figures; do
	rw=${f#hit_}
	ratio "$f" "rand${rw%%_*}" "${f##*_qd}" 0.9
done
# The reference writes sectors that are there.
(
	pairs=5 most=10 batch=10
	[ "$LAB_FULL" != 1 ] || most=40
	for depth in 1 32; do
		ratio "hole_write_qd$depth" randwrite "$depth"
		hole_first=$((hole_first + most))
	done
)
kill -TERM "$(tail -n 1 "$LAB_TMP/pids")"
wait_for 30 "end of the bare server" gone "$ref"
glidefs rm vm
daemon_stop a
# A wide interval is no pass, but on a busy machine a reduced count proves nothing either way.
if [ -n "$undecided" ]; then
	[ "$LAB_FULL" = 1 ] && fail "no verdict after $most pairs:$undecided"
	skip "no verdict after $most pairs:$undecided: make bench measures longer"
fi
