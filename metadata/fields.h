/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fields.h - every field of every block type, as a table: name, place, type.
 *
 * One table serves csvdb's dump, csvdb's set, and the tests that damage each field in turn. It is
 * made from the structs of format.h, so it cannot say anything else than they do.
 */
#ifndef CSVFS_METADATA_FIELDS_H
#define CSVFS_METADATA_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

enum field_type {
	FIELD_U8,
	FIELD_U16,
	FIELD_U32,
	FIELD_U64,
	FIELD_HEX32, /* better read as hexadecimal: magic, crc, flags */
	FIELD_HEX64,
	FIELD_MODE,   /* le32, octal */
	FIELD_TIME,   /* le64, signed nanoseconds since 1970 */
	FIELD_BIT,    /* `count` bits, bit i of byte i/8 */
	FIELD_UUID,   /* 16 bytes */
	FIELD_STRING, /* `len` bytes, ends with the first zero */
	FIELD_BYTES,  /* `len` bytes of anything */
};

struct field {
	const char *name;
	enum field_type type;
	uint16_t offset; /* of the first element, in the block */
	uint16_t count;	 /* elements; 1: not an array */
	uint16_t stride; /* bytes from one element to the next; FIELD_BIT: unused */
	uint16_t first;	 /* number of the first element, as users write it */
	uint16_t len;	 /* FIELD_STRING, FIELD_BYTES */
};

struct block_layout {
	uint32_t magic;
	const char *name;
	const struct field *fields;
	uint32_t field_count;
};

/* Layout number i, NULL behind the last. */
const struct block_layout *fields_layout(uint32_t i);
/* NULL: not the magic of a block. */
const struct block_layout *fields_of(uint32_t magic);

/*
 * "links", "inode.links[3]", "used[17]": the field and its element's position in the array. Without
 * an index: the first element. NULL: there is no such field or element.
 */
const struct field *field_find(const struct block_layout *l, const char *name, uint32_t *at);

/* Number types and bits only; false: the type is no number, or the value does not fit. */
bool field_get(const void *block, const struct field *f, uint32_t at, uint64_t *value);
bool field_set(void *block, const struct field *f, uint32_t at, uint64_t value);
bool field_is_number(const struct field *f);

/* Where the element starts; FIELD_BIT: the byte that holds it. */
uint32_t field_offset(const struct field *f, uint32_t at);
uint32_t field_bytes(const struct field *f);

/* The checksum of a block of any type, and whether the one in it is right. */
void fields_seal(void *block);
bool fields_sealed(const void *block);

#endif
