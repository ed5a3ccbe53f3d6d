/* decode_mamba2_plan.cuh -- who computes what of Mamba-2 in the decode kernel.
 *
 * Clusters have whole heads.  A cluster's blocks share the channels of these
 * heads, and the rows of in_proj that give B and C of their groups and dt of
 * the heads: the extra rows.  Blocks with more channels have fewer extra rows,
 * so that all have the same number of rows, but for one.
 *
 * A block's rows of in_proj are those of z, those of x, and its extra rows.  In
 * kernels for one shape a warp has warp_rows of them, which it also finishes:
 * row k of warp w is number k N_WARPS + w.  First come those of x of the warp's
 * channels, then those of z; extra rows fill the places that are left.
 *
 * Their floats are arrays with an element for each row: scale; bias (of the
 * convolution, or dt_bias); and the taps [d_conv] of the convolution, of which
 * the first is a_log2e for a row of dt.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DECODE_MAMBA2_PLAN_CUH
#define MAMBYTE_DECODE_MAMBA2_PLAN_CUH

#include "cuda/decode/decode_plan.cuh"

enum { B_GAP = 16 }; /* bytes between rows of B^: other banks */

struct mamba2_share {
    /* of the cluster */
    int rank;
    int h0, n_heads;
    int g0, n_groups;
    int n_bc; /* rows of B and C; those of dt follow */
    int channel0;

    /* of the block */
    int c0, n_channels;         /* c0 counts from the cluster's first channel */
    int e0, n_extra;            /* of the cluster's extra rows */
    int first_head, end_head;   /* of whose channels it has some */
    int first_group, end_group; /* of these heads */
};

static inline __host__ __device__ struct mamba2_share
mamba2_share_of(const struct decode_plan *p, int block)
{
    const struct model_config *c = &p->config;
    const int size = p->cluster, i = block / size;
    const int heads_of_group = c->n_heads / c->n_groups;
    struct mamba2_share s;
    s.rank = block % size;
    s.h0 = share_start(i, c->n_heads, p->deal.n_clusters);
    s.n_heads = share_start(i + 1, c->n_heads, p->deal.n_clusters) - s.h0;
    s.g0 = s.h0 / heads_of_group;
    s.n_groups = (s.h0 + s.n_heads - 1) / heads_of_group + 1 - s.g0;
    s.n_bc = 2 * s.n_groups * c->d_state;
    s.channel0 = s.h0 * c->headdim;

    const int n = s.n_heads * c->headdim, n_rows = 2 * n + s.n_bc + s.n_heads;
    s.c0 = share_start(s.rank, n, size);
    const int end = share_start(s.rank + 1, n, size);
    s.n_channels = end - s.c0;
    s.e0 = share_start(s.rank, n_rows, size) - 2 * s.c0;
    s.n_extra = share_start(s.rank + 1, n_rows, size) - 2 * end - s.e0;
    s.first_head = (s.channel0 + s.c0) / c->headdim;
    s.end_head = (s.channel0 + end - 1) / c->headdim + 1;
    s.first_group = s.first_head / heads_of_group;
    s.end_group = (s.end_head - 1) / heads_of_group + 1;
    return s;
}

/* Blocks of a cluster, by their ranks. */
struct mamba2_senders {
    int first, last;
};

/* A warp's part of a head: channels first, first + stride, .. before end, of
 * the block's. */
struct mamba2_unit {
    int head, first, end, stride;
};

/* That of a warp where each has one: a block has one head or two, and the warps
 * are dealt out to the channels of these. */
static inline __host__ __device__ struct mamba2_unit
mamba2_unit_of(const struct mamba2_share *s, int headdim, int warp)
{
    const int n = s->n_channels;
    const int of_first = (s->first_head + 1) * headdim - s->channel0 - s->c0;
    if (of_first >= n)
        return {s->first_head, warp, n, N_WARPS};
    int warps = (N_WARPS * of_first + n / 2) / n;
    warps = warps < 1 ? 1 : warps >= N_WARPS ? N_WARPS - 1 : warps;
    if (warp < warps)
        return {s->first_head, warp, of_first, warps};
    return {s->first_head + 1, of_first + warp - warps, n, N_WARPS - warps};
}

static inline __host__ __device__ int
mamba2_unit_channels(const struct mamba2_unit *u)
{
    return u->first < u->end ? (u->end - 1 - u->first) / u->stride + 1 : 0;
}

/* The blocks of the cluster that have channels of a head. */
static inline __host__ __device__ struct mamba2_senders
senders_of(const struct decode_plan *p, const struct mamba2_share *s, int head)
{
    const int headdim = p->config.headdim, n = s->n_heads * headdim;
    const int c = (head - s->h0) * headdim;
    return {((c + 1) * p->cluster - 1) / n,
            ((c + headdim) * p->cluster - 1) / n};
}

/* Whether there is a kernel for this shape alone. */
static inline bool mamba2_is_shape(const struct model_config *c, int d_model)
{
    return c->d_model == d_model && c->d_inner == 2 * d_model &&
           c->headdim == 64 && c->d_state == 64 && c->d_conv == 4 &&
           c->n_groups == 1 && !c->has_norm_bias;
}

/* The channels of a warp that this kernel has room for. */
static inline int mamba2_unit_most(const struct model_config *c)
{
    return c->d_model == 512 ? 2 : 4;
}

static inline bool mamba2_has_kernel(const struct model_config *c)
{
    return mamba2_is_shape(c, 512) || mamba2_is_shape(c, 1024) ||
           mamba2_is_shape(c, 1792);
}

/* Whether that kernel multiplies by strips of h as well as of v:
 * decode_mamba2_strip.cuh. */
static inline bool mamba2_has_strips(const struct model_config *c)
{
    return mamba2_is_shape(c, 512) || mamba2_is_shape(c, 1024);
}

/* plan->deal.rows on the host, to be freed; NULL without memory. */
int *mamba2_list_rows(const struct decode_plan *plan);

/* The row of in_proj that is the extra row e of a cluster. */
static inline __host__ __device__ int
mamba2_extra_row(const struct model_config *c, const struct mamba2_share *s,
                 int e)
{
    const int n = c->d_state, b = 2 * c->d_inner, all = c->n_groups * n;
    if (e >= s->n_bc)
        return b + 2 * all + s->h0 + e - s->n_bc;
    const int group = s->g0 + e / (2 * n), i = e % (2 * n);
    return b + (i < n ? 0 : all - n) + group * n + i;
}

#endif
