#!/bin/sh
# The program says 0 for the new behaviour and 1 for the old.
exec ./probe
