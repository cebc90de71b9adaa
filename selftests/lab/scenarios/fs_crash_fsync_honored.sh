# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=150 timeout-full=600 phases=2 boot=own
# The kernel warns by itself when a server is killed that holds a request.
# lab: allow-log@6.17=WARNING: .* ublk_ch_release_work_fn
#
# ext4 on a volume, and programs that create, append, rewrite, rename, remove and fsync.  The daemon is
# killed under them, and comes back; then the whole machine is reset.  The file system recovers from its
# journal, everything fsync had promised is there, and e2fsck finds nothing.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

kills=2
[ "$LAB_FULL" = 0 ] || kills=20
journal=$LAB_MNT/store/fsyncer.journal
status=$LAB_TMP/fsyncer.status

synced() # AT LEAST
{
	# shellcheck source=/dev/null
	. "$status"
	# shellcheck disable=SC2154 # read
	[ "$syncs" -ge "$1" ]
}

mkdisk cache store
case $PHASE in
1)
	daemon_start a upload.dirty_bytes=4M upload.age_s=3
	dev=$(volume_create vm1 128M)
	mkfs_fast "$dev"
	mount_at "$dev" "$LAB_MNT/fs"
	mkdir "$LAB_MNT/fs/work"
	sync -f "$LAB_MNT/fs"
	background fsyncer run --dir "$LAB_MNT/fs/work" --journal "$journal" --seed "$LAB_SEED" \
		--status "$status"
	wait_for 30 "first word of fsyncer" test -s "$status"
	i=1
	while [ "$i" -le "$kills" ]; do
		wait_for 60 "fsyncs" synced "$((i * 40))"
		daemon_kill9
		daemon_start
		i=$((i + 1))
	done
	wait_for 60 "fsyncs" synced "$((i * 40 + 40))"
	remember least "$((i * 40))"
	next_phase
	;;
2)
	daemon_start
	dev=$(volume_dev vm1)
	[ -b "$dev" ] || fail "no device after a reset: $(glidefs show vm1)"
	mount_at "$dev" "$LAB_MNT/fs"
	# shellcheck disable=SC2154 # remembered
	fsyncer check --dir "$LAB_MNT/fs/work" --journal "$journal" --least "$least" > "$LAB_TMP/check.log" 2>&1 ||
		fail "fsync was not honored"
	sed 's/^/# /' "$LAB_TMP/check.log"
	umount "$LAB_MNT/fs"
	e2fsck -fn "$dev" > "$LAB_TMP/fsck.log" 2>&1 || fail "e2fsck is not content"
	daemon_stop
	;;
esac
