#!/bin/sh
# The first and the last callback change pipe-max-size, the two in between pipe-user-pages-hard.
size=$(cat /proc/sys/fs/pipe-max-size) || exit 2
hard=$(cat /proc/sys/fs/pipe-user-pages-hard) || exit 2
raised=$(grep -c raised /proc/version)
case "$size $hard $raised" in
"2097152 65536 1") exit 0 ;;
"1048576 0 0") exit 1 ;;
esac
echo "size $size, hard limit $hard, function patched: $raised"
exit 2
