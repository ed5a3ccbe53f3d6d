/* bench_cuda.c -- the speed of the GPU engine beside the limits of the chip.
 *
 * usage: bench_cuda [SHAPE[:MODE]]...
 *
 * Random models of the shapes 27M, 353M and 972M, of Mamba-1 and, as m2-27M and
 * so on, of Mamba-2; CSV on stdout, a line for each shape and mode, of all or
 * of those named:
 *
 *     decode      one stream, drawing
 *     streams128  128 streams, a byte each at a time; streams1024 as well
 *     prefill1    one stream of 1 MiB
 *     prefill16   16 streams of 64 KiB
 *
 * The limit of the first two is the time to move their bytes once (weights;
 * states in and out) at the rate of a device copy, of the others the int8
 * products of a byte at the rate that cuBLASLt reaches on the largest of
 * them, both measured in this run.
 *
 * SPDX-License-Identifier: MIT
 */
#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/random.h"
#include "engine/engine.h"
#include "tiny_model.h"

enum {
    N_TURNS = 5,
    ENOUGH_S = 5,
    N_STREAMS = 1024, /* at most */
    N_ROUNDS = 64,    /* of all streams in a turn */
    N_DECODE = 256,
    DRAWN = 64, /* bytes in a call */
    PREFILL = 1 << 20,
    GEMM_ROWS = 16384
};

struct shape {
    const char *name;
    int d_model, n_layer;
    enum mixer mixer;
};

