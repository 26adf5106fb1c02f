// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of the state machine of protection keys. They need neither a
 * processor with keys nor a process:
 *
 *	./tools/testing/kunit/kunit.py run --arch=x86_64 \
 *		--kconfig_add CONFIG_PKEY_MAP_KUNIT_TEST=y pkey_map
 */

#include <kunit/test.h>
#include <linux/kernel.h>

#include <asm/pkey_map.h>

/* The same rules once more, one variable a key and nothing clever. */
struct model {
	bool allocated[PKEY_MAP_KEYS];
	bool used[PKEY_MAP_KEYS];
	bool mapped[PKEY_MAP_KEYS];
	bool pinned[PKEY_MAP_KEYS];
	bool reuse_mapped;
	int exec_only;
};

/* The map under test, and the inputs that are not part of it. */
struct machine {
	union pkey_map map;
	u16 mapped;
	bool reuse_mapped;
};

/* An operation is a key to free or one of these, to which a key may be added. */
enum op {
	OP_ALLOC = 100,
	OP_EXEC_ONLY,
	OP_TOGGLE_MAPPED = 200,
	OP_TOGGLE_PINNED = 300,
};

static const int ops[] = {
	OP_ALLOC, OP_EXEC_ONLY,
	OP_TOGGLE_MAPPED + 1, OP_TOGGLE_MAPPED + 2, OP_TOGGLE_MAPPED + 15,
	OP_TOGGLE_PINNED + 1,
	0, 1, 2, 15,
};

static bool model_owned(const struct model *model, int pkey)
{
	if (pkey <= 0 || pkey >= PKEY_MAP_KEYS)
		return false;
	if (pkey == model->exec_only)
		return false;
	return model->allocated[pkey];
}

static int model_choose(const struct model *model, bool reuse_mapped)
{
	int pkey;

	for (pkey = 1; pkey < PKEY_MAP_KEYS; pkey++)
		if (!model->allocated[pkey] && !model->mapped[pkey] && !model->pinned[pkey])
			return pkey;
	for (pkey = 1; pkey < PKEY_MAP_KEYS; pkey++)
		if (reuse_mapped && !model->allocated[pkey])
			return pkey;
	return -ENOSPC;
}

static void model_take(struct model *model, int pkey)
{
	model->allocated[pkey] = true;
	model->used[pkey] = true;
}

static int model_step(struct model *model, int op)
{
	int pkey;

	switch (op) {
	case OP_ALLOC:
		pkey = model_choose(model, model->reuse_mapped);
		if (pkey > 0)
			model_take(model, pkey);
		return pkey;
	case OP_EXEC_ONLY:
		if (model->exec_only)
			return model->exec_only;
		pkey = model_choose(model, false);
		if (pkey > 0) {
			model_take(model, pkey);
			model->exec_only = pkey;
		}
		return pkey;
	}

	if (op >= OP_TOGGLE_PINNED) {
		model->pinned[op - OP_TOGGLE_PINNED] ^= true;
		return 0;
	}
	if (op >= OP_TOGGLE_MAPPED) {
		model->mapped[op - OP_TOGGLE_MAPPED] ^= true;
		return 0;
	}

	if (!model_owned(model, op))
		return -EINVAL;
	model->allocated[op] = false;
	return 0;
}

static int machine_take(struct machine *machine, int pkey, enum pkey_use use)
{
	if (pkey > 0)
		machine->map = pkey_map_take(machine->map, pkey, use);
	return pkey;
}

static int machine_step(struct machine *machine, int op)
{
	union pkey_map *map = &machine->map;
	int pkey;

	switch (op) {
	case OP_ALLOC:
		pkey = pkey_map_choose(*map, machine->mapped, machine->reuse_mapped);
		return machine_take(machine, pkey, PKEY_USE_USER);
	case OP_EXEC_ONLY:
		if (map->exec_only)
			return map->exec_only;
		pkey = pkey_map_choose(*map, machine->mapped, false);
		return machine_take(machine, pkey, PKEY_USE_EXEC_ONLY);
	}

	if (op >= OP_TOGGLE_PINNED) {
		map->pinned ^= BIT(op - OP_TOGGLE_PINNED);
		return 0;
	}
	if (op >= OP_TOGGLE_MAPPED) {
		machine->mapped ^= BIT(op - OP_TOGGLE_MAPPED);
		return 0;
	}

	if (!pkey_map_owned(*map, op))
		return -EINVAL;
	*map = pkey_map_free(*map, op);
	return 0;
}

static union pkey_map model_map(const struct model *model)
{
	union pkey_map map = { .exec_only = model->exec_only };
	int pkey;

