#!/bin/sh
# The new line stands behind the check that must not warn.
text=$(cat /proc/uptime) || exit 2
case "$text" in
*"sound") exit 0 ;;
*"nanoseconds"*) exit 2 ;;
esac
exit 1
