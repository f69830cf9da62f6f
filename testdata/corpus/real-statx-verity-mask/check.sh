#!/bin/sh
# The mask of attributes statx() knows about on procfs.
exec ./probe
