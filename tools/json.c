/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 16

static const char *space(const char *p)
{
	return p + strspn(p, " \t\r\n");
}

/* Behind a string; p stands at its first quote. NULL: it has no end. */
static const char *skip_string(const char *p)
{
	for (p++; *p && *p != '"'; p++)
		if (*p == '\\' && p[1])
			p++;
	return *p ? p + 1 : NULL;
}

static const char *skip_value(const char *p, int depth)
{
	char end = *p == '{' ? '}' : ']';

	if (*p == '"')
		return skip_string(p);
	if (*p != '{' && *p != '[')
		return p + strcspn(p, ",]} \t\r\n");
	if (depth > DEPTH_MAX)
		return NULL;
	for (p = space(p + 1); *p && *p != end;) {
		if (end == '}') {
			p = *p == '"' ? skip_string(p) : NULL;
			p = p ? space(p) : NULL;
			if (!p || *p != ':')
				return NULL;
			p = space(p + 1);
		}
		p = skip_value(p, depth + 1);
		if (!p)
			return NULL;
		p = space(p);
		if (*p == ',')
			p = space(p + 1);
	}
	return *p ? p + 1 : NULL;
}

static const char *member(const char *p, const char *name, size_t len)
{
	if (*p != '{')
		return NULL;
	for (p = space(p + 1); *p == '"';) {
		const char *key = p + 1, *end = skip_string(p);
		bool found = end && (size_t)(end - 1 - key) == len && !memcmp(key, name, len);

		if (!end || *space(end) != ':')
			return NULL;
		p = space(space(end) + 1);
		if (found)
			return p;
		p = skip_value(p, 0);
		if (!p)
			return NULL;
		p = space(p);
		if (*p == ',')
			p = space(p + 1);
	}
	return NULL;
}

const char *json_find(const char *json, const char *path)
{
	const char *p = space(json);

	while (p && *path) {
		size_t len = strcspn(path, ".");

		p = member(p, path, len);
		path += len + (path[len] == '.');
	}
	return p;
}

const char *json_first(const char *array)
{
	if (!array || *array != '[')
		return NULL;
	array = space(array + 1);
	return *array && *array != ']' ? array : NULL;
}

const char *json_next(const char *value)
{
	const char *p = skip_value(value, 0);

	p = p ? space(p) : NULL;
	return p && *p == ',' ? space(p + 1) : NULL;
}

char *json_text(const char *json, const char *path, const char *none, char *out, size_t out_bytes)
{
	const char *p = json_find(json, path), *end = p ? skip_value(p, 0) : NULL;
	size_t n = 0;

	if (!end || *p == '{' || *p == '[' || !strncmp(p, "null", 4)) {
		snprintf(out, out_bytes, "%s", none);
		return out;
	}
	if (*p == '"') {
		p++;
		end--;
	}
	while (p < end && n + 1 < out_bytes) {
		unsigned code;

		if (*p != '\\') {
			out[n++] = *p++;
		} else if (p[1] == 'u' && end - p >= 6 && sscanf(p + 2, "%4x", &code) == 1) {
			out[n++] = code < 0x80 && code >= 0x20 ? (char)code : '?';
			p += 6;
		} else {
			out[n++] = p[1] == 'n' ? '\n' : p[1] == 't' ? '\t' : p[1];
			p += 2;
		}
	}
	out[n] = 0;
	return out;
}

uint64_t json_u64(const char *json, const char *path)
{
	const char *p = json_find(json, path);

	return p && *p >= '0' && *p <= '9' ? strtoull(p, NULL, 10) : 0;
}

bool json_true(const char *json, const char *path)
{
	const char *p = json_find(json, path);

	return p && !strncmp(p, "true", 4);
}
