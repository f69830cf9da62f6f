#!/bin/sh
# The line that shows the new macro.
grep -q '^shown register.*: 83f$' /proc/cpuinfo
