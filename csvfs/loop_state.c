/* SPDX-License-Identifier: GPL-2.0-or-later */
/* loop_state.c - csvctl state: the core's part, and what only the shells know. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "csvfs/base/assert.h"
#include "csvfs/loop_int.h"

#define MORE_BYTES 8192

struct text {
	char *p;
	size_t len, room;
};

static void add(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->p + t->len, t->room - t->len, fmt, ap);
	va_end(ap);
	if (n > 0)
		t->len += (size_t)n < t->room - t->len ? (size_t)n : t->room - t->len - 1;
}

static void add_string(struct text *t, const char *name, const char *s)
{
	add(t, ",\"%s\":\"", name);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			add(t, "\\%c", *s);
		else if ((unsigned char)*s < 0x20)
			add(t, "\\u%04x", (unsigned)(unsigned char)*s);
		else
			add(t, "%c", *s);
	}
	add(t, "\"");
}

/* What the core says in its object `name`, without the braces: it goes into ours. */
static void add_from_core(struct text *t, const char *core, const char *name)
{
	char key[40];
	const char *from, *to;

	snprintf(key, sizeof(key), "\"%s\":{", name);
	from = strstr(core, key);
	to = from ? strchr(from, '}') : NULL;
	if (to)
		add(t, ",%.*s", (int)(to - from - (long)strlen(key)), from + strlen(key));
}

static unsigned long long ms(uint64_t ns)
{
	return (unsigned long long)(ns / NS_PER_MS);
}

char *loop_state(struct loop *l, const char *json, size_t len, size_t *out_len)
{
	struct text t = {.p = malloc(len + MORE_BYTES), .room = len + MORE_BYTES};
	struct datapath_stats d;
	struct tls_stats n = {0};
	uint64_t longest;
	char *core;

	csv_assert(t.p != NULL);
	while (len && json[len - 1] != '}')
		len--;
	memcpy(t.p, json, len - 1);
	t.len = len - 1;
	core = strndup(json, len);
	csv_assert(core != NULL);
	datapath_get_stats(l->data, &d);
	if (l->tls)
		tls_get_stats(l->tls, &n);
	longest = d.longest_ns > d.oldest_ns ? d.longest_ns : d.oldest_ns;
	add_string(&t, "device", l->cfg->fsname);
	add_string(&t, "mountpoint", l->cfg->mountpoint);
	add_string(&t, "version", CSVFS_VERSION);
	add(&t, ",\"pid\":%d,\"ready\":%s,\"leaving\":%s", (int)getpid(), l->ready ? "true" : "false",
		l->stopping ? "true" : "false");
	add(&t, ",\"bytes\":{\"direct_read\":%llu,\"direct_written\":%llu",
		(unsigned long long)d.direct_read_bytes, (unsigned long long)d.direct_write_bytes);
	add_from_core(&t, core, "core_bytes");
	add(&t, "},\"ops\":{\"direct_reads\":%llu,\"direct_writes\":%llu,\"zero_reads\":%llu",
		(unsigned long long)d.direct_reads, (unsigned long long)d.direct_writes,
		(unsigned long long)d.zero_reads);
	add(&t, ",\"layout_gets\":%llu,\"commits\":%llu,\"in_flight\":%llu",
		(unsigned long long)d.layout_gets, (unsigned long long)d.commits,
		(unsigned long long)d.in_flight);
	add_from_core(&t, core, "core_ops");
	add(&t, "}");
	add(&t,
		",\"net\":{\"bytes_in\":%llu,\"bytes_out\":%llu,\"data_in\":%llu,\"data_out\":%"
		"llu}",
		(unsigned long long)n.bytes_in, (unsigned long long)n.bytes_out,
		(unsigned long long)n.data_in, (unsigned long long)n.data_out);
	add(&t, ",\"longest_stall_ms\":%llu,\"oldest_ms\":%llu}\n", ms(longest), ms(d.oldest_ns));
	free(core);
	*out_len = t.len;
	return t.p;
}
