#!/bin/sh
# Processor times in /proc/stat, /proc/PID/stat and times(2) all start ten million ticks up.
user=$(sed -n 's/^cpu0 \([0-9]*\) .*/\1/p' /proc/stat)
mine=$(cut -d' ' -f14 /proc/self/stat)
[ -n "$user" ] && [ -n "$mine" ] || exit 2
./probe
times=$?
[ "$user" -ge 10000000 ] && [ "$mine" -ge 10000000 ] && [ $times = 0 ] && exit 0
[ "$user" -lt 10000000 ] && [ "$mine" -lt 10000000 ] && [ $times = 1 ] && exit 1
echo "cpu0 $user, self $mine, times $times: some importers are old"
exit 2
