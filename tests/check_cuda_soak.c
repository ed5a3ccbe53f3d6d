/* check_cuda_soak.c -- the GPU against the CPU, for as long as there is time.
 *
 * Rounds of drawn calls on drawn models: up to 1,100 streams read lengths of
 * all sizes, some begin again, become others or change the engine; bytes are
 * drawn; texts are compressed on one engine and decompressed on the other.
 * Both engines give the same bits throughout.
 *
 * MAMBYTE_SOAK is how long, in seconds, and MAMBYTE_SOAK_SEED where the draws
 * start, a number.  Skipped where there is no GPU, unless
 * MAMBYTE_REQUIRE_GPU=1.  Tests do not fork: a CUDA context does not survive
 * it.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/random.h"
#include "compress/compressor.h"
#include "engine/engine.h"
#include "engine/pooled.h"
#include "tiny_model.h"

#include "runner.h" /* last */

enum {
    STREAMS = 1100,
    ROUNDS = 40,          /* with a model */
    TEXT = 1 << 17,       /* bytes */
    CALL_BYTES = 1 << 13, /* of all streams, about */
    FEW_BYTES = 4,        /* that are read with their logits */
    SECONDS = 3,          /* when nothing is said */
    TIMEOUT_S = 3600
};

static struct tiny_model tiny;
static struct engine *engines[2]; /* CPU, GPU */
static struct state *states[2][STREAMS];
static uint8_t text[TEXT];
static uint64_t seed, n_drawn;
static size_t n_rounds, n_models, n_read, n_generated, n_packed;

static uint32_t draw(uint32_t n)
{
    return (uint32_t)((random_at(seed, n_drawn++) >> 32) % n);
}

static void assert_ok(enum status status)
{
    ck_assert_msg(status == OK, "%s", status_message());
}

static void assert_same(const void *a, const void *b, size_t n,
                        const char *what)
{
    ck_assert_msg(memcmp(a, b, n) == 0,
                  "%s differ: seed %llu, model %zu, round %zu", what,
                  (unsigned long long)seed, n_models, n_rounds);
}

static void *zeros(size_t n, size_t size)
{
    void *p = calloc(n + 1, size);
    ck_assert_ptr_nonnull(p);
    return p;
}

/* ---- reading ------------------------------------------------------------- */

/* The results of a call on one engine. */
struct results {
    float *bits, *logits, *pooled;
    struct segment *segments;
};

struct reading {
    size_t first, n; /* streams, from `first' on, around the end */
    uint32_t longest;
    bool has_pooled, is_started;
};

static size_t pooled_each(void)
{
    return pooled_floats(&tiny.model->config);
}

static struct reading draw_reading(void)
{
    static const uint32_t lengths[] = {1, 1, 3, 70, 700, CALL_BYTES};
    struct reading r = {.first = draw(STREAMS)};
    r.n = 1 + draw(1u << draw(12)) % STREAMS;
    r.longest = lengths[draw(sizeof lengths / sizeof lengths[0])];
    if (r.n * r.longest > CALL_BYTES)
        r.longest = CALL_BYTES / (uint32_t)r.n;
    r.has_pooled = draw(4) == 0;
    r.is_started = draw(4) == 0;
    return r;
}

static void open_results(struct results *x, const struct reading *r)
{
    x->segments = zeros(r->n, sizeof *x->segments);
    x->bits = zeros(r->n * r->longest, sizeof *x->bits);
    x->logits = zeros(r->n, FEW_BYTES * sizeof(float[256]));
    x->pooled = zeros(r->has_pooled ? r->n * pooled_each() : 0, sizeof(float));
}

static void close_results(struct results *x)
{
    free(x->segments);
    free(x->bits);
    free(x->logits);
    free(x->pooled);
}

/* Says what stream i of the call reads, on both engines. */
static void set_segments(struct results x[2], const struct reading *r, size_t i)
{
    const size_t n = r->longest == 1 ? draw(8) > 0 : draw(r->longest + 1);
    const uint8_t *bytes = text + draw(TEXT - (uint32_t)n);
    const bool has_bits = draw(2), has_logits = n <= FEW_BYTES && draw(2);
    for (int k = 0; k < 2; k++)
        x[k].segments[i] = (struct segment){
            .state = states[k][(r->first + i) % STREAMS],
            .bytes = bytes,
            .n = n,
            .bits = has_bits ? x[k].bits + i * r->longest : NULL,
            .logits = has_logits ? x[k].logits + i * FEW_BYTES * 256 : NULL,
            .pooled = r->has_pooled ? x[k].pooled + i * pooled_each() : NULL};
    n_read += n;
}

