/* check_slices.c -- the code of slices is the same, whoever reads ahead.
 *
 * Lengths about those of portions and slices; engines that compute when they
 * are asked, and one that is late; where memory for predictions is short, and
 * where the work ends early.
 *
 * SPDX-License-Identifier: MIT
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "compress/slices.h"
#include "engine/engine_ops.h"
#include "late_engine.h"
#include "tiny_model.h"

#include "runner.h" /* last */

enum { LENGTH_MAX = 100000, ROOM = 2 * LENGTH_MAX, TIMEOUT_S = 300 };

/* Of one slice, of two, and of a few. */
static const size_t lengths[] = {
    1, 62, 63, 64, 65, 1023, 1024, 1025, 2047, 20000, 32768, 49153, LENGTH_MAX};

/* How a model starts, and how many threads code: a loop test each. */
static const struct form {
    int begin_byte, n_threads;
} forms[] = {{0, 1}, {0, 3}, {-1, 1}, {-1, 3}};

enum { N_FORMS = sizeof forms / sizeof forms[0] };

static struct tiny_model tiny;
static struct engine *engine;
static const struct engine_ops *ops;
static uint8_t plain[LENGTH_MAX];

static void open_form(const struct form *form)
{
    const struct engine_options options = {.device = DEVICE_CPU,
                                           .n_threads = 1};
    struct tiny_spec spec = tiny_spec_mamba2(8, 1, 5);
    spec.begin_byte = form->begin_byte;
    ck_assert_int_eq(tiny_model_open(&tiny, &spec), OK);
    ck_assert_int_eq(engine_open(&engine, tiny.model, &options), OK);
    ops = engine->ops;
    for (size_t i = 0; i < LENGTH_MAX; i++)
        plain[i] = (uint8_t)(64 + random_at(1, i) % 32);
}

static void be_prompt(void)
{
    engine->ops = ops;
    engine->is_asynchronous = false;
}

static void close_form(void)
{
    be_prompt();
    engine_close(engine);
    tiny_model_close(&tiny);
}

/* ---- coding ------------------------------------------------------------- */

struct code {
    uint8_t *bytes; /* [n], owned */
    size_t n;
    struct range_coder side;
};

/* *context: how many more calls go well. */
static enum status count_down(void *context, size_t n_bytes)
{
    int *n_left = context;
    (void)n_bytes;
    return (*n_left)-- > 0 ? OK : E_INTERRUPTED;
}

static struct slices *open_slices(int n_threads, int *n_left)
{
    struct slices *slices;
    ck_assert_int_eq(
        slices_open(&slices, engine, n_threads, count_down, n_left), OK);
    return slices;
}

static struct code encode(struct slices *slices, size_t n)
{
    struct code code = {malloc(ROOM), 0, range_encoder()};
    ck_assert_int_eq(
        slices_encode(slices, plain, n, &code.side, code.bytes, ROOM, &code.n),
        OK);
    ck_assert_uint_le(code.n, ROOM);
    ck_assert_int_eq(range_finish(&code.side), OK);
    return code;
}

static void free_code(struct code *code)
{
    free(code->bytes);
    range_free(&code->side);
}

static struct code encoded(int n_threads, size_t n)
{
    int n_left = INT_MAX;
    struct slices *slices = open_slices(n_threads, &n_left);
    struct code code = encode(slices, n);
    slices_close(slices);
    return code;
}

/* Frees b. */
static void assert_same(const struct code *a, struct code *b)
{
    ck_assert_uint_eq(a->n, b->n);
    ck_assert_mem_eq(a->bytes, b->bytes, a->n);
    ck_assert_uint_eq(a->side.n, b->side.n);
    ck_assert_mem_eq(a->side.code, b->side.code, a->side.n);
    free_code(b);
}

static void assert_decodes(const struct code *code, int n_threads, size_t n)
{
    static uint8_t back[LENGTH_MAX];
    int n_left = INT_MAX;
    struct slices *slices = open_slices(n_threads, &n_left);
    struct range_coder side = range_decoder(code->side.code, code->side.n);
    ck_assert_int_eq(
        slices_decode(slices, back, n, &side, code->bytes, code->n), OK);
    ck_assert_mem_eq(back, plain, n);
    slices_close(slices);
}

/* ---- tests -------------------------------------------------------------- */

START_TEST(reading_ahead_changes_nothing)
{
    const int n_threads = forms[_i].n_threads;
    open_form(&forms[_i]);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct code want = encoded(n_threads, lengths[i]);
        late_engine_make(engine);
        struct code got = encoded(n_threads, lengths[i]);
        assert_same(&want, &got);
        assert_decodes(&want, n_threads, lengths[i]);
        be_prompt();
        free_code(&want);
    }
    close_form();
}
END_TEST

/* ---- little memory ------------------------------------------------------ */

static size_t most_floats;

static enum status scarce_floats_new(struct engine *of, float **floats,
                                     size_t n)
{
    (void)of;
    *floats = n <= most_floats ? malloc(n * sizeof **floats) : NULL;
    return *floats ? OK : E_MEMORY;
}

static void scarce_floats_free(struct engine *of, float *floats)
{
    (void)of;
    free(floats);
}

/* As much memory as portions of two chunks take; less than those of one. */
START_TEST(portions_shrink_with_memory)
{
    enum { N = 49153, SLICES = 3, PLACES = 3 };
    open_form(&forms[_i]);
    struct code want = encoded(3, N);
    late_engine_make(engine);
    struct engine_ops scarce = *engine->ops;
    scarce.floats_new = scarce_floats_new;
    scarce.floats_free = scarce_floats_free;
    engine->ops = &scarce;
    most_floats = (size_t)SLICES * PLACES * 129 * 256;
    struct code got = encoded(3, N);
    assert_same(&want, &got);

    int n_left = INT_MAX;
    struct slices *slices = open_slices(3, &n_left);
    struct range_coder side = range_encoder();
    most_floats = (size_t)SLICES * PLACES * 65 * 256 - 1;
    ck_assert_int_eq(
        slices_encode(slices, plain, N, &side, want.bytes, ROOM, &want.n),
        E_MEMORY);
    range_free(&side);
    slices_close(slices);
    free_code(&want);
    close_form();
}
END_TEST

/* ---- an early end ------------------------------------------------------- */

/* Nothing is under way then, and the slices can be used again. */
START_TEST(work_that_was_ended_can_start_anew)
{
    enum { N = 20000 };
    open_form(&forms[_i]);
    struct code want = encoded(2, N);
    late_engine_make(engine);
    for (int calls = 0; calls < 4; calls++) {
        int n_left = calls;
        struct slices *slices = open_slices(2, &n_left);
        struct code code = {malloc(ROOM), 0, range_encoder()};
        ck_assert_int_eq(slices_encode(slices, plain, N, &code.side, code.bytes,
                                       ROOM, &code.n),
                         E_INTERRUPTED);
        free_code(&code);
        n_left = INT_MAX;
        struct code got = encode(slices, N);
        assert_same(&want, &got);
        slices_close(slices);
    }
    free_code(&want);
    close_form();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("slices");
    TCase *slices = tcase_create("slices");
    tcase_set_timeout(slices, TIMEOUT_S);
    tcase_add_loop_test(slices, reading_ahead_changes_nothing, 0, N_FORMS);
    tcase_add_loop_test(slices, portions_shrink_with_memory, 0, N_FORMS);
    tcase_add_loop_test(slices, work_that_was_ended_can_start_anew, 0, N_FORMS);
    suite_add_tcase(suite, slices);
    return run_suite(suite);
}
