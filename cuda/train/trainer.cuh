/* trainer.cuh -- training on GPUs: what one of them holds, and the kernels
 * that work on it.
 *
 * Row t of an array is a byte of the batch: row w * n_t + i is byte i of
 * window w.  Numbers, in comments, are bf16, or float32 with
 * products_in_float: kernels are templates on that type alone.
 *
 * A product multiplies integers when int8 is imitated: quantised weights and
 * activations are exact in bf16.  Its result is a sum still to be multiplied
 * by a scale for its row and one for its column, which whoever reads it does.
 * Without imitation all scales are 1.
 *
 * Gradients have the name of what they are of with a d before it.  One that
 * goes into products is kept times the scale of the row that the forward
 * product read, and divided by it afterwards: so dW = dy^T x needs no other
 * copy of x than the integers.
 *
 * No sum depends on the order in which threads come: no atomics on floats.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TRAINER_CUH
#define MAMBYTE_TRAINER_CUH

#include <cuda_bf16.h>

#include "cuda/common/device.cuh"
extern "C" {
#include "train/trainer.h"
}

enum {
    TILE = 8,            /* bytes that a scan takes at a time               */
    KEPT = 4,            /* bytes between the states that are kept          */
    SCAN_THREADS = 128,  /* each has scan_states() states of a channel      */
    CONV_SPAN = 128,     /* rows of a block of the backward convolution     */
    EMBED_SPAN = 2048,   /* rows of a block of the embedding's gradient     */
    NORM_BLOCKS = 2112,  /* of the backward norm                            */
    HEAD_ROWS = 1 << 14, /* whose logits there are at a time                */
    TABLE_CHUNK = 4096,  /* floats that a block of the optimiser updates    */
    MUON_PARTS = 64,     /* partial sums of squares of a matrix             */
    NORM_PARTS = 1024    /* and of the gradient                             */
};

/* The states that a thread of a scan has, of d_state of a channel. */
static constexpr int scan_states(int d_state)
{
    return d_state < 16 ? 4 : 8;
}

/* What a number of a row is multiplied with, and its inverse: [t] each. */
struct row_scale {
    float *scale, *inverse;
};

/* A projection y = W x, made ready for a step. */
struct train_weight {
    int rows, cols, ld; /* ld: of the copies, a multiple of 8, zero filled  */
    size_t offset;      /* in the parameters                                */
    void *q;            /* [rows][ld] numbers, as forward multiplies        */
    void *seen;         /* the same with the scale multiplied out           */
    float *scale;       /* [rows]                                           */
};

enum { W_IN, W_X, W_DT, W_OUT, N_WEIGHTS };

/* What the forward pass of a layer leaves for the backward pass.  q: as the
 * products saw it. */
struct train_tape {
    struct train_weight weights[N_WEIGHTS];
    float *a_log2e;  /* [d_inner][d_state]: -exp(A_log) log2(e)            */
    float *h;        /* [t][d_model], what the layer reads                 */
    float *mean, *r; /* [t], of the norm                                   */
    void *x;         /* [t][d_model] numbers: norm(h), q                   */
    void *uz;        /* [t][2 d_inner] numbers, sums                       */
    void *u, *u_q;   /* [t][d_inner] numbers, after the convolution        */
    float *bc;       /* [t][2 d_state]: B | C                              */
    void *dt;        /* [t][ld_dt] numbers, q                              */
    void *v;         /* [t][d_inner] numbers, sums: dt_proj dt             */
    void *y;         /* [t][d_inner] numbers, q                            */
    void *states;    /* [windows][tiles][TILE / KEPT][d_inner][d_state]
                      * numbers: before every KEPT-th byte                 */
    struct row_scale x_scale, u_scale, dt_scale, y_scale;
};

struct products; /* cuBLAS */

/* Parts of a step whose time a benchmark asks for. */
enum phase {
    PHASE_PREPARE,
    PHASE_NORM,
    PHASE_PRODUCTS,
    PHASE_CONV,
    PHASE_DTBC,
    PHASE_SCAN,
    PHASE_QUANTISE,
    PHASE_HEAD,
    PHASE_PRODUCTS_BACK,
    PHASE_SCAN_BACK,
    PHASE_DTBC_BACK,
    PHASE_CONV_BACK,
    PHASE_NORM_BACK,
    PHASE_EMBEDDING,
    PHASE_ADAMW,
    PHASE_MUON,
    N_PHASES
};

