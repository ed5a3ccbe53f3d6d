/* mamba2_in_conv.cuh -- the convolution of x, B and C, and their int8, of the
 * sums of in_proj.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_IN_CONV_CUH
#define MAMBYTE_MAMBA2_IN_CONV_CUH

#include "cuda/common/float4.cuh"
#include "cuda/prefill/mamba2_in_block.cuh"

/* ---- x, B and C ---------------------------------------------------------- */

/* A lane's 16 channels of 64, in rows lane / 4 and that + 8 of a warp's. */
struct channel_values {
    float4 at[2][4];
};

static __device__ __forceinline__ float &element(float4 &v, int i)
{
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

/* Values of the sums of 64 columns; w_scale: of the lane's first. */
static __device__ __forceinline__ struct channel_values
values_of(const int32_t sum[8][4], const float x_scale[2], const float *w_scale)
{
    struct channel_values v;
#pragma unroll
    for (int q = 0; q < 4; q++) {
        float4 w = __ldg((const float4 *)w_scale + q);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int32_t *a = &sum[2 * q][2 * half];
            const int32_t *c = &sum[2 * q + 1][2 * half];
            v.at[half][q] =
                make_float4(exact_dequantise(a[0], x_scale[half], w.x),
                            exact_dequantise(a[1], x_scale[half], w.y),
                            exact_dequantise(c[0], x_scale[half], w.z),
                            exact_dequantise(c[1], x_scale[half], w.w));
        }
    }
    return v;
}

/* What the convolution of a lane's channels reads besides them. */
struct conv_inputs {
    const float *taps;    /* [TAPS][channels], of the first channel         */
    const float *bias;    /* of the first channel                           */
    const float *halo;    /* shared [HALO][PART]: the last rows of the warp
                           * before                                         */
    const float *past[2]; /* [HALO][channels]: of the spans of the rows     */
    int in_span[2];
    size_t channels;
};

/* silu(conv) of channel e of four, of both rows.  Row g - k is in lane - 4 k,
 * or, when g < k, the warp before has it; row g + 8 - k is there as well. */
template <bool has_start>
static __device__ __forceinline__ float2
convolve(float low, float high, float bias, const float4 w[TAPS],
         const float4 before[HALO], int e, const struct conv_inputs &in, int at)
{
    int lane = threadIdx.x % WARP, g = lane / 4;
    float2 y = make_float2(bias, bias);
#pragma unroll
    for (int k = HALO; k > 0; k--) {
        float a = __shfl_sync(WHOLE_WARP, low, (lane - 4 * k) & (WARP - 1));
        float c = __shfl_sync(WHOLE_WARP, high, (lane - 4 * k) & (WARP - 1));
        float4 other = before[k - 1], tap = w[HALO - k];
        float l = g >= k ? a : element(other, e), h = g >= k ? c : a;
        if (has_start && k > in.in_span[0])
            l = in.past[0][(HALO + in.in_span[0] - k) * in.channels + at];
        if (has_start && k > in.in_span[1])
            h = in.past[1][(HALO + in.in_span[1] - k) * in.channels + at];
        y.x = fmaf(element(tap, e), l, y.x);
        y.y = fmaf(element(tap, e), h, y.y);
    }
    float4 tap = w[HALO];
    y.x = fmaf(element(tap, e), low, y.x);
    y.y = fmaf(element(tap, e), high, y.y);
    return y;
}

/* silu(conv) in place; the largest magnitudes of both rows. */
template <bool has_start>
static __device__ __forceinline__ void
convolve_all(struct channel_values &v, const struct conv_inputs &in,
             uint32_t amax[2])
{
    int g = threadIdx.x % WARP / 4;
#pragma unroll
    for (int q = 0; q < 4; q++) {
        float4 bias = __ldg((const float4 *)in.bias + q), w[TAPS];
        float4 before[HALO];
#pragma unroll
        for (int k = 0; k < TAPS; k++)
            w[k] = __ldg((const float4 *)(in.taps + k * in.channels) + q);
#pragma unroll
        for (int k = 1; k <= HALO; k++) {
            before[k - 1] = zero4();
            if (g < k)
                before[k - 1] =
                    ((const float4 *)(in.halo + (HALO + g - k) * PART))[q];
        }
        float y[8];
#pragma unroll
        for (int e = 0; e < 4; e++) {
            float2 both = convolve<has_start>(
                element(v.at[0][q], e), element(v.at[1][q], e),
                element(bias, e), w, before, e, in, 4 * q + e);
            y[e] = both.x;
            y[4 + e] = both.y;
        }
        silu_all<8>(y);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float *of = y + 4 * half;
            v.at[half][q] = make_float4(of[0], of[1], of[2], of[3]);
            amax[half] = max(amax[half], magnitude4(v.at[half][q]));
        }
    }
}

/* Where int8 of 64 channels goes, in a row, and its scale. */
struct int8_place {
    int8_t *q;
    float *scale;
};

