/* check_cuda.c -- the GPU against the CPU: the same bits.
 *
 * Logits, costs, states and drawn bytes of the GPU engine are compared by
 * memcmp with those of the CPU engine, which check_engine.c holds to the
 * scalar definition: odd shapes, all lengths of calls, random splits, hundreds
 * of streams, calls that follow each other, states that change the engine in
 * the middle, and the shipped model ($MAMBYTE_MODEL).  With MAMBYTE_SLOW=1 also
 * a megabyte.
 *
 * CK_RUN_CASE=few runs what compute-sanitizer can bear, CK_RUN_CASE=race what
 * its racecheck can.  MAMBYTE_SMALL_GPU makes the GPU smaller: small_gpu.cu.
 * Skipped where there is no GPU, unless MAMBYTE_REQUIRE_GPU=1.  Tests do not
 * fork: a CUDA context does not survive it.
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "base/signals.h"
#include "engine/engine.h"
#include "engine/pooled.h"
#include "tiny_model.h"

#include "runner.h" /* last */

enum {
    LENGTH = 700,
    N_SPECS_1 = 12, /* of Mamba-1, then */
    N_SPECS_2 = 14, /* of Mamba-2 */
    N_SPECS = N_SPECS_1 + N_SPECS_2,
    N_STREAM_SPECS_1 = 7,
    N_STREAM_SPECS = 12,
    N_LITTLE_SPECS = 4,
    N_PLACE_SPECS = 4,
    N_OVERFLOW_SPECS = 9,
    TIMEOUT_S = 1800
};

/* Nothing a multiple of a tile first; every d_state, both norms. Shapes 6, 8,
 * 10 and 11 take batch decode where a cluster holds them: 8, 14, 2 and 16
 * blocks. */
static struct tiny_spec mamba1_at(int i)
{
    static const int shape[N_SPECS_1][6] = {
        /* d_model, n_layer, d_inner, d_state, d_conv, dt_rank */
        {64, 2, 128, 16, 4, 4},      {36, 3, 52, 8, 4, 3},
        {100, 5, 204, 16, 3, 7},     {4, 1, 4, 4, 2, 1},
        {132, 2, 260, 32, 4, 9},     {68, 1, 140, 64, 8, 5},
        {512, 3, 1024, 16, 4, 32},   {96, 7, 192, 16, 4, 6},
        {1792, 2, 3584, 16, 4, 112}, {2048, 1, 4096, 8, 4, 127},
        {128, 3, 256, 16, 4, 7},     {1024, 2, 2048, 16, 4, 64},
    };
    struct tiny_spec spec = tiny_spec_make(64, 1, (uint64_t)i + 1);
    spec.d_model = shape[i][0];
    spec.n_layer = shape[i][1];
    spec.d_inner = shape[i][2];
    spec.d_state = shape[i][3];
    spec.d_conv = shape[i][4];
    spec.dt_rank = shape[i][5];
    return spec;
}

/* Heads and states of all sizes; an odd number of heads; groups.  Shapes 8, 10
 * and 12 have decode kernels of their own. */
static struct tiny_spec mamba2_at(int i)
{
    static const int shape[N_SPECS_2][7] = {
        /* d_model, n_layer, d_inner, d_state, d_conv, headdim, n_groups */
        {64, 2, 256, 64, 4, 64, 1},    {64, 2, 128, 32, 4, 16, 1},
        {36, 3, 72, 16, 4, 8, 3},      {100, 5, 200, 48, 3, 40, 5},
        {4, 1, 8, 16, 2, 8, 1},        {132, 2, 256, 256, 4, 128, 2},
        {68, 1, 192, 80, 8, 24, 8},    {96, 7, 192, 64, 4, 48, 2},
        {512, 3, 1024, 64, 4, 64, 1},  {60, 2, 120, 16, 5, 24, 1},
        {1024, 2, 2048, 64, 4, 64, 1}, {1024, 2, 2048, 128, 4, 64, 4},
        {1792, 2, 3584, 64, 4, 64, 1}, {64, 2, 128, 64, 4, 64, 1},
    };
    struct tiny_spec spec = tiny_spec_mamba2(64, 1, (uint64_t)i + 1);
    spec.d_model = shape[i][0];
    spec.n_layer = shape[i][1];
    spec.d_inner = shape[i][2];
    spec.d_state = shape[i][3];
    spec.d_conv = shape[i][4];
    spec.headdim = shape[i][5];
    spec.n_groups = shape[i][6];
    spec.has_channel_d = i % 2 == 1;
    return spec;
}

static struct tiny_spec spec_at(int i)
{
    bool is_mamba2 = i >= N_SPECS_1;
    struct tiny_spec spec = is_mamba2 ? mamba2_at(i - N_SPECS_1) : mamba1_at(i);
    i %= N_SPECS_1;
    spec.has_norm_bias = i % 2 == 1;
    spec.is_tied = i % 3 == 2;
    spec.begin_byte = i == 7 ? -1 : 0;
    return spec;
}

static struct tiny_model tiny;
static const struct model *model;
static struct engine *cpu, *gpu;
static size_t image_size;
static uint8_t text[LENGTH];

/* What the CPU predicts for text, read at once. */
static float want_logits[LENGTH][256], want_bits[LENGTH], *want_image;

static void assert_ok(enum status status)
{
    ck_assert_msg(status == OK, "%s", status_message());
}

static bool are_same(const void *a, const void *b, size_t n)
{
    return memcmp(a, b, n) == 0;
}

static struct state *new_state(struct engine *engine)
{
    struct state *state;
    assert_ok(engine_state_new(engine, &state));
    return state;
}

static void feed(struct engine *engine, struct state *state,
                 const uint8_t *bytes, size_t n, float *bits, float *logits)
{
    struct segment s = {state, bytes, n, bits, logits, NULL};
    assert_ok(engine_feed(engine, &s, 1));
}

static float *image_of(struct engine *engine, struct state *state)
{
    float *image = calloc(1, image_size);
    assert_ok(engine_state_get(engine, state, image));
    return image;
}

static void assert_image(struct engine *engine, struct state *state,
                         const float *want)
{
    float *image = image_of(engine, state);
    ck_assert_mem_eq(image, want, image_size);
    free(image);
}

