#!/bin/sh
# /proc/softirqs shows how often /proc/devices was read, through a variable of another file.
listings() { sed -n 's/^LISTINGS: //p' /proc/softirqs; }
before=$(listings)
[ -z "$before" ] && grep -q TIMER: /proc/softirqs && exit 1
cat /proc/devices >/dev/null
after=$(listings)
[ "$after" = $((before + 1)) ] && exit 0
echo "listings went from '$before' to '$after': the files do not share the variable"
exit 2
