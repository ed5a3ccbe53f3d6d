/* bench_engine.c -- the speed of the CPU engine beside the machine's limit.
 *
 * usage: bench_engine [MODEL [LEVEL]]
 *
 * Measures MODEL, and then Mamba-2 of the size of the default model (27M), with
 * random weights: the modes of that one begin with "mamba2-".
 *
 * CSV on stdout, a line for each number of threads and mode:
 *
 *     decode     one stream, a byte at a time
 *     streams16  sixteen streams, a byte each at a time
 *     prefill    one stream, long calls
 *
 * Decode is held against reading all int8 weights once a byte from a buffer
 * of their size, the others against the int8 products of a byte at the peak
 * rate of the level's dot product instructions.  Limits and speeds are
 * measured in turns, so that what else the machine does meets both, and each
 * is the median of its turns.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/threads.h"
#include "config.h"
#include "engine/engine.h"
#include "kernels/cpu_kernels.h"
#include "tiny_model.h"

enum {
    N_TURNS = 15,
    N_STREAMS = 16,
    PREFILL_BYTES = 768,
    DECODE_BYTES = 32,
    STREAMS_BYTES = 16,
    DOT_ROUNDS = 1 << 22,
    LARGE_PAGE = 2 << 20
};

/* ---- the limits of the machine ------------------------------------------- */

/* What a level can do at best: reading memory, and sums of products of int8
 * in independent chains. */
struct limits {
    const char *level;
    int macs_a_round;
    void (*dot)(long n_rounds);
    void (*read)(const char *bytes, size_t n);
};

/* Makes the compiler keep x, as a new value. */
#define KEEP(x, register_class) __asm__ volatile("" : "+" register_class(x))

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("avx512f,avx512vnni"))) static void
dot_avx512(long n_rounds)
{
    __m512i sum[16] = {_mm512_setzero_si512()}, x = _mm512_set1_epi8(3);
    for (long round = 0; round < n_rounds; round++) {
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            sum[i] = _mm512_dpbusd_epi32(sum[i], x, x);
            KEEP(sum[i], "v");
        }
    }
}

__attribute__((target("avx512f"))) static void read_avx512(const char *bytes,
                                                           size_t n)
{
    __m512i any[4] = {_mm512_setzero_si512()};
    for (size_t i = 0; i + 256 <= n; i += 256) {
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
            any[k] = _mm512_or_si512(
                any[k], _mm512_loadu_si512(bytes + i + 64 * (size_t)k));
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
        KEEP(any[k], "v");
}

__attribute__((target("avx2"))) static void dot_avx2(long n_rounds)
{
    __m256i sum[8] = {_mm256_setzero_si256()};
    __m256i x = _mm256_set1_epi8(3), one = _mm256_set1_epi16(1);
    for (long round = 0; round < n_rounds; round++) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            KEEP(x, "x");
            __m256i pairs = _mm256_maddubs_epi16(x, x);
            sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(pairs, one));
            KEEP(sum[i], "x");
        }
    }
}

__attribute__((target("avx2"))) static void read_avx2(const char *bytes,
                                                      size_t n)
{
    __m256i any[4] = {_mm256_setzero_si256()};
    for (size_t i = 0; i + 128 <= n; i += 128) {
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            const void *at = bytes + i + 32 * (size_t)k;
            any[k] = _mm256_or_si256(any[k], _mm256_loadu_si256(at));
        }
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
        KEEP(any[k], "x");
}

static const struct limits limits_known[] = {
    {"avx512vnni", 16 * 64, dot_avx512, read_avx512},
    {"avx2", 8 * 32, dot_avx2, read_avx2},
    {NULL, 0, NULL, NULL},
};

#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>

static void dot_neon(long n_rounds)
{
    int8x16_t x = vdupq_n_s8(3);
    int32x4_t sum[16] = {vdupq_n_s32(0)};
    for (long round = 0; round < n_rounds; round++) {
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            sum[i] = vdotq_s32(sum[i], x, x);
            KEEP(sum[i], "w");
        }
    }
}

