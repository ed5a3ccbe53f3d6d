/* check_cuda_memory.c -- the GPU engine where memory is short.
 *
 * Each allocation fails once, or fails from then on, or memory ends at some
 * size (small_gpu.cu).  A call then does its work another way, with the same
 * bits as the CPU, or it returns E_MEMORY, and succeeds when memory is there
 * again.  Whatever happens, all is freed.  Records are read with the streams
 * for which there is room, and microbatches have few rows.
 *
 * Skipped where there is no GPU, unless MAMBYTE_REQUIRE_GPU=1.  MAMBYTE_SLOW
 * prints what had no memory.  Tests do not fork: a CUDA context does not
 * survive it.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "engine/engine_ops.h"
#include "engine/pooled.h"
#include "engine/records.h"
#include "tiny_model.h"

#include "runner.h" /* last */

enum {
    N_STREAMS = 3,
    N_READ = 7,           /* bytes of a stream in the call that is long */
    N_DRAWN = 3,          /* bytes */
    N_ALLOCATIONS = 40,   /* more than the engine makes */
    POOLED_MAX = 1 << 14, /* floats of a stream */
    TIMEOUT_S = 1800
};

/* What an engine says, in the order of the calls. */
struct said {
    float bits[N_STREAMS][N_READ];
    float pooled[N_STREAMS][POOLED_MAX];
    float batch[N_STREAMS][256]; /* after a byte more of each stream */
    float alone[256];            /* after a byte more of one */
    uint8_t drawn[N_DRAWN];
};

static struct tiny_model tiny;
static struct said want;

static void assert_ok(enum status status)
{
    ck_assert_msg(status == OK, "%s", status_message());
}

static void limit_gpu(const char *what, int n)
{
    char text[64];
    snprintf(text, sizeof text, "%s=%d", what, n);
    setenv("MAMBYTE_SMALL_GPU", text, 1);
}

static void limit_nothing(void)
{
    unsetenv("MAMBYTE_SMALL_GPU");
}

static const uint8_t *text_of(int stream)
{
    return (const uint8_t *)"abcdefghijklm\n" + stream;
}

/* ---- the calls ----------------------------------------------------------- */

struct calls {
    struct engine *engine;
    struct state *states[N_STREAMS];
    struct said said;
};

static enum status begin(struct calls *c)
{
    for (int i = 0; i < N_STREAMS; i++) {
        if (!c->states[i])
            TRY(engine_state_new(c->engine, &c->states[i]));
        TRY(engine_state_begin(c->engine, c->states[i]));
    }
    return OK;
}

static enum status read_long(struct calls *c)
{
    struct segment s[N_STREAMS];
    memset(c->said.pooled, 0, sizeof c->said.pooled);
    for (int i = 0; i < N_STREAMS; i++)
        s[i] = (struct segment){.state = c->states[i],
                                .bytes = text_of(i),
                                .n = N_READ,
                                .bits = c->said.bits[i],
                                .pooled = c->said.pooled[i]};
    return engine_feed(c->engine, s, N_STREAMS);
}

static enum status read_batch(struct calls *c)
{
    struct segment s[N_STREAMS];
    for (int i = 0; i < N_STREAMS; i++)
        s[i] = (struct segment){.state = c->states[i],
                                .bytes = text_of(i) + N_READ,
                                .n = 1,
                                .logits = c->said.batch[i]};
    return engine_feed(c->engine, s, N_STREAMS);
}

static enum status read_alone(struct calls *c)
{
    struct segment s = {.state = c->states[0],
                        .bytes = text_of(0) + N_READ + 1,
                        .n = 1,
                        .logits = c->said.alone};
    return engine_feed(c->engine, &s, 1);
}

static enum status draw(struct calls *c)
{
    struct sampler sampler = sampler_make(0.9f, 100, 0.95f, 0.02f, 5);
    return engine_generate(c->engine, c->states[0], &sampler, 0, c->said.drawn,
                           N_DRAWN);
}

/* All of them; a call that failed is followed by no other. */
static enum status run_all(struct calls *c)
{
    TRY(begin(c));
    TRY(read_long(c));
    TRY(read_batch(c));
    TRY(read_alone(c));
    return draw(c);
}

/* In the other order, in which the paths are set up. */
static enum status run_backwards(struct calls *c)
{
    TRY(begin(c));
    TRY(draw(c));
    TRY(begin(c));
    TRY(read_batch(c));
    return run_all(c);
}

typedef enum status work(struct calls *c);

static enum status open_calls(struct calls *c, enum device device)
{
    struct engine_options options = {.device = device};
    memset(c, 0, sizeof *c);
    return engine_open(&c->engine, tiny.model, &options);
}

