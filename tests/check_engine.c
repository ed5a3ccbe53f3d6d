/* check_engine.c -- the promise: one model and one byte string, one result.
 *
 * Every level of this CPU, every number of threads, every split of a stream
 * into calls, alone or beside other streams, is compared with one scalar thread
 * that reads all at once, by memcmp of logits, costs and states; and that one
 * with the digests in golden/logits.txt.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/random.h"
#include "engine/cpu_engine.h"
#include "engine/engine.h"
#include "engine/pooled.h"
#include "engine/state_image.h"
#include "kernels/cpu_kernels.h"
#include "late_engine.h"
#include "tiny_model.h"

#include "runner.h" /* last */

enum { LENGTH = 300 };

/* Odd shapes first: nothing a multiple of a vector, every d_state.  The last
 * ones have float weights: on one machine or another, CPUs agree on them too,
 * but nothing is promised. */
static const int mamba1_shapes[][6] = {
    /* d_model, n_layer, d_inner, d_state, d_conv, dt_rank */
    {64, 2, 128, 16, 4, 4},    {36, 3, 52, 8, 4, 3},    {100, 2, 204, 16, 3, 7},
    {4, 1, 4, 4, 2, 1},        {132, 2, 260, 32, 4, 9}, {68, 1, 140, 64, 8, 5},
    {512, 2, 1024, 16, 4, 32}, {96, 2, 192, 16, 4, 6},  {60, 2, 116, 16, 4, 5},
    {64, 2, 128, 8, 4, 4},     {36, 2, 72, 16, 4, 3},
};

static const int mamba2_shapes[][7] = {
    /* d_model, n_layer, d_inner, d_state, d_conv, headdim, n_groups */
    {64, 2, 128, 32, 4, 16, 1},    {36, 3, 72, 16, 4, 8, 3},
    {100, 2, 200, 48, 3, 40, 5},   {4, 1, 8, 16, 2, 8, 1},
    {132, 2, 256, 256, 4, 128, 2}, {68, 1, 192, 80, 8, 24, 8},
    {512, 2, 1024, 64, 4, 64, 1},  {96, 2, 192, 64, 4, 48, 2},
    {60, 2, 120, 16, 4, 24, 1},    {64, 2, 128, 64, 4, 64, 2},
    {36, 2, 72, 32, 4, 8, 1},
};

enum {
    N_SPECS_1 = sizeof mamba1_shapes / sizeof mamba1_shapes[0],
    N_SPECS_2 = sizeof mamba2_shapes / sizeof mamba2_shapes[0],
    N_SPECS = N_SPECS_1 + N_SPECS_2,
    N_INT8 = 8,        /* of each mixer; the rest are floats */
    SPEC_2 = N_SPECS_1 /* the first of Mamba-2 */
};

static struct tiny_spec mamba1_at(int i)
{
    const int *shape = mamba1_shapes[i];
    struct tiny_spec spec = tiny_spec_make(shape[0], shape[1], (uint64_t)i + 1);
    spec.d_inner = shape[2];
    spec.d_state = shape[3];
    spec.d_conv = shape[4];
    spec.dt_rank = shape[5];
    return spec;
}

static struct tiny_spec mamba2_at(int i)
{
    const int *shape = mamba2_shapes[i];
    struct tiny_spec spec =
        tiny_spec_mamba2(shape[0], shape[1], (uint64_t)i + 1);
    spec.d_inner = shape[2];
    spec.d_state = shape[3];
    spec.d_conv = shape[4];
    spec.headdim = shape[5];
    spec.n_groups = shape[6];
    spec.has_channel_d = i % 2 == 1;
    return spec;
}

static struct tiny_spec spec_at(int i)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    struct tiny_spec spec = i < SPEC_2 ? mamba1_at(i) : mamba2_at(i - SPEC_2);
    i %= SPEC_2;
    spec.has_norm_bias = i % 2 == 1;
    spec.is_tied = i % 3 == 2;
    spec.begin_byte = i == 7 ? -1 : 0;
    if (i >= N_INT8)
        spec.weights = types[i - N_INT8];
    return spec;
}