static void read_neon(const char *bytes, size_t n)
{
    uint8x16_t any[4] = {vdupq_n_u8(0)};
    for (size_t i = 0; i + 64 <= n; i += 64) {
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
            any[k] = vorrq_u8(
                any[k], vld1q_u8((const uint8_t *)bytes + i + 16 * (size_t)k));
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
        KEEP(any[k], "w");
}

static const struct limits limits_known[] = {
    {"neon", 16 * 16, dot_neon, read_neon},
    {NULL, 0, NULL, NULL},
};

#else

static const struct limits limits_known[] = {
    {NULL, 0, NULL, NULL},
};

#endif

/* NULL when nothing is known of the level. */
static const struct limits *limits_of(const char *level)
{
    const struct limits *limits = limits_known;
    while (limits->level && strcmp(limits->level, level) != 0)
        limits++;
    return limits->level ? limits : NULL;
}

/* ---- measuring ----------------------------------------------------------- */

struct bench {
    const struct model *model;
    const char *prefix; /* of the modes */
    const char *cpu;    /* the name of the processor */
    const struct cpu_kernels *level;
    const struct limits *limits;
    struct threads *team; /* for the limits */
    struct engine *engine;
    struct state *states[N_STREAMS];
    char *memory;     /* [n_weights] */
    size_t n_weights; /* int8 weights, hence products a byte */
    uint8_t *text;    /* [PREFILL_BYTES] */
};

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void die(void)
{
    fprintf(stderr, "bench_engine: %s\n", status_message());
    exit(1);
}

static void must(enum status status)
{
    if (status != OK)
        die();
}

/* In large pages where the system has them, as the engine does. */
static void *must_alloc(size_t size)
{
    size = (size + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE;
    void *p = aligned_alloc(LARGE_PAGE, size);
    if (!p)
        must(fail_memory("the benchmark"));
    madvise(p, size, MADV_HUGEPAGE);
    return p;
}

static void read_share(void *context, int index)
{
    const struct bench *b = context;
    size_t share = b->n_weights / (size_t)threads_count(b->team);
    b->limits->read(b->memory + (size_t)index * share, share);
}

static void dot_share(void *context, int index)
{
    const struct bench *b = context;
    (void)index;
    b->limits->dot(DOT_ROUNDS);
}

/* Times a second that the weights could be read; 0 when not known. */
static double turn_read(struct bench *b)
{
    enum { N_READS = 32 };
    if (!b->limits)
        return 0.0;
    double begin = seconds_now();
    for (int i = 0; i < N_READS; i++)
        threads_run(b->team, read_share, b);
    return N_READS / (seconds_now() - begin);
}

/* Bytes a second whose products could be made; 0 when not known. */
static double turn_dot(struct bench *b)
{
    if (!b->limits)
        return 0.0;
    double begin = seconds_now();
    threads_run(b->team, dot_share, b);
    double seconds = seconds_now() - begin;
    double macs =
        (double)b->limits->macs_a_round * DOT_ROUNDS * threads_count(b->team);
    return macs / seconds / (double)b->n_weights;
}

/* Bytes a second of so many streams, each fed n bytes in calls of step. */
static double turn_engine(struct bench *b, int n_streams, size_t n, size_t step)
{
    struct segment segments[N_STREAMS];
    double begin = seconds_now();
    for (size_t i = 0; i < n; i += step) {
        for (int k = 0; k < n_streams; k++) {
            struct segment segment = {
                .state = b->states[k], .bytes = b->text + i, .n = step};
            segments[k] = segment;
        }
        must(engine_feed(b->engine, segments, (size_t)n_streams));
    }
    return (double)n_streams * (double)n / (seconds_now() - begin);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, size_t n)
{
    qsort(x, n, sizeof *x, compare_doubles);
    return x[n / 2];
}

static void print_line(const struct bench *b, const char *mode, double speed,
                       double limit, const char *limit_what)
{
    printf("%s,%s,%s,%d,%s%s,%.0f,", PACKAGE_VERSION, b->cpu, b->level->name,
           threads_count(b->team), b->prefix, mode, speed);
    if (limit > 0.0)
        printf("%.0f,%.2f,%s\n", limit, speed / limit, limit_what);
    else
        printf(",,\n");
    fflush(stdout);
}

static void measure(struct bench *b)
{
    double reads[N_TURNS], dots[N_TURNS];
    double decode[N_TURNS], streams[N_TURNS], prefill[N_TURNS];
    turn_engine(b, 1, DECODE_BYTES, 1); /* warms caches and clocks */
    for (int i = 0; i < N_TURNS; i++) {
        reads[i] = turn_read(b);
        decode[i] = turn_engine(b, 1, DECODE_BYTES, 1);
        dots[i] = turn_dot(b);
        streams[i] = turn_engine(b, N_STREAMS, STREAMS_BYTES, 1);
        prefill[i] = turn_engine(b, 1, PREFILL_BYTES, PREFILL_BYTES);
    }
    double peak = median(dots, N_TURNS);
    print_line(b, "decode", median(decode, N_TURNS), median(reads, N_TURNS),
               "int8 weights read once a byte");
    print_line(b, "streams16", median(streams, N_TURNS), peak,
               "int8 dot products");
    print_line(b, "prefill", median(prefill, N_TURNS), peak,
               "int8 dot products");
}

static void bench_threads(struct bench *b, int n_threads)
{
    struct engine_options options = {
        .device = DEVICE_CPU, .n_threads = n_threads, .cpu = b->level->name};
    must(engine_open(&b->engine, b->model, &options));
    must(threads_open(&b->team, n_threads));
    for (int k = 0; k < N_STREAMS; k++)
        must(engine_state_new(b->engine, &b->states[k]));
    measure(b);
    for (int k = 0; k < N_STREAMS; k++)
        engine_state_free(b->engine, b->states[k]);
    threads_close(b->team);
    engine_close(b->engine);
}

/* ---- what is measured ---------------------------------------------------- */

static size_t weights_of(const struct matrix *matrix)
{
    return (size_t)matrix->rows * (size_t)matrix->cols;
}

static size_t count_weights(const struct model *model)
{
    size_t n = weights_of(&model->lm_head);
    for (int l = 0; l < model->config.n_layer; l++) {
        const struct layer *layer = &model->layers[l];
        n += weights_of(&layer->in_proj) + weights_of(&layer->x_proj) +
             weights_of(&layer->dt_proj) + weights_of(&layer->out_proj);
    }
    return n;
}

/* The processor as the system names it, without commas. */
static void cpu_name(char name[64])
{
    strcpy(name, "unknown");
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "model name : %63[^,\n]", name) == 1)
            break;
    }
    if (file)
        fclose(file);
}

