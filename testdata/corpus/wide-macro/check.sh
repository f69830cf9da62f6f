#!/bin/sh
grep -q '^shown register.*: 83f$' /proc/cpuinfo