static struct tiny_model tiny;
static size_t image_size;
static uint8_t text[LENGTH];

/* What one scalar thread predicts for text. */
static float want_logits[LENGTH][256], want_bits[LENGTH], *want_image;

static struct engine *open_engine(const char *cpu, int n_threads)
{
    struct engine *engine;
    struct engine_options options = {
        .device = DEVICE_CPU, .n_threads = n_threads, .cpu = cpu};
    enum status status = engine_open(&engine, tiny.model, &options);
    ck_assert_msg(status == OK, "%s", status_message());
    ((struct cpu_engine *)engine)->splits_all = n_threads != 3;
    return engine;
}

static struct state *new_state(struct engine *engine)
{
    struct state *state;
    ck_assert_int_eq(engine_state_new(engine, &state), OK);
    return state;
}

static void feed(struct engine *engine, struct state *state,
                 const uint8_t *bytes, size_t n, float *bits, float *logits)
{
    struct segment s = {state, bytes, n, bits, logits, NULL};
    ck_assert_int_eq(engine_feed(engine, &s, 1), OK);
}

static void assert_image(struct engine *engine, struct state *state,
                         const float *want)
{
    float *image = malloc(image_size);
    ck_assert_int_eq(engine_state_get(engine, state, image), OK);
    ck_assert_mem_eq(image, want, image_size);
    free(image);
}

static void open_spec(int i)
{
    struct tiny_spec spec = spec_at(i);
    enum status status = tiny_model_open(&tiny, &spec);
    ck_assert_msg(status == OK, "%s", status_message());
    image_size = model_state_size(&tiny.model->config);
    for (int t = 0; t < LENGTH; t++)
        text[t] = (uint8_t)(random_at(99, (uint64_t)t) >> 56);

    struct engine *engine = open_engine("scalar", 1);
    struct state *state = new_state(engine);
    feed(engine, state, text, LENGTH, want_bits, want_logits[0]);
    want_image = malloc(image_size);
    ck_assert_int_eq(engine_state_get(engine, state, want_image), OK);
    engine_state_free(engine, state);
    engine_close(engine);
}

static void close_spec(void)
{
    free(want_image);
    tiny_model_close(&tiny);
}

/* Feeds text in calls of the sizes that next gives, and compares all. */
static void assert_split(struct engine *engine, uint64_t seed)
{
    static float logits[LENGTH][256], bits[LENGTH];
    struct state *state = new_state(engine);
    memset(logits, 0xff, sizeof logits);
    size_t done = 0;
    for (uint64_t i = 0; done < LENGTH; i++) {
        size_t n = seed == 0 ? 1 : random_at(seed, i) % 97;
        n = n < LENGTH - done ? n : LENGTH - done;
        feed(engine, state, text + done, n, bits + done, logits[done]);
        done += n;
    }
    ck_assert_mem_eq(logits, want_logits, sizeof logits);
    ck_assert_mem_eq(bits, want_bits, sizeof bits);
    assert_image(engine, state, want_image);
    engine_state_free(engine, state);
}

START_TEST(levels_threads_and_splits_agree)
{
    open_spec(_i);
    const struct cpu_kernels *const *level = cpu_kernels_all();
    for (; *level; level++) {
        for (int threads = 1; threads <= 3; threads++) {
            struct engine *engine = open_engine((*level)->name, threads);
            for (uint64_t seed = 0; seed < 4; seed++)
                assert_split(engine, seed);
            engine_close(engine);
        }
    }
    close_spec();
}
END_TEST

/* The same, two threads and a split for each shape of Mamba-2. */
START_TEST(shapes_of_mamba2_agree)
{
    open_spec(_i);
    const struct cpu_kernels *const *level = cpu_kernels_all();
    for (; *level && *level != &cpu_scalar; level++) {
        struct engine *engine = open_engine((*level)->name, 2);
        assert_split(engine, 1 + (uint64_t)_i);
        engine_close(engine);
    }
    close_spec();
}
END_TEST