static void run_reading(struct engine *engine, const struct segment *segments,
                        const struct reading *r)
{
    if (!r->is_started) {
        assert_ok(engine_feed(engine, segments, r->n));
        return;
    }
    assert_ok(engine_feed_start(engine, segments, r->n));
    assert_ok(engine_feed_finish(engine));
}

static void read_some(void)
{
    struct results x[2];
    const struct reading r = draw_reading();
    for (int k = 0; k < 2; k++)
        open_results(&x[k], &r);
    for (size_t i = 0; i < r.n; i++)
        set_segments(x, &r, i);
    for (int k = 0; k < 2; k++)
        run_reading(engines[k], x[k].segments, &r);
    assert_same(x[0].bits, x[1].bits, r.n * r.longest * sizeof(float), "costs");
    assert_same(x[0].logits, x[1].logits, r.n * FEW_BYTES * sizeof(float[256]),
                "logits");
    if (r.has_pooled)
        assert_same(x[0].pooled, x[1].pooled,
                    r.n * pooled_each() * sizeof(float), "features");
    for (int k = 0; k < 2; k++)
        close_results(&x[k]);
}

/* ---- states -------------------------------------------------------------- */

static void change_states(void)
{
    for (uint32_t n = draw(100); n > 0; n--) {
        uint32_t to = draw(STREAMS), from = draw(STREAMS);
        bool begins = to == from || draw(3) == 0;
        for (int k = 0; k < 2; k++)
            assert_ok(begins ? engine_state_begin(engines[k], states[k][to])
                             : engine_state_copy(engines[k], states[k][to],
                                                 states[k][from]));
    }
}

/* Some streams go on on the other engine. */
static void exchange_states(void)
{
    const size_t size = model_state_size(&tiny.model->config);
    for (uint32_t n = draw(20); n > 0; n--) {
        float *images[2];
        const uint32_t i = draw(STREAMS);
        for (int k = 0; k < 2; k++) {
            images[k] = zeros(1, size);
            assert_ok(engine_state_get(engines[k], states[k][i], images[k]));
        }
        assert_same(images[0], images[1], size, "states");
        for (int k = 0; k < 2; k++)
            assert_ok(
                engine_state_set(engines[k], states[k][i], images[1 - k]));
        free(images[0]);
        free(images[1]);
    }
}

/* ---- drawing, and compressing -------------------------------------------- */

static void generate(void)
{
    enum { MOST = 400 };
    uint8_t bytes[2][MOST] = {{0}};
    const uint32_t i = draw(STREAMS), n = draw(MOST);
    const struct sampler sampler = sampler_make(
        (float)draw(15) * 0.1f, 1 + (int)draw(256),
        0.5f + (float)draw(6) * 0.1f, (float)draw(3) * 0.02f, draw(1000));
    for (int k = 0; k < 2; k++)
        assert_ok(engine_generate(engines[k], states[k][i], &sampler, 7,
                                  bytes[k], n));
    assert_same(bytes[0], bytes[1], sizeof bytes[0], "drawn bytes");
    n_generated += n;
}

struct blob {
    uint8_t *bytes; /* [n], owned */
    size_t n;
};

static struct blob take_output(struct sink *sink)
{
    assert_ok(sink_flush(sink));
    off_t end = lseek(sink->fd, 0, SEEK_END);
    ck_assert(end >= 0);
    struct blob blob = {zeros((size_t)end, 1), (size_t)end};
    ck_assert_int_eq(pread(sink->fd, blob.bytes, blob.n, 0), end);
    close(sink->fd);
    return blob;
}

/* Compresses what is given, or decompresses it. */
static struct blob pack(struct engine *engine, const uint8_t *bytes, size_t n,
                        bool unpacks)
{
    static struct sink sink;
    struct compressor *c;
    struct source source = {.path = "text",
                            .name = "text",
                            .fd = memfd_create("text", 0),
                            .is_regular = true,
                            .size = n};
    ck_assert_int_eq(write(source.fd, bytes, n), (ssize_t)n);
    assert_ok(source_seek(&source, 0));
    sink_init(&sink, memfd_create("out", 0));
    assert_ok(compressor_open(&c, engine, "tiny", 4));
    assert_ok(unpacks ? decompress(c, &source, &sink)
                      : compress(c, &source, &sink, TEXT));
    compressor_close(c);
    source_close(&source);
    return take_output(&sink);
}

