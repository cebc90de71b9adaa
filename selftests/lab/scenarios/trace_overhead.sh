# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=400 timeout-full=1800
#
# What tracing costs each 4 KiB random read at depth 1: the run time of gfs-trace's BPF programs, as the kernel
# counts it, is at most 5 % (emulated; 2 % on hardware) of the CPU time that the whole system spends on
# the read without tracing. Slices with and without tracing alternate. The ratio of IOPS is a diagnostic.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/trace.lib
. "$LAB/scenarios/trace.lib"

pairs=4 runtime=3 limit=2
[ "$LAB_FULL" != 1 ] || pairs=15 runtime=15
[ "$LAB_EMULATED" != 1 ] || limit=5
budget=start_dev=60s,command=60s,freeze=60s,attr=60s,request=60s

# busy_ticks: of all CPUs, since boot: all but idle and iowait.
busy_ticks()
{
	awk '$1 == "cpu" { print $2 + $3 + $4 + $7 + $8 + $9 }' /proc/stat
}

bpf_ns()
{
	bpf_runtime | sed 's/.*run_ns=\([0-9]*\).*/\1/'
}

# slice: sets $ios, $busy_us of the whole system, $bpf of our programs in ns.
slice()
{
	bpf=$(bpf_ns)
	busy=$(busy_ticks)
	within $((runtime + 60)) fio --minimal --name=read --filename="$dev" --ioengine=psync --direct=1 \
		--rw=randread --bs=4k --size=32m --time_based=1 --runtime="$runtime" --norandommap=1 \
		> "$LAB_TMP/fio.out" 2> "$LAB_TMP/fio.err" || fail "fio: $(cat "$LAB_TMP/fio.err")"
	busy_us=$((($(busy_ticks) - busy) * 10000))
	bpf=$(($(bpf_ns) - bpf))
	# Terse format 3: KiB read in field 6, IOPS in field 8.
	ios=$(awk -F';' '$3 == "read" { print $6 / 4 }' "$LAB_TMP/fio.out")
	iops=$(awk -F';' '$3 == "read" { print $8 }' "$LAB_TMP/fio.out")
	[ "${ios%.*}" -gt 100 ] || fail "$ios reads in $runtime s"
}

mkdisk cache store
daemon_start a upload.age_s=86400 upload.age_min_s=86400 upload.dirty_bytes=1G io.slow_ms=off
dev=$(volume_create vm 64M)
dd if=/dev/urandom of="$dev" bs=1M count=32 oflag=direct conv=fsync 2> "$LAB_TMP/dd.out"
no_programs()
{
	bpf_runtime | grep "^programs=0 "
}

echo 1 > /proc/sys/kernel/bpf_stats_enabled
slice
i=0
: > "$LAB_TMP/iops"
: > "$LAB_TMP/percent"
while [ "$i" -lt "$pairs" ]; do
	slice
	off_us=$(awk -v b="$busy_us" -v n="$ios" 'BEGIN { print b / n }')
	off_iops=$iops
	equal "run time of BPF without tracing" "$bpf" 0
	trace_start --budget "$budget"
	slice
	[ "$bpf" -gt 0 ] || fail "no BPF program ran"
	trace_stop
	# The kernel frees them a little later.
	wait_for 30 "end of its BPF programs" no_programs
	echo "$iops $off_iops" >> "$LAB_TMP/iops"
	awk -v ns="$bpf" -v n="$ios" -v off="$off_us" \
		'BEGIN { printf "%.3f %.3f %.1f\n", ns / n / 1000 / off * 100, ns / n / 1000, off }' \
		>> "$LAB_TMP/percent"
	tail -n 1 "$LAB_TMP/percent" | sed 's/\(.*\) \(.*\) \(.*\)/# \1 %: \2 us of BPF for \3 us of CPU/'
	i=$((i + 1))
done
echo 0 > /proc/sys/kernel/bpf_stats_enabled
sort -n "$LAB_TMP/percent" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)], v[1], v[NR] }' > "$LAB_TMP/median"
read -r median low high < "$LAB_TMP/median"
figure trace_overhead_percent "$median" "$low" "$high" "$pairs" "%"
command figure --min-pairs "$pairs" trace_iops_ratio < "$LAB_TMP/iops" || :
glidefs rm vm
daemon_stop a
awk -v m="$median" -v l="$limit" 'BEGIN { exit m > l }' || fail "$median % is over $limit %"
