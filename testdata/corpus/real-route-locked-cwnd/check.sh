#!/bin/sh
# A route over the loopback device with a locked window of zero, in a network name space of its own.
exec ./probe
