# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=300 timeout-full=1200
# The kernel warns by itself when a server is killed that holds a request.
# lab: allow-log@6.17=WARNING: .* ublk_ch_release_work_fn
#
# SIGKILL at random moments, under random writes of all sizes, flushed or not, with uploads going on.  The
# oracle stops its writers while the daemon is dead, so that nothing overwrites what a check is to find; it
# reads back by O_DIRECT and through the dropped page cache.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"
# shellcheck source=selftests/lab/scenarios/oracle.lib
. "$LAB/scenarios/oracle.lib"

cycles=16
[ "$LAB_STORE" = file ] || cycles=8
[ "$LAB_FULL" = 0 ] || cycles=200

mkdisk cache store
daemon_start a upload.dirty_bytes=3M upload.age_s=2
dev=$(volume_create vm1 96M)
oracle_start "$dev" --threads 6 --buffered 1 --discard 2 --zeroes 2 --max-bytes 128K

i=0
while [ "$i" -lt "$cycles" ]; do
	random 400
	usleep "$((RND * 1000))"
	daemon_kill9
	oracle_check_begin
	daemon_start
	oracle_check_end
	i=$((i + 1))
done
oracle_stop
oracle_verify "$dev"
# shellcheck disable=SC2154 # set by oracle_read
note "$cycles kills, $acked requests acknowledged, $flushes flushes, slowest $max_ms ms"
daemon_stop
