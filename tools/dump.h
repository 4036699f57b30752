/* SPDX-License-Identifier: GPL-2.0-or-later */
/* dump.h - prints blocks, nodes and inodes as text, from the table of fields. */
#ifndef CSVFS_TOOLS_DUMP_H
#define CSVFS_TOOLS_DUMP_H

#include "metadata/fields.h"
#include "metadata/format_inode.h"

/* A whole block, by its magic; also what is no block of ours. */
void dump_block(const void *block);
/* A node of a tree, `bytes` long, wherever it lies. Never reads outside it. */
void dump_node(const uint8_t *node, uint32_t bytes);
void dump_inode(const struct disk_inode *d);
/* Value of one element, as dump_block prints it; without a line end. */
void dump_value(const void *block, const struct field *f, uint32_t at);
/* A name as people wrote it, but for what a terminal would obey. */
void dump_name(const void *name, uint32_t n);
const char *dump_type_name(uint32_t mode);

#endif