/* Anything that looks a little like English. */
static void make_text(uint8_t *text, size_t n)
{
    static const char words[] = "the state of a stream is as old as its ink; ";
    for (size_t i = 0; i < n; i++)
        text[i] = (uint8_t)words[(i + i / 97) % (sizeof words - 1)];
}

static void bench_model(struct bench *b, const struct model *model,
                        const char *prefix)
{
    b->model = model;
    b->prefix = prefix;
    b->n_weights = count_weights(model);
    b->memory = must_alloc(b->n_weights);
    memset(b->memory, 1, b->n_weights);
    for (int n = 1; n <= 2; n++)
        bench_threads(b, n);
    free(b->memory);
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : getenv("MAMBYTE_MODEL");
    struct tiny_spec spec = tiny_spec_mamba2(512, 16, 1);
    struct tiny_model mamba2;
    char cpu[64];
    struct model *model = NULL;
    must(path ? model_open(&model, path)
              : fail(E_USAGE, "usage: bench_engine MODEL [LEVEL]"));
    must(tiny_model_open(&mamba2, &spec));
    cpu_name(cpu);
    struct bench b = {.cpu = cpu};
    b.level = cpu_kernels_find(argc > 2 ? argv[2] : NULL);
    must(b.level ? OK : fail(E_USAGE, "no level %s here", argv[2]));
    b.limits = limits_of(b.level->name);
    b.text = must_alloc(PREFILL_BYTES);
    make_text(b.text, PREFILL_BYTES);

    printf("version,cpu,level,threads,mode,bytes_per_s,limit_bytes_per_s,"
           "share,limit_what\n");
    bench_model(&b, model, "");
    bench_model(&b, mamba2.model, "mamba2-");
    free(b.text);
    tiny_model_close(&mamba2);
    model_close(model);
    return 0;
}
