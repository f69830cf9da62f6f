#!/bin/sh
# The default of TCP_KEEPCNT against the sysctl it comes from.
read -r probes </proc/sys/net/ipv4/tcp_keepalive_probes
exec ./probe "$probes"
