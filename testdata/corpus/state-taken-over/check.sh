#!/bin/sh
# The limit is raised by a callback, and the function says which livepatch it is of.
size=$(cat /proc/sys/fs/pipe-max-size) || exit 2
line=$(tail -n 1 /proc/version)
case "$size $line" in
"2097152 first" | "2097152 second") exit 0 ;;
"1048576 Linux "*) exit 1 ;;
esac
echo "size $size, last line of /proc/version: $line"
exit 2