static void open_engines(const struct model *m)
{
    struct engine_options on_cpu = {.device = DEVICE_CPU};
    struct engine_options on_gpu = {.device = DEVICE_CUDA};
    model = m;
    image_size = model_state_size(&m->config);
    assert_ok(engine_open(&cpu, m, &on_cpu));
    assert_ok(engine_open(&gpu, m, &on_gpu));

    for (int t = 0; t < LENGTH; t++)
        text[t] = (uint8_t)(random_at(99, (uint64_t)t) >> 56);
    struct state *state = new_state(cpu);
    feed(cpu, state, text, LENGTH, want_bits, want_logits[0]);
    want_image = image_of(cpu, state);
    engine_state_free(cpu, state);
}

static void close_engines(void)
{
    free(want_image);
    engine_close(gpu);
    engine_close(cpu);
}

static void open_spec(int i)
{
    struct tiny_spec spec = spec_at(i);
    assert_ok(tiny_model_open(&tiny, &spec));
    open_engines(tiny.model);
}

static void close_spec(void)
{
    close_engines();
    tiny_model_close(&tiny);
}

/* Reads text in calls of the lengths that next gives, and compares all. */
static void assert_calls(size_t (*next)(uint64_t seed, uint64_t i),
                         uint64_t seed)
{
    static float logits[LENGTH][256], bits[LENGTH];
    struct state *state = new_state(gpu);
    memset(logits, 0xff, sizeof logits);
    size_t done = 0;
    for (uint64_t i = 0; done < LENGTH; i++) {
        size_t n = next(seed, i);
        n = n < LENGTH - done ? n : LENGTH - done;
        feed(gpu, state, text + done, n, bits + done, logits[done]);
        done += n;
    }
    ck_assert_mem_eq(logits, want_logits, sizeof logits);
    ck_assert_mem_eq(bits, want_bits, sizeof bits);
    assert_image(gpu, state, want_image);
    engine_state_free(gpu, state);
}

static size_t constant(uint64_t seed, uint64_t i)
{
    (void)i;
    return seed;
}

static size_t random_length(uint64_t seed, uint64_t i)
{
    return random_at(seed, i) % 97;
}

static void assert_splits(void)
{
    assert_calls(constant, LENGTH);
    for (uint64_t seed = 1; seed <= 4; seed++)
        assert_calls(random_length, seed);
    assert_calls(constant, 1);
}

START_TEST(splits_agree)
{
    open_spec(_i);
    assert_splits();
    close_spec();
}
END_TEST

START_TEST(calls_of_all_lengths_agree)
{
    static const int specs[] = {1, 14, 12};
    open_spec(specs[_i]);
    for (uint64_t n = 1; n <= 200; n++)
        assert_calls(constant, n);
    close_spec();
}
END_TEST

/* Stream i reads text + i % 8, of a length of its own, beside the others. */
static void assert_streams(size_t n, size_t longest)
{
    struct segment *of_gpu = calloc(n, sizeof *of_gpu);
    struct segment *of_cpu = calloc(n, sizeof *of_cpu);
    float *bits = calloc(2 * n * LENGTH, sizeof *bits);
    size_t each = pooled_floats(&engine_model(cpu)->config);
    float *pooled = calloc(2 * n * each, sizeof *pooled);
    for (size_t i = 0; i < n; i++) {
        struct segment s = {new_state(gpu),
                            text + i % 8,
                            random_at(n, i) % (longest + 1),
                            i % 3 == 0 ? NULL : bits + i * LENGTH,
                            NULL,
                            n % 2 == 0 || i % 2 == 0 ? NULL
                                                     : pooled + i * each};
        of_gpu[i] = of_cpu[i] = s;
        of_cpu[i].state = new_state(cpu);
        of_cpu[i].bits = s.bits ? s.bits + n * LENGTH : NULL;
        of_cpu[i].pooled = s.pooled ? s.pooled + n * each : NULL;
    }
    assert_ok(engine_feed(gpu, of_gpu, n));
    assert_ok(engine_feed(cpu, of_cpu, n));
    ck_assert_mem_eq(bits, bits + n * LENGTH, n * LENGTH * sizeof *bits);
    ck_assert_mem_eq(pooled, pooled + n * each, n * each * sizeof *pooled);
    for (size_t i = 0; i < n; i++) {
        float *want = image_of(cpu, of_cpu[i].state);
        assert_image(gpu, of_gpu[i].state, want);
        free(want);
        engine_state_free(gpu, of_gpu[i].state);
        engine_state_free(cpu, of_cpu[i].state);
    }
    free(pooled);
    free(bits);
    free(of_cpu);
    free(of_gpu);
}

/* A stream that is alone, in calls of a few bytes and of many. */
static void assert_pooled(void)
{
    static const size_t lengths[] = {1, 3, 70, 2, 200, 8};
    size_t each = pooled_floats(&engine_model(cpu)->config), offset = 0;
    float *pooled = calloc(2 * each, sizeof *pooled);
    struct segment on_gpu = {.state = new_state(gpu), .pooled = pooled};
    struct segment on_cpu = {.state = new_state(cpu), .pooled = pooled + each};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        on_gpu.bytes = on_cpu.bytes = text + offset;
        on_gpu.n = on_cpu.n = lengths[i];
        assert_ok(engine_feed(gpu, &on_gpu, 1));
        assert_ok(engine_feed(cpu, &on_cpu, 1));
        ck_assert_mem_eq(pooled, pooled + each, each * sizeof *pooled);
        offset += lengths[i];
    }
    free(pooled);
    engine_state_free(gpu, on_gpu.state);
    engine_state_free(cpu, on_cpu.state);
}

START_TEST(pooled_agree)
{
    open_spec(_i);
    assert_pooled();
    close_spec();
}
END_TEST

/* Little enough for tools that slow the device down a thousandfold. */
static const int little_specs[N_LITTLE_SPECS] = {12, 14, 0, 10};

START_TEST(a_little_agrees)
{
    open_spec(little_specs[_i]);
    assert_calls(constant, LENGTH);
    assert_streams(5, 20);
    assert_streams(9, 1);
    close_spec();
}
END_TEST

