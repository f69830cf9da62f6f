#!/bin/sh
# The error of io_uring_setup() with no entries.
exec ./probe
