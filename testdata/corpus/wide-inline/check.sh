#!/bin/sh
# Each of the three files must say what kind of inode it has: 8, a regular file.
seen=0
for file in softirqs uptime version; do
	grep -q '^kind 8$' "/proc/$file" && seen=$((seen + 1))
done
case $seen in
3) exit 0 ;;
0) exit 1 ;;
*) exit 2 ;;
esac
