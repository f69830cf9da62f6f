#!/bin/sh
# A host name with an exclamation mark is refused by the new code.
old=$(cat /proc/sys/kernel/hostname)
hostname 'corpus!name' 2>/dev/null
now=$(cat /proc/sys/kernel/hostname)
hostname 'corpus-name' || exit 2
[ "$(cat /proc/sys/kernel/hostname)" = corpus-name ] || exit 2
echo "$old" >/proc/sys/kernel/hostname
[ "$now" = 'corpus!name' ] && exit 1
[ "$now" = "$old" ] && exit 0
exit 2
