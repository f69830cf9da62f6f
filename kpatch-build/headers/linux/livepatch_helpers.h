/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The interface that kernels since 6.19 offer to patches under this name, for the kernels before. A kernel's own file
 * is found first.
 */
#ifndef _LINUX_LIVEPATCH_HELPERS_H
#define _LINUX_LIVEPATCH_HELPERS_H

#include <linux/livepatch.h>
#include <linux/static_call.h>
#include <linux/syscalls.h>

/*
 * Functions to call when the object that this file is linked into is patched and unpatched, one for each moment. The
 * first may return an error: then the object is not patched.
 */
#define __KLP_CALLBACK(_type, _moment, _fn)					\
	_type (*__klp_##_moment##_callback_here)(struct klp_object *)		\
		__attribute__((__used__, __section__(".discard.klp_callback_ptrs"))) = _fn

#define KLP_PRE_PATCH_CALLBACK(_fn) static __KLP_CALLBACK(int, pre_patch, _fn)
#define KLP_POST_PATCH_CALLBACK(_fn) static __KLP_CALLBACK(void, post_patch, _fn)
#define KLP_PRE_UNPATCH_CALLBACK(_fn) static __KLP_CALLBACK(void, pre_unpatch, _fn)
#define KLP_POST_UNPATCH_CALLBACK(_fn) static __KLP_CALLBACK(void, post_unpatch, _fn)

/* For static_call() where the key is in a module: an ordinary call through the pointer that the key holds. */
#define KLP_STATIC_CALL(_name)							\
	((typeof(STATIC_CALL_TRAMP(_name)) *)(STATIC_CALL_KEY(_name).func))

/* System calls can be changed where they are defined. */
#define KLP_SYSCALL_DEFINE1 SYSCALL_DEFINE1
#define KLP_SYSCALL_DEFINE2 SYSCALL_DEFINE2
#define KLP_SYSCALL_DEFINE3 SYSCALL_DEFINE3
#define KLP_SYSCALL_DEFINE4 SYSCALL_DEFINE4
#define KLP_SYSCALL_DEFINE5 SYSCALL_DEFINE5
#define KLP_SYSCALL_DEFINE6 SYSCALL_DEFINE6

#endif
