/* decode_mamba2_rows.cuh -- in_proj's results, with Mamba-2: a thread finishes
 * a row, and hands it on.
 *
 *     z       silu(z), for the block
 *     x       after the convolution, for the block; its largest magnitude in
 *             each head, for the cluster
 *     B, C    after the convolution, for the cluster
 *     dt      delta and alpha, for the cluster
 *
 * What does not need the product is done before it, by in_begin().
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DECODE_MAMBA2_ROWS_CUH
#define MAMBYTE_DECODE_MAMBA2_ROWS_CUH

#include "cuda/decode/decode_mamba2_state.cuh"

/* What a thread knows of its rows before the product. */
struct mamba2_in {
    float scale[2];
    float sum[2]; /* of the convolution, without its newest input; dt_bias */
    float tap[2]; /* the factor of that input; a_log2e                     */
};

static __device__ __forceinline__ uint64_t *
memory_words(const struct decode_block *block, int offset)
{
    return (uint64_t *)(block->memory + offset);
}

/* Reads the floats of the layer, which lie at that place. */
template <class S>
static __device__ __forceinline__ struct mamba2_in
in_begin(const struct decode_block *block, weight_place floats, int layer)
{
    const struct decode_plan *p = block->plan;
    const int n = p->in.rows, taps = S::d_conv(block);
    struct mamba2_in f;
#pragma unroll
    for (int k = 0; k < 2; k++) {
        const int row = block->mamba2.rows[k];
        f.scale[k] = f.sum[k] = f.tap[k] = 0.0f;
        if (row < 0)
            continue;
        f.scale[k] = share_float(block, floats, row);
        if (block->warp == Z_WARP)
            continue;
        f.sum[k] = share_float(block, floats, n + row);
        const bool is_dt = block->warp >= DT_WARP;
        const float *past = state_at(block, layer).past + block->mamba2.rows[k];
        for (int t = 0; t < taps - 1 && !is_dt; t++)
            f.sum[k] = fmaf(share_float(block, floats, (2 + t) * n + row),
                            past[t * n], f.sum[k]);
        f.tap[k] = share_float(block, floats, (is_dt ? 2 : 1 + taps) * n + row);
    }
    return f;
}

/* The newest input of row k moves in, and older ones move on. */
template <class S>
static __device__ __forceinline__ void
keep_past(const struct decode_block *block, int layer, int k, float x)
{
    const int taps = S::d_conv(block);
    const int stride = block->plan->in.rows;
    const float *past = state_at(block, layer).past + block->mamba2.rows[k];
    float *kept = state_kept(block, layer).past + block->mamba2.rows[k];
    for (int t = 1; t < taps - 1; t++)
        kept[(t - 1) * stride] = past[t * stride];
    kept[(taps - 2) * stride] = x;
}

/* Sends the largest |x| of each of the block's heads.  A lane has y of channels
 * lane and lane + 32 of the block. */
template <class S>
static __device__ __forceinline__ void
send_maxima(const struct decode_block *block, const float y[2], uint32_t epoch)
{
    const struct mamba2_share *s = &block->mamba2.share;
    const int size = block->plan->cluster;
#pragma unroll 1
    for (int h = s->first_head; h < s->end_head; h++) {
        const int first = h * S::headdim(block) - block->c0;
        uint32_t amax = 0;
#pragma unroll
        for (int k = 0; k < 2; k++) {
            const int c = block->lane + k * WARP;
            const bool is_own = c < s->n_channels && c >= first &&
                                c < first + S::headdim(block);
            amax = max(amax, is_own ? magnitude_bits(y[k]) : 0);
        }
        amax = warp_max(amax);
        if (block->lane < size)
            cluster_word_publish(
                memory_words(block, block->plan->memory.mamba2.maxima) +
                    ((h - s->h0) * size + s->rank) * N_WARPS,
                exact_float(amax), epoch, block->lane);
    }
}

/* Sends B or C. */
static __device__ __forceinline__ void send_bc(const struct decode_block *block,
                                               float y, uint32_t epoch)
{
    const struct mamba2_block *m = &block->mamba2;
    uint64_t *word = memory_words(block, block->plan->memory.mamba2.bc_words) +
                     m->share.e0 + m->rows[0] - 2 * m->share.n_channels;
#pragma unroll 1
    for (int rank = m->copy; rank < block->plan->cluster; rank += m->copies)
        cluster_word_publish(word, y, epoch, rank);
}

/* Sends what dt, with its bias, makes of a head. */
static __device__ __forceinline__ void
send_step(const struct decode_block *block, float dt, float a_log2e,
          uint32_t epoch)
{
    const struct mamba2_block *m = &block->mamba2;
    const struct model_config *c = &block->plan->config;
    uint64_t *words = memory_words(block, block->plan->memory.mamba2.steps) +
                      2 * (m->share.e0 + m->rows[0] - 2 * m->share.n_channels -
                           m->share.n_bc);
    softplus_all<1>(&dt);
    const float delta = exact_min(exact_max(dt, c->delta_min), c->delta_max);
    const float alpha = exact_alpha(delta, a_log2e);
#pragma unroll 1
    for (int rank = m->copy; rank < block->plan->cluster; rank += m->copies) {
        cluster_word_publish(words, delta, epoch, rank);
        cluster_word_publish(words + 1, alpha, epoch, rank);
    }
}

/* After the product. */
template <class S>
static __device__ __forceinline__ void
in_finish(const struct decode_block *block, const struct mamba2_in *f,
          const int32_t *sums, int layer, float scale, uint32_t epoch)
{
    const struct mamba2_block *m = &block->mamba2;
    float x[2], y[2];
#pragma unroll
    for (int k = 0; k < 2; k++) {
        x[k] = exact_dequantise(sums[max(m->rows[k], 0)], scale, f->scale[k]);
        y[k] = block->warp == Z_WARP ? x[k] : fmaf(f->tap[k], x[k], f->sum[k]);
    }
    if (block->warp >= DT_WARP && block->warp < Z_WARP) {
        if (m->rows[0] >= 0)
            send_step(block, x[0] + f->sum[0], f->tap[0], epoch);
        return;
    }
    y[0] = exact_silu(y[0]);
    if (block->plan->n_channels > WARP)
        y[1] = exact_silu(y[1]);
    if (block->warp == X_WARP)
        send_maxima<S>(block, y, epoch);
    else if (block->warp < DT_WARP && m->rows[0] >= 0)
        send_bc(block, y[0], epoch);
    float *own = block->warp == X_WARP ? block->u : block->gate;
#pragma unroll
    for (int k = 0; k < 2; k++) {
        if (m->rows[k] < 0)
            continue;
        if (block->warp == X_WARP || block->warp == Z_WARP)
            own[block->lane + k * WARP] = y[k];
        if (block->warp != Z_WARP && m->copy == 0)
            keep_past<S>(block, layer, k, x[k]);
    }
}

#endif
