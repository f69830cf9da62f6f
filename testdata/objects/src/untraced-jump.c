#include "untraced.h"
/* A function that cannot be redirected, and a caller that ends by a jump to it. */
int caller(int what) { return helper(what + 1); }