static void close_calls(struct calls *c)
{
    for (int i = 0; c->engine && i < N_STREAMS; i++) {
        if (c->states[i])
            engine_state_free(c->engine, c->states[i]);
    }
    engine_close(c->engine);
}

/* ---- limits -------------------------------------------------------------- */

static bool is_same(const void *a, const void *b, size_t n)
{
    return memcmp(a, b, n) == 0;
}

/* Runs the work, again where the first time fails; stays_short says that memory
 * has to be given back before.  Whether it succeeded at first. */
static bool assert_run(work *run, const char *what, int n, bool stays_short)
{
    static struct calls c;
    limit_gpu(what, n);
    enum status status = open_calls(&c, DEVICE_CUDA);
    if (status == OK)
        status = run(&c);
    ck_assert_msg(status == OK || status == E_MEMORY, "%s=%d: %s", what, n,
                  status_message());
    bool has_run = status == OK;
    if (!has_run && getenv("MAMBYTE_SLOW"))
        printf("%s=%d: %s\n", what, n, status_message());
    if (!has_run && stays_short)
        limit_nothing();
    if (!has_run && !c.engine)
        assert_ok(open_calls(&c, DEVICE_CUDA));
    if (!has_run)
        assert_ok(run(&c));
    ck_assert_msg(is_same(&c.said, &want, sizeof want), "%s=%d: bits", what, n);
    close_calls(&c);
    limit_nothing();
    return has_run;
}

/* Both kinds of mixers, of shapes that take all paths. */
static void open_model(int i)
{
    static struct calls c;
    struct tiny_spec spec =
        i == 0 ? tiny_spec_make(64, 2, 1) : tiny_spec_mamba2(64, 2, 1);
    assert_ok(tiny_model_open(&tiny, &spec));
    ck_assert_uint_le(pooled_floats(&tiny.model->config), POOLED_MAX);
    assert_ok(open_calls(&c, DEVICE_CPU));
    assert_ok(run_all(&c));
    want = c.said;
    close_calls(&c);
}

START_TEST(one_that_fails_does_no_harm)
{
    open_model(_i);
    for (int n = 1; n <= N_ALLOCATIONS; n++) {
        assert_run(run_all, "fails", n, false);
        assert_run(run_backwards, "fails", n, false);
    }
    tiny_model_close(&tiny);
}
END_TEST

START_TEST(none_is_had_from_then_on)
{
    bool has_run = false;
    open_model(_i);
    for (int n = 1; n <= N_ALLOCATIONS; n++)
        has_run = assert_run(run_all, "from", n, true);
    ck_assert(has_run);
    tiny_model_close(&tiny);
}
END_TEST

/* What is enough is enough however much more there is. */
START_TEST(memory_ends_somewhere)
{
    bool has_run = false;
    open_model(_i);
    for (int mb = 1; mb <= 64; mb = mb < 16 ? mb + 1 : 2 * mb) {
        bool runs = assert_run(run_all, "memory", mb, true);
        ck_assert(runs || !has_run);
        has_run = runs;
        runs = assert_run(run_backwards, "memory", mb, true);
        ck_assert(runs || !has_run);
    }
    ck_assert(has_run);
    tiny_model_close(&tiny);
}
END_TEST

/* ---- records ------------------------------------------------------------- */

enum {
    N_RECORDS = 240,
    GPU_MB = 24,
    BALLAST_MAX = 4096 /* states */
};

/* Features of records; *is_short: there was no room for all their streams. */
static enum status read_records(struct engine *engine, float *pooled,
                                bool *is_short)
{
    struct record_part parts[N_RECORDS];
    struct records records;
    struct state *start;
    size_t each = pooled_floats(&tiny.model->config);
    for (int i = 0; i < N_RECORDS; i++)
        parts[i] = (struct record_part){text_of(i % N_STREAMS), N_READ + i % 5};
    engine->busy_bytes = 2 * N_RECORDS;
    TRY(engine_state_new(engine, &start));
    enum status status = records_open(&records, engine, &start, 1, true);
    if (status == OK)
        status = records_feed(&records, parts, N_RECORDS, false);
    for (int i = 0; i < N_RECORDS && status == OK; i++)
        memcpy(pooled + (size_t)i * each,
               records.sets[records.next].items[i].pooled,
               each * sizeof *pooled);
    *is_short = records.is_short;
    records_close(&records);
    engine_state_free(engine, start);
    return status;
}

/* Of a GPU that is full, but for n_free states. */
static enum status read_records_in(int n_free, float *pooled, bool *is_short)
{
    static struct state *ballast[BALLAST_MAX];
    struct engine_options options = {.device = DEVICE_CUDA};
    struct engine *engine;
    int n = 0;
    assert_ok(engine_open(&engine, tiny.model, &options));
    while (engine_state_new(engine, &ballast[n]) == OK)
        ck_assert_int_lt(++n, BALLAST_MAX);
    for (; n_free > 0; n_free--)
        engine_state_free(engine, ballast[--n]);
    enum status status = read_records(engine, pooled, is_short);
    while (n > 0)
        engine_state_free(engine, ballast[--n]);
    engine_close(engine);
    return status;
}

