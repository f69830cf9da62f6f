#!/bin/sh
# How many entries of a directory come at a time.
exec ./probe
