#!/bin/sh
# VmLck after locking an empty mapping of eight terabytes.
exec ./probe
