/* mamba2_outputs_mix.cuh -- what bytes of a chunk weigh, and m^.
 *
 * What byte s weighs at byte t is a walk along t, a thread a byte s.  Products
 * of decays and weights are compared with the least ones only where they are
 * used: a decay is at most 1, so what was below it once stays so.
 *
 * Weights are stored 2^46 times smaller, and g is as much larger: so what is
 * below the least weight is subnormal, and becomes 0 without a comparison.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_OUTPUTS_MIX_CUH
#define MAMBYTE_MAMBA2_OUTPUTS_MIX_CUH

#include "cuda/prefill/mamba2_outputs_block.cuh"

/* ---- weights and decays: thread s of head i ------------------------------ */

/* What the walkers hold. */
struct walk {
    float w, e; /* of byte s when it comes; of the head before the chunk     */
};

#define WEIGHT_SHRINK 0x1p-46f
static_assert(EXACT_WEIGHT_MIN * WEIGHT_SHRINK == 0x1p-126f,
              "the least weight becomes the least normal number");

static __device__ __forceinline__ struct walk
start_walk(const struct outputs_job &job, int i, int s)
{
    const struct mamba2_batch &m = job.m;
    int h = job.first + i;
    struct walk walk = {0.0f, 1.0f};
    float alpha = 1.0f, x_scale = 0.0f, c_scale = 0.0f;
    if (job.chunk.place > 0)
        walk.e = job.state.e[h];
    if (s < job.chunk.place) {
        walk.w = job.state.w[h * CHUNK + s];
    } else if (s < job.chunk.end) {
        ptrdiff_t row = job.chunk.row + s, at = row * m.n_heads + h;
        const float *bc = m.bc_scale + row * 2 * m.n_groups + job.group;
        alpha = m.alpha[at];
        x_scale = m.x_scale[at];
        c_scale = bc[m.n_groups];
        walk.w = exact_weight(m.delta[at], x_scale, bc[0]);
    }
    job.scalars->alpha[i][s] = alpha;
    job.scalars->x_scale[i][s] = x_scale;
    if (i == 0)
        job.scalars->c_scale[s] = c_scale;
    return walk;
}

/* 32 bytes, of which the walker's own is number `own` where has_own; w is 0
 * before it.  Also what is left of the state after each, where has_decays.
 * weights and decays: at the first of them. */
