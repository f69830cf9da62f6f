/* What the cases use of a kernel: declarations only, so that each object is small. */
extern void outside(const char *text);
extern int value_of(int what);
extern void __might_sleep(const char *file, int line);
extern int _printk(const char *format, ...);
#define noinline __attribute__((noinline))
#define notrace __attribute__((no_instrument_function))
#define used __attribute__((used))
#define section(name) __attribute__((section(name)))
/* Tables that the kernel's inline assembly makes. A place is a label in the code; `distance` is how tables name it. */
#if defined(__s390x__)
#define NOP "nopr\n"
#else
#define NOP "nop\n"
#endif
#define table(name, flags, text) ".pushsection " name ",\"" flags "\"\n.balign 4\n" text ".popsection\n"
#define distance(label) ".long " label " - .\n"