/* More threads than the model has projections to repack, or rows to split. */
START_TEST(many_threads_agree)
{
    enum { N = 20 };
    open_spec(_i);
    float logits[N][256], bits[N];
    for (int threads = 4; threads <= 16; threads += 3) {
        struct engine *engine = open_engine(NULL, threads);
        struct state *state = new_state(engine);
        feed(engine, state, text, N, bits, logits[0]);
        ck_assert_mem_eq(logits, want_logits, sizeof logits);
        ck_assert_mem_eq(bits, want_bits, sizeof bits);
        engine_state_free(engine, state);
        engine_close(engine);
    }
    close_spec();
}
END_TEST

/* Stream i reads text + i, of a length of its own, beside the others; then a
 * byte more, so that a batch is full of streams. */
START_TEST(streams_do_not_disturb_each_other)
{
    enum { STREAMS = 150 };
    open_spec(_i);
    struct engine *together = open_engine(NULL, 2);
    struct engine *alone = open_engine(NULL, 1);
    struct segment segments[STREAMS];
    for (size_t i = 0; i < STREAMS; i++) {
        struct segment s = {
            new_state(together), text + i, i * 7 % 61, NULL, NULL, NULL};
        segments[i] = s;
    }
    ck_assert_int_eq(engine_feed(together, segments, STREAMS), OK);
    for (size_t i = 0; i < STREAMS; i++) {
        segments[i].bytes += segments[i].n;
        segments[i].n = 1;
    }
    ck_assert_int_eq(engine_feed(together, segments, STREAMS), OK);
    for (size_t i = 0; i < STREAMS; i++) {
        struct state *state = new_state(alone);
        feed(alone, state, text + i, i * 7 % 61 + 1, NULL, NULL);
        ck_assert_int_eq(engine_state_get(alone, state, want_image), OK);
        assert_image(together, segments[i].state, want_image);
        engine_state_free(alone, state);
        engine_state_free(together, segments[i].state);
    }
    engine_close(alone);
    engine_close(together);
    close_spec();
}
END_TEST

/* Stream i of an engine reads text + i in calls of `step` bytes. */
static void add_up(const char *cpu, int n_threads, size_t step, float *pooled)
{
    enum { N = 5, EACH = 120 };
    struct engine *engine = open_engine(cpu, n_threads);
    size_t n_pooled = pooled_floats(&tiny.model->config);
    struct segment segments[N];
    memset(pooled, 0, N * n_pooled * sizeof *pooled);
    for (size_t i = 0; i < N; i++)
        segments[i] = (struct segment){.state = new_state(engine),
                                       .pooled = pooled + i * n_pooled};
    for (size_t at = 0; at < EACH; at += step) {
        for (size_t i = 0; i < N; i++) {
            segments[i].bytes = text + i + at;
            segments[i].n = step < EACH - at ? step : EACH - at;
        }
        ck_assert_int_eq(engine_feed(engine, segments, N), OK);
    }
    for (size_t i = 0; i < N; i++)
        engine_state_free(engine, segments[i].state);
    engine_close(engine);
}

START_TEST(pooled_agree)
{
    open_spec(_i);
    size_t n = 5 * pooled_floats(&tiny.model->config);
    float *want = malloc(n * sizeof *want),
          *pooled = malloc(n * sizeof *pooled);
    add_up("scalar", 1, 1, want);
    for (const struct cpu_kernels *const *k = cpu_kernels_all(); *k; k++) {
        for (int n_threads = 1; n_threads <= 3; n_threads++) {
            add_up((*k)->name, n_threads, n_threads == 2 ? 7 : 120, pooled);
            ck_assert_mem_eq(pooled, want, n * sizeof *pooled);
        }
    }
    free(pooled);
    free(want);
    close_spec();
}
END_TEST

/* ---- calls that follow each other --------------------------------------- */

static void start(struct engine *engine, const struct segment *segment)
{
    ck_assert_int_eq(engine_feed_start(engine, segment, 1), OK);
}

static struct engine *open_late(bool is_late)
{
    struct engine *engine = open_engine(NULL, 2);
    if (is_late)
        late_engine_make(engine);
    return engine;
}

/* One state in all calls; results of a call are there after the next start,
 * and those of the last after the end. */
