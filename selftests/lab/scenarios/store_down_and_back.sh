# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=260
# lab: allow-log=I/O error, dev (ublkb|dm-).*READ|EXT4-fs error .device dm-|EXT4-fs error: [0-9]+ callbacks suppressed|mounting fs with errors|Buffer I/O error on dev (ublkb|dm-)
#
# The store does not answer, and then, in another way, answers with errors: local reads and writes go on, cold
# reads fail with EIO within the bound, the API answers, a create fails as a whole, the daemon can be
# stopped.  The store comes back: all works, nothing is lost.  Passing errors of the store are not even
# seen.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/oracle.lib
. "$LAB/scenarios/oracle.lib"

bound=4

start() # [FAULT RULES]
{
	# What was read once would be on the SSD, store or not.
	daemon_start a "io.store_timeout_s=$bound" daemon.create_timeout_s="$bound" upload.age_s=2 \
		cache.ssd_bytes=0 "store.fault=${1-}"
	dev=$(volume_dev vm1)
}

cold_read()
{
	dd if="$dev" of="$LAB_TMP/cold" bs=4k count=1 skip="$1" iflag=direct
}

# Writes go on, a cold read at 4 KiB block $1 does not.
without_store() # BLOCK
{
	oracle_start "$dev" --ops 300 --read 0 --max-bytes 64K --flush 5 --limit 32M
	oracle_wait 60
	before=$(now_ms)
	! cold_read "$1" 2> "$LAB_TMP/dd.log" || fail "a cold read succeeded without a store"
	took=$(($(now_ms) - before))
	grep -q 'Input/output error' "$LAB_TMP/dd.log" || fail "a cold read: $(cat "$LAB_TMP/dd.log")"
	# Readers of one block may each have their turn; and this is emulation.
	if [ "$took" -lt "$((bound * 500))" ] || [ "$took" -gt "$((bound * 2000 + 5000))" ]; then
		fail "a cold read failed after $took ms; the bound is $bound s"
	fi
	note "a cold read failed after $took ms"
	glidefs --json show vm1 > /dev/null
	glidefs health
}

store_breakable
mkdisk cache

daemon_start a
dev=$(volume_create vm1 64M)
oracle_start "$dev" --fill
oracle_wait
glidefs drain vm1
daemon_stop

# No answer at all.
start "get:chunks/* hang;put:* hang"
without_store 16000
! GLIDEFS_SECONDS=100 glidefs create vm2 --size 16M > "$LAB_TMP/create.log" 2>&1 ||
	fail "a volume was created without a store"
note "create without a store: $(tail -n 1 "$LAB_TMP/create.log")"
daemon_stop
start
oracle_verify "$dev"
dev2=$(volume_create vm2 16M)
head -c 16777216 /dev/zero | cmp - "$dev2" || fail "a volume whose first create failed is not empty"
glidefs drain vm1
daemon_stop

# What is behind the store hangs: a disk, or the network.
start
store_down hang
without_store 14000
store_up
wait_for 60 "cold read" cold_read 14000
oracle_verify "$dev"
glidefs drain vm1
daemon_stop

# Errors, from one moment to the next, until another one.
start
store_down errors
without_store 15000
store_up
wait_for 60 "cold read" cold_read 15000
oracle_verify "$dev"
glidefs drain vm1
daemon_stop

# Errors that pass are retried.
rules="put:chunks/* error=EIO count=4;put:manifests/* ambiguous=before count=2"
rules="$rules;put:exports/* ambiguous=after count=2;get:chunks/* error=ECONNRESET count=4"
rules="$rules;get:chunks/* corrupt count=1;get:chunks/* truncate count=2"
bound=30
start "$rules"
oracle_start "$dev" --ops 200 --max-bytes 64K --read 30
oracle_wait 100
GLIDEFS_SECONDS=100 glidefs drain vm1
daemon_stop
daemon_start b store.fault=
HOST=b glidefs takeover vm1
oracle_verify "$(HOST=b volume_dev vm1)"
daemon_stop b
