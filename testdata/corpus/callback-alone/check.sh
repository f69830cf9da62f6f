#!/bin/sh
# The callback before patching raises pipe-max-size, the one after unpatching sets it back.
case $(cat /proc/sys/fs/pipe-max-size) in
2097152) exit 0 ;;
1048576) exit 1 ;;
esac
exit 2
