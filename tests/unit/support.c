/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What every unit test needs: the driver's side of an assertion. */
#include <stdio.h>
#include <stdlib.h>

#include "csvfs/base/assert.h"

void csv_assert_fail(const char *expr, const char *file, int line)
{
	fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, expr);
	abort();
}
