# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=90
#
# A daemon that is killed in the midst of its recovery leaves a device that the
# next one recovers: with no queue armed yet, and between one queue and the other.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

serve()
{
	rm -f "$LAB_TMP/s/serve.log"
	ublk_serve --dir "$LAB_MNT/cache/s" --size 16777216 --depth 32 "$@" > "$LAB_TMP/s/serve.log" 2>&1 &
	server=$!
	echo "$server" >> "$LAB_TMP/pids"
	wait_for 60 "answer of ublk_serve" grep -q ready "$LAB_TMP/s/serve.log"
	grep -q "ready 0" "$LAB_TMP/s/serve.log" || fail "ublk_serve: $(cat "$LAB_TMP/s/serve.log")"
}

kill9()
{
	kill -9 "$1"
	wait "$1" 2>/dev/null || :
}

sum()
{
	echo 3 > /proc/sys/vm/drop_caches
	within 30 dd if=/dev/ublkb0 of="$LAB_TMP/data" bs=4k count=64 iflag=direct 2>/dev/null
	md5sum < "$LAB_TMP/data"
}

mkdisk cache
mkdir -p "$LAB_TMP/s"
serve
dd if=/dev/urandom of=/dev/ublkb0 bs=4k count=64 oflag=direct 2>/dev/null
want=$(sum)
for workers in 1 2; do
	kill9 "$server"
	# The worker sleeps before it gets to arm its queue, and never wakes.
	rm -f "$LAB_TMP/s/half.log"
	ublk_serve --dir "$LAB_MNT/cache/s" --size 16777216 --depth 32 --workers "$workers" \
		--recover --pause 0:60000 > "$LAB_TMP/s/half.log" 2>&1 &
	half=$!
	echo "$half" >> "$LAB_TMP/pids"
	wait_for 30 "begin of the recovery" grep -q "recovering device" "$LAB_TMP/s/half.log"
	# The other worker's queue, if there is one, is armed within this.
	timeout 1 tail -f /dev/null || :
	kill9 "$half"
	serve --recover
	equal "data after a recovery cut short with $workers workers" "$(sum)" "$want"
	grep "midst of a recovery" "$LAB_TMP/s/serve.log" | sed 's/^/# /' || :
done
kill -TERM "$server"
wait "$server" || fail "ublk_serve: $(cat "$LAB_TMP/s/serve.log")"
