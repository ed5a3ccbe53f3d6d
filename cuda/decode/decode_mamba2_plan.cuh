/* decode_mamba2_plan.cuh -- who computes what of Mamba-2 in the decode kernel.
 *
 * Clusters have whole heads.  A cluster's blocks share the channels of these
 * heads, and the rows of in_proj that give B and C of their groups and dt of
 * the heads: the extra rows.  Blocks with more channels have fewer extra rows,
 * so that all have the same number of rows, but for one.
 *
 * A block's rows of in_proj are those of z, those of x, and its extra rows.
 * Their floats are arrays with an element for each row: scale; bias (of the
 * convolution, or dt_bias); and the taps [d_conv] of the convolution, of which
 * the first is a_log2e for a row of dt.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DECODE_MAMBA2_PLAN_CUH
#define MAMBYTE_DECODE_MAMBA2_PLAN_CUH

#include "cuda/decode/decode_plan.cuh"

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

/* Whether there is a kernel for this shape alone. */
static inline bool mamba2_is_shape(const struct model_config *c, int d_model)
{
    return c->d_model == d_model && c->d_inner == 2 * d_model &&
           c->headdim == 64 && c->d_state == 64 && c->d_conv == 4 &&
           c->n_groups == 1 && !c->has_norm_bias;
}

/* Whether that kernel multiplies by strips: decode_mamba2_strip.cuh. */
static inline bool mamba2_has_strips(const struct model_config *c)
{
    return mamba2_is_shape(c, c->d_model) &&
           (c->d_model == 512 || c->d_model == 1024);
}

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
