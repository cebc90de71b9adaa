# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=150 timeout-full=600
#
# Snapshots are taken while chains of writes that depend on each other run through all queues and layers switch all
# the time.  A fork of each, made on another host that has nothing but the store, is a prefix of every chain, and
# holds at least what was acknowledged before its snapshot was asked for.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

snapshots=3
[ "$LAB_FULL" = 0 ] || snapshots=50
status=$LAB_TMP/causal.status

written() # AT LEAST
{
	# shellcheck source=/dev/null
	. "$status"
	# shellcheck disable=SC2154 # read
	[ "$least" -ge "$1" ]
}

gone()
{
	[ ! -d "/proc/$1" ] || [ "$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status")" = Z ]
}

mkdisk cache store
daemon_start a upload.dirty_bytes=1M upload.age_s=1
dev=$(volume_create vm1 16M)
rm -f "$status"
background causal run --device "$dev" --chains 6 --slots 256 --status "$status" --seed "$LAB_SEED"
pid=$LAB_PID
wait_for 30 "first word of causal" test -s "$status"
n=0
while [ $n -lt $snapshots ]; do
	n=$((n + 1))
	# Something new between any two.
	written 0
	wait_for 60 "writes before snapshot $n" written "$((least + 20))"
	snapshot=$(glidefs snapshot vm1 --tag "number $n") || fail "snapshot $n"
	echo "$snapshot $least" >> "$LAB_TMP/taken"
done
written 1 || fail "nothing was written"
# The writers were not stopped by any of it.
last=$least
wait_for 60 "writes after the last snapshot" written "$((last + 20))"
kill -TERM "$pid"
wait_for 30 "end of causal" gone "$pid"
wait "$pid" || fail "causal failed"
equal "snapshots" "$(glidefs snapshots vm1 | sed 1d | wc -l)" "$snapshots"

daemon_start b
n=0
while read -r snapshot known; do
	n=$((n + 1))
	HOST=b glidefs fork "fork$n" --from "snapshot:$snapshot" > "$LAB_TMP/fork.out" || fail "fork of $snapshot"
	fork=$(HOST=b volume_dev "fork$n")
	wait_for 30 "$fork" test -b "$fork"
	causal check --device "$fork" --chains 6 --slots 256 --seed "$LAB_SEED" --least "$known" \
		> "$LAB_TMP/check.log" 2>&1 || fail "$snapshot is no prefix: $(cat "$LAB_TMP/check.log")"
	note "$snapshot, at least $known: $(tail -n 1 "$LAB_TMP/check.log")"
	HOST=b glidefs rm "fork$n"
done < "$LAB_TMP/taken"
equal "snapshots that were checked" "$n" "$snapshots"
daemon_stop b
daemon_stop