START_TEST(started_calls_are_one)
{
    static float logits[LENGTH][256], bits[LENGTH];
    struct segment calls[2]; /* the one under way, the one that follows */
    open_spec(_i < 6 ? 0 : SPEC_2);
    struct engine *engine = open_late(_i % 2 == 1);
    struct state *state = new_state(engine);
    memset(logits, 0xff, sizeof logits);
    size_t done = 0, before = 0;
    for (uint64_t i = 0; done < LENGTH; i++) {
        size_t n = random_at((uint64_t)_i, i) % (_i < 4 ? 3 : 97);
        n = n < LENGTH - done ? n : LENGTH - done;
        calls[i % 2] = (struct segment){state,       text + done,  n,
                                        bits + done, logits[done], NULL};
        start(engine, &calls[i % 2]);
        ck_assert_mem_eq(logits, want_logits, before * sizeof logits[0]);
        ck_assert_mem_eq(bits, want_bits, before * sizeof bits[0]);
        before = done;
        done += n;
    }
    ck_assert_int_eq(engine_feed_finish(engine), OK);
    ck_assert_mem_eq(logits, want_logits, sizeof logits);
    ck_assert_mem_eq(bits, want_bits, sizeof bits);
    assert_image(engine, state, want_image);
    engine_state_free(engine, state);
    engine_close(engine);
    close_spec();
}
END_TEST

/* A state is saved, replaced, fed and drawn from when what was started with it
 * is done; others are copied meanwhile. */
START_TEST(whatever_needs_it_finishes)
{
    enum { HALF = LENGTH / 2 };
    open_spec(0);
    struct engine *engine = open_late(_i == 1);
    struct state *a = new_state(engine), *b = new_state(engine);
    struct segment halves[2] = {{.state = a, .bytes = text, .n = HALF}};
    halves[1] = halves[0];
    halves[1].bytes += HALF;

    start(engine, &halves[0]);
    ck_assert_int_eq(engine_state_begin(engine, b), OK);
    feed(engine, b, text, HALF, NULL, NULL);
    feed(engine, a, text + HALF, HALF, NULL, NULL);
    assert_image(engine, a, want_image);

    ck_assert_int_eq(engine_state_copy(engine, a, b), OK);
    start(engine, &halves[1]);
    assert_image(engine, a, want_image);

    start(engine, &halves[0]);
    ck_assert_int_eq(engine_state_set(engine, a, want_image), OK);
    assert_image(engine, a, want_image);

    struct sampler sampler = sampler_make(0.9f, 40, 0.95f, 0.01f, 17);
    uint8_t drawn[2][9];
    ck_assert_int_eq(engine_state_copy(engine, a, b), OK);
    start(engine, &halves[1]);
    ck_assert_int_eq(engine_generate(engine, a, &sampler, 0, drawn[0], 9), OK);
    ck_assert_int_eq(engine_state_set(engine, b, want_image), OK);
    ck_assert_int_eq(engine_generate(engine, b, &sampler, 0, drawn[1], 9), OK);
    ck_assert_mem_eq(drawn[0], drawn[1], 9);

    start(engine, &halves[0]);
    engine_state_free(engine, b);
    engine_state_free(engine, a);
    engine_close(engine);
    close_spec();
}
END_TEST

START_TEST(generating_is_choosing_and_reading)
{
    enum { N = 60 };
    open_spec(0);
    struct engine *engine = open_engine(NULL, 1);
    struct sampler sampler = sampler_make(0.9f, 40, 0.95f, 0.01f, 17);
    struct state *state = new_state(engine), *other = new_state(engine);
    uint8_t whole[N], parts[N], byte;
    float logits[256] = {0};
    feed(engine, state, text, 5, NULL, NULL);
    ck_assert_int_eq(engine_state_copy(engine, other, state), OK);
    ck_assert_int_eq(engine_generate(engine, state, &sampler, 3, whole, N), OK);

    memcpy(logits, want_logits[4], sizeof logits);
    for (uint64_t i = 0; i < N; i++) {
        byte = sampler_choose(&sampler, logits, 3 + i);
        ck_assert_uint_eq(byte, whole[i]);
        feed(engine, other, &byte, 1, NULL, logits);
    }
    feed(engine, state, &byte, 0, NULL, NULL);
    ck_assert_int_eq(engine_state_get(engine, other, want_image), OK);
    assert_image(engine, state, want_image);

    ck_assert_int_eq(engine_state_begin(engine, state), OK);
    feed(engine, state, text, 5, NULL, NULL);
    ck_assert_int_eq(engine_generate(engine, state, &sampler, 3, parts, 11),
                     OK);
    ck_assert_int_eq(
        engine_generate(engine, state, &sampler, 14, parts + 11, N - 11), OK);
    ck_assert_mem_eq(parts, whole, N);
    engine_state_free(engine, state);
    engine_state_free(engine, other);
    engine_close(engine);
    close_spec();
}
END_TEST

