# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=240
#
# Two hosts collect garbage while volumes are written, forked and removed: the store shrinks, and every fork reads as
# what it was made from, on another host too.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

sum_of() # DEVICE
{
	dd if="$1" bs=1M iflag=direct 2> /dev/null | sha256sum
}

objects()
{
	store_ls chunks/ | wc -l
}

# member NAME: of the report in $LAB_TMP/gc.json.
member()
{
	sed -n 's/.*"'"$1"'"[[:space:]]*:[[:space:]]*\([0-9]*\).*/\1/p' "$LAB_TMP/gc.json"
}

# Both hosts, until one of them says that it deleted something; what it says adds up.
collected()
{
	HOST=b glidefs gc > "$LAB_TMP/gc.b"
	glidefs --json gc > "$LAB_TMP/gc.json"
	[ "$(objects)" -lt "$before" ]
}

mkdisk cache store
daemon_start a gc.grace_s=8 upload.age_s=600
daemon_start b gc.grace_s=8 upload.age_s=600
base=$(volume_create base 4M)
dd if=/dev/urandom of="$base" bs=1M count=4 oflag=direct 2> /dev/null
sum=$(sum_of "$base")
snapshot=$(glidefs snapshot base)
glidefs fork fork1 --from "snapshot:$snapshot" > "$LAB_TMP/out"
HOST=b glidefs fork fork2 --from "snapshot:$snapshot" > "$LAB_TMP/out"

# Garbage: what the source had in between, and a volume that is removed. Live: what only a fork names.
dev=$(volume_create gone 4M)
for _ in 1 2; do
	dd if=/dev/urandom of="$dev" bs=1M count=4 oflag=direct 2> /dev/null
	glidefs drain gone
	dd if=/dev/urandom of="$base" bs=1M count=4 oflag=direct 2> /dev/null
	glidefs drain base
done
last=$(sum_of "$base")
glidefs rm gone
glidefs snapshot-rm "$snapshot"
before=$(objects)
glidefs --json gc --dry-run > "$LAB_TMP/gc.json"
equal "objects after a dry run" "$(objects)" "$before"
status=0
glidefs gc --grace 2 2> "$LAB_TMP/out" || status=$?
equal "exit status with a grace period that hosts do not rely on" "$status" 1

wait_for 90 "a smaller store" collected
note "$before packs before, $(objects) after; live $(member live)"
equal "the first fork" "$(sum_of "$(volume_dev fork1)")" "$sum"
equal "the second fork" "$(HOST=b sum_of "$(HOST=b volume_dev fork2)")" "$sum"
equal "the source" "$(sum_of "$base")" "$last"

# Nothing of it is in any cache: another host reads from the store.
glidefs detach fork1
glidefs detach base
daemon_start c gc.grace_s=8
for name in fork1 base; do
	HOST=c glidefs attach "$name" > "$LAB_TMP/out"
done
equal "the first fork elsewhere" "$(HOST=c sum_of "$(HOST=c volume_dev fork1)")" "$sum"
equal "the source elsewhere" "$(HOST=c sum_of "$(HOST=c volume_dev base)")" "$last"
daemon_stop c
daemon_stop b
daemon_stop