/* For racecheck, whose reports on decode, of a begin byte even, leave no room
 * for others. */
START_TEST(a_little_agrees_without_decode)
{
    struct tiny_spec spec = spec_at(little_specs[_i]);
    spec.begin_byte = -1;
    assert_ok(tiny_model_open(&tiny, &spec));
    open_engines(tiny.model);
    assert_streams(3, 300);
    assert_streams(10, 1);
    assert_streams(20, 1);
    close_spec();
}
END_TEST

START_TEST(streams_do_not_disturb_each_other)
{
    static const size_t counts[] = {1, 2, 3, 16, 17, 64, 129, 300};
    static const int specs[N_STREAM_SPECS] = {0,  1,  2,  6,  8,  10,
                                              11, 12, 14, 15, 17, 19};
    open_spec(specs[_i]);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        assert_streams(counts[i], 60);
    assert_streams(1100, 3);
    assert_streams(300, 1);
    assert_streams(2500, 1);
    assert_streams(5, LENGTH - 8);
    close_spec();
}
END_TEST

/* ---- calls that follow each other --------------------------------------- */

enum {
    FOLLOWERS = 40, /* streams */
    N_CALLS = 14,
    LOGITS_MAX = 64 /* bytes whose predictions are wanted at a time */
};

/* A call on both engines, and its results on both. */
struct started {
    struct segment of_gpu[FOLLOWERS], of_cpu[FOLLOWERS];
    float *results; /* [2][FOLLOWERS][results_each()] */
    float *pooled;  /* [FOLLOWERS][pooled_floats()], the GPU engine's: those of
                     * all segments, or NULL */
    size_t n;
};

static size_t results_each(void)
{
    return LENGTH + LOGITS_MAX * 256 +
           pooled_floats(&engine_model(cpu)->config);
}

/* Long calls, and short ones between and behind them. */
static size_t started_length(size_t call, size_t stream)
{
    size_t random = (size_t)random_at(call + 1, stream);
    if (call % 4 == 1)
        return stream == call ? 1 : 0;
    if (call % 7 == 6)
        return random % 4;
    return random % 8 == 0 ? random % LOGITS_MAX : 300 + random % 300;
}

static struct segment started_segment(float *results, size_t call,
                                      size_t stream, struct state *state)
{
    struct segment s = {.state = state, .bytes = text + stream};
    s.n = started_length(call, stream);
    s.bits = stream % 3 == 0 ? NULL : results;
    s.logits = s.n > LOGITS_MAX || stream % 4 == 0 ? NULL : results + LENGTH;
    if (call % 3 == 0 || (call % 3 == 1 && stream % 2 == 0))
        s.pooled = results + LENGTH + LOGITS_MAX * 256;
    return s;
}

/* Two streams of three are in a call. */
static void make_started(struct started *s, size_t call,
                         struct state *const *on_gpu,
                         struct state *const *on_cpu)
{
    size_t each = results_each(),
           n_pooled = pooled_floats(&engine_model(cpu)->config);
    s->n = 0;
    s->pooled = NULL;
    s->results = calloc(2 * FOLLOWERS * each, sizeof *s->results);
    if (call % 3 == 0)
        assert_ok(engine_floats_new(gpu, &s->pooled, FOLLOWERS * n_pooled));
    for (size_t i = 0; i < FOLLOWERS; i++) {
        if ((i + call) % 3 == 0)
            continue;
        float *results = s->results + s->n * each;
        s->of_gpu[s->n] = started_segment(results, call, i, on_gpu[i]);
        s->of_cpu[s->n] =
            started_segment(results + FOLLOWERS * each, call, i, on_cpu[i]);
        if (s->pooled) {
            s->of_gpu[s->n].pooled = s->pooled + s->n * n_pooled;
            memset(s->of_gpu[s->n].pooled, 0, n_pooled * sizeof(float));
        }
        s->n++;
    }
}

/* Its results are there. */
static void assert_started(struct started *s)
{
    size_t each = results_each(),
           n_pooled = pooled_floats(&engine_model(cpu)->config);
    for (size_t i = 0; i < s->n && s->pooled; i++)
        memcpy(s->results + i * each + LENGTH + LOGITS_MAX * 256,
               s->of_gpu[i].pooled, n_pooled * sizeof(float));
    ck_assert_mem_eq(s->results, s->results + FOLLOWERS * each,
                     FOLLOWERS * each * sizeof *s->results);
    if (s->pooled)
        engine_floats_free(gpu, s->pooled);
    free(s->results);
}

/* The streams that a call leaves out begin again, or become another of them,
 * while it is under way. */
static void change_others(size_t call, struct state *const *on_gpu,
                          struct state *const *on_cpu)
{
    size_t first = (3 - call % 3) % 3;
    assert_ok(engine_state_begin(gpu, on_gpu[first]));
    assert_ok(engine_state_begin(cpu, on_cpu[first]));
    assert_ok(engine_state_copy(gpu, on_gpu[first + 3], on_gpu[first + 6]));
    assert_ok(engine_state_copy(cpu, on_cpu[first + 3], on_cpu[first + 6]));
}

static void run_started(struct state *const *on_gpu,
                        struct state *const *on_cpu)
{
    static struct started calls[2];
    for (size_t k = 0; k < N_CALLS; k++) {
        struct started *s = &calls[k % 2];
        make_started(s, k, on_gpu, on_cpu);
        assert_ok(engine_feed(cpu, s->of_cpu, s->n));
        assert_ok(engine_feed_start(gpu, s->of_gpu, s->n));
        if (k > 0)
            assert_started(&calls[(k + 1) % 2]);
        change_others(k, on_gpu, on_cpu);
        if (k % 5 == 4)
            assert_ok(engine_feed_finish(gpu));
    }
    feed(cpu, on_cpu[0], text, 5, NULL, NULL);
    feed(gpu, on_gpu[0], text, 5, NULL, NULL);
    assert_started(&calls[(N_CALLS + 1) % 2]);
}