START_TEST(a_state_moves_between_engines)
{
    open_spec(_i == 0 ? 1 : SPEC_2 + _i);
    struct engine *a = open_engine("scalar", 1), *b = open_engine(NULL, 2);
    struct state *from = new_state(a), *to = new_state(b);
    feed(a, from, text, 123, NULL, NULL);
    float *image = malloc(image_size);
    ck_assert_int_eq(engine_state_get(a, from, image), OK);
    ck_assert_int_eq(engine_state_set(b, to, image), OK);
    feed(b, to, text + 123, LENGTH - 123, NULL, NULL);
    assert_image(b, to, want_image);
    free(image);
    engine_state_free(a, from);
    engine_state_free(b, to);
    engine_close(a);
    engine_close(b);
    close_spec();
}
END_TEST

/* At every place of a chunk: a state is taken from one engine and goes on in
 * another, and a copy of it goes on in the first. */
START_TEST(a_state_goes_on_from_every_place)
{
    enum { N = 130, MORE = 66 };
    static float logits[MORE][256];
    open_spec(SPEC_2 + _i);
    struct engine *a = open_engine("scalar", 1), *b = open_engine(NULL, 2);
    struct state *walker = new_state(a), *copy = new_state(a);
    struct state *other = new_state(b);
    float *image = malloc(image_size);
    for (size_t at = 0; at < N; at++) {
        ck_assert_int_eq(engine_state_get(a, walker, image), OK);
        ck_assert_int_eq(engine_state_set(b, other, image), OK);
        assert_image(b, other, image);
        ck_assert_int_eq(engine_state_copy(a, copy, walker), OK);
        feed(b, other, text + at, MORE, NULL, logits[0]);
        ck_assert_mem_eq(logits, want_logits + at, sizeof logits);
        feed(a, copy, text + at, 2, NULL, logits[0]);
        ck_assert_mem_eq(logits, want_logits + at, 2 * sizeof logits[0]);
        feed(a, walker, text + at, 1, NULL, NULL);
    }
    free(image);
    engine_state_free(a, walker);
    engine_state_free(a, copy);
    engine_state_free(b, other);
    engine_close(a);
    engine_close(b);
    close_spec();
}
END_TEST

/* Whatever a file holds. */
START_TEST(a_state_that_is_none_is_refused)
{
    open_spec(SPEC_2);
    const struct model_config *c = &tiny.model->config;
    struct engine *engine = open_engine(NULL, 1);
    struct state *state = new_state(engine);
    int8_t *int8s = state_int8s(c, want_image);
    size_t last = model_state_int8s(c) - 1;
    int8_t place = int8s[last];
    static const int8_t wrong[] = {64, -1, 127, -128};
    for (size_t i = 0; i < sizeof wrong; i++) {
        int8s[last] = wrong[i];
        ck_assert_int_eq(engine_state_set(engine, state, want_image), E_FORMAT);
    }
    int8s[last] = place;
    int8s[5] = -128;
    ck_assert_int_eq(engine_state_set(engine, state, want_image), E_FORMAT);
    engine_state_free(engine, state);
    engine_close(engine);
    close_spec();
}
END_TEST

/* Of the bytes from the place on, a state knows nothing: in place of what was
 * read there, 0. */
