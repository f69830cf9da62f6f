#include "kernel.h"
/* Namespaces that the file imports are kept for the livepatch. */
static const char first[] section(".modinfo") used = "import_ns=FIRST";
static const char second[] section(".modinfo") used = "import_ns=SECOND";
static const char other[] section(".modinfo") used = "alias=other";
#ifdef PATCHED
int show(int what) { return value_of(what + 1); }
#else
int show(int what) { return value_of(what); }
#endif
