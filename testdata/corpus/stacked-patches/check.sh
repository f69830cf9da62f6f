#!/bin/sh
# The last column of /proc/net/softnet_stat.
last=$(head -n 1 /proc/net/softnet_stat | awk '{ print NF, $NF }')
case "$last" in
"16 used" | "16 unused") exit 0 ;;
"15 "*) exit 1 ;;
esac
exit 2