template <bool has_own, bool has_decays, int stride>
static __device__ __forceinline__ void
walk_on(const struct walk &walk, float &w, float &e, const float *alphas,
        float *weights, float *decays, int s)
{
    int own = s % HALF;
#pragma unroll
    for (int t = 0; t < HALF; t += 4) {
        float4 four = *(const float4 *)(alphas + t), left;
        const float alpha[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
        for (int k = 0; k < 4; k++) {
            w *= alpha[k];
            if (has_own)
                w = t + k == own ? walk.w : w;
            weights[(t + k) * stride + (s ^ swap_of(k))] =
                flushed_product(w, WEIGHT_SHRINK);
        }
        if (!has_decays)
            continue;
        left.x = e * alpha[0];
        left.y = left.x * alpha[1];
        left.z = left.y * alpha[2];
        left.w = e = left.z * alpha[3];
        if (own == 0)
            *(float4 *)(decays + t) = left;
    }
}

/* The same without weights. */
static __device__ __forceinline__ void
walk_decays(float &e, const float *alphas, float *decays, int s)
{
#pragma unroll
    for (int t = 0; t < HALF; t += 4) {
        float4 four = *(const float4 *)(alphas + t), left;
        left.x = e * four.x;
        left.y = left.x * four.y;
        left.z = left.y * four.z;
        left.w = e = left.z * four.w;
        if (s == HALF)
            *(float4 *)(decays + t) = left;
    }
}

/* Nobody reads weights of s >= 32 at t < 32.  The warp of s >= 32 finds the
 * decays. */
static __device__ __forceinline__ void
walk_chunk(const struct outputs_job &job, const struct walk &walk, int i, int s)
{
    const float *alphas = job.scalars->alpha[i];
    float *decays = job.scalars->read_scale[i];
    float w = 0.0f, e = walk.e;
    if (s < HALF) {
        walk_on<true, false, HALF>(walk, w, e, alphas, job.weights(i, 0), NULL,
                                   s);
        walk_on<false, false, CHUNK>(walk, w, e, alphas + HALF,
                                     job.weights(i, HALF), NULL, s);
        return;
    }
    walk_decays(e, alphas, decays, s);
    walk_on<true, true, CHUNK>(walk, w, e, alphas + HALF, job.weights(i, HALF),
                               decays + HALF, s);
    __syncwarp(); /* the decays are written */
#pragma unroll
    for (int t = s - HALF; t < CHUNK; t += HALF)
        decays[t] =
            job.scalars->c_scale[t] * exact_or_zero(decays[t], EXACT_DECAY_MIN);
}

/* ---- g and m^ ------------------------------------------------------------ */

/* g / WEIGHT_SHRINK of 16 bytes, t0 on; those of s > t hold anything. */
static __device__ __forceinline__ void
multiply_bc(const struct outputs_job &job, int t0, int d_state,
            float g[CHUNK / 8][4])
{
    int lane = threadIdx.x % WARP, stride = job.at.bc_stride;
    const int8_t *c = job.shared + job.at.c + (t0 + lane % 16) * stride;
    const int8_t *b = job.shared + (lane % 8 + lane / 16 * 8) * stride;
    const int4 start = job.scalars->start;
    int32_t sum[CHUNK / 8][4];
#pragma unroll
    for (int k = 0; k < d_state; k += DEPTH) {
        uint32_t left[4];
        load_matrices(left, c + k + lane / 16 * 16);
#pragma unroll
        for (int j = 0; j < CHUNK / SIDE; j++) {
            if (j * SIDE > t0)
                break;
            uint32_t right[4];
            load_matrices(right, b + j * SIDE * stride + k + lane / 8 % 2 * 16);
            if (k == 0) {
                product_16x8x32(sum[2 * j], start, left, right);
                product_16x8x32(sum[2 * j + 1], start, left, right + 2);
                continue;
            }
            product_16x8x32(sum[2 * j], left, right);
            product_16x8x32(sum[2 * j + 1], left, right + 2);
        }
    }
#pragma unroll
    for (int j = 0; j < CHUNK / 8; j++) {
        if (j / 2 * SIDE > t0)
            break;
#pragma unroll
        for (int i = 0; i < 4; i++)
            g[j][i] = fmaf(exact_float((uint32_t)sum[j][i]), 1 / WEIGHT_SHRINK,
                           -EXACT_ROUND / WEIGHT_SHRINK);
    }
}

/* m^ of 16 bytes, as the left side of a product; a lane has rows lane / 4 and
 * that + 8, and their scales. */
struct mixed {
    uint32_t left[BYTE_STEPS][4];
    float scales[2];
};

/* That of head i. */
static __device__ __forceinline__ struct mixed
mix(const struct outputs_job &job, int i, int t0, const float g[CHUNK / 8][4])
{
    struct mixed mixed;
    int lane = threadIdx.x % WARP;
    float m[CHUNK / 8][4], amax[2] = {0.0f, 0.0f};
#pragma unroll
    for (int j = 0; j < CHUNK / 8; j++) {
        if (j / 2 * SIDE > t0)
            break;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float2 w =
                *(const float2 *)(job.weights(i, t0 + lane / 4 + 8 * half) +
                                  ((j * 8) ^ swap_of(lane / 4)) + lane % 4 * 2);
            float *x = &m[j][2 * half];
            x[0] = g[j][2 * half] * w.x;
            x[1] = g[j][2 * half + 1] * w.y;
            amax[half] = fmaxf(amax[half], fmaxf(fabsf(x[0]), fabsf(x[1])));
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        struct exact_scale scale =
            scale_of_products(lanes_max<4>(exact_bits(amax[half])));
        mixed.scales[half] = scale.scale;
#pragma unroll
        for (int j = 0; j < CHUNK / SIDE; j++) {
            const float *low = &m[2 * j][2 * half];
            const float *high = &m[2 * j + 1][2 * half];
            uint32_t &left = mixed.left[j / 2][half + j % 2 * 2];
            left = 0;
            if (j * SIDE <= t0)
                left = quantised4(make_float4(low[0], low[1], high[0], high[1]),
                                  scale);
        }
    }
    return mixed;
}

#endif
