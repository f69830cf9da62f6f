#!/bin/sh
# prctl(PR_SET_MDWE) with a flag that makes no sense alone gives another error when patched.
exec ./probe
