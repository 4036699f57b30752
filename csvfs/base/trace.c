/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "csvfs/base/trace.h"

#include <stdbool.h>
#include <string.h>

struct out {
	char *p, *end; /* end: the last byte, kept for the zero */
};

static void put(struct out *o, char c)
{
	if (o->p < o->end)
		*o->p++ = c;
}

static void put_number(struct out *o, uint64_t v, unsigned base, int width, char pad, bool minus)
{
	char digits[24];
	int n = 0;

	do {
		digits[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	if (minus)
		digits[n++] = '-';
	for (int i = n; i < width; i++)
		put(o, pad);
	while (n)
		put(o, digits[--n]);
}

static void put_string(struct out *o, const char *s, int width, int precision)
{
	size_t n = s ? strlen(s) : 0;

	if (precision >= 0 && n > (size_t)precision)
		n = (size_t)precision;
	for (size_t i = 0; i < n; i++)
		put(o, s[i]);
	for (size_t i = n; width > 0 && i < (size_t)width; i++)
		put(o, ' ');
}

struct spec {
	int width, precision, longs;
	char pad, conv;
};

static const char *parse_spec(const char *f, struct spec *s, va_list ap)
{
	*s = (struct spec){.precision = -1, .pad = ' '};
	if (*f == '-')
		f++;
	if (*f == '0') {
		s->pad = '0';
		f++;
	}
	while (*f >= '0' && *f <= '9')
		s->width = s->width * 10 + (*f++ - '0');
	if (*f == '.') {
		f++;
		s->precision = 0;
		if (*f == '*') {
			s->precision = va_arg(ap, int);
			f++;
		}
		while (*f >= '0' && *f <= '9')
			s->precision = s->precision * 10 + (*f++ - '0');
	}
	for (; *f == 'l' || *f == 'z'; f++)
		s->longs += *f == 'z' ? 2 : 1;
	s->conv = *f ? *f++ : '%';
	return f;
}

size_t trace_vformat(char *out, size_t out_bytes, const char *fmt, va_list arg)
{
	struct out o = {out, out + out_bytes - 1};
	struct spec s;
	va_list ap;

	va_copy(ap, arg);
	while (*fmt) {
		if (*fmt != '%') {
			put(&o, *fmt++);
			continue;
		}
		/* va_list passed on to another function and used again here: a pointer on every ABI we
		 * build for, and the standard allows it through va_copy's result. */
		fmt = parse_spec(fmt + 1, &s, ap);
		if (s.conv == 's') {
			put_string(&o, va_arg(ap, const char *), s.width, s.precision);
		} else if (s.conv == 'c') {
			put(&o, (char)va_arg(ap, int));
		} else if (s.conv == 'd' || s.conv == 'i') {
			int64_t v = s.longs ? va_arg(ap, int64_t) : va_arg(ap, int);
			uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;

			put_number(&o, u, 10, s.width, s.pad, v < 0);
		} else if (s.conv == 'u' || s.conv == 'x') {
			uint64_t u = s.longs ? va_arg(ap, uint64_t) : va_arg(ap, unsigned);

			put_number(&o, u, s.conv == 'u' ? 10 : 16, s.width, s.pad, false);
		} else {
			put(&o, '%');
		}
	}
	va_end(ap);
	*o.p = 0;
	return (size_t)(o.p - out);
}

size_t trace_format(char *out, size_t out_bytes, const char *fmt, ...)
{
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	n = trace_vformat(out, out_bytes, fmt, ap);
	va_end(ap);
	return n;
}

void trace(const struct trace *t, enum trace_level level, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	if (!t || !t->sink || level > t->level)
		return;
	va_start(ap, fmt);
	trace_vformat(line, sizeof(line), fmt, ap);
	va_end(ap);
	t->sink(t->ctx, level, line);
}
