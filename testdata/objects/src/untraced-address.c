#include "untraced.h"
/* A function that cannot be redirected, and whose address is kept. */
int (*kept)(int) = helper;
int caller(int what) { return helper(what + 1) * 2; }
