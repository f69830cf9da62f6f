#!/bin/sh
# While the livepatch is there, somebody sets pipe-max-size to a third value. That must stay when the livepatch goes.
file=/proc/sys/fs/pipe-max-size
mark=/tmp/set-by-somebody
value=$(cat $file) || exit 2
if cat /sys/kernel/livepatch/*/enabled 2>/dev/null | grep -q 1; then
	[ -e $mark ] && [ "$value" = 4194304 ] && exit 0
	[ "$value" = 2097152 ] || exit 2
	echo 4194304 >$file && : >$mark || exit 2
	exit 0
fi
if [ -e $mark ]; then
	[ "$value" = 4194304 ] && exit 1
	echo "set back to $value, though somebody else had set it"
	exit 2
fi
[ "$value" = 1048576 ] && exit 1
exit 2
