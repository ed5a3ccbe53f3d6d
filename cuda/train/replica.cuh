/* replica.cuh -- what one GPU holds when it trains: all the weights, and the
 * activations of some of the windows.
 *
 * Row t of an array is a byte of the batch: row w * n_t + i is byte i of
 * window w.  Numbers, in comments, are those of number.cuh.
 *
 * A gradient is named d and what it is of.  One that goes into products is kept
 * times the scale of the row that the forward product read, and divided by it
 * afterwards: so dW = dy^T x needs no other copy of x than the integers.
 *
 * No sum depends on the order in which threads arrive: no atomics on floats.
 *
 * What is here belongs to every architecture.  What a layer computes between
 * its two projections is its mixer's business: see mixer.cuh.
 *
 * One CUDA stream orders a step, so that buffers may be used again:
 *
 *     buffer                   used again by             ordered by
 *     scratch of a layer       the next layer            the CUDA stream
 *     all scratch              Muon, in the update       the CUDA stream
 *     activations that layers  the next one that is      the CUDA stream
 *     share                    computed
 *     states and after         the next step, swapped    the CUDA stream
 *     bytes                    the next step             the CUDA stream
 *     the host's windows       the caller                the host, which waits
 *                                                        for the gradient
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_REPLICA_CUH
#define MAMBYTE_REPLICA_CUH

#include "cuda/train/number.cuh"
#include "cuda/train/products.cuh"
#include "cuda/train/row_scale.cuh"
#include "cuda/train/train_adamw.cuh"
#include "cuda/train/train_muon.cuh"
extern "C" {
#include "train/trainer_ops.h"
}

struct mixer_ops;
struct mamba1;    /* train_mamba1.cuh */
struct mamba2;    /* train_mamba2.cuh */
struct stopwatch; /* stopwatch.cuh */

/* The projections of a layer.  Every mixer has the first two; the rest are
 * its own. */
enum { W_IN, W_OUT, W_MIXER, WEIGHTS_MAX = 4 };

/* What the forward pass of a layer leaves for the backward pass.  q: as
 * products multiply it.  lm_head is a layer without a mixer: it is its W_IN. */
struct train_tape {
    struct train_weight weights[WEIGHTS_MAX];
    float *h;        /* [t][d_model], what the layer reads                 */
    float *mean, *r; /* [t], of the norm                                   */
    void *x;         /* [t][d_model] numbers: norm(h), q                   */
    struct row_scale x_scale;

    void *projected; /* [t][projected_ld()] numbers, sums: the mixer's
                      * input                                              */
    void *y;         /* [t][d_inner] numbers, q: the mixer's output        */
    struct row_scale y_scale;
};

struct replica {
    const struct parameters *parameters;
    struct model_config config;
    int device;
    bool imitates, in_float, recomputes;
    int first_window, n_windows, n_t, n_rows;
    int all_rows; /* of all GPUs */
    cudaStream_t stream;
    struct products *products;
    struct stopwatch *watch; /* NULL but in benchmarks */

    const struct mixer_ops *mixer;
    struct mamba1 *mamba1; /* owned by the mixer; NULL with another one */
    struct mamba2 *mamba2; /* the same */

    void *arena; /* owned: everything below */
    size_t n_bytes;
    float *weights, *moment_1, *moment_2; /* [n_floats]                     */
    float *gradient;                      /* [n_floats + 1]: the loss last  */
    float *states, *after; /* [n_windows][trainer_state_floats()]           */
    uint8_t *bytes;        /* [n_windows][n_t + 1]                          */
    double *sums;          /* [NORM_PARTS], and the root of their sum       */
    struct adamw_table adamw;
    struct muon_table muon;

    struct train_tape *tapes; /* host: [n_layer + 1]; the last is the head  */
    float *ones;              /* scales without imitation                   */

    /* Scratch of a pass, the mixer's included; after the pass, all of it is
     * Muon's room. */
    char *muon_room;
    size_t muon_bytes;
    void *o;          /* [t][d_model] numbers, sums of out_proj             */
    uint32_t *amax;   /* [t], of y                                          */
    float *loss;      /* [t]                                                */
    void *dh;         /* [t][d_model] numbers: of h, as out_proj of the layer
                       * before takes it; of the embedding in the end      */
    void *dx;         /* [t][d_model] numbers                               */
    void *dy;         /* [t][d_inner] numbers                               */
    void *dprojected; /* [t][projected_ld()] numbers                        */
    float *logits;    /* [HEAD_ROWS][256]                                   */
    void *dlogits;    /* [HEAD_ROWS][256] numbers                           */
    float *partial;   /* sums of blocks, [blocks][columns]                  */
};

/* ---- opening (replica.cu) ------------------------------------------------ */

/* The windows of a replica: n from first on. */
void replica_set_windows(struct replica *r, int first, int n);

/* Fills in what the options say; allocates on the host only.  A replica of
 * zeros may be closed whether or not this succeeded. */
enum status replica_describe(struct replica *r,
                             const struct parameters *parameters,
                             const struct trainer_options *options, int i,
                             int n_replicas);

/* Takes memory on the current device, and fills it.  *rate becomes the
 * operations a second of products where that is not NULL and there is room
 * to measure it. */
enum status replica_open(struct replica *r, double *rate);
void replica_close(struct replica *r);

/* Makes its device the current one of this thread. */
enum status replica_enter(const struct replica *r);

/* Waits for what was enqueued; what: for the sentence of an error. */
enum status replica_wait(const struct replica *r, const char *what);

/* Copies n bytes of a table to the device, and waits. */
enum status replica_send(const struct replica *r, const void *to,
                         const void *from, size_t n);

/* ---- where things are ---------------------------------------------------- */

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

static inline float *gradient_of(const struct replica *r,
                                 const struct train_weight *w)
{
    return r->gradient + w->offset;
}

/* Numbers of a row of in_proj's results: a multiple of 8, for loads of 16
 * bytes. */
static inline int projected_ld(const struct replica *r)
{
    return round_up(in_proj_rows(&r->config), 8);
}

static inline size_t number_size(const struct replica *r)
{
    return r->in_float ? sizeof(float) : sizeof(__nv_bfloat16);
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

/* Where the byte of a row is. */
static __device__ __forceinline__ const uint8_t *byte_of(const uint8_t *bytes,
                                                         int row, int n_t)
{
    return bytes + (size_t)(row / n_t) * (n_t + 1) + row % n_t;
}

#endif
#endif
