#!/bin/sh
# A reader of a pipe that nobody writes to sleeps in pipe_read(), which the livepatch changes.
pipe=/tmp/held
if [ "$1" = release ]; then
	kill "$(cat $pipe.pid)"
	exit
fi
mkfifo $pipe || exit 2
setsid cat <>$pipe >/dev/null 2>&1 &
echo $! >$pipe.pid
tries=0
until grep -q pipe_read /proc/$!/stack; do
	tries=$((tries + 1))
	[ $tries -lt 50 ] || { echo "the reader does not sleep"; exit 2; }
	usleep 100000
done
