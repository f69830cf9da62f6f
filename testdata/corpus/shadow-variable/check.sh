#!/bin/sh
# Two writes to an eventfd, counted in its fdinfo.
./probe
