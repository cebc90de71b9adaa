# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=120
#
# What was never written reads as zeros: in a new volume, around written sectors, after an upload, after
# SIGKILL, on another host, and in a volume that takes the name of a removed one.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/oracle.lib
. "$LAB/scenarios/oracle.lib"

all_zeros() # DEVICE BYTES
{
	head -c "$2" /dev/zero | cmp - "$1" || fail "$1 is not all zeros"
}

mkdisk cache store
daemon_start a upload.age_s=2
dev=$(volume_create vm1 32M)
all_zeros "$dev" 33554432

oracle_start "$dev" --ops 150 --max-bytes 8K --read 0 --discard 5 --zeroes 5
oracle_wait
oracle_verify "$dev"
glidefs drain vm1
echo 3 > /proc/sys/vm/drop_caches
oracle_verify "$dev"
daemon_kill9
daemon_start
oracle_verify "$dev"
glidefs detach vm1

daemon_start b
HOST=b glidefs attach vm1
oracle_verify "$(HOST=b volume_dev vm1)"
HOST=b glidefs rm vm1
dev=$(HOST=b volume_create vm1 32M)
all_zeros "$dev" 33554432
daemon_stop b
daemon_stop