START_TEST(a_state_that_knows_more_is_refused)
{
    open_spec(SPEC_2);
    const struct model_config *c = &tiny.model->config;
    struct engine *engine = open_engine(NULL, 1);
    struct state *state = new_state(engine);
    float *image = calloc(1, image_size);
    int8_t *int8s = state_int8s(c, image);
    size_t n_int8s = model_state_int8s(c), n_a_layer = n_int8s / 2;
    float *w = state_s(c, image, 1) + c->d_inner * c->d_state;
    float *e = w + c->n_heads * CHUNK;
    int8_t *x = int8s + n_a_layer, *b = x + CHUNK * c->d_inner;
    ck_assert_int_eq(c->n_layer, 2);
    for (int place = 0; place < CHUNK; place += 21) {
        int8s[n_int8s - 1] = (int8_t)place;
        float *floats[] = {w + place, w + 2 * CHUNK - 1, e};
        for (size_t i = 0; i < 3; i++) {
            bool is_fine = floats[i] == e && place > 0;
            *floats[i] = 0.5f;
            ck_assert_int_eq(engine_state_set(engine, state, image),
                             is_fine ? OK : E_FORMAT);
            *floats[i] = 0;
        }
        int8_t *unread[] = {x + place * c->d_inner, b - 1,
                            b + place * c->n_groups * c->d_state,
                            int8s + n_int8s - 2};
        for (size_t i = 0; i < 4; i++) {
            *unread[i] = 1;
            ck_assert_int_eq(engine_state_set(engine, state, image), E_FORMAT);
            *unread[i] = 0;
        }
        ck_assert_int_eq(engine_state_set(engine, state, image), OK);
    }
    free(image);
    engine_state_free(engine, state);
    engine_close(engine);
    close_spec();
}
END_TEST

/* Calls of one length, 1 to 200, on every level. */
START_TEST(all_lengths_of_calls_agree)
{
    static float logits[LENGTH][256];
    open_spec(SPEC_2 + _i % 4);
    const struct cpu_kernels *const *level = cpu_kernels_all();
    for (; *level; level++) {
        struct engine *engine = open_engine((*level)->name, 1 + _i % 2);
        bool is_slow = *level == &cpu_scalar || _i > 0;
        for (size_t each = 1; each <= 200; each += is_slow ? 19 : 1) {
            struct state *state = new_state(engine);
            for (size_t at = 0; at < LENGTH; at += each) {
                size_t n = each < LENGTH - at ? each : LENGTH - at;
                feed(engine, state, text + at, n, NULL, logits[at]);
            }
            ck_assert_mem_eq(logits, want_logits, sizeof logits);
            assert_image(engine, state, want_image);
            engine_state_free(engine, state);
        }
        engine_close(engine);
    }
    close_spec();
}
END_TEST

START_TEST(without_begin_byte_the_first_costs_8_bits)
{
    open_spec(7);
    ck_assert_int_eq(tiny.model->config.begin_byte, -1);
    ck_assert(want_bits[0] == 8.0f);
    close_spec();
    open_spec(0);
    ck_assert(want_bits[0] != 8.0f);
    close_spec();
}
END_TEST

START_TEST(an_unknown_level_is_refused)
{
    open_spec(0);
    struct engine *engine;
    struct engine_options options = {.device = DEVICE_CPU, .cpu = "abacus"};
    ck_assert_int_eq(engine_open(&engine, tiny.model, &options), E_USAGE);
    ck_assert_ptr_null(engine);
    ck_assert_ptr_nonnull(strstr(status_message(), "abacus"));
    close_spec();
}
END_TEST

/* ---- against float64 ----------------------------------------------------- */