	for (pkey = 0; pkey < PKEY_MAP_KEYS; pkey++) {
		map.allocated |= model->allocated[pkey] << pkey;
		map.used |= model->used[pkey] << pkey;
		map.pinned |= model->pinned[pkey] << pkey;
	}
	return map;
}

static void assert_same_answers(struct kunit *test, union pkey_map map,
				const struct model *model)
{
	int pkey;

	for (pkey = -2; pkey <= PKEY_MAP_KEYS + 1; pkey++) {
		bool owned = model_owned(model, pkey);

		KUNIT_ASSERT_EQ_MSG(test, pkey_map_owned(map, pkey), owned,
				    "key %d, map %016llx", pkey, map.word);
		KUNIT_ASSERT_EQ_MSG(test, pkey_map_attachable(map, pkey),
				    owned || pkey == 0,
				    "key %d, map %016llx", pkey, map.word);
	}
}

/* Every sequence of @depth operations from this state on. */
static void walk(struct kunit *test, const struct machine *machine,
		 const struct model *model, int depth)
{
	int i;

	if (!depth)
		return;

	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		struct machine next = *machine;
		struct model next_model = *model;

		KUNIT_ASSERT_EQ_MSG(test, machine_step(&next, ops[i]),
				    model_step(&next_model, ops[i]),
				    "operation %d on map %016llx, mapped %04x", ops[i],
				    machine->map.word, machine->mapped);
		KUNIT_ASSERT_EQ_MSG(test, next.map.word, model_map(&next_model).word,
				    "operation %d on map %016llx, mapped %04x", ops[i],
				    machine->map.word, machine->mapped);
		assert_same_answers(test, next.map, &next_model);
		walk(test, &next, &next_model, depth - 1);
	}
}

/* Where the sequences start: this many keys taken, then so many freed. */
static const struct start {
	int taken;
	int freed;
	bool reuse_mapped;
} start_param[] = {
	{ 0, 0, true }, { 13, 0, true }, { 14, 0, true }, { 15, 0, true },
	{ 15, 2, true }, { 15, 2, false }, { 15, 15, true }, { 15, 15, false },
};

static void start_desc(const struct start *start, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%d taken, %d freed, reuse_mapped %d",
		 start->taken, start->freed, start->reuse_mapped);
}
KUNIT_ARRAY_PARAM(start, start_param, start_desc);

static void test_all_sequences(struct kunit *test)
{
	const struct start *start = test->param_value;
	struct machine machine = {
		.map = pkey_map_init(),
		.reuse_mapped = start->reuse_mapped,
	};
	struct model model = {
		.allocated[0] = true,
		.used[0] = true,
		.reuse_mapped = start->reuse_mapped,
	};
	int pkey;

	for (pkey = 1; pkey <= start->taken; pkey++)
		KUNIT_ASSERT_EQ(test, machine_step(&machine, OP_ALLOC),
				model_step(&model, OP_ALLOC));
	for (pkey = 1; pkey <= start->freed; pkey++)
		KUNIT_ASSERT_EQ(test, machine_step(&machine, pkey),
				model_step(&model, pkey));

	walk(test, &machine, &model, 5);
}

static void test_init_has_key_0_only(struct kunit *test)
{
	union pkey_map map = pkey_map_init();

	KUNIT_EXPECT_EQ_MSG(test, map.word, 0x0000000000010001ULL, "map %016llx", map.word);
	KUNIT_EXPECT_TRUE(test, pkey_map_attachable(map, 0));
	KUNIT_EXPECT_FALSE(test, pkey_map_owned(map, 0));
}

static void test_alloc_in_order_until_full(struct kunit *test)
{
	struct machine machine = { .map = pkey_map_init(), .reuse_mapped = true };
	int pkey;

	for (pkey = 1; pkey < PKEY_MAP_KEYS; pkey++)
		KUNIT_EXPECT_EQ(test, machine_step(&machine, OP_ALLOC), pkey);

	KUNIT_EXPECT_EQ(test, machine_step(&machine, OP_ALLOC), -ENOSPC);
	KUNIT_EXPECT_EQ(test, machine_step(&machine, OP_EXEC_ONLY), -ENOSPC);
}

static void test_alloc_lowest_used_or_not(struct kunit *test)
{
	struct machine machine = { .map = pkey_map_init(), .reuse_mapped = true };

	KUNIT_EXPECT_EQ(test, machine_step(&machine, OP_ALLOC), 1);
	KUNIT_EXPECT_EQ(test, machine_step(&machine, OP_ALLOC), 2);
	KUNIT_EXPECT_EQ(test, machine_step(&machine, 1), 0);
	KUNIT_EXPECT_EQ(test, machine_step(&machine, OP_ALLOC), 1);
	KUNIT_EXPECT_EQ(test, machine_step(&machine, OP_ALLOC), 3);
}

