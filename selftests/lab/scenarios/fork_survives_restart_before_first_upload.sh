# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=150
#
# A fork that has uploaded nothing yet is killed with its daemon, restarted, written to, killed again, handed over to
# another host and seized from it: it always reads as its source did, and as it was written to since.  Its source is
# overwritten and removed meanwhile.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

sum_of() # DEVICE
{
	dd if="$1" bs=1M iflag=direct 2> /dev/null | sha256sum
}

# sequence NAME: of its root, 0 before the first upload.
sequence()
{
	glidefs --json show "$1" | sed -n 's/.*"sequence"[[:space:]]*:[[:space:]]*\([0-9]*\).*/\1/p'
}

mkdisk cache store
daemon_start a upload.age_s=600
base=$(volume_create base 16M)
dd if=/dev/urandom of="$LAB_TMP/content" bs=1M count=16 2> /dev/null
dd if="$LAB_TMP/content" of="$base" bs=1M oflag=direct 2> /dev/null
sum=$(sum_of "$base")
equal "content of the source" "$sum" "$(sha256sum < "$LAB_TMP/content")"

# The source is dirty: its snapshot is part of the fork.
glidefs fork fork1 --from volume:base > "$LAB_TMP/fork.out"
snapshot=$(glidefs snapshots base | awk 'NR == 2 { print $1 }')
dd if=/dev/zero of="$base" bs=1M count=16 oflag=direct 2> /dev/null
glidefs drain base
glidefs rm base

# What was written before a restart is uploaded soon after it: not by this daemon.
daemon_kill9 a
daemon_start a upload.age_s=600 "store.fault=put:chunks/* error=EIO"
dev=$(volume_dev fork1)
equal "the fork after SIGKILL" "$(sum_of "$dev")" "$sum"

# Parts of blocks, neither aligned nor whole; the rest of these blocks is the source's.
for at in 3 20001; do
	dd if=/dev/urandom of="$LAB_TMP/piece" bs=4096 count=1 2> /dev/null
	dd if="$LAB_TMP/piece" of="$LAB_TMP/content" bs=512 seek=$at conv=notrunc 2> /dev/null
	dd if="$LAB_TMP/piece" of="$dev" bs=512 seek=$at oflag=direct conv=notrunc 2> /dev/null
done
sum=$(sha256sum < "$LAB_TMP/content")
equal "the fork, written to" "$(sum_of "$dev")" "$sum"
equal "uploads of the fork" "$(sequence fork1)" 0
daemon_kill9 a
daemon_start a upload.age_s=600
equal "the fork, written to, after SIGKILL" "$(sum_of "$(volume_dev fork1)")" "$sum"

# Another host, by detach; a fork of the same snapshot there, seized by a third.
glidefs detach fork1
daemon_start b upload.age_s=600
HOST=b glidefs attach fork1 > "$LAB_TMP/fork.out"
equal "the fork on another host" "$(HOST=b sum_of "$(HOST=b volume_dev fork1)")" "$sum"
HOST=b glidefs fork fork2 --from "snapshot:$snapshot" > "$LAB_TMP/fork.out"
second=$(HOST=b sum_of "$(HOST=b volume_dev fork2)")
equal "uploads of the second fork" "$(HOST=b sequence fork2)" 0
glidefs takeover fork2 > "$LAB_TMP/fork.out"
equal "the second fork, seized" "$(sum_of "$(volume_dev fork2)")" "$second"
glidefs snapshot-rm "$snapshot"
equal "the second fork without its snapshot" "$(sum_of "$(volume_dev fork2)")" "$second"
status=0
glidefs fork fork3 --from "snapshot:$snapshot" 2> "$LAB_TMP/refused" || status=$?
equal "exit status of a fork of a deleted snapshot" "$status" 4
daemon_stop b
daemon_stop
