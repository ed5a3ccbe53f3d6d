/* decode_plan.cuh -- who computes what in the decode kernel, and from where.
 *
 * The channels of a layer, the rows of out_proj and the rows of lm_head are
 * dealt out evenly to the blocks.  The rows of x_proj are dealt out to the
 * blocks of a cluster, and every cluster computes all of them; without
 * clusters, they are dealt out to all blocks.
 *
 * A block reads its weights as one endless stream, in the order of use.  For
 * each layer of each byte these are
 *
 *   in floats | norms | in rows | scan | x floats, rows | out floats, rows
 *
 * and then the floats of lm_head, the final norm, the rows of lm_head.  Floats
 * come before their rows, so that they are in registers before the product
 * ends.  What only one block needs is packed together when a decoder is opened,
 * so that few large copies fetch it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DECODE_PLAN_CUH
#define MAMBYTE_DECODE_PLAN_CUH

#include "cuda/common/device.cuh"
#include "cuda/common/reduce.cuh"

enum {
    N_WARPS = 8, /* that compute; one more fetches */
    N_THREADS = N_WARPS * WARP,
    BLOCK_THREADS = N_THREADS + WARP,
    COPY_ALIGN = 16,        /* bytes: shares begin at multiples of it */
    STAGE_BYTES = 8192,     /* what is fetched at a time */
    STRIP_BYTES = WARP * 16 /* of a row, which a warp multiplies at once */
};

/* A block's share of a matrix: floats, then int8 rows [rows][stride]. */
struct matrix_share {
    int rows, stride;
    int float_bytes;  /* a multiple of COPY_ALIGN */
    int bytes;        /* in all */
    int rows_at_once; /* that are waited for, and freed */
};

/* A block's shared memory: where each array begins, bytes. */
struct decode_memory {
    int h;        /* f32 [d_model]: the residual */
    int x;        /* f32 [d_model]: its norm */
    int v;        /* f32 [d_inner]: u, y */
    int u;        /* f32 [n_channels]: the block's own */
    int gate;     /* f32 [n_channels]: silu(z) */
    int logits;   /* f32 [256] */
    int q;        /* i8: a vector, quantised, padded to 16 */
    int dt;       /* i8 [scan warps][round_up(dt_rank)] */
    int sums;     /* i32: what multiply() leaves */
    int state;    /* f32 [state_layers] past, s of layer */
    int x_words;  /* u64 dt; from x_states on, B and C */
    int complete; /* u64 [2]: mbarriers of v, h */
    int full;     /* u64 [n_stages]: mbarriers */
    int ring;     /* u8 [n_stages][STAGE_BYTES] */
    int n_stages;
    int bytes;
};

struct decode_plan {
    struct model_config config;
    struct image_layout image;
    const float *embedding; /* [256][d_model] */

    int n_blocks;
    int cluster, cluster_bits; /* blocks in one; 0: no clusters */
    int n_parts;               /* among which x_proj is split */
    int n_channels, n_rows, n_x_rows, n_logits; /* of a block, at most */
    struct matrix_share in, x, out, head;
    struct matrix_share scan;
    int scan_threads;                /* of a block, in whole warps */
    int state_layers;                /* in shared memory: all, or one */
    int state_floats;                /* of a layer there */
    int x_states;                    /* where B begins in x_words: even */
    int state_bits;                  /* groups of states, as a power of 2 */
    int norm_bytes;                  /* norm, and bias, of one layer */
    size_t layer_bytes, block_bytes; /* of own */

    const uint8_t *own;   /* [n_blocks]: of each layer in, scan, out; head */
    const uint8_t *parts; /* [n_parts][n_layer] x */
    const uint8_t *norms; /* [n_layer + 1] */

    /* Exchanged through the L2 cache: exchange.cuh. */
    uint64_t *u_words;     /* [d_inner] */
    uint64_t *y_words;     /* [d_inner] */
    uint64_t *h_words;     /* [d_model] */
    uint64_t *x_words;     /* as in memory; without clusters */
    uint64_t *logit_words; /* [256] */

    struct decode_memory memory;
};

/* Of n things dealt out in n_shares, share i has those from share_start(i) to
 * before share_start(i + 1). */
static inline __host__ __device__ int share_start(int i, int n, int n_shares)
{
    return (int)((int64_t)i * n / n_shares);
}

/* What the device and the kernel's attributes allow. */
struct decode_limits {
    int n_blocks;     /* resident at the same time */
    int cluster;      /* 0: no clusters */
    int shared_bytes; /* of a block */
    bool has_ring;    /* weights pass through shared memory */
};

/* False when the shape does not fit these limits. */
bool decode_plan_make(struct decode_plan *plan, const struct cuda_model *model,
                      const struct decode_limits *limits);

/* Gives the plan's arrays places in device memory; returns the bytes that they
 * take.  With NULL it only counts. */
size_t decode_plan_place(struct decode_plan *plan, uint8_t *memory);

/* Fills the arrays, which have places. */
enum status decode_plan_pack(const struct decode_plan *plan,
                             const struct cuda_model *model,
                             cudaStream_t stream);

#endif
