/* decode_mixer.cuh -- what a block does for its channels between the products
 * of a layer: convolution, x_proj's results, dt_proj, scan, gate.
 *
 * A thread has a channel, or a group of states of a channel.  What does not
 * need a product's result is done before it, by in_begin() and scan_begin().
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DECODE_MIXER_CUH
#define MAMBYTE_DECODE_MIXER_CUH

#include "cuda/decode/decode_product.cuh"
#include "cuda/decode/decode_state.cuh"
#include "cuda/decode/decode_vector.cuh"

/* ---- in_proj, convolution ----------------------------------------------- */

/* What a thread knows of its row of in_proj before the product.  One half of
 * the threads has the rows of u, the other those of z. */
struct in_share {
    int c;
    bool works, is_z;
    float scale;
    float sum; /* of the convolution, without its newest input */
    float tap; /* the factor of that input */
};

/* Reads the floats, and shifts the past of the convolution, which then lacks
 * its newest input.  Starts to load the past of the next layer. */
template <class S>
static __device__ __forceinline__ struct in_share
in_begin(const struct decode_block *block, weight_place floats, float *image,
         int layer)
{
    const struct decode_plan *p = block->plan;
    const int n = p->n_channels, taps = S::d_conv(block);
    struct in_share f;
    f.is_z = block->thread >= N_THREADS / 2;
    f.c = block->thread % (N_THREADS / 2);
    f.works = f.c < block->n_channels;
    f.scale = f.sum = f.tap = 0.0f;
    if (!f.works)
        return f;
    f.scale = share_float(block, floats, f.is_z ? n + f.c : f.c);
    if (f.is_z)
        return f;
    const bool stays = state_stays(block);
    if (!stays)
        copy_wait_all();
    float *past = state_past(block, layer) + f.c;
    float *shifted = stays ? past : image_past(block, image, layer);
    const int stride = stays ? n : S::d_inner(block);
    f.sum = share_float(block, floats, (2 + taps) * n + f.c);
    for (int k = 0; k < taps - 1; k++) {
        const float x = past[k * n];
        f.sum = fmaf(share_float(block, floats, (2 + k) * n + f.c), x, f.sum);
        if (k > 0)
            shifted[(k - 1) * stride] = x;
    }
    f.tap = share_float(block, floats, (1 + taps) * n + f.c);
    if (!stays && layer + 1 < p->config.n_layer)
        fetch_past<S>(block, image, layer + 1);
    return f;
}

/* After the product: sends u to all blocks, and keeps silu(z). */
template <class S>
static __device__ __forceinline__ void
in_finish(const struct decode_block *block, const struct in_share *f,
          float *image, int layer, float scale, uint32_t epoch)
{
    const struct decode_plan *p = block->plan;
    if (!f->works)
        return;
    const float x = exact_dequantise(
        block->sums[f->is_z ? p->n_channels + f->c : f->c], scale, f->scale);
    const float y = exact_silu(f->is_z ? x : fmaf(f->tap, x, f->sum));
    if (f->is_z) {
        block->gate[f->c] = y;
    } else {
        word_publish(p->u_words + block->c0 + f->c, y, epoch);
        block->u[f->c] = y;
        const int newest = S::d_conv(block) - 2;
        if (state_stays(block))
            state_past(block, layer)[newest * p->n_channels + f->c] = x;
        else
            image_past(block, image, layer)[newest * S::d_inner(block)] = x;
    }
}

/* ---- x_proj: dt, B, C --------------------------------------------------- */

/* Number j of the block's rows and receivers: sends that row to that block of
 * the cluster; without clusters, to the grid. */
template <class S>
static __device__ __forceinline__ void x_send(const struct decode_block *block,
                                              int j, float row_scale,
                                              float scale, uint32_t epoch)
{
    const struct decode_plan *p = block->plan;
    const int row = j >> p->cluster_bits;
    const int i = block->x0 + row, n = S::dt_rank(block);
    const int word = i < n ? i : i - n + round_up(n, 2);
    const float x = exact_dequantise(block->sums[row], scale, row_scale);
#ifdef HAS_CLUSTER
    if (p->cluster > 0) {
        cluster_word_publish(block->x_words + word, x, epoch,
                             j & (p->cluster - 1));
        return;
    }
#endif
    word_publish(p->x_words + word, x, epoch);
}

