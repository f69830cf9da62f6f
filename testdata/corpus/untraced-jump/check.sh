#!/bin/sh
# The console says that it is another terminal when patched. Of the two ways to ask, one leads to a function that the
# tracer cannot redirect, and the other to one that has it inlined.
exec ./probe
