#!/bin/sh
# The first column of /proc/filesystems and the head of /proc/net/unix.
text=$(cat /proc/filesystems) || exit 2
sockets=$(cat /proc/net/unix) || exit 2
case "$text/$sockets" in
*nodisk*/Socket*) exit 0 ;;
*nodev*/Num*) exit 1 ;;
esac
echo "neither the old nor the new text: $text $sockets"
exit 2
