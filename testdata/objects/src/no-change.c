#include "kernel.h"
/* Nothing that runs differs: a comment and the order of declarations. */
#ifdef PATCHED
extern int declared_later(void);
#endif
int show(int what) { outside("text"); return value_of(what); }