START_TEST(started_calls_agree)
{
    struct state *on_gpu[FOLLOWERS], *on_cpu[FOLLOWERS];
    open_spec(_i);
    for (int i = 0; i < FOLLOWERS; i++) {
        on_gpu[i] = new_state(gpu);
        on_cpu[i] = new_state(cpu);
    }
    run_started(on_gpu, on_cpu);
    for (int i = 0; i < FOLLOWERS; i++) {
        float *want = image_of(cpu, on_cpu[i]);
        assert_image(gpu, on_gpu[i], want);
        free(want);
        engine_state_free(gpu, on_gpu[i]);
        engine_state_free(cpu, on_cpu[i]);
    }
    close_spec();
}
END_TEST

/* A single stream, in all calls. */
START_TEST(a_started_stream_agrees)
{
    static float logits[LENGTH][256], bits[LENGTH];
    struct segment calls[2];
    open_spec(_i);
    struct state *state = new_state(gpu);
    memset(logits, 0xff, sizeof logits);
    size_t done = 0;
    for (uint64_t i = 0; done < LENGTH; i++) {
        size_t n = random_at(7, i) % (i % 3 == 0 ? 300 : 3);
        n = n < LENGTH - done ? n : LENGTH - done;
        calls[i % 2] = (struct segment){state,       text + done,  n,
                                        bits + done, logits[done], NULL};
        assert_ok(engine_feed_start(gpu, &calls[i % 2], 1));
        done += n;
    }
    assert_image(gpu, state, want_image);
    ck_assert_mem_eq(logits, want_logits, sizeof logits);
    ck_assert_mem_eq(bits, want_bits, sizeof bits);
    engine_state_free(gpu, state);
    close_spec();
}
END_TEST

/* Nothing is written when an engine was closed. */
START_TEST(what_is_under_way_is_forgotten)
{
    enum { N = 3 };
    static float logits[N][LENGTH][256];
    struct segment segments[N];
    open_spec(_i);
    for (size_t i = 0; i < N; i++)
        segments[i] = (struct segment){.state = new_state(gpu),
                                       .bytes = text,
                                       .n = LENGTH,
                                       .logits = logits[i][0]};
    assert_ok(engine_feed_start(gpu, segments, N));
    assert_ok(engine_feed_start(gpu, segments, N));
    for (size_t i = 0; i < N; i++)
        engine_state_free(gpu, segments[i].state);
    close_spec();
}
END_TEST

/* Feeds both engines a byte a stream, from text + t on. */
static void assert_row(struct segment *of_gpu, struct segment *of_cpu, size_t n,
                       size_t t)
{
    for (size_t i = 0; i < n; i++)
        of_gpu[i].bytes = of_cpu[i].bytes = text + t + i % 8;
    assert_ok(engine_feed(gpu, of_gpu, n));
    assert_ok(engine_feed(cpu, of_cpu, n));
    for (size_t i = 0; i < n; i++) {
        if (of_gpu[i].logits)
            ck_assert_mem_eq(of_gpu[i].logits, of_cpu[i].logits,
                             sizeof(float[256]));
    }
}

/* Predictions of n streams that read a byte each, a few times: into memory of
 * the engine's, into other memory, and nowhere. */
static void assert_predictions(size_t n, size_t times)
{
    struct segment *of_gpu = calloc(n, sizeof *of_gpu);
    struct segment *of_cpu = calloc(n, sizeof *of_cpu);
    float *mine = calloc(n, sizeof(float[256])), *engines;
    float *want = calloc(n, sizeof(float[256]));
    assert_ok(engine_floats_new(gpu, &engines, n * 256));
    for (size_t i = 0; i < n; i++) {
        float *const places[] = {engines + i * 256, mine + i * 256, NULL};
        of_gpu[i] = (struct segment){
            .state = new_state(gpu), .n = 1, .logits = places[i % 3]};
        of_cpu[i] = (struct segment){
            .state = new_state(cpu), .n = 1, .logits = want + i * 256};
    }
    for (size_t t = 0; t < times; t++)
        assert_row(of_gpu, of_cpu, n, t);
    for (size_t i = 0; i < n; i++) {
        engine_state_free(gpu, of_gpu[i].state);
        engine_state_free(cpu, of_cpu[i].state);
    }
    engine_floats_free(gpu, engines);
    free(want);
    free(mine);
    free(of_cpu);
    free(of_gpu);
}

/* Predictions of several bytes a stream come to memory of the engine's: to
 * places that are equally far apart, and others; in calls that follow each
 * other. */
static void assert_spans_of_predictions(void)
{
    enum { N = 6, EACH = 70, N_FLOATS = 2 * N * EACH * 256 };
    static const size_t lengths[N] = {64, 64, 64, 30, 64, 1};
    struct segment of_gpu[2][N], of_cpu[2][N];
    float *got, *want = calloc(N_FLOATS, sizeof *want);
    assert_ok(engine_floats_new(gpu, &got, N_FLOATS));
    memset(got, 0, N_FLOATS * sizeof *got);
    for (size_t i = 0; i < N; i++) {
        struct state *on_gpu = new_state(gpu), *on_cpu = new_state(cpu);
        for (size_t call = 0; call < 2; call++) {
            size_t at = (call * N + i) * EACH * 256;
            struct segment s = {.bytes = text + call * 64 + i, .n = lengths[i]};
            of_gpu[call][i] = of_cpu[call][i] = s;
            of_gpu[call][i].state = on_gpu;
            of_gpu[call][i].logits = got + at;
            of_cpu[call][i].state = on_cpu;
            of_cpu[call][i].logits = want + at;
        }
    }
    for (size_t call = 0; call < 2; call++) {
        assert_ok(engine_feed_start(gpu, of_gpu[call], N));
        assert_ok(engine_feed(cpu, of_cpu[call], N));
    }
    assert_ok(engine_feed_finish(gpu));
    ck_assert_mem_eq(got, want, N_FLOATS * sizeof *got);
    for (size_t i = 0; i < N; i++) {
        engine_state_free(gpu, of_gpu[0][i].state);
        engine_state_free(cpu, of_cpu[0][i].state);
    }
    engine_floats_free(gpu, got);
    free(want);
}

/* ---- streams at different places of their chunks --------------------------
 */

