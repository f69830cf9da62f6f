#!/bin/sh
# The first line of /proc/net/sockstat6, which exists once ipv6 is loaded.
[ -e /proc/net/sockstat6 ] || exit 3
case "$(head -n 1 /proc/net/sockstat6)" in
"TCPv6: "*) exit 0 ;;
"TCP6: "*) exit 1 ;;
esac
exit 2
