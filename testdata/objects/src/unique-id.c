#include "kernel.h"
/* Names with a counter: nothing but the counter changes. */
#ifdef PATCHED
#define state __UNIQUE_ID_state12
#else
#define state __UNIQUE_ID_state7
#endif
static int state = 3;
int show(int what) { state += what; return value_of(state); }
