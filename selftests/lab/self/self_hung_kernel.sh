# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash
# lab: timeout=600
#
# Silences the guest on purpose: no heartbeat comes any more.

# shellcheck source=selftests/lab/lab.sh
. "$LAB/lab.sh"

for p in /proc/[0-9]*; do
	p=${p#/proc/}
	case $(cat "/proc/$p/comm" 2>/dev/null) in
	supervisor) [ "$p" = 1 ] || [ "$p" = "$PPID" ] || kill -STOP "$p" ;;
	esac
done
sleep 500
