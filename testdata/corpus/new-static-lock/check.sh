#!/bin/sh
# /proc/net/sockstat counts its own reads.
count() { sed -n 's/^READS: count //p' /proc/net/sockstat; }
first=$(count)
[ -z "$first" ] && grep -q ^TCP: /proc/net/sockstat && exit 1
[ "$(count)" = $((first + 1)) ] && exit 0
exit 2
