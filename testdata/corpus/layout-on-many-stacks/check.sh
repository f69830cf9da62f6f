#!/bin/sh
# Whether the path of a deep folder is told: not in the new behaviour.
mkdir -p /deep/1/2/3/4/5/6/7 && cd /deep/1/2/3/4/5/6/7 || exit 2
if path=$(readlink /proc/self/cwd); then
	[ "$path" = /deep/1/2/3/4/5/6/7 ] && exit 1
	exit 2
fi
cd /deep/1/2 && [ "$(readlink /proc/self/cwd)" = /deep/1/2 ] && exit 0
exit 2
