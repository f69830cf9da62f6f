#!/bin/sh
# Field 6 of /proc/loadavg counts the reads from 41 on, field 7 says whether the count is even.
read -r a1 a2 a3 a4 a5 first parity1 </proc/loadavg
read -r a1 a2 a3 a4 a5 second parity2 </proc/loadavg
[ -z "$first" ] && [ -n "$a5" ] && exit 1
[ "$first" -gt 41 ] && [ "$second" -gt "$first" ] || exit 2
if [ $((second % 2)) = 1 ]; then want=odd; else want=even; fi
[ "$parity2" = $want ] || exit 2
exit 0