static const struct shape shapes[] = {
    {"27M", 512, 16, MIXER_MAMBA1},      {"353M", 1024, 53, MIXER_MAMBA1},
    {"972M", 1792, 48, MIXER_MAMBA1},    {"m2-27M", 512, 16, MIXER_MAMBA2},
    {"m2-353M", 1024, 53, MIXER_MAMBA2}, {"m2-972M", 1792, 48, MIXER_MAMBA2},
    {NULL, 0, 0, MIXER_MAMBA1}};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void require(int is_fine, const char *what)
{
    if (is_fine)
        return;
    fprintf(stderr, "bench_cuda: %s: %s\n", what, status_message());
    exit(1);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median time of a run, of at most N_TURNS and fewer when they are long;
 * the first is not counted. */
static double seconds(void (*run)(void *), void *arg)
{
    double turn[N_TURNS], begin = now();
    int n = 0;
    run(arg);
    do {
        double start = now();
        run(arg);
        turn[n++] = now() - start;
    } while (n < N_TURNS && now() - begin < ENOUGH_S);
    qsort(turn, (size_t)n, sizeof turn[0], by_value);
    return turn[n / 2];
}

/* ---- limits -------------------------------------------------------------- */

enum { COPY_BYTES = 1 << 30, COPIES = 8 };

static void copy(void *buffer)
{
    for (int i = 0; i < COPIES; i++)
        cudaMemcpyAsync((char *)buffer + COPY_BYTES, buffer, COPY_BYTES,
                        cudaMemcpyDeviceToDevice, 0);
    cudaDeviceSynchronize();
}

/* Bytes a second, read and written ones counted. */
static double copy_rate(void)
{
    void *buffer;
    require(cudaMalloc(&buffer, 2 * (size_t)COPY_BYTES) == cudaSuccess,
            "memory for a copy");
    cudaMemset(buffer, 1, 2 * (size_t)COPY_BYTES);
    double s = seconds(copy, buffer);
    cudaFree(buffer);
    return 2.0 * COPIES * COPY_BYTES / s;
}

/* y [rows][n] = x [rows][k] W [n][k], as cuBLASLt sees it. */
struct gemm {
    void *library;
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t w, x, y;
    void *memory, *workspace;
    size_t x_at, y_at;
    __typeof__(&cublasLtMatmul) matmul;
    cublasLtMatmulHeuristicResult_t best;
};

enum { WORKSPACE = 32 << 20, GEMMS = 20 };

#define GET(name)                                                              \
    __typeof__(&name) p_##name = (__typeof__(&name))dlsym(g->library, #name)

static int gemm_open(struct gemm *g, int n, int k)
{
    g->library = dlopen("libcublasLt.so.13", RTLD_NOW);
    if (!g->library)
        g->library = dlopen("libcublasLt.so", RTLD_NOW);
    if (!g->library)
        return 0;
    GET(cublasLtCreate);
    GET(cublasLtMatmulDescCreate);
    GET(cublasLtMatmulDescSetAttribute);
    GET(cublasLtMatrixLayoutCreate);
    GET(cublasLtMatmulPreferenceCreate);
    GET(cublasLtMatmulPreferenceSetAttribute);
    GET(cublasLtMatmulAlgoGetHeuristic);
    g->matmul =
        (__typeof__(&cublasLtMatmul))dlsym(g->library, "cublasLtMatmul");
    size_t rows = GEMM_ROWS, room = WORKSPACE;
    cublasOperation_t transpose = CUBLAS_OP_T;
    cublasLtMatmulPreference_t preference;
    int found = 0;
    g->x_at = (size_t)n * (size_t)k;
    g->y_at = g->x_at + rows * (size_t)k;
    if (cudaMalloc(&g->memory, g->y_at + 4 * rows * (size_t)n) ||
        cudaMalloc(&g->workspace, WORKSPACE) || p_cublasLtCreate(&g->handle))
        return 0;
    cudaMemset(g->memory, 3, g->y_at);
    p_cublasLtMatmulDescCreate(&g->operation, CUBLAS_COMPUTE_32I, CUDA_R_32I);
    p_cublasLtMatmulDescSetAttribute(g->operation, CUBLASLT_MATMUL_DESC_TRANSA,
                                     &transpose, sizeof transpose);
    p_cublasLtMatrixLayoutCreate(&g->w, CUDA_R_8I, (uint64_t)k, (uint64_t)n, k);
    p_cublasLtMatrixLayoutCreate(&g->x, CUDA_R_8I, (uint64_t)k, rows, k);
    p_cublasLtMatrixLayoutCreate(&g->y, CUDA_R_32I, (uint64_t)n, rows, n);
    p_cublasLtMatmulPreferenceCreate(&preference);
    p_cublasLtMatmulPreferenceSetAttribute(
        preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &room,
        sizeof room);
    p_cublasLtMatmulAlgoGetHeuristic(g->handle, g->operation, g->w, g->x, g->y,
                                     g->y, preference, 1, &g->best, &found);
    return found > 0;
}

static void gemm_run(void *arg)
{
    struct gemm *g = arg;
    int one = 1, zero = 0;
    char *m = g->memory;
    for (int i = 0; i < GEMMS; i++)
        g->matmul(g->handle, g->operation, &one, m, g->w, m + g->x_at, g->x,
                  &zero, m + g->y_at, g->y, m + g->y_at, g->y, &g->best.algo,
                  g->workspace, WORKSPACE, 0);
    cudaDeviceSynchronize();
}

/* Operations a second of [GEMM_ROWS][k] x [k][n]; 0 without cuBLASLt. */
static double gemm_rate(int n, int k)
{
    struct gemm g = {0};
    double rate = 0;
    if (gemm_open(&g, n, k))
        rate = 2.0 * GEMMS * GEMM_ROWS * n * k / seconds(gemm_run, &g);
    cudaFree(g.memory);
    cudaFree(g.workspace);
    return rate;
}

/* ---- what is measured ---------------------------------------------------- */

struct bench {
    struct engine *engine;
    struct state *states[N_STREAMS];
    uint8_t *bytes; /* [PREFILL] */
};

static void decode(void *arg)
{
    struct bench *b = arg;
    struct sampler sampler = sampler_make(1.0f, 256, 1.0f, 0.0f, 1);
    for (size_t i = 0; i < N_DECODE; i += DRAWN)
        require(engine_generate(b->engine, b->states[0], &sampler, i,
                                b->bytes + i, DRAWN) == OK,
                "decode");
}

static void feed_streams(struct bench *b, size_t n, size_t each)
{
    struct segment segments[N_STREAMS];
    for (size_t i = 0; i < n; i++) {
        struct segment s = {b->states[i], b->bytes + i * each, each, NULL, NULL,
                            NULL};
        segments[i] = s;
    }
    require(engine_feed(b->engine, segments, n) == OK, "prefill");
}

static void streams128(void *arg)
{
    for (size_t i = 0; i < N_ROUNDS; i++)
        feed_streams(arg, 128, 1);
}

static void streams1024(void *arg)
{
    for (size_t i = 0; i < N_ROUNDS; i++)
        feed_streams(arg, 1024, 1);
}

static void prefill1(void *arg)
{
    feed_streams(arg, 1, PREFILL);
}

static void prefill16(void *arg)
{
    feed_streams(arg, 16, PREFILL / 16);
}

/* The int8 weights of the projections. */
static double n_weights(const struct model_config *c)
{
    double d = c->d_model, e = c->d_inner, r = c->dt_rank, n = c->d_state;
    if (c->mixer == MIXER_MAMBA2)
        return c->n_layer * (in_proj_rows(c) * d + e * d) + 256 * d;
    return c->n_layer * (3 * e * d + e * (r + 2 * n) + e * r) + 256 * d;
}

/* What moves of a state for a byte.  Mamba-2 reads S^, and half of a chunk of
 * x^, B^ and w on average; S moves once a chunk. */
static double state_traffic(const struct model_config *c)
{
    double states = (double)c->d_inner * c->d_state, f = sizeof(float);
    double past = f * (c->d_conv - 1) * conv_channels(c);
    double bytes = CHUNK / 2.0 * (c->d_inner + c->n_groups * c->d_state);
    double weights = f * c->n_heads * CHUNK;
    if (c->mixer == MIXER_MAMBA1)
        return 2.0 * (double)model_state_size(c);
    return c->n_layer * (states + f * c->d_inner + bytes + 2 * past + weights +
                         (2 * f + 1) * states / CHUNK);
}

/* Bytes a second that the chip allows when weights and the states of n
 * streams move once for n bytes; and when only products take time. */
static double moving_limit(const struct model_config *c, double copies, int n)
{
    return n * copies / (n_weights(c) + n * state_traffic(c));
}

static double product_limit(const struct model_config *c)
{
    return gemm_rate(2 * c->d_inner, c->d_model) / (2 * n_weights(c));
}

struct mode {
    const char *name;
    void (*run)(void *);
    double bytes;
    int moves; /* streams that limit by moving; 0: products do */
};

static const struct mode modes[] = {
    {"prefill1", prefill1, PREFILL, 0},
    {"prefill16", prefill16, PREFILL, 0},
    {"streams128", streams128, 128 * N_ROUNDS, 128},
    {"streams1024", streams1024, 1024 * N_ROUNDS, 1024},
    {"decode", decode, N_DECODE, 1},
    {NULL, NULL, 0, 0},
};

static void report(const char *shape, const char *mode, double rate,
                   double limit)
{
    struct cudaDeviceProp device;
    int driver = 0;
    cudaGetDeviceProperties(&device, 0);
    cudaDriverGetVersion(&driver);
    printf("%s,%d.%d,%s,%s,%.0f,bytes/s,%.0f,%.3f\n", device.name,
           driver / 1000, driver % 100 / 10, shape, mode, rate, limit,
           limit > 0 ? rate / limit : 0.0);
    fflush(stdout);
}

/* Whether shape, or shape:mode, is among the names; no names mean all. */
static int is_asked(const char *shape, const char *mode, char **names)
{
    size_t n = strlen(shape);
    if (!*names)
        return 1;
    for (; *names; names++) {
        if (strncmp(*names, shape, n) != 0)
            continue;
        const char *rest = *names + n;
        if (!*rest || !mode || (*rest == ':' && !strcmp(rest + 1, mode)))
            return 1;
    }
    return 0;
}

/* The streams that what is asked needs: those of a large model may take more
 * memory than a shared GPU has left. */
static int n_streams(const char *shape, char **names)
{
    int n = 16;
    for (const struct mode *m = modes; m->name; m++) {
        if (is_asked(shape, m->name, names) && m->moves > n)
            n = m->moves;
    }
    return n;
}

static void bench_model(const struct shape *shape, const struct model *model,
                        double copies, char **names)
{
    struct bench b;
    int n = n_streams(shape->name, names);
    struct engine_options options = {.device = DEVICE_CUDA};
    double products = product_limit(&model->config);
    require(engine_open(&b.engine, model, &options) == OK, "open");
    b.bytes = malloc(PREFILL);
    for (size_t i = 0; i < PREFILL; i++)
        b.bytes[i] = (uint8_t)(random_at(7, i) >> 56);
    for (int i = 0; i < n; i++)
        require(engine_state_new(b.engine, &b.states[i]) == OK, "state");

    for (const struct mode *m = modes; m->name; m++) {
        if (is_asked(shape->name, m->name, names))
            report(shape->name, m->name, m->bytes / seconds(m->run, &b),
                   m->moves ? moving_limit(&model->config, copies, m->moves)
                            : products);
    }
    for (int i = 0; i < n; i++)
        engine_state_free(b.engine, b.states[i]);
    engine_close(b.engine);
    free(b.bytes);
}

static void bench_shape(const struct shape *shape, double copies, char **names)
{
    struct tiny_spec spec =
        shape->mixer == MIXER_MAMBA2
            ? tiny_spec_mamba2(shape->d_model, shape->n_layer, 1)
            : tiny_spec_make(shape->d_model, shape->n_layer, 1);
    struct tiny_model tiny;
    require(tiny_model_open(&tiny, &spec) == OK, "a model");
    bench_model(shape, tiny.model, copies, names);
    tiny_model_close(&tiny);
}

int main(int argc, char **argv)
{
    int n = 0;
    (void)argc;
    if (cudaGetDeviceCount(&n) != cudaSuccess || n == 0) {
        fputs("bench_cuda: no GPU\n", stderr);
        return 77;
    }
    double copies = copy_rate();
    puts("device,driver,shape,mode,value,unit,limit,share_of_limit");
    for (const struct shape *s = shapes; s->name; s++) {
        if (is_asked(s->name, NULL, argv + 1))
            bench_shape(s, copies, argv + 1);
    }
    return 0;
}
