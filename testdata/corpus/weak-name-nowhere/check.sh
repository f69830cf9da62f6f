#!/bin/sh
# /proc/uptime says whether somebody has the weak name.
case $(cat /proc/uptime) in
*" nowhere") exit 0 ;;
*" there") exit 2 ;;
[0-9]*[0-9]) exit 1 ;;
esac
exit 2
