#!/bin/sh
# do_syslog() reports an odd buffer size when patched. "Console off" keeps the level in the static local
# variable and "console on" brings it back; the pair is split over two runs of this script.
level() { cut -f1 /proc/sys/kernel/printk; }
state=/tmp/static-local-kept
if [ -e $state ]; then
	./probe on || exit 2
	read -r want <$state
	if [ "$(level)" != "$want" ]; then
		echo "console level is $(level), $want was stored: the static variable was not shared"
		exit 2
	fi
fi
# A high minimum keeps warnings on the console while it is "off".
echo "7 4 6 7" >/proc/sys/kernel/printk || exit 2
if [ "$(cat $state 2>/dev/null)" = 8 ]; then next=7; else next=8; fi
./probe level $next && ./probe off || exit 2
[ "$(level)" = 6 ] || exit 2
echo $next >$state
exec ./probe size