struct both {
    struct state *on_gpu, *on_cpu;
    struct segment of_gpu, of_cpu;
    float bits[2][CHUNK], logits[2][4 * 256];
};

/* What stream i reads in a round: mostly a byte, now and then none or a few. */
static size_t round_length(size_t round, size_t i)
{
    uint64_t random = random_at(round + 50, i);
    if (round == 0)
        return i * 37 % (i % 5 ? 67 : 131);
    return round % 9 == 4 ? random % 4 : random % 8 != 0;
}

static void set_round(struct both *s, size_t round, size_t i)
{
    size_t n = round_length(round, i);
    float *const logits[] = {s->logits[0], s->logits[1]};
    bool is_wanted = n <= 4 && i % 3 != 2;
    s->of_gpu = (struct segment){s->on_gpu, text + (round + i) % 400,     n,
                                 NULL,      is_wanted ? logits[0] : NULL, NULL};
    s->of_cpu = s->of_gpu;
    s->of_cpu.state = s->on_cpu;
    s->of_cpu.logits = is_wanted ? logits[1] : NULL;
    if (n <= CHUNK && i % 5 != 4) {
        s->of_gpu.bits = s->bits[0];
        s->of_cpu.bits = s->bits[1];
    }
}

/* Some streams become others. */
static void copy_some(struct both *all, size_t n, size_t round)
{
    size_t from = random_at(round, 1) % n, to = random_at(round, 2) % n;
    if (from == to)
        return;
    assert_ok(engine_state_copy(gpu, all[to].on_gpu, all[from].on_gpu));
    assert_ok(engine_state_copy(cpu, all[to].on_cpu, all[from].on_cpu));
}

static void run_round(struct both *all, size_t n, size_t round)
{
    struct segment *of_gpu = calloc(n, sizeof *of_gpu);
    struct segment *of_cpu = calloc(n, sizeof *of_cpu);
    for (size_t i = 0; i < n; i++) {
        set_round(&all[i], round, i);
        of_gpu[i] = all[i].of_gpu;
        of_cpu[i] = all[i].of_cpu;
    }
    if (round % 13 == 12) {
        assert_ok(engine_feed_start(gpu, of_gpu, n));
        assert_ok(engine_feed_finish(gpu));
    } else {
        assert_ok(engine_feed(gpu, of_gpu, n));
    }
    assert_ok(engine_feed(cpu, of_cpu, n));
    for (size_t i = 0; i < n; i++) {
        ck_assert_msg(
            are_same(all[i].bits[0], all[i].bits[1], sizeof all[i].bits[0]) &&
                are_same(all[i].logits[0], all[i].logits[1],
                         sizeof all[i].logits[0]),
            "stream %zu of %zu in round %zu", i, n, round);
    }
    copy_some(all, n, round);
    free(of_cpu);
    free(of_gpu);
}

static void assert_places(size_t n, size_t rounds)
{
    struct both *all = calloc(n, sizeof *all);
    for (size_t i = 0; i < n; i++) {
        all[i].on_gpu = new_state(gpu);
        all[i].on_cpu = new_state(cpu);
    }
    for (size_t round = 0; round < rounds; round++)
        run_round(all, n, round);
    for (size_t i = 0; i < n; i++) {
        if (n <= 200 || i % 7 == 0) {
            float *want = image_of(cpu, all[i].on_cpu);
            assert_image(gpu, all[i].on_gpu, want);
            free(want);
        }
        engine_state_free(gpu, all[i].on_gpu);
        engine_state_free(cpu, all[i].on_cpu);
    }
    free(all);
}

START_TEST(streams_agree_at_all_places)
{
    static const int specs[N_PLACE_SPECS] = {19, 12, 22, 23};
    open_spec(specs[_i]);
    assert_places(1, 140);
    assert_places(2, 140);
    assert_places(7, 140);
    assert_places(96, 40);
    assert_places(128, 70);
    assert_places(150, 20);
    assert_places(1024, 8);
    assert_places(1100, 8);
    close_spec();
}
END_TEST

/* Calls of 1 to 6 bytes. */
static void assert_first_calls(void)
{
    enum { N = 1 + 2 + 3 + 4 + 5 + 6 };
    float logits[N][256], bits[N];
    struct state *state = new_state(gpu);
    memset(logits, 0xff, sizeof logits);
    for (size_t n = 1, done = 0; done < N; done += n++)
        feed(gpu, state, text + done, n, bits + done, logits[done]);
    ck_assert_mem_eq(logits, want_logits, sizeof logits);
    ck_assert_mem_eq(bits, want_bits, sizeof bits);
    engine_state_free(gpu, state);
}

/* Little enough for tools that slow the device down a thousandfold. */
START_TEST(a_few_places_agree)
{
    open_spec(12);
    assert_places(7, 20);
    close_spec();
}
END_TEST

START_TEST(spans_of_predictions_come_where_they_are_wanted)
{
    open_spec(little_specs[_i]);
    assert_spans_of_predictions();
    close_spec();
}
END_TEST

START_TEST(predictions_come_where_they_are_wanted)
{
    static const int specs[N_STREAM_SPECS] = {0,  1,  2,  6,  8,  10,
                                              11, 12, 14, 15, 17, 19};
    open_spec(specs[_i]);
    assert_predictions(3, 5);
    assert_predictions(129, 2);
    assert_predictions(1100, 1);
    close_spec();
}
END_TEST

/* The same draws on both, from states that have read the same. */
static void assert_generates(const struct sampler *sampler, size_t n)
{
    uint8_t *of_gpu = calloc(n, 2), *of_cpu = of_gpu + n;
    struct state *on_gpu = new_state(gpu), *on_cpu = new_state(cpu);
    feed(gpu, on_gpu, text, 50, NULL, NULL);
    feed(cpu, on_cpu, text, 50, NULL, NULL);
    assert_ok(engine_generate(gpu, on_gpu, sampler, 3, of_gpu, n / 2));
    assert_ok(engine_generate(gpu, on_gpu, sampler, 3 + n / 2, of_gpu + n / 2,
                              n - n / 2));
    assert_ok(engine_generate(cpu, on_cpu, sampler, 3, of_cpu, n));
    ck_assert_mem_eq(of_gpu, of_cpu, n);
    float *want = image_of(cpu, on_cpu);
    assert_image(gpu, on_gpu, want);
    free(want);
    free(of_gpu);
    engine_state_free(gpu, on_gpu);
    engine_state_free(cpu, on_cpu);
}

