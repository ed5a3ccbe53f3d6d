/* decode_mamba2_state.cuh -- the state of Mamba-2 during a launch.
 *
 * A block has the state of its channels and heads, and B^ of their groups.  It
 * is in shared memory where that has room for all layers; else the block keeps
 * it in device memory, in an array of its own, and shared memory has two
 * layers: one is computed while the other comes.  S stays in the image, and so
 * do copies of S^: they change once a chunk.
 *
 * What blocks have in common goes back to the image from one of them: w and e
 * of a head from the block of its first channel; B^, and the past of B and C,
 * from that of the first channel of the group.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DECODE_MAMBA2_STATE_CUH
#define MAMBYTE_DECODE_MAMBA2_STATE_CUH

#include "cuda/decode/decode_mamba2_block.cuh"

static __device__ __forceinline__ struct mamba2_layer_state
image_at(const struct decode_block *block, float *image, int layer)
{
    return mamba2_layer_state(image, block->plan->layout, layer);
}

/* Starts to copy the state of a layer to the other slot of shared memory. */
static __device__ __forceinline__ void
fetch_state(const struct decode_block *block, int layer, int slot)
{
    const struct mamba2_deal *d = &block->plan->deal;
    const uint8_t *from = block->mamba2.kept + layer * d->state_bytes;
    uint8_t *to = (uint8_t *)block->state + slot * d->state_bytes;
    for (int i = block->thread * COPY_ALIGN; i < d->b;
         i += N_THREADS * COPY_ALIGN)
        copy16(to + i, from + i, true);
    const int n = (block->mamba2.place + 1) * d->b_stride;
    for (int g = 0; g < d->n_groups; g++) {
        const int b = d->b + g * CHUNK * d->b_stride;
        for (int i = block->thread * COPY_ALIGN; i < n;
             i += N_THREADS * COPY_ALIGN)
            copy16(to + b + i, from + b + i, true);
    }
}

/* ---- the past of the convolution ----------------------------------------- */

/* Whether this block stores that channel. */
static __device__ __forceinline__ bool
stores_past(const struct decode_block *block, int channel)
{
    const struct model_config *c = &block->plan->config;
    if (channel < c->d_inner)
        return true;
    const int group = (channel - c->d_inner) / c->d_state % c->n_groups;
    const int head = group * (c->n_heads / c->n_groups);
    const struct mamba2_share *s = &block->mamba2.share;
    return head >= s->h0 && head < s->h0 + s->n_heads;
}

template <bool is_store>
static __device__ void move_past(const struct decode_block *block, float *image)
{
    const struct decode_plan *p = block->plan;
    const int n = p->in.rows, taps = p->config.d_conv - 1;
    const int channels = p->deal.conv_channels, d_inner = p->config.d_inner;
#pragma unroll 4
    for (int i = block->thread; i < p->config.n_layer * n * taps;
         i += N_THREADS) {
        const int layer = i / (n * taps), at = i % (n * taps);
        const int row = p->deal.rows[block->packed.block * n + i % n];
        const int channel = row - d_inner;
        if (channel < 0 || channel >= channels)
            continue;
        float *here = state_kept(block, layer).past + at;
        float *there = image_at(block, image, layer).past +
                       (size_t)(at / n) * channels + channel;
        if (!is_store)
            *here = __ldg(there);
        else if (stores_past(block, channel))
            *there = *here;
    }
}

/* ---- what is of heads and groups ----------------------------------------- */

/* w and e: read where the next byte reads, or stored from there. */
template <bool is_store>
static __device__ void move_weights(const struct decode_block *block,
                                    float *image)
{
    const struct decode_plan *p = block->plan;
    const struct mamba2_share *s = &block->mamba2.share;
    const int n = s->end_head - s->first_head, place = block->mamba2.place;
    const int parity = parity_read(block);
#pragma unroll 4
    for (int i = block->thread; i < p->config.n_layer * n * CHUNK;
         i += N_THREADS) {
        const int layer = i / (n * CHUNK), k = i / CHUNK % n, at = i % CHUNK;
        const int head = s->first_head + k;
        const struct mamba2_layer_state there = image_at(block, image, layer);
        const struct mamba2_parts here = state_kept(block, layer);
        float *w = here.w + (parity * p->deal.n_heads + k) * CHUNK + at;
        float *e = here.e + parity * p->deal.n_heads + k;
        if (at >= place)
            continue;
        if (!is_store) {
            *w = __ldg(there.w + head * CHUNK + at);
            if (at == 0)
                *e = __ldg(there.e + head);
        } else if (head * p->config.headdim >= block->c0) {
            there.w[head * CHUNK + at] = *w;
            if (at == 0)
                there.e[head] = *e;
        }
    }
}

