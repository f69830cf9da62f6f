// SPDX-License-Identifier: GPL-2.0-only
/* A file in /proc that shows what another module outside of the kernel's tree exports. */
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include "store.h"

static int shop_show(struct seq_file *m, void *v)
{
	seq_printf(m, "took %d\n", store_take(5));
	return 0;
}

static int __init shop_init(void)
{
	return proc_create_single("kp-shop", 0444, NULL, shop_show) ? 0 : -ENOMEM;
}
module_init(shop_init);

static void __exit shop_exit(void)
{
	remove_proc_entry("kp-shop", NULL);
}
module_exit(shop_exit);

MODULE_DESCRIPTION("Imports from another module");
MODULE_LICENSE("GPL");
