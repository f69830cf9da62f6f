#!/bin/sh
# getpriority() reports a nice value three too high.
case "$(nice -n 0 nice)" in
3) exit 0 ;;
0) exit 1 ;;
esac
exit 2
