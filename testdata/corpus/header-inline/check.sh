#!/bin/sh
# The default of TCP_KEEPCNT against the sysctl it comes from.
exec ./probe "$(cat /proc/sys/net/ipv4/tcp_keepalive_probes)"