/* The scale of row j, as x_send() counts. */
static __device__ __forceinline__ float
x_row_scale(const struct decode_block *block, weight_place floats, int j)
{
    const int row = j >> block->plan->cluster_bits;
    return share_float(block, floats, min(row, block->plan->n_x_rows - 1));
}

/* Sends them all.  row_scale: that of the thread's first row. */
template <class S>
static __device__ __forceinline__ void
x_finish(const struct decode_block *block, weight_place floats, float row_scale,
         float scale, uint32_t epoch)
{
    const int n = block->n_x_rows << block->plan->cluster_bits;
#pragma unroll 1
    for (int j = block->thread; j < n; j += N_THREADS) {
        x_send<S>(block, j, row_scale, scale, epoch);
        row_scale = x_row_scale(block, floats, j + N_THREADS);
    }
}

static __device__ __forceinline__ float x_wait(const struct decode_block *block,
                                               int i, uint32_t epoch)
{
#ifdef HAS_CLUSTER
    if (block->plan->cluster > 0)
        return cluster_word_wait(block->x_words + i, epoch);
#endif
    return word_wait(block->plan->x_words + i, epoch);
}

static __device__ __forceinline__ ulonglong2
x_load_pair(const struct decode_block *block, int i)
{
#ifdef HAS_CLUSTER
    if (block->plan->cluster > 0)
        return cluster_load_relaxed_pair(block->x_words + i);
#endif
    return load_relaxed_pair(block->plan->x_words + i);
}

/* Waits for four neighbouring elements, from an even one on. */
static __device__ __forceinline__ void
x_wait_group(float x[EXACT_GROUP], const struct decode_block *block, int i,
             uint32_t epoch)
{
    ulonglong2 low, high;
    do {
        low = x_load_pair(block, i);
        high = x_load_pair(block, i + 2);
    } while (!word_is_of(low.x, epoch) || !word_is_of(low.y, epoch) ||
             !word_is_of(high.x, epoch) || !word_is_of(high.y, epoch));
    x[0] = word_value(low.x);
    x[1] = word_value(low.y);
    x[2] = word_value(high.x);
    x[3] = word_value(high.y);
}

/* Waits for dt and quantises it, each warp for itself; returns the scale. */
template <class S>
static __device__ __forceinline__ float
quantise_dt(const struct decode_block *block, int8_t *dt, uint32_t epoch)
{
    enum { AT_ONCE = 4 };
    const int n = S::dt_rank(block);
    float x[AT_ONCE];
    uint32_t amax = 0;
#pragma unroll 4
    for (int first = 0; first < n; first += WARP) {
        const int i = first + block->lane;
        if (first + WARP > n && i >= n)
            break;
        x[first / WARP % AT_ONCE] = x_wait(block, i, epoch);
        amax = max(amax, magnitude_bits(x[first / WARP % AT_ONCE]));
    }
    const struct exact_scale scale = scale_of(warp_max(amax));
#pragma unroll 4
    for (int first = 0; first < n; first += WARP) {
        const int i = first + block->lane;
        if (first + WARP > n && i >= n)
            break;
        if (n > AT_ONCE * WARP)
            x[first / WARP % AT_ONCE] = x_wait(block, i, epoch);
        const int8_t q =
            exact_quantise(x[first / WARP % AT_ONCE], scale.inverse);
        dt[i] = scale.scale == 0.0f ? 0 : q;
    }
    __syncwarp(); /* dt is written: every lane reads all of it */
    return scale.scale;
}

/* ---- dt_proj, scan ------------------------------------------------------ */

/* What a thread knows of place t of the scan: group g of the states of channel
 * c. */
struct scan_share {
    int t, c, g;
    bool works;
    float dt_scale, dt_bias, d, a[EXACT_GROUP];
    weight_place rows; /* of dt_proj */
};

