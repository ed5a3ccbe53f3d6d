/* mamba2_in_conv.cuh -- the convolution of x, B and C, and their int8, of the
 * sums of in_proj.
 *
 * A tile of sums goes through shared memory, from where a product leaves them
 * to where the convolution wants them: a warp has 16 rows of 64 channels, a
 * lane two channels, and walks along the rows.  What it reads last stays in
 * registers, so nothing is shuffled.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_MAMBA2_IN_CONV_CUH
#define MAMBYTE_MAMBA2_IN_CONV_CUH

#include "cuda/prefill/mamba2_in_weights.cuh"

/* ---- sums in shared memory ------------------------------------------------
 *
 * Column c of row r is at c ^ swap_of(r), so that no banks collide: neither
 * where eight rows are written, nor where one is read.
 */

static __device__ __forceinline__ int swap_of(int row)
{
    return (row & 3) * 8;
}

/* Of a warp's rows, `row` on. */
static __device__ __forceinline__ void
put_sums(int32_t *sums, const int32_t sum[HEAD / 8][4], int row)
{
    int lane = threadIdx.x % WARP, g = lane / 4;
    int32_t *to = sums + (row + g) * HEAD + lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < HEAD / 8; j++) {
        int at = (j * 8) ^ swap_of(g);
        *(int2 *)(to + at) = make_int2(sum[j][0], sum[j][1]);
        *(int2 *)(to + 8 * HEAD + at) = make_int2(sum[j][2], sum[j][3]);
    }
}

/* ---- a warp's rows ------------------------------------------------------- */

/* What a lane needs of its two channels. */
struct channel_pair {
    float2 taps[TAPS], bias, w_scale;
};

/* Of channels `channel` and the next one of x | B | C. */
static __device__ __forceinline__ struct channel_pair
channel_pair_of(const struct in_job &job, const float *w_scale, int channel)
{
    struct channel_pair pair;
#pragma unroll
    for (int k = 0; k < TAPS; k++)
        pair.taps[k] = __ldg(
            (const float2 *)(job.l.conv + k * job.m.conv_channels + channel));
    pair.bias = __ldg((const float2 *)(job.l.conv_bias + channel));
    pair.w_scale = __ldg((const float2 *)(w_scale + job.b.d_inner + channel));
    return pair;
}

/* Rows row .. row + 15 of a tile, and the lane's two channels. */
struct conv_walk {
    const struct in_job &job;
    struct channel_pair pair;
    int32_t *sums;  /* of the tile, then silu as floats                     */
    uint32_t *most; /* shared [SIDE]: the largest magnitude of each row     */
    int row, channel;
    uint32_t starts; /* rows that are the first of their span, as bits      */

    __device__ __forceinline__ int32_t *at(int i) const
    {
        return sums + (row + i) * HEAD +
               (((int)threadIdx.x % WARP * 2) ^ swap_of(i));
    }
    __device__ __forceinline__ float2 value_at(const int32_t *at,
                                               float x_scale) const
    {
        int2 sum = *(const int2 *)at;
        return make_float2(exact_dequantise(sum.x, x_scale, pair.w_scale.x),
                           exact_dequantise(sum.y, x_scale, pair.w_scale.y));
    }
    __device__ __forceinline__ float2 value(int i) const
    {
        return value_at(at(i), job.x_scale[row + i]);
    }
    /* Input k before the span of row i. */
    __device__ __forceinline__ float2 past_input(int i, int k) const
    {
        const struct span &span = job.mb->spans[job.notes[row + i].span()];
        const float *past =
            mamba2_layer_state(span.image, job.m.state, job.layer).past;
        return *(const float2 *)(past + k * job.m.conv_channels + channel);
    }
};

/* The inputs of the three rows before the warp's first: those of its span. */
static __device__ __forceinline__ void load_halo(float2 before[HALO],
                                                 const struct conv_walk &walk)
{
    int in_span = walk.job.notes[walk.row].in_span();
    if (walk.row > 0) {
#pragma unroll
        for (int k = 0; k < HALO; k++)
            before[k] = walk.value(k - HALO);
    }
    if (walk.row > 0 && in_span == HALO)
        return;
#pragma unroll
    for (int k = 0; k < HALO; k++) {
        if (walk.row == 0)
            before[k] = make_float2(0.0f, 0.0f);
        else if (in_span + k < HALO)
            before[k] = walk.past_input(0, in_span + k);
    }
}

