#!/bin/sh
# The callback behind the transition sets pipe-user-pages-hard.
case "$(cat /proc/sys/fs/pipe-user-pages-hard)" in
65536) exit 0 ;;
0) exit 1 ;;
esac
exit 2