/* Events on a stream, each the end of a phase. */
enum { MARKS_MAX = 1 << 15 };
struct stopwatch {
    cudaEvent_t events[MARKS_MAX];
    uint8_t phases[MARKS_MAX];
    int n, n_events; /* in use; created */
};

/* Consecutive floats of the parameters that AdamW updates. */
struct table_chunk {
    unsigned long long begin;
    int n;
    float decays; /* 1 or 0 */
};

/* Matrices of one shape that Muon updates, and where they are. */
struct muon_group {
    int rows, cols, n;
    const unsigned long long *offsets; /* [n], device                       */
};

/* What one GPU has: all the weights, some of the windows. */
struct replica {
    const struct parameters *parameters;
    struct model_config config;
    int device;
    bool imitates, in_float, recomputes;
    int first_window, n_windows, n_t, n_rows, n_tiles;
    int all_rows; /* of all GPUs */
    int ld_dtbc, ld_dt, ld_ddtbc, scan_blocks;
    cudaStream_t stream;
    struct products *products;
    struct stopwatch *watch; /* NULL but in benchmarks */

    void *arena; /* owned: everything below */
    size_t n_bytes;
    float *weights, *moment_1, *moment_2; /* [n_floats]                     */
    float *gradient;                      /* [n_floats + 1]: the loss last  */
    float *states, *after; /* [n_windows][trainer_state_floats()]           */
    uint8_t *bytes;        /* [n_windows][n_t + 1]                          */
    double *sums;          /* [1024], and the root of their sum             */
    const struct table_chunk *chunks;
    int n_chunks;
    struct muon_group groups[2];
    int n_groups;

    struct train_tape *tapes; /* host: [n_layer + 1]; the last is the head,
                               * its projection W_IN                        */
    float *ones; /* scales without imitation                                */

    /* Scratch of a pass; all of it is the optimiser's room afterwards. */
    char *muon_room;
    size_t muon_bytes;
    void *o;            /* [t][d_model] numbers, sums of out_proj          */
    uint32_t *amax;     /* [t]                                             */
    float *dtbc;        /* [t][ld_dtbc]: dt | B | C, sums                  */
    float *dh;          /* [t][d_model]                                    */
    float *loss;        /* [t]                                             */
    void *dho;          /* [t][d_model] numbers: dh, for out_proj          */
    void *dx;           /* [t][d_model] numbers                            */
    void *dy, *dv, *du; /* [t][d_inner] numbers                            */
    void *du_x;         /* [t][d_inner] numbers: by way of x_proj          */
    void *duz;          /* [t][2 d_inner] numbers                          */
    float *ddt;         /* [t][ld_dt]                                      */
    void *ddtbc;        /* [t][ld_ddtbc] numbers                           */
    float *dbc;         /* [t][scan_blocks][2 d_state]                     */
    float *logits;      /* [HEAD_ROWS][256]                                */
    void *dlogits;      /* [HEAD_ROWS][256] numbers                        */
    float *partial;     /* sums of blocks, [blocks][columns]               */
};

/* ---- products (train_gemm.cu) ------------------------------------------- */

/* Numbers in rows. */
struct numbers {
    void *x;
    int ld;
};

/* E_DEVICE with the reason when cuBLAS cannot be loaded. */
enum status products_open(struct products **products, bool in_float,
                          cudaStream_t stream);
void products_close(struct products *products);
enum status products_status(const struct products *products);

/* y = x W^T over n rows; y in float32 where y_is_float. */
void product_forward(struct products *p, const struct train_weight *w,
                     struct numbers x, struct numbers y, bool y_is_float,
                     int n);

/* dx = dy W. */
void product_backward(struct products *p, const struct train_weight *w,
                      struct numbers dy, struct numbers dx, bool dx_is_float,
                      int n);

/* dW = dy^T x, into gradient: [rows][cols]; added to it when adds. */
void product_gradient(struct products *p, const struct train_weight *w,
                      struct numbers dy, struct numbers x, float *gradient,
                      bool adds, int n);