START_TEST(draws_agree)
{
    struct sampler samplers[] = {
        sampler_make(1.0f, 256, 1.0f, 0.0f, 1),
        sampler_make(0.0f, 256, 1.0f, 0.0f, 2),
        sampler_make(0.8f, 40, 1.0f, 0.0f, 3),
        sampler_make(1.2f, 256, 0.9f, 0.0f, 4),
        sampler_make(0.9f, 100, 0.95f, 0.02f, 5),
    };
    open_spec(_i);
    for (size_t i = 0; i < sizeof samplers / sizeof samplers[0]; i++)
        assert_generates(&samplers[i], 101);
    close_spec();
}
END_TEST

/* Bytes one by one, of one stream and of several. */
START_TEST(a_little_is_decoded)
{
    struct sampler sampler = sampler_make(0.9f, 100, 0.95f, 0.02f, 5);
    open_spec(little_specs[_i]);
    assert_first_calls();
    assert_generates(&sampler, 9);
    assert_predictions(3, 3);
    assert_predictions(19, 2);
    close_spec();
}
END_TEST

/* Half of text here, half there. */
START_TEST(states_change_engines)
{
    open_spec(_i);
    struct engine *order[] = {gpu, cpu, gpu};
    for (int i = 0; i < 2; i++) {
        struct state *first = new_state(order[i]);
        struct state *second = new_state(order[i + 1]);
        feed(order[i], first, text, 333, NULL, NULL);
        float *image = image_of(order[i], first);
        assert_ok(engine_state_set(order[i + 1], second, image));
        feed(order[i + 1], second, text + 333, LENGTH - 333, NULL, NULL);
        assert_image(order[i + 1], second, want_image);
        free(image);
        engine_state_free(order[i], first);
        engine_state_free(order[i + 1], second);
    }
    close_spec();
}
END_TEST

/* From one engine to the other at every place of a chunk, and back. */
START_TEST(places_change_engines)
{
    static float bits[LENGTH];
    open_spec(_i);
    struct state *on_gpu = new_state(gpu), *on_cpu = new_state(cpu);
    for (size_t n = 1; n <= 2 * CHUNK; n++) {
        assert_ok(engine_state_begin(gpu, on_gpu));
        feed(gpu, on_gpu, text, n, bits, NULL);
        float *image = image_of(gpu, on_gpu);
        assert_ok(engine_state_set(cpu, on_cpu, image));
        feed(cpu, on_cpu, text + n, n, bits + n, NULL);
        free(image);
        image = image_of(cpu, on_cpu);
        assert_ok(engine_state_set(gpu, on_gpu, image));
        feed(gpu, on_gpu, text + 2 * n, LENGTH - 2 * n, bits + 2 * n, NULL);
        ck_assert_mem_eq(bits, want_bits, sizeof bits);
        assert_image(gpu, on_gpu, want_image);
        free(image);
    }
    engine_state_free(gpu, on_gpu);
    engine_state_free(cpu, on_cpu);
    close_spec();
}
END_TEST

START_TEST(copies_and_begins_agree)
{
    open_spec(_i * N_SPECS_1);
    struct state *a = new_state(gpu), *b = new_state(gpu);
    feed(gpu, a, text, 100, NULL, NULL);
    assert_ok(engine_state_copy(gpu, b, a));
    feed(gpu, b, text + 100, LENGTH - 100, NULL, NULL);
    assert_image(gpu, b, want_image);
    assert_ok(engine_state_begin(gpu, a));
    feed(gpu, a, text, LENGTH, NULL, NULL);
    assert_image(gpu, a, want_image);
    engine_state_free(gpu, a);
    engine_state_free(gpu, b);
    close_spec();
}
END_TEST

/* Copies of which one takes what another gives, or takes its place. */
START_TEST(copies_come_in_their_order)
{
    enum { N = 300 };
    struct state *all[N];
    open_spec(_i * N_SPECS_1);
    for (int i = 0; i < N; i++)
        all[i] = new_state(gpu);
    feed(gpu, all[0], text, LENGTH, NULL, NULL);
    for (int i = 1; i < N; i++)
        assert_ok(engine_state_copy(gpu, all[i], all[i == 2 ? 1 : 0]));
    assert_ok(engine_state_copy(gpu, all[3], all[2]));
    assert_ok(engine_state_begin(gpu, all[1]));
    assert_ok(engine_state_copy(gpu, all[4], all[1]));
    for (int i = 0; i < N; i++) {
        if (i == 1 || i == 4)
            feed(gpu, all[i], text, LENGTH, NULL, NULL);
        assert_image(gpu, all[i], want_image);
        engine_state_free(gpu, all[i]);
    }
    close_spec();
}
END_TEST

START_TEST(the_shipped_model_agrees)
{
    struct model *shipped;
    const char *path = getenv("MAMBYTE_MODEL");
    if (!path)
        return;
    assert_ok(model_open(&shipped, path));
    open_engines(shipped);
    assert_splits();
    assert_streams(33, 80);
    struct sampler sampler = sampler_make(0.9f, 60, 0.98f, 0.0f, 7);
    assert_generates(&sampler, 300);
    close_engines();
    model_close(shipped);
}
END_TEST

/* ---- floats: near, not equal -------------------------------------------- */

static void assert_near(const float *got, const float *want, size_t n)
{
    float largest = 0, most = 0;
    for (size_t i = 0; i < n; i++) {
        float difference = fabsf(got[i] - want[i]);
        ck_assert(difference == difference);
        largest = fabsf(want[i]) > largest ? fabsf(want[i]) : largest;
        most = difference > most ? difference : most;
    }
    ck_assert_msg(most <= 1e-4f * largest, "%g of %g", (double)most,
                  (double)largest);
}