/* What is not enough for all leaves the engine enough to work. */
START_TEST(records_need_few_streams)
{
    open_model(1);
    size_t n = N_RECORDS * pooled_floats(&tiny.model->config);
    float *wanted = calloc(n, sizeof *wanted), *got = calloc(n, sizeof *got);
    struct engine_options options = {.device = DEVICE_CPU};
    struct engine *cpu;
    bool is_short, was_read = false;
    assert_ok(engine_open(&cpu, tiny.model, &options));
    assert_ok(read_records(cpu, wanted, &is_short));
    engine_close(cpu);
    limit_gpu("memory", GPU_MB);
    for (int k = N_RECORDS; k > 1; k = k * 2 / 3) {
        enum status status = read_records_in(k, got, &is_short);
        ck_assert_msg(status == OK || status == E_MEMORY, "%d: %s", k,
                      status_message());
        if (status != OK)
            continue;
        ck_assert_msg(is_same(got, wanted, n * sizeof *got), "%d", k);
        was_read = was_read || is_short;
    }
    ck_assert(was_read);
    limit_nothing();
    free(wanted);
    free(got);
    tiny_model_close(&tiny);
}
END_TEST

/* ---- small microbatches -------------------------------------------------- */

enum { LONG_STREAMS = 9, LONG_BYTES = 600 };

/* All bytes of n streams, in one call; logits: [LONG_BYTES][256] */
static void read_streams(enum device device, int n, float *logits)
{
    static uint8_t text[LONG_BYTES];
    struct engine_options options = {.device = device};
    struct engine *engine;
    struct segment s[LONG_STREAMS];
    size_t each = (size_t)(LONG_BYTES / n);
    for (size_t i = 0; i < LONG_BYTES; i++)
        text[i] = (uint8_t)(random_at(3, i) >> 56);
    assert_ok(engine_open(&engine, tiny.model, &options));
    for (int i = 0; i < n; i++) {
        size_t at = (size_t)i * each;
        s[i] = (struct segment){.bytes = text + at,
                                .n = each - (size_t)i,
                                .logits = logits + at * 256};
        assert_ok(engine_state_new(engine, &s[i].state));
    }
    assert_ok(engine_feed(engine, s, (size_t)n));
    for (int i = 0; i < n; i++)
        engine_state_free(engine, s[i].state);
    engine_close(engine);
}

/* Several microbatches are in the layers at a time, and so few multiprocessors
 * that these take the kernels for many rows: in one group of layers, and in
 * two. */
START_TEST(small_microbatches_agree)
{
    struct tiny_spec spec = tiny_spec_mamba2(512, 3, 1);
    size_t n = (size_t)LONG_BYTES * 256;
    float *wanted = calloc(n, sizeof *wanted), *got = calloc(n, sizeof *got);
    int n_streams = _i == 0 ? 1 : LONG_STREAMS;
    assert_ok(tiny_model_open(&tiny, &spec));
    read_streams(DEVICE_CPU, n_streams, wanted);
    setenv("MAMBYTE_SMALL_GPU", "memory=48,processors=4", 1);
    read_streams(DEVICE_CUDA, n_streams, got);
    limit_nothing();
    ck_assert(is_same(got, wanted, n * sizeof *got));
    free(wanted);
    free(got);
    tiny_model_close(&tiny);
}
END_TEST

static Suite *memory_suite(void)
{
    Suite *suite = suite_create("cuda_memory");
    TCase *tests = tcase_create("tests");
    tcase_set_timeout(tests, TIMEOUT_S);
    tcase_add_loop_test(tests, one_that_fails_does_no_harm, 0, 2);
    tcase_add_loop_test(tests, none_is_had_from_then_on, 0, 2);
    tcase_add_loop_test(tests, memory_ends_somewhere, 0, 2);
    suite_add_tcase(suite, tests);
    TCase *records = tcase_create("records");
    tcase_set_timeout(records, TIMEOUT_S);
    tcase_add_test(records, records_need_few_streams);
    suite_add_tcase(suite, records);
    TCase *small = tcase_create("small");
    tcase_set_timeout(small, TIMEOUT_S);
    tcase_add_loop_test(small, small_microbatches_agree, 0, 2);
    suite_add_tcase(suite, small);
    return suite;
}

int main(void)
{
    if (!tiny_model_runs_on_gpu())
        return end_without_gpu("check_cuda_memory", status_message());
    return run_suite_here(memory_suite());
}
