#!/bin/sh
# /sys/kernel/uevent_seqnum shows the number of context switches behind the event number.
read -r events switches rest </sys/kernel/uevent_seqnum
[ -n "$events" ] || exit 2
[ -z "$switches" ] && exit 1
total=$(sed -n 's/^ctxt //p' /proc/stat)
[ "$switches" -gt 0 ] && [ "$switches" -le "$total" ] && exit 0
exit 2