/* A stream in one call, others beside it, and then in bytes. */
START_TEST(floats_are_near)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    enum { WHOLE = LENGTH - 10, OTHERS = 40 };
    static float logits[LENGTH][256], bits[LENGTH];
    struct segment segments[1 + OTHERS] = {{0}};
    struct tiny_spec spec = spec_at(_i);
    spec.weights = types[_i % 3];
    assert_ok(tiny_model_open(&tiny, &spec));
    open_engines(tiny.model);
    for (size_t i = 0; i <= OTHERS; i++) {
        segments[i].state = new_state(gpu);
        segments[i].bytes = text;
        segments[i].n = i % 7;
    }
    struct state *state = segments[0].state;
    segments[0].n = WHOLE;
    segments[0].bits = bits;
    segments[0].logits = logits[0];
    assert_ok(engine_feed(gpu, segments, 1 + OTHERS));
    for (size_t t = WHOLE; t < LENGTH; t++)
        feed(gpu, state, text + t, 1, bits + t, logits[t]);

    assert_near(logits[0], want_logits[0], (size_t)LENGTH * 256);
    assert_near(bits, want_bits, LENGTH);
    float *image = image_of(gpu, state);
    assert_near(image, want_image, image_size / sizeof *image);
    free(image);
    for (size_t i = 0; i <= OTHERS; i++)
        engine_state_free(gpu, segments[i].state);
    close_engines();
    tiny_model_close(&tiny);
}
END_TEST

START_TEST(a_device_that_is_not_there_is_refused)
{
    struct tiny_spec spec = spec_at(0);
    struct engine_options options = {.device = DEVICE_CUDA, .cuda_index = 1000};
    assert_ok(tiny_model_open(&tiny, &spec));
    ck_assert_int_eq(engine_open(&gpu, tiny.model, &options), E_DEVICE);
    ck_assert_ptr_null(gpu);
    ck_assert_ptr_nonnull(strstr(status_message(), "no GPU 1000"));
    tiny_model_close(&tiny);
}
END_TEST

/* ---- models that overflow ------------------------------------------------
 */

/* The streams of a call: a byte each, or n bytes of the first alone. */
enum { OVERFLOW_STREAMS = 20 };

static enum status feed_overflow(struct engine *engine, size_t n_streams,
                                 size_t n)
{
    struct segment segments[OVERFLOW_STREAMS];
    for (size_t i = 0; i < n_streams; i++)
        segments[i] =
            (struct segment){new_state(engine), text, n, NULL, NULL, NULL};
    enum status status = engine_feed(engine, segments, n_streams);
    for (size_t i = 0; i < n_streams; i++)
        engine_state_free(engine, segments[i].state);
    return status;
}

/* Reads nothing: the first prediction is of zeros, and the second overflows. */
static enum status generate_overflow(struct engine *engine)
{
    struct sampler sampler = sampler_make(0.0f, 256, 1.0f, 0.0f, 2);
    uint8_t bytes[8];
    struct state *state = new_state(engine);
    enum status status = engine_generate(engine, state, &sampler, 0, bytes, 8);
    engine_state_free(engine, state);
    return status;
}

/* The error comes with the call, or with the end of what was started. */
static enum status start_overflow(struct engine *engine)
{
    struct segment s = {new_state(engine), text, LENGTH, NULL, NULL, NULL};
    enum status status = engine_feed_start(engine, &s, 1);
    if (status == OK)
        status = engine_feed_finish(engine);
    engine_state_free(engine, s.state);
    return status;
}

static void assert_overflow(const char *what, enum status status)
{
    char said[256];
    ck_assert_msg(status == E_MODEL, "%s: %d", what, (int)status);
    snprintf(said, sizeof said, "%s", status_message());
    model_overflows(tiny.model);
    ck_assert_msg(strcmp(said, status_message()) == 0, "%s: %s", what, said);
}

/* Twice, as the first error must not spoil what comes after. */
static void assert_overflows(struct engine *engine)
{
    for (int times = 0; times < 2; times++) {
        assert_overflow("prefill", feed_overflow(engine, 1, LENGTH));
        assert_overflow("a few bytes", feed_overflow(engine, 1, 3));
        assert_overflow("batch decode",
                        feed_overflow(engine, OVERFLOW_STREAMS, 1));
        assert_overflow("streams", feed_overflow(engine, OVERFLOW_STREAMS, 70));
        assert_overflow("generation", generate_overflow(engine));
        assert_overflow("a started call", start_overflow(engine));
    }
}

/* Shapes of all paths, of int8 and floats. */
START_TEST(a_model_that_overflows_is_refused)
{
    static const struct {
        int spec;
        enum dtype weights;
    } models[N_OVERFLOW_SPECS] = {
        {0, DTYPE_I8},  {1, DTYPE_I8},  {6, DTYPE_I8},
        {12, DTYPE_I8}, {14, DTYPE_I8}, {17, DTYPE_I8},
        {20, DTYPE_I8}, {24, DTYPE_I8}, {0, DTYPE_BF16}};
    struct engine_options on_cpu = {.device = DEVICE_CPU};
    struct engine_options on_gpu = {.device = DEVICE_CUDA};
    struct tiny_spec spec = spec_at(models[_i].spec);
    spec.begin_byte = -1;
    spec.weights = models[_i].weights;
    spec.overflow = LOGITS_OVERFLOW;
    assert_ok(tiny_model_open(&tiny, &spec));
    assert_ok(engine_open(&cpu, tiny.model, &on_cpu));
    assert_overflows(cpu);
    assert_ok(engine_open(&gpu, tiny.model, &on_gpu));
    assert_overflows(gpu);
    engine_close(gpu);
    engine_close(cpu);
    tiny_model_close(&tiny);
}
END_TEST

