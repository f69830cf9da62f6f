#!/bin/sh
# /proc/version gets another line, /proc/loadavg must stay as it is.
case "$(cat /proc/loadavg)" in
load*) exit 2 ;;
esac
case "$(cat /proc/version)" in
*seen*) exit 0 ;;
esac
exit 1
