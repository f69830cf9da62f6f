#!/bin/sh
# Copying nothing to a position behind the file size limit.
exec ./probe