/* A megabyte in random pieces equals the megabyte at once, on both. */
START_TEST(a_megabyte_agrees)
{
    enum { N = 1 << 20 };
    uint8_t *bytes = malloc(N);
    float *bits = malloc(3 * N * sizeof *bits);
    for (int t = 0; t < N; t++)
        bytes[t] = (uint8_t)(random_at(5, (uint64_t)t) >> 59);
    open_spec(_i * N_SPECS_1);
    struct state *a = new_state(gpu), *b = new_state(gpu), *c = new_state(cpu);
    feed(gpu, a, bytes, N, bits, NULL);
    feed(cpu, c, bytes, N, bits + N, NULL);
    for (size_t i = 0, done = 0; done < N; i++) {
        size_t n = random_at(6, i) % 9973;
        n = n < N - done ? n : N - done;
        feed(gpu, b, bytes + done, n, bits + 2 * N + done, NULL);
        done += n;
    }
    ck_assert_mem_eq(bits, bits + N, N * sizeof *bits);
    ck_assert_mem_eq(bits, bits + 2 * N, N * sizeof *bits);
    float *want = image_of(cpu, c);
    assert_image(gpu, a, want);
    assert_image(gpu, b, want);
    free(want);
    engine_state_free(gpu, a);
    engine_state_free(gpu, b);
    engine_state_free(cpu, c);
    close_spec();
    free(bits);
    free(bytes);
}
END_TEST

/* Shapes [first, end), one stream. */
static void add_shapes(TCase *tests, int first, int end)
{
    tcase_add_loop_test(tests, splits_agree, first, end);
    tcase_add_loop_test(tests, pooled_agree, first, end);
    tcase_add_loop_test(tests, states_change_engines, first, end);
    tcase_add_loop_test(tests, draws_agree, first, end);
}

/* Many streams, and calls that follow each other. */
static void add_streams(TCase *tests, int first, int end, int first_streams,
                        int end_streams)
{
    tcase_add_loop_test(tests, streams_do_not_disturb_each_other, first_streams,
                        end_streams);
    tcase_add_loop_test(tests, started_calls_agree, first, end);
    tcase_add_loop_test(tests, a_started_stream_agrees, first, end);
    tcase_add_loop_test(tests, what_is_under_way_is_forgotten, first,
                        first + 3);
    tcase_add_loop_test(tests, predictions_come_where_they_are_wanted,
                        first_streams, end_streams);
}

/* i: 0 for Mamba-1, 1 for Mamba-2. */
static void add_copies(TCase *tests, int i)
{
    tcase_add_loop_test(tests, copies_and_begins_agree, i, i + 1);
    tcase_add_loop_test(tests, copies_come_in_their_order, i, i + 1);
    if (getenv("MAMBYTE_SLOW"))
        tcase_add_loop_test(tests, a_megabyte_agrees, i, i + 1);
}

/* ---- signals ------------------------------------------------------------ */

/* Long calls end, whether they are the first or follow another; short ones do
 * not, and give what they should.  A signal cannot be taken back: this comes
 * last. */
START_TEST(a_signal_ends_long_calls)
{
    enum { SHORT = 60, LONG = 1 << 17 };
    static float bits[SHORT];
    uint8_t *zeros = calloc(LONG, 1);
    open_spec(12);
    struct state *state = new_state(gpu);
    struct segment few = {state, text, SHORT, bits, NULL, NULL};
    struct segment many = {state, zeros, LONG, NULL, NULL, NULL};
    assert_ok(signals_init());
    raise(SIGINT);
    ck_assert_int_eq(engine_feed(gpu, &many, 1), E_INTERRUPTED);
    assert_ok(engine_state_begin(gpu, state));
    assert_ok(engine_feed_start(gpu, &few, 1));
    ck_assert_int_eq(engine_feed_start(gpu, &many, 1), E_INTERRUPTED);
    assert_ok(engine_state_begin(gpu, state));
    assert_ok(engine_feed(gpu, &few, 1));
    ck_assert_mem_eq(bits, want_bits, sizeof bits);
    engine_state_free(gpu, state);
    close_spec();
    free(zeros);
}
END_TEST

static TCase *add_case(Suite *suite, const char *name)
{
    TCase *tests = tcase_create(name);
    tcase_set_timeout(tests, TIMEOUT_S);
    suite_add_tcase(suite, tests);
    return tests;
}

static Suite *cuda_suite(void)
{
    Suite *suite = suite_create("cuda");
    TCase *few = add_case(suite, "few");
    tcase_add_loop_test(few, a_little_agrees, 0, N_LITTLE_SPECS);
    tcase_add_loop_test(few, a_little_is_decoded, 0, N_LITTLE_SPECS);
    tcase_add_test(few, a_few_places_agree);
    tcase_add_loop_test(few, spans_of_predictions_come_where_they_are_wanted, 0,
                        N_LITTLE_SPECS);

    TCase *race = add_case(suite, "race");
    tcase_add_loop_test(race, a_little_agrees_without_decode, 0,
                        N_LITTLE_SPECS);

    TCase *mamba2 = add_case(suite, "mamba2");
    add_shapes(mamba2, N_SPECS_1, N_SPECS);
    tcase_add_loop_test(mamba2, calls_of_all_lengths_agree, 1, 3);
    tcase_add_loop_test(mamba2, places_change_engines, N_SPECS_1, N_SPECS);
    add_copies(mamba2, 1);

    TCase *overflow = add_case(suite, "overflow");
    tcase_add_loop_test(overflow, a_model_that_overflows_is_refused, 0,
                        N_OVERFLOW_SPECS);

    TCase *places = add_case(suite, "places");
    tcase_add_loop_test(places, streams_agree_at_all_places, 0, N_PLACE_SPECS);

    TCase *streams = add_case(suite, "mamba2-streams");
    add_streams(streams, N_SPECS_1, N_SPECS, N_STREAM_SPECS_1, N_STREAM_SPECS);

    TCase *tests = add_case(suite, "bits");
    tcase_add_test(tests, a_device_that_is_not_there_is_refused);
    tcase_add_loop_test(tests, floats_are_near, 0, N_SPECS_1);
    add_shapes(tests, 0, N_SPECS_1);
    add_streams(tests, 0, N_SPECS_1, 0, N_STREAM_SPECS_1);
    tcase_add_loop_test(tests, calls_of_all_lengths_agree, 0, 1);
    add_copies(tests, 0);
    tcase_add_test(tests, the_shipped_model_agrees);

    TCase *last = add_case(suite, "signal");
    tcase_add_test(last, a_signal_ends_long_calls);
    return suite;
}

int main(void)
{
    if (!tiny_model_runs_on_gpu())
        return end_without_gpu("check_cuda", status_message());
    return run_suite_here(cuda_suite());
}
