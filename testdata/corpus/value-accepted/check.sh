#!/bin/sh
# pipe-max-size is the new one while the livepatch is there.
case $(cat /proc/sys/fs/pipe-max-size) in
2097152) exit 0 ;;
1048576) exit 1 ;;
esac
exit 2