/* Of channels [channel, channel + 64) of x | B | C. */
static __device__ __forceinline__ struct int8_place
int8_place_of(const struct in_job &job, ptrdiff_t row, int channel)
{
    const struct mamba2_batch &m = job.m;
    int n_bc = 2 * m.n_groups, d_inner = job.b.d_inner;
    if (channel < d_inner)
        return {m.x + row * d_inner + channel,
                m.x_scale + row * m.n_heads + channel / 64};
    channel -= d_inner;
    return {m.bc + row * n_bc * job.b.d_state + channel,
            m.bc_scale + row * n_bc + channel / job.b.d_state};
}

/* int8 of both halves of the columns of a part; amax: [half of the columns]
 * [row]. */
static __device__ __forceinline__ void
store_int8(const struct in_job &job, const struct channel_values v[2],
           uint32_t amax[2][2], int row, int channel)
{
    int lane = threadIdx.x % WARP;
    bool is_one = channel >= job.b.d_inner && job.b.d_state == PART;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int i = row + lane / 4 + 8 * half;
        uint32_t most[2] = {lanes_max<4>(amax[0][half]),
                            lanes_max<4>(amax[1][half])};
        if (is_one)
            most[0] = most[1] = max(most[0], most[1]);
#pragma unroll
        for (int p = 0; p < 2; p++) {
            struct exact_scale scale = scale_of(most[p]);
            const float4 *from = v[p].at[half];
            uint4 q = make_uint4(
                quantised4(from[0], scale), quantised4(from[1], scale),
                quantised4(from[2], scale), quantised4(from[3], scale));
            if (!job.is_useful(i))
                continue;
            struct int8_place to = int8_place_of(
                job, job.layer_row + job.row0 + i, channel + p * 64);
            *(uint4 *)(to.q + lane % 4 * SIDE) = q;
            if (lane % 4 == 0)
                *to.scale = scale.scale;
        }
    }
    __syncwarp();
}

/* The inputs of the last rows of a span, which its state will keep. */
static __device__ __forceinline__ void
store_inputs(const struct in_job &job, const struct channel_values &v, int row,
             int col)
{
    int lane = threadIdx.x % WARP;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int i = row + lane / 4 + 8 * half;
        if (!job.notes[i].is_near_end() || !job.is_useful(i))
            continue;
        float4 *to =
            (float4 *)(job.b.uz +
                       (job.layer_row + job.row0 + i) * job.m.zx_stride + col);
#pragma unroll
        for (int q = 0; q < 4; q++)
            to[q] = v.at[half][q];
    }
    __syncwarp();
}

/* x^, B^ or C^ of a warp's rows and 128 columns, col on.  halos: shared
 * [8][HALO][PART], a warp's last rows; barrier: of the part. */
static __device__ __forceinline__ void
store_convolved(const struct in_job &job, const int32_t sum[PART / 8][4],
                const float *w_scale, int row, int col, float *halos,
                int barrier)
{
    int lane = threadIdx.x % WARP, g = lane / 4, own = lane % 4 * SIDE;
    int warp = row / SIDE, channel = col - job.b.d_inner;
    float x_scale[2] = {job.x_scale[row + g], job.x_scale[row + g + 8]};
    struct channel_values v[2];
    struct conv_inputs in;
    in.channels = job.m.conv_channels;
#pragma unroll
    for (int p = 0; p < 2; p++) {
        v[p] = values_of(sum + 8 * p, x_scale, w_scale + col + p * 64 + own);
        store_inputs(job, v[p], row, col + p * 64 + own);
        float4 *to = (float4 *)(halos + (warp * HALO + g - (8 - HALO)) * PART +
                                p * 64 + own);
#pragma unroll
        for (int q = 0; q < 4; q++) {
            if (g >= 8 - HALO)
                to[q] = v[p].at[1][q];
        }
    }
    barrier_sync(barrier, PART_THREADS);
    bool has_start = false;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        struct row_note note = job.notes[row + g + 8 * half];
        in.in_span[half] = note.in_span();
        has_start |= note.in_span() < HALO;
        in.past[half] = mamba2_layer_state(job.mb->spans[note.span()].image,
                                           job.m.state, job.layer)
                            .past +
                        channel + own;
    }
    has_start = __any_sync(WHOLE_WARP, has_start);
    uint32_t amax[2][2] = {};
#pragma unroll
    for (int p = 0; p < 2; p++) {
        in.taps = job.l.conv + channel + p * 64 + own;
        in.bias = job.l.conv_bias + channel + p * 64 + own;
        in.halo = halos + max(warp - 1, 0) * HALO * PART + p * 64 + own;
        if (has_start)
            convolve_all<true>(v[p], in, amax[p]);
        else
            convolve_all<false>(v[p], in, amax[p]);
        in.past[0] += 64;
        in.past[1] += 64;
    }
    store_int8(job, v, amax, row, channel);
}

#endif