/* One Newton-Schulz step of Muon on n matrices [rows][cols] of numbers, by
 * way of gram and square: [n][m][m], m the smaller side; into next. */
struct newton_schulz {
    int rows, cols, n;
    void *x, *next, *gram, *square;
};
void product_newton_schulz(struct products *p, const struct newton_schulz *s);

/* Operations a second of a large bf16 product; room for its three matrices
 * of 8192 x 8192, filled here. */
enum { RATE_SIDE = 8192 };
double products_rate(struct products *p, void *room);

/* ---- kernels: each enqueues, and does not wait --------------------------- */

/* train_rows.cu */
void launch_prepare_weights(const struct replica *r,
                            const struct train_weight *weights, int n);
void launch_prepare_a(const struct replica *r, struct train_tape *tape, int l);
void launch_fill(const struct replica *r, float *x, size_t n, float value);
void launch_split_dtbc(const struct replica *r, const struct train_tape *tape);
void launch_join_dtbc(const struct replica *r, const struct train_tape *tape);
void launch_quantise_y(const struct replica *r, const struct train_tape *tape);

/* out[i] = the sum over p of partial[p * ld + i], in a fixed order; added to
 * out when adds. */
void launch_sum_partial(const struct replica *r, float *out,
                        const float *partial, int n_partial, int ld, int n,
                        bool adds);

/* train_norm.cu: h and x; again: h is there. */
void launch_norm(const struct replica *r, int l, bool again);
void launch_norm_backward(const struct replica *r, int l);

/* train_loss.cu */
void launch_cross_entropy(const struct replica *r, int first, int n);
void launch_loss(const struct replica *r);
void launch_embed_backward(const struct replica *r);

/* train_conv.cu */
void launch_conv(const struct replica *r, int l);
void launch_conv_backward(const struct replica *r, int l);

/* train_scan.cu, train_scan_back.cu */
enum status scan_prepare_device(void);
void launch_train_scan(const struct replica *r, int l);
void launch_train_scan_backward(const struct replica *r, int l);

/* train_optimise.cu */
void launch_gradient_norm(const struct replica *r);
void launch_adamw(const struct replica *r, const struct update *update);
void run_muon(const struct replica *r, const struct update *update);

/* Room that one matrix of a group needs. */
size_t muon_bytes(const struct replica *r, const struct muon_group *group);

/* ---- memory (train_memory.cu) ---------------------------------------------
 */

void replica_set_windows(struct replica *r, int first, int n);

/* Takes the arena.  Where the activations of all layers do not fit, layers
 * are computed twice; E_MEMORY says how many windows would fit.  Some memory
 * is left for the engine, which validates. */
enum status replica_allocate(struct replica *r);

/* Lays out the arena, zero but for what is constant. */
enum status replica_fill(struct replica *r);

/* ---- time (train_time.cu) -------------------------------------------------
 */

/* What was enqueued since the last mark belongs to phase. */
void mark(const struct replica *r, enum phase phase);

/* ---- a step (train_layers.cu) -------------------------------------------- */

/* The gradient of the windows in r->bytes, and the states after them. */
void replica_gradient(struct replica *r);
void replica_update(struct replica *r, const struct update *update);

/* ---- small things ---------------------------------------------------------
 */

static inline const float *weight_at(const struct replica *r, int l,
                                     enum place place)
{
    return r->weights + parameters_at(r->parameters, l, place)->offset;
}

static inline float *gradient_at(const struct replica *r, int l,
                                 enum place place)
{
    return r->gradient + parameters_at(r->parameters, l, place)->offset;
}

static inline size_t number_size(const struct replica *r)
{
    return r->in_float ? sizeof(float) : sizeof(__nv_bfloat16);
}

