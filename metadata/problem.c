/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "metadata/problem.h"

#include <stddef.h>

static const struct {
	const char *name, *text;
	enum severity severity;
} problems[PROBLEM_COUNT] = {
	[PROBLEM_NONE] = {"none", "No problem.", SEVERITY_NOTE},
#define PROBLEM(code, name, severity, text)                                                        \
	[PROBLEM_##code] = {name, text, SEVERITY_##severity},
#include "metadata/problems.def"
#undef PROBLEM
};

const char *problem_name(enum problem p)
{
	return (unsigned)p < PROBLEM_COUNT ? problems[p].name : "unknown";
}

const char *problem_text(enum problem p)
{
	return (unsigned)p < PROBLEM_COUNT ? problems[p].text : "Unknown problem.";
}

enum severity problem_severity(enum problem p)
{
	return (unsigned)p < PROBLEM_COUNT ? problems[p].severity : SEVERITY_DAMAGE;
}

const char *severity_name(enum severity s)
{
	switch (s) {
	case SEVERITY_NOTE:
		return "note";
	case SEVERITY_LEAK:
		return "leak";
	case SEVERITY_DAMAGE:
		return "damage";
	case SEVERITY_FATAL:
		return "fatal";
	}
	return "unknown";
}
