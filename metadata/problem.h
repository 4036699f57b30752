/* SPDX-License-Identifier: GPL-2.0-or-later */
/* problem.h - codes of problems.def: what a verifier returns, the log and fsck.csvfs print. */
#ifndef CSVFS_METADATA_PROBLEM_H
#define CSVFS_METADATA_PROBLEM_H

enum problem {
	PROBLEM_NONE = 0,
#define PROBLEM(code, name, severity, text) PROBLEM_##code,
#include "metadata/problems.def"
#undef PROBLEM
	PROBLEM_COUNT
};

enum severity {
	SEVERITY_NOTE,
	SEVERITY_LEAK,
	SEVERITY_DAMAGE,
	SEVERITY_FATAL,
};

/* "header-crc"; PROBLEM_NONE: "none"; anything unknown: "unknown". */
const char *problem_name(enum problem p);
/* The sentence of the man page. */
const char *problem_text(enum problem p);
enum severity problem_severity(enum problem p);
const char *severity_name(enum severity s);

#endif
