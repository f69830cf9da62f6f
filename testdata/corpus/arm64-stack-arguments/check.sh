#!/bin/sh
# The loopback device has to be up.
ifconfig lo 127.0.0.1 up || exit 2
# The program says 0 for the new behaviour and 1 for the old.
exec ./probe