static void read_data(void *to, size_t n, const char *name)
{
    char path[DATA_PATH_CHARS];
    FILE *file = fopen(data_path(path, "mamba2/%s", name), "rb");
    ck_assert_msg(file != NULL, "cannot read %s", path);
    ck_assert_uint_eq(fread(to, 1, n, file), n);
    fclose(file);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Predictions after every eighth byte, from an implementation of mamba2.h in
 * float64.  A number of an int8 vector may be rounded the other way there,
 * which shows in some rows: the median is close, and the whole is near. */
START_TEST(mamba2_is_what_float64_says)
{
    enum { N = 320, ROWS = N / 8 };
    static float got[N][256], want[ROWS][256];
    uint8_t bytes[N];
    char path[DATA_PATH_CHARS];
    read_data(bytes, sizeof bytes, "input.bin");
    read_data(want, sizeof want, "logits.f32");
    data_path(path, "mamba2/model.safetensors");
    ck_assert_msg(model_open(&tiny.model, path) == OK, "%s", status_message());
    struct engine *engine = open_engine("scalar", 1);
    struct state *state = new_state(engine);
    feed(engine, state, bytes, N, NULL, got[0]);

    double error[ROWS] = {0}, off = 0, all = 0;
    for (int i = 0; i < ROWS; i++) {
        double row = 0;
        for (int k = 0; k < 256; k++) {
            double d = (double)got[8 * i + 7][k] - (double)want[i][k];
            error[i] += d * d;
            row += (double)want[i][k] * (double)want[i][k];
        }
        off += error[i];
        all += row;
        error[i] = sqrt(error[i] / row);
    }
    qsort(error, ROWS, sizeof *error, compare_doubles);
    ck_assert_msg(error[ROWS / 2] < 1e-6, "median %g", error[ROWS / 2]);
    ck_assert_msg(sqrt(off / all) < 1e-3, "of the whole %g", sqrt(off / all));
    engine_state_free(engine, state);
    engine_close(engine);
    model_close(tiny.model);
}
END_TEST

/* golden/logits.txt: a line "NAME DIGEST" for each spec. */
START_TEST(logits_are_golden)
{
    open_spec(_i);
    char name[64], want[64] = "", key[64], path[1024];
    XXH64_hash_t digest = XXH3_64bits(want_logits, sizeof want_logits);
    char got[64];
    snprintf(name, sizeof name, "spec-%d", _i);
    snprintf(got, sizeof got, "%016llx", (unsigned long long)digest);
    snprintf(path, sizeof path, "%s/tests/golden/logits.txt", source_folder());
    FILE *file = fopen(path, "r");
    ck_assert_msg(file != NULL, "cannot read %s", path);
    char value[64];
    while (fscanf(file, "%63s %63s", key, value) == 2) {
        if (strcmp(key, name) == 0)
            strcpy(want, value);
    }
    fclose(file);
    ck_assert_str_eq(got, want);
    close_spec();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine");
    TCase *tcase = tcase_create("engine");
    tcase_set_timeout(tcase, 600);
    tcase_add_loop_test(tcase, levels_threads_and_splits_agree, 0, SPEC_2 + 1);
    tcase_add_loop_test(tcase, shapes_of_mamba2_agree, SPEC_2 + 1, N_SPECS);
    tcase_add_loop_test(tcase, many_threads_agree, 0, SPEC_2 + 2);
    tcase_add_loop_test(tcase, streams_do_not_disturb_each_other, 0, 3);
    tcase_add_loop_test(tcase, streams_do_not_disturb_each_other, SPEC_2,
                        SPEC_2 + 2);
    tcase_add_loop_test(tcase, pooled_agree, 0, 3);
    tcase_add_loop_test(tcase, pooled_agree, SPEC_2, SPEC_2 + 3);
    tcase_add_loop_test(tcase, started_calls_are_one, 0, 8);
    tcase_add_loop_test(tcase, whatever_needs_it_finishes, 0, 2);
    tcase_add_test(tcase, generating_is_choosing_and_reading);
    tcase_add_loop_test(tcase, a_state_moves_between_engines, 0, 5);
    tcase_add_loop_test(tcase, a_state_goes_on_from_every_place, 0, 2);
    tcase_add_test(tcase, a_state_that_is_none_is_refused);
    tcase_add_test(tcase, a_state_that_knows_more_is_refused);
    tcase_add_loop_test(tcase, all_lengths_of_calls_agree, 0, 4);
    tcase_add_test(tcase, without_begin_byte_the_first_costs_8_bits);
    tcase_add_test(tcase, an_unknown_level_is_refused);
    tcase_add_test(tcase, mamba2_is_what_float64_says);
    tcase_add_loop_test(tcase, logits_are_golden, 0, N_INT8);
    tcase_add_loop_test(tcase, logits_are_golden, SPEC_2, SPEC_2 + N_INT8);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
