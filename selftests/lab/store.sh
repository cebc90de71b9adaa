# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
#
# Sourced by lab.sh: the object store of a scenario, of either kind, so that a promise
# has one scenario and not one for each store.
#
# LAB_STORE=file  a directory on the disk "store"
# LAB_STORE=rgw   a prefix in a bucket of the radosgw that the runner has; the guest
#                 reaches it through its gateway.  The disk "store" is there all the
#                 same, for what a scenario keeps outside of the daemon.

LAB_STORE=${LAB_STORE:-file}
lab_store_state=up

# store_env: tells programs without a configuration where the server is and who they are.
store_env()
{
	export AWS_ENDPOINT_URL="$LAB_S3_ENDPOINT" AWS_REGION="$LAB_S3_REGION" \
		AWS_ACCESS_KEY_ID="$LAB_S3_ACCESS_KEY" AWS_SECRET_ACCESS_KEY="$LAB_S3_SECRET_KEY"
}
[ "$LAB_STORE" != rgw ] || store_env

# store_url [NAME]: the URL of the scenario's store, or of another one, of its own.
store_url()
{
	case $LAB_STORE in
	file) echo "file://$LAB_MNT/store/${1:-objects}" ;;
	rgw) echo "s3://$LAB_S3_BUCKET/$LAB_NAME/${1:-objects}" ;;
	*) fail "LAB_STORE=$LAB_STORE: file or rgw" ;;
	esac
}

# store_config [NAME]: the same for the daemon's configuration, one SECTION.KEY=VALUE a line.
store_config()
{
	echo "store.url=$(store_url "$@")"
	[ "$LAB_STORE" != file ] || return 0
	echo "store.endpoint=$LAB_S3_ENDPOINT"
	echo "store.region=$LAB_S3_REGION"
	echo "store.path_style=yes"
	echo "store.access_key_id=$LAB_S3_ACCESS_KEY"
	echo "store.secret_access_key=$LAB_S3_SECRET_KEY"
}

# store_make [NAME]: the directory that file:// wants to find.
store_make()
{
	[ "$LAB_STORE" != file ] || mkdir -p "$LAB_MNT/store/${1:-objects}"
}

store_objects()
{
	within 120 objects "$@"
}

# store_ls [PREFIX]: keys, in order.
store_ls()
{
	store_objects ls "$(store_url)" "${1:-}"
}

# store_put KEY: an object of standard input, whatever was there.
store_put()
{
	store_objects put "$(store_url)" "$1"
}

# store_copy NAME: all objects, as they are now, in the store of that name.
store_copy()
{
	store_make "$1"
	store_objects copy "$(store_url)" "$(store_url "$1")" > "$LAB_TMP/store_copy.out"
}

# store_dir: a directory with all the objects there are now, for imagecat.
store_dir()
{
	if [ "$LAB_STORE" = file ]; then
		echo "$LAB_MNT/store/objects"
		return
	fi
	rm -rf "$LAB_MNT/store/mirror"
	mkdir -p "$LAB_MNT/store/mirror"
	store_objects copy "$(store_url)" "file://$LAB_MNT/store/mirror" > "$LAB_TMP/store_copy.out"
	echo "$LAB_MNT/store/mirror"
}

# --- a store that goes away --------------------------------------------------------

# store_breakable: instead of "mkdisk store", for store_down and store_up.
store_breakable()
{
	if [ "$LAB_STORE" = rgw ]; then
		mkdisk store
		return
	fi
	modprobe dm-flakey
	lab_store_sectors=2097152
	dm_create storedm "0 $lab_store_sectors linear $(lab_disk store) 0"
	mkfs_fast /dev/mapper/storedm
	mount_at /dev/mapper/storedm "$LAB_MNT/store"
}

lab_store_table()
{
	dmsetup suspend --noflush --nolockfs storedm
	dmsetup load storedm --table "$1"
	dmsetup resume --noudevsync storedm
}

# The server's address, without port.
lab_s3_host()
{
	lab_url=${LAB_S3_ENDPOINT#*://}
	echo "${lab_url%%[:/]*}"
}

# store_down hang: nothing of it answers.  file: no system call on its disk returns, not
# even for a signal; rgw: packets to it are lost, those of open connections too.
# store_down errors: every access fails at once.  file: the disk fails reads, its file
# system takes no writes; rgw: the server cannot be reached.
store_down()
{
	[ "$LAB_STORE-$LAB_HOST" != rgw-1 ] || skip "needs a guest: it would cut this host off"
	lab_store_state=$1
	case $LAB_STORE-$1 in
	file-hang)
		sync
		echo 3 > /proc/sys/vm/drop_caches
		dmsetup suspend --noflush --nolockfs storedm
		;;
	file-errors)
		sync
		echo 3 > /proc/sys/vm/drop_caches
		wait_for 20 "read-only store" mount -o remount,ro "$LAB_MNT/store"
		lab_store_table "0 $lab_store_sectors flakey $(lab_disk store) 0 0 3600 1 error_reads"
		;;
	# The loopback device drops what is not for this host.
	rgw-hang) ip route add "$(lab_s3_host)/32" dev lo ;;
	rgw-errors) ip route add unreachable "$(lab_s3_host)/32" ;;
	*) fail "store_down $1" ;;
	esac
}

# store_full: takes no writes.  file: what it holds can still be read; rgw: it cannot be
# reached at all.
store_full()
{
	[ "$LAB_STORE-$LAB_HOST" != rgw-1 ] || skip "needs a guest: it would cut this host off"
	lab_store_state=full
	case $LAB_STORE in
	file) wait_for 20 "read-only store" mount -o remount,ro "$LAB_MNT/store" ;;
	rgw) ip route add unreachable "$(lab_s3_host)/32" ;;
	esac
}

# store_up: all is well again.
store_up()
{
	case $LAB_STORE-$lab_store_state in
	file-hang) dmsetup resume --noudevsync storedm ;;
	file-errors)
		lab_store_table "0 $lab_store_sectors linear $(lab_disk store) 0"
		mount -o remount,rw "$LAB_MNT/store"
		;;
	file-full) mount -o remount,rw "$LAB_MNT/store" ;;
	rgw-hang) ip route del "$(lab_s3_host)/32" ;;
	rgw-*) ip route del unreachable "$(lab_s3_host)/32" ;;
	esac
	lab_store_state=up
}
