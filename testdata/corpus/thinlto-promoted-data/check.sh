#!/bin/sh
# New unix sockets have priority 3, and the limit on their number is still the sysctl's.
./probe
got=$?
limit=$(cat /proc/sys/fs/file-max)
echo 0 >/proc/sys/fs/file-max
./probe limited
limited=$?
echo "$limit" >/proc/sys/fs/file-max
[ $limited = 0 ] || exit 2
exit $got
