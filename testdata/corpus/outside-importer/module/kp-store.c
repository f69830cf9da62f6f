// SPDX-License-Identifier: GPL-2.0-only
/* What another module imports. */
#include <linux/module.h>
#include "store.h"

static int left = 10;

int store_left(void)
{
	return READ_ONCE(left);
}
EXPORT_SYMBOL_GPL(store_left);

int store_take(int number)
{
	if (number > 3)
		return -EINVAL;
	WRITE_ONCE(left, 10);
	return number;
}
EXPORT_SYMBOL_GPL(store_take);

MODULE_DESCRIPTION("Exports functions");
MODULE_LICENSE("GPL");
