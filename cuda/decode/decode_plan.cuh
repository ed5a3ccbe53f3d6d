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
 * (of Mamba-2 scan is D, and x the norm before out_proj)
 * and then the floats of lm_head, the final norm, the rows of lm_head.  Floats
 * come before their rows, so that they are in registers before the product
 * ends.  What only one block needs is packed together when a decoder is opened,
 * so that few large copies fetch it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DECODE_PLAN_CUH
#define MAMBYTE_DECODE_PLAN_CUH

#include "cuda/common/mamba2_state.cuh"
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

/* What Mamba-2 has in a block's shared memory besides: where each array begins,
 * bytes. */
struct mamba2_memory {
    int c_q; /* i8 [N_WARPS][c_stride]: C^, each warp's own */
    int c_stride;
    int out_sums; /* i32: of products of strips */
    int squares;  /* f32 [n_heads]: of v of a head */
    int largest;  /* u32 [n_heads]: |u|, bits */
    int groups;   /* f32 [2][8]: 1 / rms of a group, and the largest */
    int bc_words; /* u64 [cluster_groups][2][d_state]: B, C */
    int steps;    /* u64 [cluster_heads][2]: delta, alpha */
    int maxima;   /* u64 [cluster_heads][cluster][N_WARPS]: of x of a warp, or,
                   * in the first place, of a block */
};

/* A block's shared memory: where each array begins, bytes. */
struct decode_memory {
    int h;       /* f32 [d_model]: the residual */
    int x;       /* f32 [d_model]: its norm */
    int v;       /* f32 [d_inner]: u, y */
    int u;       /* f32 [n_channels]: the block's own */
    int gate;    /* f32 [n_channels]: silu(z) */
    int logits;  /* f32 [256] */
    int q;       /* i8: a vector, quantised, padded to 16 */
    int dt;      /* i8 [scan warps][round_up(dt_rank)] */
    int sums;    /* i32: what multiply() leaves */
    int state;   /* f32 [state_layers] past, s of layer */
    int x_words; /* u64 dt; from x_states on, B and C */
    struct mamba2_memory mamba2;
    int complete; /* u64 [2]: mbarriers of v, h */
    int full;     /* u64 [n_stages]: mbarriers */
    int ring;     /* u8 [n_stages][STAGE_BYTES] */
    int n_stages;
    int bytes;
};

/* How Mamba-2 is dealt out: decode_mamba2_plan.cuh. */
struct mamba2_deal {
    int n_clusters;
    int n_heads, n_groups; /* of whose channels a block has some, at most */
    int n_extra;           /* rows of B, C and dt of a block, at most */
    int warp_rows;         /* of in_proj of a warp; 0: rows are the block's */
    int warp_channels;     /* of a warp, at most */
    int conv_channels;
    bool has_strips, has_out_strips; /* columns of in_proj, of out_proj are
                                      * packed in the order of strips */
    const int *rows; /* [n_blocks][rows]: the rows of in_proj in the order in
                      * which they are packed; -1: none */

    /* The state of a block in a layer: offsets in bytes of
     *   past     f32 [d_conv - 1][rows of in_proj]
     *   w        f32 [2][n_heads][CHUNK]: for even places, for odd ones
     *   e        f32 [2][n_heads]: the same
     *   s_scale  f32 [n_channels]
     *   s_q      i8 [n_channels][d_state]
     *   x        i8 [n_channels][CHUNK]
     *   b        i8 [n_groups][CHUNK][b_stride] */
    int w, e, s_scale, s_q, x, b, b_stride;
    int state_bytes;
};

struct decode_plan {
    struct model_config config;
    struct image_layout image;
    const float *embedding; /* [256][d_model] */
    uint32_t *overflow;     /* see overflow.cuh */

    int n_blocks;
    int cluster, cluster_bits; /* blocks in one; 0: no clusters */
    int n_parts;               /* among which x_proj is split */
    int n_channels, n_rows, n_x_rows, n_logits; /* of a block, at most */
    struct matrix_share in, x, out, head;
    struct matrix_share scan;
    int scan_threads; /* of a block, in whole warps */
    int state_layers; /* in shared memory: all, or few */
    int state_floats; /* of a layer there */
    int x_states;     /* where B begins in x_words: even */
    int state_bits;   /* groups of states, as a power of 2 */
    int norm_bytes;   /* norm, and bias, of one layer */
    int rows_unit;    /* rows_at_once of in_proj is a multiple of it, or all */
    int out_before;   /* bytes that out_proj needs with its first rows, and that
                       * come before its floats */
    size_t layer_bytes, block_bytes; /* of own */

    const uint8_t *own;   /* [n_blocks]: of each layer in, scan, out; head */
    const uint8_t *parts; /* [n_parts][n_layer] x; Mamba-2: [n_layer] */
    const uint8_t *norms; /* [n_layer + 1] */

    /* Exchanged through the L2 cache: exchange.cuh. */
    uint64_t *u_words;     /* [d_inner] */
    uint64_t *y_words;     /* [d_inner] */
    uint64_t *h_words;     /* [d_model] */
    uint64_t *x_words;     /* as in memory; without clusters */
    uint64_t *logit_words; /* [256] */

    struct decode_memory memory;

    /* Mamba-2 only */
    struct mamba2_deal deal;
    struct mamba2_layout layout; /* of the image */
    uint8_t *states; /* [n_blocks][n_layer][state_bytes], where they do not
                      * stay in shared memory */
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

/* What of a plan depends on the mixer. */
struct plan_mixer {
    /* Sets n_blocks, cluster, n_parts, n_channels.  False when a block would
     * have nothing: the order of the exchanges relies on a channel in each. */
    bool (*deal_out)(struct decode_plan *plan,
                     const struct decode_limits *limits);
    /* Sets in, x, scan, out_before; and state_floats. */
    void (*size)(struct decode_plan *plan);
    /* Gives its own arrays places in a block's shared memory. */
    void (*lay_out)(struct decode_plan *plan, int *offset);
    /* The state stays in shared memory where it takes no more than so many
     * eighths of that; else so many layers have room there. */
    int state_eighths, layers_ahead;
};

extern const struct plan_mixer plan_mamba2;

struct matrix_share share_make(int rows, int cols, int n_floats);

/* The place of an array; *offset moves behind it. */
int memory_take(int *offset, size_t bytes);

/* Gives the plan's arrays places in device memory; returns the bytes that they
 * take.  With NULL it only counts. */
size_t decode_plan_place(struct decode_plan *plan, uint8_t *memory);

/* Fills the arrays, which have places. */
enum status decode_plan_pack(const struct decode_plan *plan,
                             const struct cuda_model *model,
                             cudaStream_t stream);

#endif
