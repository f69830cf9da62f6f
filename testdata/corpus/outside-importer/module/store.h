/* SPDX-License-Identifier: GPL-2.0-only */
int store_take(int number);
int store_left(void);