static void compress_some(void)
{
    struct blob packed[2], back;
    const uint32_t n = draw(1u << (8 + draw(10))) % TEXT;
    const uint8_t *from = text + draw(TEXT - n);
    const int one = (int)draw(2);
    for (int k = 0; k < 2; k++)
        packed[k] = pack(engines[k], from, n, false);
    ck_assert_uint_eq(packed[0].n, packed[1].n);
    assert_same(packed[0].bytes, packed[1].bytes, packed[0].n, "codes");
    back = pack(engines[one], packed[0].bytes, packed[0].n, true);
    ck_assert_uint_eq(back.n, n);
    assert_same(back.bytes, from, n, "texts");
    free(packed[0].bytes);
    free(packed[1].bytes);
    free(back.bytes);
    n_packed += n;
}

/* ---- models -------------------------------------------------------------- */

/* Bytes that repeat now and then. */
static void draw_text(void)
{
    for (uint32_t t = 0; t < TEXT;) {
        uint32_t n = 1 + draw(60), back = 1 + draw(1000);
        bool repeats = back < t && draw(2);
        for (; n > 0 && t < TEXT; n--, t++)
            text[t] = repeats ? text[t - back] : (uint8_t)(' ' + draw(90));
    }
}

static void open_model(void)
{
    static const int widths[] = {64, 64, 64, 128, 512};
    const int d_model = widths[draw(5)], n_layer = 1 + (int)draw(3);
    struct tiny_spec spec = draw(2)
                                ? tiny_spec_mamba2(d_model, n_layer, draw(1000))
                                : tiny_spec_make(d_model, n_layer, draw(1000));
    const struct engine_options options[] = {{.device = DEVICE_CPU},
                                             {.device = DEVICE_CUDA}};
    spec.has_norm_bias = draw(2);
    spec.is_tied = draw(2);
    assert_ok(tiny_model_open(&tiny, &spec));
    for (int k = 0; k < 2; k++) {
        assert_ok(engine_open(&engines[k], tiny.model, &options[k]));
        for (int i = 0; i < STREAMS; i++)
            assert_ok(engine_state_new(engines[k], &states[k][i]));
        for (int i = 0; i < STREAMS; i++)
            assert_ok(engine_state_begin(engines[k], states[k][i]));
    }
    n_models++;
}

static void close_model(void)
{
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < STREAMS; i++)
            engine_state_free(engines[k], states[k][i]);
        engine_close(engines[k]);
    }
    tiny_model_close(&tiny);
}

static void run_round(void)
{
    switch (draw(8)) {
    case 0:
        change_states();
        break;
    case 1:
        exchange_states();
        break;
    case 2:
        generate();
        break;
    case 3:
        compress_some();
        break;
    default:
        read_some();
    }
    n_rounds++;
}

static long number_of(const char *variable, long otherwise)
{
    const char *text_of = getenv(variable);
    return text_of ? atol(text_of) : otherwise;
}

START_TEST(engines_agree)
{
    const time_t end = time(NULL) + number_of("MAMBYTE_SOAK", SECONDS);
    seed = (uint64_t)number_of("MAMBYTE_SOAK_SEED", 1);
    draw_text();
    do {
        open_model();
        for (int i = 0; i < ROUNDS && time(NULL) <= end; i++)
            run_round();
        close_model();
    } while (time(NULL) < end);
    printf(
        "%zu models, %zu rounds: %zu bytes read, %zu drawn, %zu compressed\n",
        n_models, n_rounds, n_read, n_generated, n_packed);
}
END_TEST

static Suite *soak_suite(void)
{
    Suite *suite = suite_create("cuda_soak");
    TCase *tests = tcase_create("tests");
    tcase_set_timeout(tests, TIMEOUT_S);
    tcase_add_test(tests, engines_agree);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    if (!tiny_model_runs_on_gpu())
        return end_without_gpu("check_cuda_soak", status_message());
    return run_suite_here(soak_suite());
}
