/* decode_block.cuh -- a block of the decode kernel, as a thread of its
 * computing warps knows it.
 *
 * All computing warps call each function below together, unless its comment
 * says otherwise.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DECODE_BLOCK_CUH
#define MAMBYTE_DECODE_BLOCK_CUH

#include "cuda/common/exact_vector.cuh"
#include "cuda/common/exchange.cuh"
#include "cuda/decode/decode_mamba2_plan.cuh"
#include "cuda/decode/sample.cuh"
#include "cuda/decode/weight_stream.cuh"

enum { VECTOR_V, VECTOR_H };

enum {
    WAITING_WARP = N_WARPS - 1, /* waits for weights: it has the least to do */
    SCAN_WARP = 1               /* the first one in the scan */
};

/* What a thread knows of Mamba-2 besides. */
struct mamba2_block {
    struct mamba2_share share;
    int place;        /* of the byte in its chunk */
    int rows[2];      /* of in_proj, the thread's; -1: none */
    int copy, copies; /* of threads that have the same row; they divide its
                       * receivers among them */
    int unit_bits;    /* 2^unit_bits warps compute the channels of a head */
    struct mamba2_unit unit; /* of the warp, in kernels for one shape.  A lane
                              * then has a row of in_proj: */
    int row;                 /* -1: none */
    int send_from;           /* the lane of whose B or C it sends a word; -1 */
    uint32_t send_to;        /* where to */
    struct mamba2_senders ranks[2]; /* that have channels of its heads */
    uint32_t bc_lanes, dt_lanes;    /* those that have B or C, dt */
    struct mamba2_senders senders;  /* of the largest |x| of the warp's head */
    int slot;      /* of the layer's state, where it does not stay */
    uint8_t *kept; /* the states of the block's layers in that case */
};

struct decode_block {
    const struct decode_plan *plan;
    struct packed_weights packed;
    struct weights weights;
    int thread, warp, lane;
    int rank;                       /* in its cluster */
    struct cluster_share shares[2]; /* of v, h */
    int scan_thread;                /* its first place in scan() */
    int c0, n_channels;             /* the block's channels */
    int r0, n_rows;                 /* of h */
    int x0, n_x_rows;               /* of x_proj */
    int l0, n_logits;               /* of lm_head */
    float *h, *x, *v, *u, *gate, *logits;
    float squares; /* of h, less its mean: the sum that normalise() found */
    float *state;  /* see state_past() */
    int8_t *q, *dt;
    int32_t *sums;
    uint64_t *x_words;
    uint32_t *maxima;   /* [N_WARPS] */
    uint64_t *complete; /* [2]: mbarriers of v, h */
    uint32_t parity;    /* of the next wait for each, a bit each */
    struct sample_scratch *sample;
    uint8_t *memory;
    struct mamba2_block mamba2;
};

/* Whether the state stays in shared memory between two bytes. */
static __device__ __forceinline__ bool
state_stays(const struct decode_block *block)
{
    return block->plan->state_layers == block->plan->config.n_layer;
}

static __device__ struct decode_block block_make(const struct decode_plan *p,
                                                 uint8_t *memory)
{
    const struct decode_memory *m = &p->memory;
    const int n_x = p->config.dt_rank + 2 * p->config.d_state;
    const int rank = blockIdx.x, part = rank % p->n_parts;
    struct decode_block block;
    block.plan = p;
    block.packed.plan = p;
    block.packed.block = rank;
    block.packed.part = part;
    block.thread = threadIdx.x;
    block.warp = threadIdx.x / WARP;
    block.lane = threadIdx.x % WARP;
    block.memory = memory;
#ifdef HAS_CLUSTER
    if (p->cluster > 0) {
        block.rank = rank % p->cluster;
        block.shares[VECTOR_V] = cluster_share_of(p->config.d_inner, block.rank,
                                                  p->cluster, N_THREADS);
        block.shares[VECTOR_H] = cluster_share_of(p->config.d_model, block.rank,
                                                  p->cluster, N_THREADS);
    }
#endif
    block.scan_thread =
        (threadIdx.x + N_THREADS - SCAN_WARP * WARP) % N_THREADS;
    block.c0 = share_start(rank, p->config.d_inner, p->n_blocks);
    block.n_channels =
        share_start(rank + 1, p->config.d_inner, p->n_blocks) - block.c0;
    block.r0 = share_start(rank, p->config.d_model, p->n_blocks);
    block.n_rows =
        share_start(rank + 1, p->config.d_model, p->n_blocks) - block.r0;
    block.l0 = share_start(rank, N_BYTES_VOCAB, p->n_blocks);
    block.n_logits =
        share_start(rank + 1, N_BYTES_VOCAB, p->n_blocks) - block.l0;
    block.x0 = share_start(part, n_x, p->n_parts);
    block.n_x_rows = share_start(part + 1, n_x, p->n_parts) - block.x0;
    block.h = (float *)(memory + m->h);
    block.x = (float *)(memory + m->x);
    block.v = (float *)(memory + m->v);
    block.u = (float *)(memory + m->u);
    block.gate = (float *)(memory + m->gate);
    block.logits = (float *)(memory + m->logits);
    block.state = (float *)(memory + m->state);
    block.q = (int8_t *)(memory + m->q);
    block.dt = (int8_t *)(memory + m->dt);
    block.sums = (int32_t *)(memory + m->sums);
    block.x_words = (uint64_t *)(memory + m->x_words);
    block.complete = (uint64_t *)(memory + m->complete);
    block.parity = 0;
    return block;
}

/* The sizes of a model, which a kernel knows when it is compiled; with 0 for
 * all of them it asks the plan. */
template <int D_MODEL, int D_INNER, int DT_RANK, int D_STATE, int D_CONV>
struct decode_shape {
    /* Whether code for eight rows of a product at once may pay.  Where it does
     * not, it costs time even unused. */
    static constexpr bool has_many_rows = D_MODEL == 0 || D_MODEL > 512;
    static __device__ __forceinline__ int
    d_model(const struct decode_block *block)
    {
        return D_MODEL > 0 ? D_MODEL : block->plan->config.d_model;
    }
    static __device__ __forceinline__ int
    d_inner(const struct decode_block *block)
    {
        return D_INNER > 0 ? D_INNER : block->plan->config.d_inner;
    }
    static __device__ __forceinline__ int
    dt_rank(const struct decode_block *block)
    {
        return DT_RANK > 0 ? DT_RANK : block->plan->config.dt_rank;
    }
    static __device__ __forceinline__ int
    d_state(const struct decode_block *block)
    {
        return D_STATE > 0 ? D_STATE : block->plan->config.d_state;
    }
    static __device__ __forceinline__ int
    d_conv(const struct decode_block *block)
    {
        return D_CONV > 0 ? D_CONV : block->plan->config.d_conv;
    }
    /* Threads of a channel in the scan, as a power of two. */
    static __device__ __forceinline__ int
    state_bits(const struct decode_block *block)
    {
        return D_STATE > 0 ? 31 - __clz(D_STATE / EXACT_GROUP)
                           : block->plan->state_bits;
    }
};

/* Float i of a share whose floats begin there. */
static __device__ __forceinline__ float
share_float(const struct decode_block *block, weight_place floats, int i)
{
    return weights_float(&block->weights, floats, i);
}

#endif
