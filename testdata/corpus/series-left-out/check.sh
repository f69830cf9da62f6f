#!/bin/sh
# The first column of /proc/filesystems and the head of /proc/net/unix; /proc/uptime stays as it is.
text=$(cat /proc/filesystems) || exit 2
sockets=$(cat /proc/net/unix) || exit 2
uptime=$(cat /proc/uptime) || exit 2
case "$uptime" in
*/*) echo "what was left out is there: $uptime"; exit 2 ;;
esac
case "$text/$sockets" in
*nodisk*/Socket*) exit 0 ;;
*nodev*/Num*) exit 1 ;;
esac
echo "neither the old nor the new text: $text $sockets"
exit 2
