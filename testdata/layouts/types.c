/* What a patch may do to a structure, one construct each; PATCHED is the patched side. */

typedef unsigned int u32;
typedef struct { int counter; } atomic_t;

/* Nothing changes. */
struct same { u32 a; const char *b; };

/* A member is added at the end. */
struct longer {
	u32 a;
#ifdef PATCHED
	u32 b;
#endif
};

/* Contains one that grows: no change of its own. */
struct outer { u32 before; struct longer inner[2]; u32 after; };

/* A member is put into a hole; the size stays. */
struct hole {
	char a;
#ifdef PATCHED
	char b;
#endif
	u32 c;
};

/* A member takes the place of padding. */
struct padding {
	u32 a;
#ifdef PATCHED
	unsigned short flags;
	unsigned short pad;
#else
	unsigned short pad[2];
#endif
};

/* A member gets another type of the same size. */
struct retyped {
#ifdef PATCHED
	unsigned long value;
#else
	void *value;
#endif
};

/* A type with the same meaning for memory: no change. */
struct respelt {
#ifdef PATCHED
	u32 value;
#else
	volatile int value;
#endif
};

/* Another name for a member that stays: no change. */
struct alias {
	u32 before;
#ifdef PATCHED
	union {
		struct same *second;
		struct same *first;
	};
#else
	struct same *first;
#endif
};

/* Fields of bits. */
struct bits {
	u32 a : 3;
#ifdef PATCHED
	u32 b : 2;
#endif
	u32 c : 1;
};

/* Members without names, and members whose types have none. */
struct nested {
	union {
		struct { u32 low; u32 high; };
		unsigned long whole;
	};
	struct {
		u32 first;
#ifdef PATCHED
		u32 second;
#endif
	} pair;
	struct { u32 x; } table[2];
};

/* A type that is known by its typedef only. */
typedef struct {
#ifdef PATCHED
	u32 owner;
#endif
	atomic_t count;
} lock_t;

union either { u32 a;
#ifdef PATCHED
	unsigned long b;
#endif
};

struct flexible { u32 count; struct same *all[]; };

/* A state in the middle: all behind it are other numbers. The last one only counts them. */
enum state {
	STATE_NEW,
#ifdef PATCHED
	STATE_HALF,
#endif
	STATE_OPEN,
	STATE_DEAD,
	NR_STATES,
	STATE_MAX = NR_STATES - 1,
};

/* One at the end changes nothing but the count. */
enum {
	FIRST_KIND,
	SECOND_KIND = -2,
#ifdef PATCHED
	THIRD_KIND,
#endif
	KINDS_END = 7
#ifdef PATCHED
	+ 1
#endif
};

/* Seen by its name only; what it has is nobody's business here. */
struct hidden;

struct all {
	struct same same; struct outer outer; struct hole hole; struct padding padding; struct retyped retyped;
	struct respelt respelt; struct bits bits; struct nested nested; lock_t lock; union either either;
	struct hidden *hidden; int (*call)(struct hidden *); enum { ONE, TWO } choice; _Bool truth; enum state state; struct alias alias;
};

/* A name that has END in it and counts nothing. */
enum {
	FLAG_BUSY = 1,
#ifdef PATCHED
	FLAG_END_OF_BATCH = 4,
#else
	FLAG_END_OF_BATCH = 2,
#endif
};

/* A limit: it changes though there is nothing more to count. */
enum {
#ifdef PATCHED
	RETRIES_MAX = 5,
#else
	RETRIES_MAX = 3,
#endif
	RETRIES_NONE = 0,
};

/* A count below a number of special meaning. */
enum reason {
	REASON_NONE,
	REASON_CLOSED,
#ifdef PATCHED
	REASON_RESET,
#endif
	REASON_MAX,
	REASON_MASK = 0xff0000,
};

/* Another name and nothing else: no change, nor for what contains it. */
#ifdef PATCHED
struct new_name { u32 users; struct same *next; };
#define new_or_old new_name
#else
struct old_name { u32 users; struct same *next; };
#define new_or_old old_name
#endif
struct contains_renamed { u32 a; struct new_or_old inside; struct { struct new_or_old inside; } table[2]; };

