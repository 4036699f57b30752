/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * driver.c - runs a target without libFuzzer, so with any compiler: inputs at random, from a seed.
 *
 *   fuzz_NAME [-t SECONDS] [-s SEED]     and first all that FOUND (below) names for it
 *   fuzz_NAME -x HEX                     this input
 *   fuzz_NAME -c FOLDER                  writes seeds for libFuzzer
 *
 * FOUND is found.txt in this folder: lines of a target's name and an input that once ended badly.
 */
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "csvfs/base/prng.h"
#include "tests/fuzz/fuzz.h"

#define INPUT_MAX 4096u
#define EDIT 8u
#define INPUT_SECONDS 20 /* more is a hang */

static uint8_t input[INPUT_MAX];
static size_t input_size;
static uint64_t runs;

void __sanitizer_set_death_callback(void (*f)(void)) __attribute__((weak));

static void tell(void)
{
	static bool told;

	if (told)
		return;
	told = true;
	fprintf(stderr, "after %llu inputs: " FUZZ_NAME " -x ", (unsigned long long)runs);
	for (size_t i = 0; i < input_size; i++)
		fprintf(stderr, "%02x", input[i]);
	fputc('\n', stderr);
}

static void on_signal(int sig)
{
	if (sig == SIGALRM)
		fprintf(stderr, "it does not end\n");
	tell();
	(void)signal(sig, SIG_DFL);
	(void)raise(sig);
}

static void run_one(void)
{
	(void)alarm(INPUT_SECONDS);
	runs++;
	(void)LLVMFuzzerTestOneInput(input, input_size);
}

/* A few edits: one alone finds most, several together what one cannot. */
static void any_input(struct prng *r)
{
	uint32_t edits = 1 + (uint32_t)prng_below(r, prng_below(r, 4) ? 3 : 12);
	bool one_block = prng_below(r, 3) == 0;

	input_size = 1 + edits * EDIT;
	for (size_t i = 0; i < input_size; i++)
		input[i] = (uint8_t)prng_below(r, 256);
	for (uint32_t e = 1; e < edits && one_block; e++)
		memcpy(input + 1 + e * EDIT + 1, input + 2, 2);
}

static bool from_hex(const char *s)
{
	unsigned b;

	for (input_size = 0; input_size < INPUT_MAX && sscanf(s, "%2x", &b) == 1; s += 2)
		input[input_size++] = (uint8_t)b;
	return input_size > 0;
}

static void found_before(void)
{
	FILE *f = fopen(FUZZ_FOUND, "r");
	char name[64], hex[2 * INPUT_MAX + 1];

	if (!f)
		return;
	while (fscanf(f, "%63s %8192s", name, hex) == 2)
		if (!strcmp(name, FUZZ_NAME) && from_hex(hex))
			run_one();
	fclose(f);
}

static void write_seeds(const char *folder)
{
	struct prng r = {1};

	for (uint32_t i = 0; i < 500; i++) {
		char path[512];
		FILE *f;

		any_input(&r);
		(void)snprintf(path, sizeof(path), "%s/%u", folder, i);
		f = fopen(path, "w");
		if (!f || fwrite(input, 1, input_size, f) != input_size || fclose(f)) {
			perror(path);
			exit(1);
		}
	}
}

int main(int argc, char **argv)
{
	time_t end, seconds = 10;
	struct prng r = {1};
	int c;

	(void)LLVMFuzzerInitialize(&argc, &argv);
	(void)signal(SIGABRT, on_signal);
	(void)signal(SIGALRM, on_signal);
	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(tell);
	else
		(void)signal(SIGSEGV, on_signal);
	while ((c = getopt(argc, argv, "t:s:x:c:")) != -1) {
		switch (c) {
		case 't':
			seconds = atol(optarg);
			break;
		case 's':
			r.s = strtoull(optarg, NULL, 10);
			break;
		case 'x':
			if (from_hex(optarg))
				run_one();
			return 0;
		case 'c':
			write_seeds(optarg);
			return 0;
		default:
			return 2;
		}
	}
	found_before();
	for (end = time(NULL) + seconds; time(NULL) < end;) {
		any_input(&r);
		run_one();
	}
	fprintf(stderr, FUZZ_NAME ": %llu inputs\n", (unsigned long long)runs);
	return 0;
}
