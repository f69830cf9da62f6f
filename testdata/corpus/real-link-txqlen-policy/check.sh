#!/bin/sh
# A queue length of 100000 for the loopback device through netlink.
exec ./probe