static inline size_t arena_align(size_t n)
{
    return (n + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
}

/* Runs launch<T> for the type of numbers. */
#define BY_NUMBER(r, launch, ...)                                              \
    ((r)->in_float ? launch<float>(__VA_ARGS__)                                \
                   : launch<__nv_bfloat16>(__VA_ARGS__))

/* Starts kernel<T> for the type of numbers. */
#define START_BY_NUMBER(r, kernel, grid, threads, job)                         \
    do {                                                                       \
        if ((r)->in_float)                                                     \
            kernel<float><<<grid, threads, 0, (r)->stream>>>(job);             \
        else                                                                   \
            kernel<__nv_bfloat16><<<grid, threads, 0, (r)->stream>>>(job);     \
    } while (0)

#ifdef __CUDACC__

static __device__ __forceinline__ float get(float x)
{
    return x;
}

static __device__ __forceinline__ float get(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}

static __device__ __forceinline__ void put(float *to, float x)
{
    *to = x;
}

static __device__ __forceinline__ void put(__nv_bfloat16 *to, float x)
{
    *to = __float2bfloat16(x);
}

/* Four neighbours, at a multiple of four. */
static __device__ __forceinline__ float4 get4(const float *from)
{
    return *(const float4 *)from;
}

static __device__ __forceinline__ float4 get4(const __nv_bfloat16 *from)
{
    uint2 x = *(const uint2 *)from;
    return make_float4(exact_float(x.x << 16), exact_float(x.x & 0xffff0000u),
                       exact_float(x.y << 16), exact_float(x.y & 0xffff0000u));
}

static __device__ __forceinline__ void put4(float *to, float4 x)
{
    *(float4 *)to = x;
}

static __device__ __forceinline__ uint32_t pack2(float low, float high)
{
    __nv_bfloat162 x = __floats2bfloat162_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static __device__ __forceinline__ void put4(__nv_bfloat16 *to, float4 x)
{
    *(uint2 *)to = make_uint2(pack2(x.x, x.y), pack2(x.z, x.w));
}

/* Two neighbours, at a multiple of two; of what no one writes meanwhile. */
static __device__ __forceinline__ float2 get2(const float *from)
{
    return __ldg((const float2 *)from);
}

static __device__ __forceinline__ float2 get2(const __nv_bfloat16 *from)
{
    uint32_t x = __ldg((const uint32_t *)from);
    return make_float2(exact_float(x << 16), exact_float(x & 0xffff0000u));
}

static __device__ __forceinline__ void put2(float *to, float2 x)
{
    *(float2 *)to = x;
}

static __device__ __forceinline__ void put2(__nv_bfloat16 *to, float2 x)
{
    *(uint32_t *)to = pack2(x.x, x.y);
}

/* Four numbers as they lie in memory. */
template <typename T> struct four;
template <> struct four<float> {
    float4 x;
};
template <> struct four<__nv_bfloat16> {
    uint2 x;
};

template <typename T>
static __device__ __forceinline__ four<T> load_four(const void *from, size_t at)
{
    return *(const four<T> *)((const T *)from + at);
}

template <typename T>
static __device__ __forceinline__ void store_four(void *to, size_t at,
                                                  four<T> x)
{
    *(four<T> *)((T *)to + at) = x;
}

template <typename T>
static __device__ __forceinline__ float4 get4(const four<T> &from)
{
    return get4((const T *)&from);
}

static __device__ __forceinline__ float4 zero4(void)
{
    return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}

static __device__ __forceinline__ float4 splat(float x)
{
    return make_float4(x, x, x, x);
}

static __device__ __forceinline__ float4 scaled(float4 x, float s)
{
    return make_float4(x.x * s, x.y * s, x.z * s, x.w * s);
}

/* x (row col) */
static __device__ __forceinline__ float4 times(float4 x, float row, float4 col)
{
    return make_float4(x.x * (row * col.x), x.y * (row * col.y),
                       x.z * (row * col.z), x.w * (row * col.w));
}

static __device__ __forceinline__ float4 plus(float4 a, float4 b)
{
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

static __device__ __forceinline__ float4 product(float4 a, float4 b)
{
    return make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w);
}

/* a b + c */
static __device__ __forceinline__ float4 fused(float4 a, float4 b, float4 c)
{
    return make_float4(fmaf(a.x, b.x, c.x), fmaf(a.y, b.y, c.y),
                       fmaf(a.z, b.z, c.z), fmaf(a.w, b.w, c.w));
}

static __device__ __forceinline__ float dot4(float4 a, float4 b)
{
    return fmaf(a.x, b.x, fmaf(a.y, b.y, fmaf(a.z, b.z, a.w * b.w)));
}

/* What x is once it was stored. */
template <typename T> static __device__ __forceinline__ float stored(float x)
{
    T t;
    put(&t, x);
    return get(t);
}

static __device__ __forceinline__ const uint8_t *byte_of(const uint8_t *bytes,
                                                         int row, int n_t)
{
    return bytes + (size_t)(row / n_t) * (n_t + 1) + row % n_t;
}

/* As exact_quantise has it, without a way through integers. */
static __device__ __forceinline__ float quantise1(float x, float inverse)
{
    return fmaf(x, inverse, EXACT_ROUND) - EXACT_ROUND;
}

static __device__ __forceinline__ float4 quantise4(float4 x,
                                                   struct exact_scale s)
{
    if (s.scale == 0.0f)
        return zero4();
    return make_float4(quantise1(x.x, s.inverse), quantise1(x.y, s.inverse),
                       quantise1(x.z, s.inverse), quantise1(x.w, s.inverse));
}

/* 1 over what a row was multiplied with; 0 where that is 0. */
static __device__ __forceinline__ void put_scale(struct row_scale to, int row,
                                                 struct exact_scale s)
{
    to.scale[row] = s.scale;
    to.inverse[row] = s.inverse;
}

/* 2^x, to 2 ulp. */
static __device__ __forceinline__ float fast_exp2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

static __device__ __forceinline__ float fast_inverse(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

static __device__ __forceinline__ float fast_sigmoid(float x)
{
    return fast_inverse(1.0f + fast_exp2(-x * EXACT_LOG2E));
}

/* log(1 + e^x), as exact.h has it but for the exponential: w = e^-|x| */
static __device__ __forceinline__ float fast_softplus_of(float w, float x)
{
    float p = EXACT_LOG1P_C8;
    p = fmaf(p, w, EXACT_LOG1P_C7);
    p = fmaf(p, w, EXACT_LOG1P_C6);
    p = fmaf(p, w, EXACT_LOG1P_C5);
    p = fmaf(p, w, EXACT_LOG1P_C4);
    p = fmaf(p, w, EXACT_LOG1P_C3);
    p = fmaf(p, w, EXACT_LOG1P_C2);
    p = fmaf(p, w, EXACT_LOG1P_C1);
    p = fmaf(p, w, 1.0f);
    return fmaf(p, w, fmaxf(x, 0.0f));
}

static __device__ __forceinline__ float fast_softplus(float x)
{
    return fast_softplus_of(fast_exp2(-fabsf(x) * EXACT_LOG2E), x);
}

static __device__ __forceinline__ float warp_total(float x)
{
    for (int s = WARP / 2; s > 0; s /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, s);
    return x;
}

/* The sum over a block of whole warps, for every thread of it.
 * room: [WARP] shared floats. */
static __device__ __forceinline__ float block_total(float x, float *room)
{
    x = warp_total(x);
    if (blockDim.x == WARP)
        return x;
    int n_warps = blockDim.x / WARP, lane = threadIdx.x % WARP;
    __syncthreads();
    if (lane == 0)
        room[threadIdx.x / WARP] = x;
    __syncthreads();
    return warp_total(lane < n_warps ? room[lane] : 0.0f);
}

/* The same in float64, for thread 0.  lanes: [THREADS] shared. */
template <int THREADS>
static __device__ __forceinline__ double block_sum(double x, double *lanes)
{
    lanes[threadIdx.x] = x;
    for (int s = THREADS / 2; s > 0; s /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < s)
            lanes[threadIdx.x] += lanes[threadIdx.x + s];
    }
    return lanes[0];
}

static __device__ __forceinline__ uint32_t block_max(uint32_t x, float *room)
{
    x = warp_max(x);
    if (blockDim.x == WARP)
        return x;
    int n_warps = blockDim.x / WARP, lane = threadIdx.x % WARP;
    __syncthreads();
    if (lane == 0)
        room[threadIdx.x / WARP] = exact_float(x);
    __syncthreads();
    return warp_max(lane < n_warps ? exact_bits(room[lane]) : 0);
}

#endif
#endif