/* Another name, and a member more. */
#ifdef PATCHED
struct context { unsigned long reads; struct same *first; u32 clock; u32 settime; };
#define context_or_ctx context
#else
struct ctx { struct same *first; u32 clock; u32 settime; };
#define context_or_ctx ctx
#endif
struct contains_context { struct context_or_ctx context; };

/* Two structures that have little in common: the one is no other name of the other. */
#ifdef PATCHED
struct incoming { u32 bytes; u32 packets; struct same *first; struct same *last; };
#define outgoing_or_incoming incoming
#else
struct outgoing { u32 bytes; u32 queue; u32 marks; };
#define outgoing_or_incoming outgoing
#endif

/* A variable whose type has no name. */
static struct {
#ifdef PATCHED
	unsigned long generation;
	char key[8];
#else
	char key[8];
	unsigned long generation;
#endif
} volatile crng;

/* A variable of another type, both of which stay. */
struct one_order { u32 nr; u32 limit; };
struct other_order { u32 limit; u32 nr; };
struct both_orders { struct one_order one; struct other_order other; };
#ifdef PATCHED
static volatile struct other_order accounting;
#else
static volatile struct one_order accounting;
#endif

/* A type gets a name, a number becomes the only thing in a structure: no change. */
#ifdef PATCHED
static struct gets_name { u32 a; u32 b; } volatile gets_name;
static volatile atomic_t counter;
#define COUNTER counter.counter
#else
static struct { u32 a; u32 b; } volatile gets_name;
static volatile u32 counter;
#define COUNTER counter
#endif

/* Another size: the object shows that. */
#ifdef PATCHED
static volatile unsigned long resized;
static volatile u32 entries[5];
static struct { u32 a; u32 b; u32 added; } volatile longer_alone;
#else
static struct { u32 a; u32 b; } volatile longer_alone;
static volatile u32 resized;
static volatile u32 entries[4];
#endif

/* The padding of a variable is taken, which no size shows. */
#ifdef PATCHED
static struct { unsigned long a; u32 b; u32 added; } volatile padded;
#else
static struct { unsigned long a; u32 b; } volatile padded;
#endif

/* A constant: the new code has its own. */
static const struct {
#ifdef PATCHED
	u32 second;
	u32 first;
#else
	u32 first;
	u32 second;
#endif
} constants[] = { { 1, 2 }, { 3, 4 } };

unsigned long variables(struct contains_renamed *renamed, struct contains_context *context, struct both_orders *orders,
			struct outgoing_or_incoming *queue, unsigned long at, enum reason reason);

static inline u32 inlined(void)
{
	/* Both live as long as the kernel does. */
	static struct state_of_it {
#ifdef PATCHED
		u32 last;
		u32 first;
#else
		u32 first;
		u32 last;
#endif
	} volatile state;
	static volatile _Bool once;

	if (!once)
		once = 1;
	return state.first++ + state.last;
}

unsigned long variables(struct contains_renamed *renamed, struct contains_context *context, struct both_orders *orders,
			struct outgoing_or_incoming *queue, unsigned long at, enum reason reason)
{
#ifdef PATCHED
	/* One more of this name: that changes nothing for the other. */
	{
		static volatile u32 here;

		here++;
	}
#endif
	{
		static volatile unsigned long here;

		here++;
	}
	crng.generation++;
	return crng.key[0] + crng.generation + accounting.nr++ + accounting.limit + gets_name.a++ + gets_name.b +
	       longer_alone.a++ + longer_alone.b + padded.a++ + padded.b + COUNTER++ + resized++ + entries[at]++ + constants[at].first + inlined() + inlined() + renamed->a + context->context.clock +
	       orders->one.nr + queue->bytes + reason + FLAG_END_OF_BATCH + RETRIES_MAX;
}

unsigned long use(struct all *all, struct flexible *flexible);
unsigned long use(struct all *all, struct flexible *flexible)
{
	/* Lives on the stack, and goes with the function. */
	struct local {
		u32 a;
#ifdef PATCHED
		u32 b;
#endif
	} volatile local = { 1 };

	return FIRST_KIND + local.a + flexible->count + all->same.a + sizeof(*all);
}
