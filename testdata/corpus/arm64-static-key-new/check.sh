#!/bin/sh
# One branch starts as taken, the other one does not.
text=$(cat /proc/uptime) || exit 2
case "$text" in
*"on") exit 0 ;;
*"off"*) exit 2 ;;
esac
exit 1
