#!/bin/sh
# The headings of three files in /proc/net change together.
heading() { head -n 1 "$1" | cut -d' ' -f1; }
case "$(heading /proc/net/unix) $(heading /proc/net/arp) $(heading /proc/net/netlink)" in
"Socket IPv4 socket") exit 0 ;;
"Num IP sk") exit 1 ;;
esac
exit 2