/* Rows [first, place) of B^. */
template <bool is_store>
static __device__ void move_b(const struct decode_block *block, float *image,
                              int first)
{
    const struct decode_plan *p = block->plan;
    const struct model_config *c = &p->config;
    const struct mamba2_share *s = &block->mamba2.share;
    const int n_groups = s->end_group - s->first_group, words = c->d_state / 4;
    const int n_rows = max(block->mamba2.place - first, 0);
    const int n = n_groups * n_rows * words;
#pragma unroll 4
    for (int i = block->thread; i < c->n_layer * n; i += N_THREADS) {
        const int layer = i / n, k = i % words * 4;
        const int row = first + i / words % n_rows;
        const int g = i / words / n_rows % n_groups, group = s->first_group + g;
        int8_t *here = state_kept(block, layer).b +
                       (g * CHUNK + row) * p->deal.b_stride + k;
        int8_t *there = image_at(block, image, layer).b +
                        (row * c->n_groups + group) * c->d_state + k;
        const int channel = group * (c->d_inner / c->n_groups);
        if (!is_store)
            *(uint32_t *)here = __ldg((const uint32_t *)there);
        else if (channel >= block->c0)
            *(uint32_t *)there = *(const uint32_t *)here;
    }
}

/* ---- what is of channels ------------------------------------------------- */

/* x^ of bytes [first, place). */
template <bool is_store>
static __device__ void move_x(const struct decode_block *block, float *image,
                              int first)
{
    const struct decode_plan *p = block->plan;
    const int channels = block->n_channels;
    const int n_rows = max(block->mamba2.place - first, 0);
    const int n = n_rows * channels;
#pragma unroll 4
    for (int i = block->thread; i < p->config.n_layer * n; i += N_THREADS) {
        const int layer = i / n, row = first + i / channels % n_rows;
        const int c = i % channels;
        int8_t *here = state_kept(block, layer).x + c * CHUNK + x_place(row);
        int8_t *there = image_at(block, image, layer).x +
                        (size_t)row * p->config.d_inner + block->c0 + c;
        if (is_store)
            *there = *here;
        else
            *here = (int8_t)__ldg((const signed char *)there);
    }
}

/* S^ and its scales. */
static __device__ void load_states(const struct decode_block *block,
                                   float *image)
{
    const struct decode_plan *p = block->plan;
    const int d_state = p->config.d_state;
    const int words = block->n_channels * d_state / 16;
#pragma unroll 4
    for (int i = block->thread; i < p->config.n_layer * words; i += N_THREADS) {
        const struct mamba2_layer_state there =
            image_at(block, image, i / words);
        const struct mamba2_parts here = state_kept(block, i / words);
        const int8_t *q = there.s_q + (size_t)block->c0 * d_state;
        const int k = i % words;
        ((uint4 *)here.s_q)[k] = __ldg((const uint4 *)q + k);
        if (k < block->n_channels)
            here.s_scale[k] = __ldg(there.s_scale + block->c0 + k);
    }
}

/* ---- a launch ------------------------------------------------------------ */

/* Before the first byte. */
static __device__ void mamba2_load(struct decode_block *block, float *image)
{
    block->mamba2.place = *image_at(block, image, 0).place;
    move_past<false>(block, image);
    move_weights<false>(block, image);
    move_b<false>(block, image, 0);
    move_x<false>(block, image, 0);
    load_states(block, image);
    if (state_stays(block))
        return;
    compute_barrier(); /* the array in device memory is written */
    fetch_state(block, 0, block->mamba2.slot);
    copy_wait_all();
}

/* After the last of n bytes. */
static __device__ void mamba2_store(struct decode_block *block, float *image,
                                    int n)
{
    const int place = block->mamba2.place;
    const int first = n > place ? 0 : place - n;
    copy_wait_all(); /* a state of layer 0 that no byte needs */
    move_past<true>(block, image);
    move_weights<true>(block, image);
    move_b<true>(block, image, first);
    move_x<true>(block, image, first);
    if (block->packed.block == 0 &&
        block->thread < block->plan->config.n_layer) {
        for (int l = block->thread; l < block->plan->config.n_layer;
             l += N_THREADS)
            *image_at(block, image, l).place = place;
    }
}

#endif
