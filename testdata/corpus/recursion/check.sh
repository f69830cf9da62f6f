#!/bin/sh
# How deep epoll files may be nested: four links before, two after.
exec ./probe
