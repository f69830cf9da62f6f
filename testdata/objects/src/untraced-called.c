#include "untraced.h"
/* A function that cannot be redirected, and callers of it: one has no site either. */
static untraced int between(int what) { return helper(what) * 3; }
int caller(int what) { return helper(what + 1) * 2; }
int farther(int what) { return between(what) * 5; }
int other(int what) { return value_of(what) * 7; }