static __device__ __forceinline__ float2
convolved(const struct channel_pair &pair, const float2 in[TAPS])
{
    float2 y = pair.bias;
#pragma unroll
    for (int k = 0; k < TAPS; k++)
        y = make_float2(fmaf(pair.taps[k].x, in[k].x, y.x),
                        fmaf(pair.taps[k].y, in[k].y, y.y));
    return y;
}

/* The convolution of rows i to i + 3, of which some start a span.  in: the rows
 * before and these; where a span starts, what was before it takes the place of
 * the rows before. */
static __device__ __forceinline__ void
convolve_starts(float y[8], const struct conv_walk &walk, int i,
                float2 in[HALO + 4])
{
    float2 own[TAPS];
#pragma unroll
    for (int k = 0; k < HALO; k++)
        own[k] = in[k];
#pragma unroll
    for (int j = 0; j < 4; j++) {
        if (walk.starts >> (i + j) & 1) {
#pragma unroll
            for (int k = 0; k < HALO; k++)
                own[k] = walk.past_input(i + j, k);
        }
        own[HALO] = in[HALO + j];
        float2 of = convolved(walk.pair, own);
        y[2 * j] = of.x;
        y[2 * j + 1] = of.y;
#pragma unroll
        for (int k = 0; k < HALO; k++)
            own[k] = own[k + 1];
    }
#pragma unroll
    for (int k = 0; k < HALO; k++)
        in[4 + k] = own[k];
}

/* silu(conv) of the rows, in place of their sums, and the largest. */
static __device__ __forceinline__ void
convolve_rows(const struct conv_walk &walk, float2 before[HALO])
{
    bool is_first = threadIdx.x % WARP == 0;
    int32_t *at[4];
#pragma unroll
    for (int j = 0; j < 4; j++)
        at[j] = walk.at(j);
    const float *x_scale = walk.job.x_scale + walk.row;
#pragma unroll 2
    for (int i = 0; i < SIDE; i += 4) {
        float4 scales = *(const float4 *)(x_scale + i);
        const float scale[4] = {scales.x, scales.y, scales.z, scales.w};
        float2 in[HALO + 4];
        float y[8];
#pragma unroll
        for (int k = 0; k < HALO; k++)
            in[k] = before[k];
#pragma unroll
        for (int j = 0; j < 4; j++)
            in[HALO + j] = walk.value_at(at[j], scale[j]);
        if ((walk.starts >> i & 15) == 0) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                float2 of = convolved(walk.pair, in + j);
                y[2 * j] = of.x;
                y[2 * j + 1] = of.y;
            }
        } else {
            convolve_starts(y, walk, i, in);
        }
#pragma unroll
        for (int k = 0; k < HALO; k++)
            before[k] = in[4 + k];
        silu_all<8>(y);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            *(float2 *)at[j] = make_float2(y[2 * j], y[2 * j + 1]);
            at[j] += 4 * HEAD;
            uint32_t most = warp_max(
                exact_bits(max_nan(fabsf(y[2 * j]), fabsf(y[2 * j + 1]))));
            if (is_first)
                walk.most[i + j] = most;
        }
    }
}

/* The inputs of the last rows of a span, which its state will keep. */
static __device__ __forceinline__ void
store_inputs(const struct conv_walk &walk, uint32_t rows)
{
    const struct in_job &job = walk.job;
    for (; rows != 0; rows &= rows - 1) {
        int i = __ffs((int)rows) - 1;
        *(float2 *)(job.b.uz +
                    (job.layer_row + job.row0 + walk.row + i) *
                        job.m.zx_stride +
                    job.b.d_inner + walk.channel) = walk.value(i);
    }
}

/* ---- int8 ---------------------------------------------------------------- */

/* Where int8 of 64 channels goes, in a row, and its scale; their strides. */
struct int8_place {
    int8_t *q;
    float *scale;
    int stride, scale_stride;
};

/* Of channels [channel, channel + 64) of x | B | C. */
static __device__ __forceinline__ struct int8_place
int8_place_of(const struct in_job &job, ptrdiff_t row, int channel)
{
    const struct mamba2_batch &m = job.m;
    int n_bc = 2 * m.n_groups, d_inner = job.b.d_inner;
    if (channel < d_inner)
        return {m.x + row * d_inner + channel,
                m.x_scale + row * m.n_heads + channel / HEAD, d_inner,
                m.n_heads};
    channel -= d_inner;
    return {m.bc + row * n_bc * HEAD + channel,
            m.bc_scale + row * n_bc + channel / HEAD, n_bc * HEAD, n_bc};
}

