/* decode_mamba2_block.cuh -- a block of the decode kernel with Mamba-2: its
 * shape, its state in a layer, and what each of its threads does.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DECODE_MAMBA2_BLOCK_CUH
#define MAMBYTE_DECODE_MAMBA2_BLOCK_CUH

#include "cuda/decode/decode_product.cuh"
#include "cuda/decode/decode_vector.cuh"

/* Which warps finish which rows of in_proj. */
enum {
    X_WARP = 0, /* a lane has up to two channels */
    BC_WARP = 1,
    DT_WARP = 5,
    Z_WARP = WAITING_WARP
};

/* The sizes of a model, which a kernel knows when it is compiled, with one
 * group; with 0 for all of them it asks the plan. */
template <int D_MODEL, int N_HEADS, int HEADDIM, int D_STATE, int D_CONV>
struct mamba2_shape
    : decode_shape<D_MODEL, N_HEADS * HEADDIM, 0, D_STATE, D_CONV> {
    /* Whether the kernel is for one shape: decode_mamba2_warp.cuh. */
    static constexpr bool is_one = D_MODEL > 0;
    static constexpr int unit_channels = D_MODEL == 512 ? 2 : 4;
    static constexpr int model_strips = (D_MODEL + 511) / 512;
    /* decode_mamba2_strip.cuh: and of h, and of v, a lane has so many elements.
     */
    static constexpr bool has_strips = D_MODEL == 512 || D_MODEL == 1024;
    static constexpr bool has_out_strips = D_MODEL > 0;
    static constexpr int model_each = D_MODEL / WARP;
    static constexpr int inner_each = N_HEADS * HEADDIM / WARP;
    /* A lane has so many pairs of states, 64 apart, at most. */
    static constexpr int pairs =
        ((D_STATE > 0 ? D_STATE : MAMBA2_D_STATE_MAX) + 2 * WARP - 1) /
        (2 * WARP);
    static __device__ __forceinline__ int
    n_heads(const struct decode_block *block)
    {
        return D_MODEL > 0 ? N_HEADS : block->plan->config.n_heads;
    }
    static __device__ __forceinline__ int
    headdim(const struct decode_block *block)
    {
        return D_MODEL > 0 ? HEADDIM : block->plan->config.headdim;
    }
    static __device__ __forceinline__ int
    n_groups(const struct decode_block *block)
    {
        return D_MODEL > 0 ? 1 : block->plan->config.n_groups;
    }
    static __device__ __forceinline__ int
    group_of(const struct decode_block *block, int head)
    {
        return D_MODEL > 0 ? 0 : head / (n_heads(block) / n_groups(block));
    }
};

/* ---- the state of a layer ------------------------------------------------ */

/* Where the parts of struct mamba2_deal lie. */
struct mamba2_parts {
    float *past, *w, *e, *s_scale;
    int8_t *s_q, *x, *b;
};

static __device__ __forceinline__ struct mamba2_parts
mamba2_parts_of(const struct decode_block *block, uint8_t *state)
{
    const struct mamba2_deal *d = &block->plan->deal;
    struct mamba2_parts s;
    s.past = (float *)state;
    s.w = (float *)(state + d->w);
    s.e = (float *)(state + d->e);
    s.s_scale = (float *)(state + d->s_scale);
    s.s_q = (int8_t *)state + d->s_q;
    s.x = (int8_t *)state + d->x;
    s.b = (int8_t *)state + d->b;
    return s;
}

/* In shared memory, to be read. */
static __device__ __forceinline__ struct mamba2_parts
state_at(const struct decode_block *block, int layer)
{
    const int slot = state_stays(block) ? layer : block->mamba2.slot;
    return mamba2_parts_of(block, (uint8_t *)block->state +
                                      slot * block->plan->deal.state_bytes);
}

/* Where it is kept, to be written. */
static __device__ __forceinline__ struct mamba2_parts
state_kept(const struct decode_block *block, int layer)
{
    uint8_t *all =
        state_stays(block) ? (uint8_t *)block->state : block->mamba2.kept;
    return mamba2_parts_of(block, all + layer * block->plan->deal.state_bytes);
}

/* Byte s of a chunk among those of a channel: a lane has s and s + 32 side by
 * side. */
static __device__ __forceinline__ int x_place(int s)
{
    return 2 * (s % WARP) + s / WARP;
}

/* The weights and decays that the byte reads, and those that it leaves. */
static __device__ __forceinline__ int parity_read(const struct decode_block *b)
{
    return b->mamba2.place & 1;
}

static __device__ __forceinline__ int parity_left(const struct decode_block *b)
{
    return ~b->mamba2.place & 1;
}

/* ---- its threads --------------------------------------------------------- */

/* An extra row: the threads of some warps have one each. */
static __device__ __forceinline__ void
take_extra_row(struct decode_block *block, int first_warp, int end_warp,
               int first, int n)
{
    struct mamba2_block *m = &block->mamba2;
    const int i = block->thread - first_warp * WARP;
    if (block->warp < first_warp || block->warp >= end_warp || n == 0)
        return;
    m->copies = (end_warp - first_warp) * WARP / n;
    m->copy = i / n;
    if (m->copy < m->copies)
        m->rows[0] = 2 * m->share.n_channels + first + i % n;
}

static __device__ __forceinline__ void
mamba2_block_make(struct decode_block *block)
{
    const struct decode_plan *p = block->plan;
    struct mamba2_block *m = &block->mamba2;
    m->share = mamba2_share_of(p, block->packed.block);
    const struct mamba2_share *s = &m->share;
    block->c0 = s->channel0 + s->c0;
    block->n_channels = s->n_channels;
    m->rows[0] = m->rows[1] = -1;
    m->copy = 0;
    m->copies = 1;
    for (int k = 0; k < 2; k++) {
        const int c = block->lane + k * WARP;
        if (block->warp == X_WARP && c < s->n_channels)
            m->rows[k] = s->n_channels + c;
        if (block->warp == Z_WARP && c < s->n_channels)
            m->rows[k] = c;
    }
    const int n_bc = min(max(s->n_bc - s->e0, 0), s->n_extra);
    take_extra_row(block, BC_WARP, DT_WARP, 0, n_bc);
    take_extra_row(block, DT_WARP, Z_WARP, n_bc, s->n_extra - n_bc);
    m->unit_bits = 0;
    while ((s->end_head - s->first_head) << (m->unit_bits + 1) <= N_WARPS)
        m->unit_bits++;
    m->senders =
        senders_of(p, s, s->first_head + (block->warp >> m->unit_bits));
    m->slot = 0;
    m->kept = p->states + (size_t)block->packed.block * p->config.n_layer *
                              p->deal.state_bytes;
}

#endif
