#!/bin/sh
# The auxiliary vector of a process that has set one of a single entry.
exec ./probe
