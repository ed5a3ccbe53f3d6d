/* decode_mamba2_plan.cu -- deals Mamba-2 out to the blocks of the decode
 * kernel.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/decode/decode_mamba2_plan.cuh"

enum {
    CHANNELS_MAX = 2 * WARP, /* of a block: two a lane of a warp          */
    EXTRA_MAX = 2 * WARP,    /* rows of B, C and dt: a thread each        */
    B_GAP = 16               /* bytes between rows of B^: other banks     */
};

static int more(int a, int b)
{
    return a > b ? a : b;
}

/* What the busiest block has. */
static void find_most(struct decode_plan *p)
{
    struct mamba2_deal *d = &p->deal;
    for (int i = 0; i < p->n_blocks; i++) {
        struct mamba2_share s = mamba2_share_of(p, i);
        p->n_channels = more(p->n_channels, s.n_channels);
        p->in.rows = more(p->in.rows, 2 * s.n_channels + s.n_extra);
        d->n_extra = more(d->n_extra, s.n_extra);
        d->n_heads = more(d->n_heads, s.end_head - s.first_head);
        d->n_groups = more(d->n_groups, s.end_group - s.first_group);
    }
}

/* No more blocks than rows of h: whoever has all of h then knows that all
 * blocks have read all of v. */
static bool mamba2_deal_out(struct decode_plan *p,
                            const struct decode_limits *limits)
{
    const struct model_config *c = &p->config;
    const int size = limits->cluster;
    if (size == 0 || !limits->has_ring || c->d_model / 4 < size)
        return false;
    int n = limits->n_blocks / size;
    n = n < c->d_model / size ? n : c->d_model / size;
    n = n < c->n_heads ? n : c->n_heads;
    if (n == 0 || c->n_heads / n * c->headdim < size)
        return false;
    p->cluster = size;
    p->deal.n_clusters = n;
    p->n_blocks = n * size;
    p->n_parts = 1;
    find_most(p);
    return p->n_channels <= CHANNELS_MAX && p->deal.n_extra <= EXTRA_MAX;
}

/* Where the parts of a block's state begin in a layer. */
static void size_state(struct decode_plan *p)
{
    const struct model_config *c = &p->config;
    struct mamba2_deal *d = &p->deal;
    int n = (c->d_conv - 1) * (p->n_channels + d->n_extra) * (int)sizeof(float);
    d->w = round_up(n, COPY_ALIGN);
    d->e = d->w + 2 * d->n_heads * CHUNK * (int)sizeof(float);
    n = d->e + 2 * d->n_heads * (int)sizeof(float);
    d->s_scale = round_up(n, COPY_ALIGN);
    n = d->s_scale + p->n_channels * (int)sizeof(float);
    d->s_q = round_up(n, COPY_ALIGN);
    d->x = d->s_q + p->n_channels * c->d_state;
    d->b = d->x + p->n_channels * CHUNK;
    d->b_stride = c->d_state + B_GAP;
    d->state_bytes = d->b + d->n_groups * CHUNK * d->b_stride;
    p->state_floats = d->state_bytes / (int)sizeof(float);
}

static void mamba2_size(struct decode_plan *p)
{
    const struct model_config *c = &p->config;
    const int n = p->in.rows;
    p->in = share_make(n, c->d_model, (2 + c->d_conv) * n);
    p->scan = share_make(0, 0, p->n_channels);
    p->x = share_make(0, 0, c->d_inner);
    p->out_before = p->x.bytes;
    p->layout = mamba2_layout_of(c);
    p->deal.conv_channels = conv_channels(c);
    p->deal.has_strips = mamba2_has_strips(c);
    size_state(p);
}

static void mamba2_lay_out(struct decode_plan *p, int *offset)
{
    const struct model_config *c = &p->config;
    struct mamba2_memory *m = &p->memory.mamba2;
    int heads = 0, groups = 0;
    for (int i = 0; i < p->n_blocks; i += p->cluster) {
        struct mamba2_share s = mamba2_share_of(p, i);
        heads = more(heads, s.n_heads);
        groups = more(groups, s.n_groups);
    }
    m->c_stride = round_up(more(c->d_state, CHUNK), COPY_ALIGN);
    m->c_q = memory_take(offset, (size_t)N_WARPS * m->c_stride);
    m->in_sums = memory_take(offset, p->in.rows * sizeof(int32_t));
    m->out_sums = memory_take(offset, p->n_rows * sizeof(int32_t));
    m->squares = memory_take(offset, c->n_heads * sizeof(float));
    m->largest = memory_take(offset, c->n_heads * sizeof(uint32_t));
    m->groups = memory_take(offset, 2 * MAMBA2_GROUPS_MAX * sizeof(float));
    m->bc_words =
        memory_take(offset, 2 * (size_t)groups * c->d_state * sizeof(uint64_t));
    m->steps = memory_take(offset, 2 * (size_t)heads * sizeof(uint64_t));
    m->maxima =
        memory_take(offset, (size_t)heads * p->cluster * sizeof(uint64_t));
}

const struct plan_mixer plan_mamba2 = {mamba2_deal_out, mamba2_size,
                                       mamba2_lay_out, 5, 2};