static void test_alloc_unmapped_before_mapped(struct kunit *test)
{
	union pkey_map map = { .allocated = 0x0001, .used = 0xffff };

	KUNIT_EXPECT_EQ(test, pkey_map_choose(map, 0x0000, true), 1);
	KUNIT_EXPECT_EQ(test, pkey_map_choose(map, 0x7ffe, true), 15);
	KUNIT_EXPECT_EQ(test, pkey_map_choose(map, 0xfffe, true), 1);
	KUNIT_EXPECT_EQ(test, pkey_map_choose(map, 0xfffe, false), -ENOSPC);

	/* A key that was never used comes before a mapped one, whatever the numbers. */
	map.used = 0x7fff;
	KUNIT_EXPECT_EQ(test, pkey_map_choose(map, 0x7ffe, true), 15);
}

static void test_pinned_counts_as_mapped(struct kunit *test)
{
	union pkey_map map = { .allocated = 0x0001, .used = 0xffff, .pinned = 0x0002 };

	KUNIT_EXPECT_EQ(test, pkey_map_choose(map, 0x0000, true), 2);
	KUNIT_EXPECT_EQ(test, pkey_map_choose(map, 0xfffc, true), 1);
	KUNIT_EXPECT_EQ(test, pkey_map_choose(map, 0xfffc, false), -ENOSPC);

	/* Taking and freeing a key leaves the pins of others. */
	map = pkey_map_free(pkey_map_take(map, 2, PKEY_USE_USER), 2);
	KUNIT_EXPECT_EQ(test, map.pinned, 0x0002);
}

static void test_origin(struct kunit *test)
{
	union pkey_map used = { .allocated = 0x0001, .used = 0xffff };

	KUNIT_EXPECT_EQ(test, pkey_map_origin(used, false, 15), PKEY_CLEAN);
	KUNIT_EXPECT_EQ(test, pkey_map_origin(used, true, 1), PKEY_MAPPED);
	KUNIT_EXPECT_EQ(test, pkey_map_origin(pkey_map_init(), false, 1), PKEY_NEVER_USED);
}

static void test_free_rejects(struct kunit *test)
{
	static const int bad[] = { INT_MIN, -2, -1, 0, 1, 3, 15, 16, 17, 31, 32, 33,
				   64, 65, INT_MAX };
	struct machine machine = { .map = pkey_map_init() };
	int i;

	KUNIT_ASSERT_EQ(test, machine_step(&machine, OP_EXEC_ONLY), 1);
	KUNIT_ASSERT_EQ(test, machine_step(&machine, OP_ALLOC), 2);

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		KUNIT_EXPECT_FALSE_MSG(test, pkey_map_owned(machine.map, bad[i]),
				       "key %d", bad[i]);
		KUNIT_EXPECT_EQ_MSG(test, pkey_map_attachable(machine.map, bad[i]),
				    bad[i] == 0, "key %d", bad[i]);
	}
}

static void test_exec_only_is_kept(struct kunit *test)
{
	struct machine machine = { .map = pkey_map_init(), .reuse_mapped = true };
	int pkey;

	KUNIT_ASSERT_EQ(test, machine_step(&machine, OP_ALLOC), 1);
	KUNIT_EXPECT_EQ(test, machine_step(&machine, OP_EXEC_ONLY), 2);
	KUNIT_EXPECT_EQ(test, machine_step(&machine, 2), -EINVAL);

	for (pkey = 3; pkey < PKEY_MAP_KEYS; pkey++)
		KUNIT_EXPECT_EQ(test, machine_step(&machine, OP_ALLOC), pkey);
	KUNIT_EXPECT_EQ(test, machine_step(&machine, OP_ALLOC), -ENOSPC);
	KUNIT_EXPECT_EQ(test, machine.map.exec_only, 2);
}

static struct kunit_case pkey_map_cases[] = {
	KUNIT_CASE(test_init_has_key_0_only),
	KUNIT_CASE(test_alloc_in_order_until_full),
	KUNIT_CASE(test_alloc_lowest_used_or_not),
	KUNIT_CASE(test_alloc_unmapped_before_mapped),
	KUNIT_CASE(test_pinned_counts_as_mapped),
	KUNIT_CASE(test_origin),
	KUNIT_CASE(test_free_rejects),
	KUNIT_CASE(test_exec_only_is_kept),
	KUNIT_CASE_PARAM(test_all_sequences, start_gen_params),
	{}
};

static struct kunit_suite pkey_map_suite = {
	.name = "pkey_map",
	.test_cases = pkey_map_cases,
};
kunit_test_suite(pkey_map_suite);

MODULE_DESCRIPTION("KUnit tests of the state machine of protection keys");
MODULE_LICENSE("GPL");
