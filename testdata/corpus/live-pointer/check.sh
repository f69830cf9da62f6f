#!/bin/sh
# A process that opened /proc/stat while it was patched reads it when the patch is gone, and the other way round.
now=$(grep -o -E '^procs_runn(able|ing)' /proc/stat)
last=$(cat /tmp/live-pointer.state 2>/dev/null)
if [ -n "$last" ] && [ "$last" != "$now" ]; then
	: >/tmp/live-pointer.go
	tries=0
	while [ ! -e /tmp/live-pointer.done ] && [ $tries -lt 50 ]; do
		tries=$((tries + 1))
		usleep 100000
	done
	grep -q "^$now " /tmp/live-pointer.text || exit 2
	rm -f /tmp/live-pointer.*
	last=
fi
if [ -z "$last" ]; then
	setsid sh -c '
		exec 3</proc/stat
		: >/tmp/live-pointer.ready
		while [ ! -e /tmp/live-pointer.go ]; do usleep 100000; done
		cat <&3 >/tmp/live-pointer.text
		: >/tmp/live-pointer.done
	' </dev/null >/dev/null 2>&1 &
	tries=0
	while [ ! -e /tmp/live-pointer.ready ] && [ $tries -lt 50 ]; do
		tries=$((tries + 1))
		usleep 100000
	done
	[ -e /tmp/live-pointer.ready ] || exit 2
	echo "$now" >/tmp/live-pointer.state
fi
[ "$now" = procs_runnable ] && exit 0
[ "$now" = procs_running ] && exit 1
exit 2
