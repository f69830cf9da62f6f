#!/bin/sh
# getcpu() numbers nodes from 7 and still survives bad pointers.
exec ./probe
