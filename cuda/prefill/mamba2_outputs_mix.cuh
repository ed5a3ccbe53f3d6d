/* mamba2_outputs_mix.cuh -- what bytes of a chunk weigh, and m^.
 *
 * What byte s weighs at byte t is a walk along t, a thread a byte s.  Products
 * of decays and weights are compared with the least ones only where they are
 * used: a decay is at most 1, so what was below it once stays so.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_OUTPUTS_MIX_CUH
#define MAMBYTE_MAMBA2_OUTPUTS_MIX_CUH

#include "cuda/prefill/mamba2_outputs_block.cuh"

/* ---- weights and decays: thread s of head i ------------------------------ */

/* What the walkers hold. */
struct walk {
    float w, e; /* of byte s; of the head, by the first 32 walkers           */
};

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

/* 32 bytes, of which the walker's own, s, is one where has_own; weights: at the
 * first of them. */
template <bool has_own, int stride>
static __device__ __forceinline__ void walk_on(struct walk &walk, float &kept_e,
                                               const float *alphas,
                                               float *weights, int s)
{
    int own = s % HALF;
#pragma unroll
    for (int t = 0; t < HALF; t += 4) {
        float4 four = *(const float4 *)(alphas + t);
        const float alpha[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
        for (int k = 0; k < 4; k++) {
            walk.w *= !has_own || t + k > own ? alpha[k] : 1.0f;
            walk.e *= alpha[k];
            kept_e = t + k == own ? walk.e : kept_e;
            weights[(t + k) * stride + (s ^ swap_of(k))] =
                !has_own || t + k >= own ? walk.w : 0.0f;
        }
    }
}

/* Nobody reads weights of s >= 32 at t < 32. */
static __device__ __forceinline__ void
walk_chunk(const struct outputs_job &job, struct walk &walk, int i, int s)
{
    const float *alphas = job.scalars->alpha[i];
    float e[2] = {};
    if (s >= HALF) {
        walk_on<true, CHUNK>(walk, e[1], alphas + HALF, job.weights(i, HALF),
                             s);
        return;
    }
    walk_on<true, HALF>(walk, e[0], alphas, job.weights(i, 0), s);
    walk_on<false, CHUNK>(walk, e[1], alphas + HALF, job.weights(i, HALF), s);
#pragma unroll
    for (int k = 0; k < 2; k++) {
        int t = s + k * HALF;
        job.scalars->read_scale[i][t] =
            job.scalars->c_scale[t] * exact_or_zero(e[k], EXACT_DECAY_MIN);
    }
}

/* ---- g and m^ ------------------------------------------------------------ */

/* g of 16 bytes, t0 on; those of s > t hold anything. */
static __device__ __forceinline__ void
multiply_bc(const struct outputs_job &job, int t0, float g[CHUNK / 8][4])
{
    int lane = threadIdx.x % WARP, stride = job.at.bc_stride;
    const int8_t *c = job.shared + job.at.c + (t0 + lane % 16) * stride;
    const int8_t *b = job.shared + (lane % 8 + lane / 16 * 8) * stride;
    int32_t sum[CHUNK / 8][4];
#pragma unroll
    for (int j = 0; j < CHUNK / 8; j++)
        start_sums(sum[j]);
    for (int k = 0; k < job.b.d_state; k += DEPTH) {
        uint32_t left[4];
        load_matrices(left, c + k + lane / 16 * 16);
#pragma unroll
        for (int j = 0; j < CHUNK / SIDE; j++) {
            if (j * SIDE > t0)
                break;
            uint32_t right[4];
            load_matrices(right, b + j * SIDE * stride + k + lane / 8 % 2 * 16);
            product_16x8x32(sum[2 * j], left, right);
            product_16x8x32(sum[2 * j + 1], left, right + 2);
        }
    }
#pragma unroll
    for (int j = 0; j < CHUNK / 8; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            g[j][i] = value_of(sum[j][i]);
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
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float2 w = make_float2(0.0f, 0.0f);
            if (j * 8 < t0 + SIDE)
                w = *(const float2 *)(job.weights(i, t0 + lane / 4 + 8 * half) +
                                      ((j * 8) ^ swap_of(lane / 4)) +
                                      lane % 4 * 2);
            float *x = &m[j][2 * half];
            x[0] = g[j][2 * half] * exact_or_zero(w.x, EXACT_WEIGHT_MIN);
            x[1] = g[j][2 * half + 1] * exact_or_zero(w.y, EXACT_WEIGHT_MIN);
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
            mixed.left[j / 2][half + j % 2 * 2] = quantised4(
                make_float4(low[0], low[1], high[0], high[1]), scale);
        }
    }
    return mixed;
}

#endif
