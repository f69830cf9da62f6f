// SPDX-License-Identifier: GPL-2.0-only
/* The second object: it has a static variable of the same name as the first. */
#include <linux/module.h>
#include "gauge.h"

static int execute_command = 25;
module_param(execute_command, int, 0644);

int gauge_limit(int value)
{
	return value > READ_ONCE(execute_command) ? execute_command : value;
}
