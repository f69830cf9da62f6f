#!/bin/sh
# getrandom() with an unknown flag, and with none.
exec ./probe
