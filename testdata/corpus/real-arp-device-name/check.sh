#!/bin/sh
# A device name of sixteen letters, the first fifteen of which are those of a device.
exec ./probe
