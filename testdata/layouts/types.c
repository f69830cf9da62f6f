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
