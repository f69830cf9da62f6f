#!/bin/sh
# The first line of /proc/net/sockstat6, which exists once ipv6 is loaded, says how often the author's callback ran.
[ -e /proc/net/sockstat6 ] || exit 3
line=$(head -n 1 /proc/net/sockstat6)
case "$line" in
"TCP6 1: "*) exit 0 ;;
"TCP6: "*) exit 1 ;;
esac
echo "$line"
exit 2
