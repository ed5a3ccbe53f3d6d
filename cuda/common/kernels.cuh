/* kernels.cuh -- the batched path: what its kernels work on, and their
 * launches.
 *
 * Rows are bytes of streams.  A wave is up to ROWS_MAX rows, made of pieces:
 * consecutive bytes of one stream in consecutive rows.  In step k layer l
 * works on wave k - l, so that one launch serves all layers (blockIdx.z) and
 * a single long stream fills the chip.  Each layer has its own activations;
 * the residual stream h travels with its wave.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_KERNELS_CUH
#define MAMBYTE_KERNELS_CUH

#include "cuda/common/device.cuh"

enum {
    ROWS_MAX = 4096, /* of a wave                                          */
    ROWS_UNIT = 128  /* memory for rows comes in multiples of it           */
};

/* Rows [row, row + n) of a wave: bytes of the stream whose state is image. */
struct piece {
    float *image;
    float *sums; /* of its segment, on the device; NULL: not wanted          */
    int row, n;
};

/* Rows [row, row + n), n <= SPAN, of one piece: what a block takes where
 * neighbouring rows matter. */
enum { SPAN = 8 };
struct span {
    int piece, row, n;
};

struct wave {
    int n_rows, n_pieces, n_spans;
    uint8_t bytes[ROWS_MAX];
    struct piece pieces[ROWS_MAX];
    struct span spans[ROWS_MAX];
};

/* All that the kernels read and write; passed by value.  A [layer] array has
 * `rows` rows for each layer; layer n_layer is the head: norm_f, lm_head. */
struct batch {
    int d_model, d_inner, d_state, d_conv, dt_rank, n_layer;
    bool has_norm_bias;
    float epsilon;
    struct image_layout image;
    const float *embedding;
    const struct cuda_layer *layers; /* [n_layer + 1]                      */

    int max_shared, n_processors; /* of the device: bytes for a block   */

    const struct wave *waves; /* [n_slots]                          */
    int n_slots, rows;
    float *h; /* [n_slots][rows][d_model]           */

    int x_stride, u_stride, dt_room, dtbc_stride; /* of x, u_q, dtbc       */
    int8_t *x;                  /* [layer][x_stride]: norm(h)         */
    float *x_scale;             /* [layer]                            */
    float *uz;                  /* [layer][2 d_inner]: silu(z)        */
    float *u;                   /* [layer][d_inner]; then y           */
    int8_t *u_q;                /* [layer][u_stride]; then y          */
    float *u_scale;             /* [layer]; then of y                 */
    float *dtbc;                /* [layer][dtbc_stride]: dt, room up
                                 * to dt_room, B, C                   */
    uint32_t *dt_amax, *y_amax; /* [layer]                            */

    bool has_sums; /* some piece of the call has them    */
    int sums_layers[SUMS_LAYERS], n_sums;

    float *logits; /* [rows][256], of one wave           */
    float *bits;   /* [rows], of one wave                */
};

/* Layers [first, first + count) in step `number`. */
struct step {
    int number, first, count;
    int rows, pieces, spans; /* the most of any of their waves             */
};

struct queue {
    cudaStream_t stream;
    bool overlaps; /* the device can start a kernel while the last one ends */
};

enum product_kind { PRODUCT_IN, PRODUCT_X, PRODUCT_OUT, PRODUCT_HEAD };

/* Once for each device, before the others: they need shared memory. */
enum status products_prepare(const struct batch *b);
enum status scan_prepare(const struct batch *b);

/* x = norm(h), quantised; the maxima of the layer are set to 0.  For layer 0
 * h is made first, of the embeddings of the bytes. */
enum status launch_norm(struct queue q, const struct batch *b, struct step s);

/* uz (z through silu), dtbc, h or logits from x or u_q. */
enum status launch_product(struct queue q, const struct batch *b, struct step s,
                           enum product_kind kind);

/* u = silu(conv(uz)), u_q = u quantised. */
enum status launch_conv(struct queue q, const struct batch *b, struct step s);

/* y, in place of u, and the state: its s and its past inputs. */
enum status launch_scan(struct queue q, const struct batch *b, struct step s);

/* y is added to the sums of the pieces that have them. */
enum status launch_sums(struct queue q, const struct batch *b, struct step s);

/* u_q = y quantised. */
enum status launch_quantise(struct queue q, const struct batch *b,
                            struct step s);

/* bits: what each byte cost; the last prediction of a piece to its state. */
enum status launch_deliver(struct queue q, const struct batch *b,
                           struct step s);

#ifdef __CUDACC__

/* Where the wave of layer lies; the head has that of the last layer. */
static __device__ __forceinline__ int step_slot(const struct batch &b,
                                                const struct step &s, int layer)
{
    return (s.number - min(layer, b.n_layer - 1)) % b.n_slots;
}

/* A kernel may start while the one before it in the stream ends: nothing that
 * a kernel wrote may be read before this call, but the model and the waves
 * may.  Every block with work makes it, so that when a kernel is done all
 * that came before it is. */
static __device__ __forceinline__ void await_previous(void)
{
#if __CUDA_ARCH__ >= 900
    cudaTriggerProgrammaticLaunchCompletion();
    cudaGridDependencySynchronize();
#endif
}

