// SPDX-License-Identifier: GPL-2.0-only
/* A file in /proc. The kernel image has a static function and a static variable of the same names as this module. */
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include "gauge.h"

static int execute_command = 40;

static noinline void version_proc_show(struct seq_file *m, int value)
{
	seq_printf(m, "%d of %d\n", value, READ_ONCE(execute_command));
}

int gauge_read(void);
int gauge_read(void)
{
	return READ_ONCE(execute_command);
}
EXPORT_SYMBOL_GPL(gauge_read);

void gauge_set(int value);
void gauge_set(int value)
{
	WRITE_ONCE(execute_command, value);
}
EXPORT_SYMBOL_GPL(gauge_set);

static int gauge_show(struct seq_file *m, void *v)
{
	version_proc_show(m, gauge_limit(READ_ONCE(execute_command)) + 1);
	return 0;
}

static int __init gauge_init(void)
{
	return proc_create_single("kp-gauge", 0444, NULL, gauge_show) ? 0 : -ENOMEM;
}
module_init(gauge_init);

static void __exit gauge_exit(void)
{
	remove_proc_entry("kp-gauge", NULL);
}
module_exit(gauge_exit);

MODULE_DESCRIPTION("Shows a number in /proc");
MODULE_LICENSE("GPL");
