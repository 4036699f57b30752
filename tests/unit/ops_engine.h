/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ops_engine.h - runs requests of ops_req.h through the whole engine, on a volume in memory that can
 * be closed, crashed and checked. To be included by one .c file.
 */
#ifndef CSVFS_TESTS_OPS_ENGINE_H
#define CSVFS_TESTS_OPS_ENGINE_H

#include "metadata/run_sync.h"
#include "tests/unit/ops_req.h"
#include "tools/check/check.h"

#define CHECK_MEM (64u << 20)

static struct {
	struct run_sync_mem_dev *mem;
	struct sync_dev dev;
	struct run_sync *rs;
	uint64_t cache_bytes, seq;
	void *region;
} engine;

static inline void engine_say(void *ctx, enum trace_level level, const char *line)
{
	if (getenv("CSVFS_TEST_TRACE"))
		fprintf(stderr, "%s\n", line);
}

static const struct trace engine_trace = {TRACE_DEBUG, engine_say, NULL};

static int run_request(void)
{
	struct fs_request *q = &run.r.rq;
	int err;

	run_room();
	q->time_ns = 1700000000000000000 + (int64_t)engine.seq * 1000;
	engine.seq++;
	if (fs_op_needs_slot(q->op))
		q->id = (struct fs_reqid){.node = 1, .slot = 1, .life = 9, .seq = engine.seq};
	err = run_sync_request(engine.rs, q, &run.r.reply);
	run.steps++;
	run.undone += err != 0;
	return err;
}

static inline void engine_open(void)
{
	struct run_sync_config cfg = {.dev = &engine.dev,
		.ops = &metadata_ops,
		.cache_bytes = engine.cache_bytes,
		.mem_bytes = 128u << 20,
		.steal = true,
		.write_cache = true,
		.trace = &engine_trace,
		.ino_is_open = run_is_open};
	char why[256] = "";

	if (run_sync_open(&cfg, &engine.rs, why))
		fail_msg("%s", why);
}

static inline void engine_problem(void *ctx, const struct check_problem *p)
{
	char text[512];

	check_problem_text(p, text, sizeof(text));
	if (problem_severity(p->code) != SEVERITY_NOTE)
		print_error("%s\n", text);
}

static inline int engine_check_read(void *ctx, uint64_t off, void *buf, uint32_t len)
{
	return engine.dev.read(engine.dev.ctx, off, buf, len);
}

/* As it would be after a power loss at this moment. */
static inline void engine_check(struct check_report *rep)
{
	struct check_dev dev = {.read = engine_check_read, .bytes = engine.dev.bytes};
	struct mem mem;
	struct check_options o = {.mem = &mem, .on_problem = engine_problem};

	mem_init(&mem, engine.region, CHECK_MEM);
	assert_int_equal(check_volume(&dev, &o, rep), 0);
	assert_int_equal(check_faults(rep), 0);
}

static inline uint64_t engine_mkfs_of(uint32_t cluster, uint64_t bytes, uint64_t cache_bytes)
{
	struct image_params p = {
		.cluster_bytes = cluster, .uuid = {7}, .dir_hash_key = {9}, .time_ns = 1};
	char why[256] = "";

	memset(&run, 0, sizeof(run));
	engine.mem = run_sync_mem_new(bytes);
	engine.dev = run_sync_mem_dev(engine.mem);
	engine.cache_bytes = cache_bytes;
	assert_int_equal(posix_memalign(&engine.region, 4096, CHECK_MEM), 0);
	if (run_sync_mkfs(&engine.dev, &p, &metadata_ops, NULL, why))
		fail_msg("%s", why);
	engine_open();
	return le64_get(vol_super(run_sync_vol(engine.rs))->root_ino);
}

static inline uint64_t engine_mkfs(uint64_t bytes, uint64_t cache_bytes)
{
	return engine_mkfs_of(CLUSTER, bytes, cache_bytes);
}

static inline void engine_end(void)
{
	assert_int_equal(run_sync_close(engine.rs), 0);
	run_sync_mem_free(engine.mem);
	free(engine.region);
	engine.rs = NULL;
}

static inline uint64_t engine_free_clusters(void)
{
	rq(FS_STATFS, 0, NULL);
	assert_int_equal(run_request(), 0);
	return run.r.reply.statfs.bfree;
}

#endif