/* int8 of the warp's rows, which lie as floats in place of their sums.  is_any:
 * some rows are not stored, or some inverses are 0. */
template <bool is_any>
static __device__ __forceinline__ void
store_rows(const struct conv_walk &walk, const struct int8_place &place)
{
    int half = threadIdx.x % WARP / 16, c = threadIdx.x % 16 * 4;
    int8_t *to = place.q + half * place.stride + c;
    const float *from[2];
#pragma unroll
    for (int i = 0; i < 2; i++)
        from[i] = (const float *)walk.sums + (walk.row + half) * HEAD +
                  (c ^ swap_of(2 * i + half));
    const uint32_t *inverses = walk.most + half;
#pragma unroll
    for (int i = 0; i < SIDE; i += 2) {
        float inverse = exact_float(inverses[i]);
        float4 v = *(const float4 *)(from[i / 2 % 2] + i * HEAD);
        uint32_t q = quantise4(v, inverse);
        if (is_any)
            q = inverse == 0.0f ? 0 : q;
        if (!is_any || walk.job.is_useful(walk.row + i + half))
            *(uint32_t *)to = q;
        to += 2 * place.stride;
    }
}

/* place: of the first row. */
static __device__ __forceinline__ void
store_int8(const struct conv_walk &walk, const struct int8_place &place)
{
    const struct in_job &job = walk.job;
    int lane = threadIdx.x % WARP, i = lane % SIDE;
    __syncwarp(); /* the maxima are written */
    struct exact_scale scale = scale_of(walk.most[i] & EXACT_ABS_MASK);
    __syncwarp(); /* and read */
    bool is_useful = job.is_useful(walk.row + i);
    if (lane < SIDE) {
        walk.most[i] = exact_bits(scale.inverse);
        if (is_useful)
            place.scale[i * place.scale_stride] = scale.scale;
    }
    __syncwarp(); /* the inverses are written, and the floats */
    if (__any_sync(WHOLE_WARP, !is_useful || scale.inverse == 0.0f))
        store_rows<true>(walk, place);
    else
        store_rows<false>(walk, place);
}

/* ---- a tile -------------------------------------------------------------- */

/* x^, B^ or C^ of a warp's rows and 128 columns, col on.  sums: shared
 * [ROWS][HEAD]; most: shared [ROWS]; barrier: of the part. */
static __device__ __forceinline__ void
store_convolved(const struct in_job &job, const int32_t sum[COLS / 8][4],
                const float *w_scale, int32_t *sums, uint32_t *most, int row,
                int col, int barrier)
{
    int lane = threadIdx.x % WARP, i = row + lane % SIDE;
    struct row_note note = job.notes[i];
    bool is_first = lane < SIDE && note.in_span() == 0;
    bool is_kept = lane < SIDE && note.is_near_end() && job.is_useful(i);
    uint32_t starts = __ballot_sync(WHOLE_WARP, is_first);
    uint32_t kept = __ballot_sync(WHOLE_WARP, is_kept);
    int channel = col - job.b.d_inner;
    struct int8_place place =
        int8_place_of(job, job.layer_row + job.row0 + row, channel);
#pragma unroll 1
    for (int p = 0; p < COLS / HEAD; p++) {
        const struct conv_walk walk = {
            job,   channel_pair_of(job, w_scale, channel + lane * 2),
            sums,  most + row,
            row,   channel + lane * 2,
            starts};
        __syncwarp(); /* the warp has read its rows of the last half; others
                       * had before the second barrier */
        if (p == 0)
            put_sums(sums, sum, row);
        else
            put_sums(sums, sum + HEAD / 8, row);
        barrier_sync(barrier, PART_THREADS); /* the sums are there */
        store_inputs(walk, kept);
        float2 before[HALO];
        load_halo(before, walk);
        barrier_sync(barrier, PART_THREADS); /* all have read rows of others */
        convolve_rows(walk, before);
        store_int8(walk, place);
        channel += HEAD;
        place.q += HEAD;
        place.scale++;
    }
}

#endif
