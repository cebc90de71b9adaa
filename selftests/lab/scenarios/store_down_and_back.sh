# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=200
# lab: allow-log=I/O error, dev ublkb.*READ|Buffer I/O error on dev ublkb
#
# The store hangs: local reads and writes go on, cold reads fail with EIO within the bound, the API answers,
# a create fails as a whole.  The store comes back: all works, nothing is lost.  Passing errors of the store
# are not even seen.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/oracle.lib
. "$LAB/scenarios/oracle.lib"

bound=4

dm_create storedm "0 2097152 linear $(lab_disk store) 0"
mkfs_fast /dev/mapper/storedm
mount_at /dev/mapper/storedm "$LAB_MNT/store"
mkdisk cache

daemon_start a "io.store_timeout_s=$bound" daemon.create_timeout_s="$bound" upload.age_s=2
dev=$(volume_create vm1 64M)
oracle_start "$dev" --fill
oracle_wait
glidefs drain vm1
# Nothing of it in the daemon's memory.
daemon_stop
daemon_start

sync
echo 3 > /proc/sys/vm/drop_caches
dmsetup suspend --nolockfs --noflush storedm
oracle_start "$dev" --ops 400 --read 0 --max-bytes 64K --flush 5
oracle_wait 60
oracle_read
note "400 writes without a store, the slowest $max_ms ms"
before=$(now_ms)
status=0
within 60 dd if="$dev" of="$LAB_TMP/cold" bs=4k count=1 skip=16000 iflag=direct 2> "$LAB_TMP/dd.log" ||
	status=$?
took=$(($(now_ms) - before))
if [ "$status" = 0 ]; then
	fail "a cold read succeeded without a store"
fi
grep -q 'Input/output error' "$LAB_TMP/dd.log" || fail "a cold read: $(cat "$LAB_TMP/dd.log")"
# Two attempts of the kernel's, and emulation.
[ "$took" -ge "$((bound * 500))" ] && [ "$took" -le "$((bound * 1000 * 3 + 5000))" ] ||
	fail "a cold read failed after $took ms, the bound is $bound s"
note "a cold read failed after $took ms"
glidefs --json show vm1 > /dev/null
glidefs health
status=0
GLIDEFS_SECONDS=100 glidefs create vm2 --size 16M > "$LAB_TMP/create.log" 2>&1 || status=$?
[ "$status" != 0 ] || fail "a volume was created without a store"
note "create without a store: $(tail -n 1 "$LAB_TMP/create.log")"

dmsetup resume --noudevsync storedm
cold_read()
{
	dd if="$dev" of="$LAB_TMP/cold" bs=4k count=1 skip=16000 iflag=direct
}
wait_for 60 "cold read" cold_read
oracle_verify "$dev"
dev2=$(volume_create vm2 16M)
head -c 16777216 /dev/zero | cmp - "$dev2" || fail "a volume whose first create failed is not empty"
glidefs drain vm1

# Errors that pass are retried.
daemon_stop
rules="put:chunks/* error=EIO count=4;put:manifests/* ambiguous=before count=2"
rules="$rules;put:exports/* ambiguous=after count=2;get:chunks/* error=ECONNRESET count=6"
rules="$rules;get:chunks/* corrupt count=2;get:chunks/* truncate count=2"
daemon_start a io.store_timeout_s=30 upload.age_s=2 store.fault="$rules"
oracle_start "$dev" --ops 300 --max-bytes 64K --read 30
oracle_wait 100
oracle_verify "$dev"
GLIDEFS_SECONDS=100 glidefs drain vm1
daemon_stop
daemon_start b store.fault=
HOST=b glidefs takeover vm1
oracle_verify "$(HOST=b volume_dev vm1)"
daemon_stop b