/* ---- exact.h for several numbers ----------------------------------------
 *
 * The same bits as the functions of exact.h.  Each step is written for all n
 * numbers before the next one, so that their chains of dependent operations
 * run abreast; tests for what is unusual are made once for all.
 */

/* exact_exp2_reduced; x = 2^(r + f), t and f given. */
template <int n>
static __device__ __forceinline__ void exp2_all(float *x, const float *t,
                                                const float *f)
{
    constexpr float c[] = {EXACT_EXP2_C4, EXACT_EXP2_C3, EXACT_EXP2_C2,
                           EXACT_EXP2_C1, 1.0f};
#pragma unroll
    for (int i = 0; i < n; i++)
        x[i] = EXACT_EXP2_C5;
#pragma unroll
    for (int k = 0; k < 5; k++) {
#pragma unroll
        for (int i = 0; i < n; i++)
            x[i] = fmaf(x[i], f[i], c[k]);
    }
#pragma unroll
    for (int i = 0; i < n; i++)
        x[i] = exact_float(exact_bits(x[i]) + (exact_bits(t[i]) << 23));
}

/* exact_exp of what lies in the range that it clamps to. */
template <int n> static __device__ __forceinline__ void exp_all(float *x)
{
    float t[n], f[n];
#pragma unroll
    for (int i = 0; i < n; i++)
        t[i] = fmaf(x[i], EXACT_LOG2E, EXACT_ROUND);
#pragma unroll
    for (int i = 0; i < n; i++)
        f[i] = fmaf(x[i], EXACT_LOG2E, -(t[i] - EXACT_ROUND));
#pragma unroll
    for (int i = 0; i < n; i++)
        f[i] = fmaf(x[i], EXACT_LOG2E_LOW, f[i]);
    exp2_all<n>(x, t, f);
}

/* x /= d, correctly rounded: the steps that the compiler takes for a division
 * of numbers far from the ends of the range, without its test for those. */
template <int n>
static __device__ __forceinline__ void divide_all(float *x, const float *d)
{
    float y[n], q[n];
#pragma unroll
    for (int i = 0; i < n; i++)
        asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y[i]) : "f"(d[i]));
#pragma unroll
    for (int i = 0; i < n; i++)
        y[i] = fmaf(y[i], fmaf(-d[i], y[i], 1.0f), y[i]);
#pragma unroll
    for (int i = 0; i < n; i++)
        q[i] = x[i] * y[i];
#pragma unroll
    for (int k = 0; k < 2; k++) {
#pragma unroll
        for (int i = 0; i < n; i++)
            q[i] = fmaf(y[i], fmaf(-d[i], q[i], x[i]), q[i]);
    }
#pragma unroll
    for (int i = 0; i < n; i++)
        x[i] = q[i];
}

/* Out of the way of the usual case. */
static __device__ __noinline__ float silu_unusual(float x)
{
    return exact_silu(x);
}

/* exact_silu.  Usual is 2^-100 <= |x| < 64: there the divisor is at most
 * 1 + e^64, and the exponential needs no clamp. */
template <int n> static __device__ __forceinline__ void silu_all(float *x)
{
    float y[n], d[n];
    bool is_usual = true;
#pragma unroll
    for (int i = 0; i < n; i++) {
        is_usual &= fabsf(x[i]) >= 0x1p-100f && fabsf(x[i]) < 64.0f;
        y[i] = x[i];
        d[i] = -x[i];
    }
    exp_all<n>(d);
#pragma unroll
    for (int i = 0; i < n; i++)
        d[i] = 1.0f + d[i];
    divide_all<n>(y, d);
    if (!is_usual) {
#pragma unroll
        for (int i = 0; i < n; i++)
            y[i] = silu_unusual(x[i]);
    }
#pragma unroll
    for (int i = 0; i < n; i++)
        x[i] = y[i];
}

/* exact_softplus */
template <int n> static __device__ __forceinline__ void softplus_all(float *x)
{
    constexpr float c[] = {
        EXACT_LOG1P_C7, EXACT_LOG1P_C6, EXACT_LOG1P_C5, EXACT_LOG1P_C4,
        EXACT_LOG1P_C3, EXACT_LOG1P_C2, EXACT_LOG1P_C1, 1.0f};
    float w[n], p[n];
#pragma unroll
    for (int i = 0; i < n; i++)
        w[i] = fmaxf(-fabsf(x[i]), EXACT_EXP_MIN); /* of a NaN, the bound */
    exp_all<n>(w);
#pragma unroll
    for (int i = 0; i < n; i++)
        p[i] = EXACT_LOG1P_C8;
#pragma unroll
    for (int k = 0; k < 8; k++) {
#pragma unroll
        for (int i = 0; i < n; i++)
            p[i] = fmaf(p[i], w[i], c[k]);
    }
#pragma unroll
    for (int i = 0; i < n; i++)
        x[i] = fmaf(p[i], w[i], exact_max(x[i], 0.0f));
}

template <typename... Args>
static enum status launch(const char *what, struct queue q, dim3 grid,
                          int threads, size_t shared, void (*kernel)(Args...),
                          Args... args)
{
    cudaLaunchConfig_t config = {};
    cudaLaunchAttribute overlap = {};
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared;
    config.stream = q.stream;
    config.attrs = &overlap;
    config.numAttrs = q.overlaps ? 1 : 0;
    return cuda_status(cudaLaunchKernelEx(&config, kernel, args...), what);
}

#endif
#endif
