#!/bin/sh
# getpgrp() says a number that is one too high.
exec ./probe
