#!/bin/sh
# A task that ends with 77 is seen to end with 78.
exec ./probe
