/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fuzz.h - what each target defines; called by libFuzzer, or by driver.c. */
#ifndef CSVFS_TESTS_FUZZ_FUZZ_H
#define CSVFS_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
