#!/bin/sh
# A read of no bytes from a unix socket with urgent data only.
exec ./probe
