/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Random operations against a model, with faults at every block and every allocation. */
#include "tests/unit/ops_run.h"
#include "tests/unit/ops_model.h"

static bool with_faults;

static void model_hook(uint32_t op)
{
	/* Now and then little room, so that work is cut into many steps and intents stand for long. */
	fake.room_cost = m_rand(2) ? 10 + m_rand(30) : 0;
	fake.run_max = m_rand(4) ? 1 + m_rand(40) : 1;
	run.faults = with_faults && m_rand(4) == 0;
	if (m_rand(10) == 0) {
		struct vol_req saved = run.r;

		(void)run_once(background);
		run.r = saved;
	}
	if (op % 300 == 299)
		check_volume();
}

static bool model_may_be_full(void)
{
	return fake.clusters_used + 50 > fake.cluster_count - FAKE_CLUSTER_FIRST;
}

static void run_seed(uint64_t seed, uint32_t clusters, uint32_t steps)
{
	uint64_t root = run_mkfs(clusters + FAKE_CLUSTER_FIRST);

	model_run(seed, root, steps);
	assert_true(m.failed > steps / 20 && m.failed < steps * 2);
	fake.room_cost = 0;
	model_empty();
	run_background();
	check_volume();
	/* The root directory, and not one block or cluster more. */
	assert_int_equal(fake.inodes_used, 1);
	assert_int_equal(fake.blocks_used, 0);
	assert_int_equal(fake.clusters_used, 0);
	assert_true(fake.dirtied_max <= TXN_OP_BLOCKS);
	assert_true(fake.kicks > 5);
	print_message("seed %llu: %u calls, %u undone; %u intents; at most %u blocks changed, %u "
		      "read\n",
		(unsigned long long)seed, run.steps, run.undone, fake.kicks, fake.dirtied_max,
		fake.gets_max);
}

static void random_operations_match_the_model(void **state)
{
	with_faults = false;
	for (uint64_t seed = 1; seed <= 10; seed++)
		run_seed(seed, 60000, 5000);
}

static void random_operations_match_the_model_on_a_full_volume(void **state)
{
	with_faults = false;
	for (uint64_t seed = 11; seed <= 16; seed++)
		run_seed(seed, 3000, 5000);
}

static void operations_undone_anywhere_leave_nothing_behind(void **state)
{
	with_faults = true;
	for (uint64_t seed = 21; seed <= 30; seed++)
		run_seed(seed, 60000, 4000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_operations_match_the_model),
		cmocka_unit_test(random_operations_match_the_model_on_a_full_volume),
		cmocka_unit_test(operations_undone_anywhere_leave_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