/* Reads the floats. */
template <class S>
static __device__ __forceinline__ struct scan_share
scan_begin(const struct decode_block *block, weight_place floats, int t)
{
    const struct decode_plan *p = block->plan;
    const int n = p->n_channels, bits = S::state_bits(block);
    struct scan_share f;
    f.t = t;
    f.works = t < block->n_channels << bits;
    f.c = f.works ? t >> bits : 0;
    f.g = t & ((1 << bits) - 1);
    f.dt_scale = share_float(block, floats, f.c);
    f.dt_bias = share_float(block, floats, n + f.c);
    f.d = share_float(block, floats, 2 * n + f.c);
#pragma unroll
    for (int k = 0; k < EXACT_GROUP; k++)
        f.a[k] =
            share_float(block, floats, (3 + f.g * EXACT_GROUP + k) * n + f.c);
    f.rows = weights_behind(&block->weights, floats, p->scan.float_bytes);
    return f;
}

/* delta of the thread's channel; all threads of the channel compute it. */
template <class S>
static __device__ __forceinline__ float
scan_delta(const struct decode_block *block, const struct scan_share *f,
           uint32_t epoch)
{
    const int stride = round_up(S::dt_rank(block), COPY_ALIGN);
    const int bits = S::state_bits(block);
    int8_t *dt = block->dt + block->scan_thread / WARP * stride;
    const float scale = quantise_dt<S>(block, dt, epoch);
    int32_t sum = 0;
#pragma unroll 2
    for (int first = 0; first < stride; first += COPY_ALIGN << bits) {
        const int i = first + f->g * COPY_ALIGN;
        if (first + (COPY_ALIGN << bits) > stride && i >= stride)
            break;
        sum = dot16(*(const int4 *)weights_at(&block->weights, f->rows,
                                              f->c * stride + i),
                    *(const int4 *)(dt + i), sum);
    }
    sum = lanes_sum(sum, 1 << bits);
    return exact_softplus(exact_dequantise(sum, scale, f->dt_scale) +
                          f->dt_bias);
}

/* Sends y to all blocks: a thread takes a group of states of a channel. Threads
 * without a group come along, as shuffles need whole warps.  Starts to load the
 * states of the next layer. */
template <class S>
static __device__ __forceinline__ void
scan(const struct decode_block *block, const struct scan_share *f, float *image,
     int layer, uint32_t epoch)
{
    const struct decode_plan *p = block->plan;
    const int bits = S::state_bits(block);
    const bool stays = state_stays(block);
    float *s = state_s<S>(block, layer) + f->t;
    const int first = round_up(S::dt_rank(block), 2) + f->g * EXACT_GROUP;
    float b[EXACT_GROUP], c[EXACT_GROUP], old_s[EXACT_GROUP];
    if (!stays)
        copy_wait_all();
    const float u = block->u[f->c], gate = block->gate[f->c];
#pragma unroll
    for (int k = 0; k < EXACT_GROUP; k++)
        old_s[k] = s[k * p->scan_threads];
    x_wait_group(b, block, first, epoch);
    x_wait_group(c, block, first + S::d_state(block), epoch);
    const float delta = scan_delta<S>(block, f, epoch);
    const float du = delta * u;
    float new_s[EXACT_GROUP];
    float y = 0.0f;
#pragma unroll
    for (int k = 0; k < EXACT_GROUP; k++) {
        /* s <- 2^(delta a) s + delta B u */
        new_s[k] = fmaf(exact_exp2_neg(delta * f->a[k]), old_s[k], du * b[k]);
        y = k == 0 ? c[k] * new_s[k] : fmaf(c[k], new_s[k], y);
    }
    y = fmaf(f->d, u, lanes_sum(y, 1 << bits));
    y = y * gate;
    if (!f->works)
        return;
    if (f->g == 0)
        word_publish(p->y_words + block->c0 + f->c, y, epoch);
    float *kept = stays ? s : image_s<S>(block, image, layer, f->t);
    const int stride = stays ? p->scan_threads : S::d_inner(block);
#pragma unroll
    for (int k = 0; k < EXACT_GROUP; k++)
        kept[k * stride] = new_s[k];
    if (!stays)
        fetch_states<S>(block, image,
                        layer + 1 < p->config.n_layer ? layer + 1 : 0, f->t);
}

#endif
