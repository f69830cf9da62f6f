#!/bin/sh
# Field 6 of /proc/loadavg counts the reads from 41 on, field 7 says whether the count is even.
set -- $(cat /proc/loadavg)
[ $# = 5 ] && exit 1
[ $# = 7 ] || exit 2
first=$6
set -- $(cat /proc/loadavg)
[ "$first" -gt 41 ] && [ "$6" -gt "$first" ] || exit 2
if [ $(($6 % 2)) = 1 ]; then want=odd; else want=even; fi
[ "$7" = $want ] || exit 2
exit 0
