# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=120
#
# What is in the store is found by a host that never saw it, as detached; only its own volumes are
# attached when a host starts; and what is no volume disturbs nobody.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

# state NAME: on $HOST.
state()
{
	glidefs --json show "$1" | sed -n 's/.*"state"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p'
}

mkdisk cache store
daemon_start a
for name in vm1 vm2 vm3; do
	dev=$(volume_create "$name" 16M)
	echo "this is $name" | dd of="$dev" bs=4k conv=sync,notrunc oflag=direct
done
glidefs detach vm1
glidefs detach vm2

daemon_start b
HOST=b glidefs ls > "$LAB_TMP/ls"
for name in vm1 vm2 vm3; do
	grep -qw "$name" "$LAB_TMP/ls" || fail "$name is not discovered: $(cat "$LAB_TMP/ls")"
done
equal "state of vm1 on b" "$(HOST=b state vm1)" detached
HOST=b glidefs attach vm1
read -r line < "$(HOST=b volume_dev vm1)"
equal "content of vm1 on b" "$line" "this is vm1"

# Each host starts with what is its own, and nothing else.
daemon_kill9
daemon_kill9 b
daemon_start
daemon_start b
equal "state of vm3 on a" "$(state vm3)" attached
equal "state of vm2 on a" "$(state vm2)" detached
equal "state of vm1 on b" "$(HOST=b state vm1)" attached
equal "state of vm2 on b" "$(HOST=b state vm2)" detached
read -r line < "$(volume_dev vm3)"
equal "content of vm3 on a" "$line" "this is vm3"

# Strangers in the store.
echo '{ "half": ' | store_put exports/broken/export.json
echo stray | store_put exports/stray
# Only a directory can hold nothing.
[ "$LAB_STORE" != file ] || mkdir "$LAB_MNT/store/objects/exports/empty"
HOST=b glidefs ls > "$LAB_TMP/ls"
for name in vm1 vm2 vm3; do
	grep -qw "$name" "$LAB_TMP/ls" || fail "$name vanished behind a broken one: $(cat "$LAB_TMP/ls")"
done
! HOST=b glidefs attach broken || fail "a corrupt volume was attached"
HOST=b glidefs attach vm2
read -r line < "$(HOST=b volume_dev vm2)"
equal "content of vm2 on b" "$line" "this is vm2"
daemon_stop b
daemon_stop
