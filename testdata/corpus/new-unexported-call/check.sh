#!/bin/sh
# /sys/kernel/uevent_seqnum shows the number of context switches behind the event number.
set -- $(cat /sys/kernel/uevent_seqnum)
[ $# = 1 ] && exit 1
[ $# = 2 ] || exit 2
total=$(sed -n 's/^ctxt //p' /proc/stat)
[ "$2" -gt 0 ] && [ "$2" -le "$total" ] && exit 0
exit 2
