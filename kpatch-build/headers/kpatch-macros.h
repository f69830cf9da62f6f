/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the author of a patch can say to the livepatch builder, under the names that patches for kpatch use. A patch
 * includes this file; it need not bring it along.
 */
#ifndef KPATCH_MACROS_H
#define KPATCH_MACROS_H

#include <linux/jiffies.h>
#include <linux/livepatch.h>
#include <linux/printk.h>
#include <linux/static_call.h>

typedef struct klp_object patch_object;

#define __KPATCH_MARK(_section) __attribute__((__used__, __section__(_section)))

/*
 * Functions to call when the object that this file is linked into is patched and unpatched, one for each moment. They
 * are static functions of the same file, and must not be __init. The first may return an error: then the object is not
 * patched.
 */
#define __KPATCH_CALLBACK(_type, _moment, _fn)					\
	static _type (*__kpatch_callback_##_moment)(patch_object *)		\
		__KPATCH_MARK(".kpatch.callbacks." #_moment) = _fn

#define KPATCH_PRE_PATCH_CALLBACK(_fn) __KPATCH_CALLBACK(int, pre_patch, _fn)
#define KPATCH_POST_PATCH_CALLBACK(_fn) __KPATCH_CALLBACK(void, post_patch, _fn)
#define KPATCH_PRE_UNPATCH_CALLBACK(_fn) __KPATCH_CALLBACK(void, pre_unpatch, _fn)
#define KPATCH_POST_UNPATCH_CALLBACK(_fn) __KPATCH_CALLBACK(void, post_unpatch, _fn)

/*
 * Something that callbacks change in the system, so that a livepatch which replaces this one has to take it over: struct
 * klp_state of <linux/livepatch.h>. The kernel loads the next one only if it has the state, too, in the same version or a
 * higher one. Its callbacks find what this one left with klp_get_prev_state(). The number must not be 0.
 */
#define KPATCH_STATE(_id, _version)						\
	static const struct { unsigned long id, version; }			\
		__UNIQUE_ID(kpatch_state_) __KPATCH_MARK(".kpatch.states") = { _id, _version }

/* The livepatch that an object belongs to, for klp_get_state(). */
static inline struct klp_patch *kpatch_of(patch_object *object)
{
	return container_of(object->kobj.parent, struct klp_patch, kobj);
}

/* A function whose change is not wanted in the livepatch. */
#define KPATCH_IGNORE_FUNCTION(_fn)						\
	void *__kpatch_ignore_func_##_fn					\
		__KPATCH_MARK(".kpatch.ignore.functions") = (void *)_fn

/* The same for all that lies in a section. */
#define KPATCH_IGNORE_SECTION(_name)						\
	static const char *__UNIQUE_ID(kpatch_ignore_section_)			\
		__KPATCH_MARK(".kpatch.ignore.sections") = _name

/* Is reported and has no effect: livepatch waits for each task. */
#define KPATCH_FORCE_UNSAFE(_fn)						\
	void *__kpatch_force_func_##_fn						\
		__KPATCH_MARK(".kpatch.force") = (void *)_fn

/* A message in a place that the compiler should not take for an unlikely one for its sake. */
#define KPATCH_PRINTK(_fmt, ...)						\
	do {									\
		if (jiffies)							\
			printk(_fmt, ##__VA_ARGS__);				\
	} while (0)
#define KPATCH_PRINTK_DEFERRED(_fmt, ...)					\
	do {									\
		if (jiffies)							\
			printk_deferred(_fmt, ##__VA_ARGS__);			\
	} while (0)

/* For static_call() where the key is in a module: an ordinary call through the pointer that the key holds. */
#define KPATCH_STATIC_CALL(_name)						\
	((typeof(STATIC_CALL_TRAMP(_name)) *)(STATIC_CALL_KEY(_name).func))

#endif
