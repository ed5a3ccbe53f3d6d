/* decode_layer.cuh -- what a block does for its channels between the products
 * of a layer: state, convolution, dt_proj, scan, gate.
 *
 * A thread has a channel, or a group of states of a channel.  What does not
 * depend on a product is done by the ..._begin() functions, before it.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_DECODE_LAYER_CUH
#define MAMBYTE_DECODE_LAYER_CUH

#include "cuda/decode/decode_block.cuh"

/* ---- the state ----------------------------------------------------------
 *
 * During a launch the state of a block's channels is in its shared memory,
 * where it fits; else it stays in the image, and the block has a place for
 * one layer, into which it loads ahead.  A thread reads and writes only what
 * belongs to its channel, or to its group of states, here and there.
 */

static __device__ __forceinline__ bool state_stays(const struct self *me)
{
    return me->plan->state_layers > 1 || me->plan->config.n_layer == 1;
}

/* The past of channel c is at k * n_channels + c, oldest first. */
static __device__ __forceinline__ float *state_past(const struct self *me,
                                                    int layer)
{
    return me->state + (state_stays(me) ? layer * me->plan->state_floats : 0);
}

/* State k of group t of all channels is at k * scan_threads + t. */
template <class S>
static __device__ __forceinline__ float *state_s(const struct self *me,
                                                 int layer)
{
    return state_past(me, layer) + (S::d_conv(me) - 1) * me->plan->n_channels;
}

/* Where in the image the past of the thread's channel, the group t of states
 * begins. */
static __device__ __forceinline__ float *image_past(const struct self *me,
                                                    float *image, int layer)
{
    return image + layer * me->plan->image.layer + me->c0 + me->thread;
}

template <class S>
static __device__ __forceinline__ float *image_s(const struct self *me,
                                                 float *image, int layer, int t)
{
    const int bits = S::state_bits(me);
    const int g = t & ((1 << bits) - 1);
    return image + layer * me->plan->image.layer + me->plan->image.s +
           g * EXACT_GROUP * S::d_inner(me) + me->c0 + (t >> bits);
}

/* Starts to load the past of the block's channels. */
template <class S>
static __device__ __forceinline__ void fetch_past(const struct self *me,
                                                  float *image, int layer)
{
    if (me->thread >= me->n_channels)
        return;
    for (int k = 0; k < S::d_conv(me) - 1; k++)
        copy_bytes<4>(state_past(me, layer) + k * me->plan->n_channels +
                          me->thread,
                      image_past(me, image, layer) + k * S::d_inner(me));
}

/* Starts to load the group t of states. */
template <class S>
static __device__ __forceinline__ void
fetch_states(const struct self *me, float *image, int layer, int t)
{
    if (t >= me->n_channels << S::state_bits(me))
        return;
#pragma unroll
    for (int k = 0; k < EXACT_GROUP; k++)
        copy_bytes<4>(state_s<S>(me, layer) + k * me->plan->scan_threads + t,
                      image_s<S>(me, image, layer, t) + k * S::d_inner(me));
}

/* Brings the state in before a launch's first byte, and out after its last,
 * where it stays between them. */
template <class S>
static __device__ void state_load(const struct self *me, float *image)
{
    const int n_layer = state_stays(me) ? me->plan->config.n_layer : 1;
#pragma unroll 1
    for (int l = 0; l < n_layer; l++) {
        if (state_stays(me))
            fetch_past<S>(me, image, l);
        for (int t = me->scan_thread; t < me->plan->scan_threads;
             t += N_THREADS)
            fetch_states<S>(me, image, l, t);
    }
    copy_wait_all();
}

template <class S>
static __device__ void state_store(const struct self *me, float *image)
{
    if (!state_stays(me))
        return;
    const struct decode_plan *p = me->plan;
    for (int l = 0; l < p->config.n_layer; l++) {
        if (me->thread < me->n_channels) {
            for (int k = 0; k < S::d_conv(me) - 1; k++)
                image_past(me, image, l)[k * S::d_inner(me)] =
                    state_past(me, l)[k * p->n_channels + me->thread];
        }
        for (int t = me->scan_thread; t < me->n_channels << S::state_bits(me);
             t += N_THREADS) {
            for (int k = 0; k < EXACT_GROUP; k++)
                image_s<S>(me, image, l, t)[k * S::d_inner(me)] =
                    state_s<S>(me, l)[k * p->scan_threads + t];
        }
    }
}

/* ---- in_proj, convolution ----------------------------------------------- */

/* What a thread knows of its row of in_proj before the product: one half of
 * the threads has the rows of u, the other those of z. */
struct in_share {
    int c;
    bool works, is_z;
    float scale;
    float sum; /* of the convolution without its last */
    float tap; /* the last */
};

/* Takes the floats, and shifts the past of the convolution but for its newest
 * input; then asks for the past of the next layer. */
template <class S>
static __device__ __forceinline__ struct in_share
in_begin(const struct self *me, weight_place floats, float *image, int layer)
{
    const struct decode_plan *p = me->plan;
    const int n = p->n_channels, taps = S::d_conv(me);
    struct in_share f;
    f.is_z = me->thread >= N_THREADS / 2;
    f.c = me->thread % (N_THREADS / 2);
    f.works = f.c < me->n_channels;
    f.scale = f.sum = f.tap = 0.0f;
    if (!f.works)
        return f;
    f.scale = share_float(me, floats, f.is_z ? n + f.c : f.c);
    if (f.is_z)
        return f;
    const bool stays = state_stays(me);
    if (!stays)
        copy_wait_all();
    float *past = state_past(me, layer) + f.c;
    float *shifted = stays ? past : image_past(me, image, layer);
    const int step = stays ? n : S::d_inner(me);
    f.sum = share_float(me, floats, (2 + taps) * n + f.c);
    for (int k = 0; k < taps - 1; k++) {
        const float x = past[k * n];
        f.sum = fmaf(share_float(me, floats, (2 + k) * n + f.c), x, f.sum);
        if (k > 0)
            shifted[(k - 1) * step] = x;
    }
    f.tap = share_float(me, floats, (1 + taps) * n + f.c);
    if (!stays && layer + 1 < p->config.n_layer)
        fetch_past<S>(me, image, layer + 1);
    return f;
}

/* After the product: u to all, silu(z) to the gates. */
template <class S>
static __device__ __forceinline__ void
in_finish(const struct self *me, const struct in_share *f, float *image,
          int layer, float scale, uint32_t epoch)
{
    const struct decode_plan *p = me->plan;
    if (!f->works)
        return;
    const float x = exact_dequantise(
        me->sums[f->is_z ? p->n_channels + f->c : f->c], scale, f->scale);
    const float y = exact_silu(f->is_z ? x : fmaf(f->tap, x, f->sum));
    if (f->is_z) {
        me->gate[f->c] = y;
    } else {
        word_publish(p->u_words + me->c0 + f->c, y, epoch);
        me->u[f->c] = y;
        const int newest = S::d_conv(me) - 2;
        if (state_stays(me))
            state_past(me, layer)[newest * p->n_channels + f->c] = x;
        else
            image_past(me, image, layer)[newest * S::d_inner(me)] = x;
    }
}

/* ---- x_proj: dt, B, C --------------------------------------------------- */

/* Hands row and receiver j of the block's to the others of the cluster (of
 * the grid). */
template <class S>
static __device__ __forceinline__ void x_send(const struct self *me, int j,
                                              float row_scale, float scale,
                                              uint32_t epoch)
{
    const struct decode_plan *p = me->plan;
    const int row = j >> p->cluster_bits;
    const int i = me->x0 + row, n = S::dt_rank(me);
    const int word = i < n ? i : i - n + round_up(n, 2);
    const float x = exact_dequantise(me->sums[row], scale, row_scale);
#ifdef HAS_CLUSTER
    if (p->cluster > 0) {
        cluster_word_publish(me->x_words + word, x, epoch,
                             j & (p->cluster - 1));
        return;
    }
#endif
    word_publish(p->x_words + word, x, epoch);
}

static __device__ __forceinline__ float x_row_scale(const struct self *me,
                                                    weight_place floats, int j)
{
    const int row = j >> me->plan->cluster_bits;
    return share_float(me, floats, min(row, me->plan->n_x_rows - 1));
}

/* The same for all; row_scale: that of the thread's first. */
template <class S>
static __device__ __forceinline__ void
x_finish(const struct self *me, weight_place floats, float row_scale,
         float scale, uint32_t epoch)
{
    const int n = me->n_x_rows << me->plan->cluster_bits;
#pragma unroll 1
    for (int j = me->thread; j < n; j += N_THREADS) {
        x_send<S>(me, j, row_scale, scale, epoch);
        row_scale = x_row_scale(me, floats, j + N_THREADS);
    }
}

static __device__ __forceinline__ float x_wait(const struct self *me, int i,
                                               uint32_t epoch)
{
#ifdef HAS_CLUSTER
    if (me->plan->cluster > 0)
        return cluster_word_wait(me->x_words + i, epoch);
#endif
    return word_wait(me->plan->x_words + i, epoch);
}

static __device__ __forceinline__ ulonglong2 x_load_pair(const struct self *me,
                                                         int i)
{
#ifdef HAS_CLUSTER
    if (me->plan->cluster > 0)
        return cluster_load_relaxed_pair(me->x_words + i);
#endif
    return load_relaxed_pair(me->plan->x_words + i);
}

/* Four neighbouring elements, from an even one on. */
static __device__ __forceinline__ void
x_wait_group(float x[EXACT_GROUP], const struct self *me, int i, uint32_t epoch)
{
    ulonglong2 low, high;
    do {
        low = x_load_pair(me, i);
        high = x_load_pair(me, i + 2);
    } while (!word_is_of(low.x, epoch) || !word_is_of(low.y, epoch) ||
             !word_is_of(high.x, epoch) || !word_is_of(high.y, epoch));
    x[0] = word_value(low.x);
    x[1] = word_value(low.y);
    x[2] = word_value(high.x);
    x[3] = word_value(high.y);
}

/* This warp's own quantised dt; returns the scale. */
template <class S>
static __device__ __forceinline__ float quantise_dt(const struct self *me,
                                                    int8_t *dt, uint32_t epoch)
{
    enum { AT_ONCE = 4 };
    const int n = S::dt_rank(me);
    float x[AT_ONCE];
    uint32_t amax = 0;
#pragma unroll 4
    for (int first = 0; first < n; first += WARP) {
        const int i = first + me->lane;
        if (first + WARP > n && i >= n)
            break;
        x[first / WARP % AT_ONCE] = x_wait(me, i, epoch);
        amax = max(amax, magnitude_bits(x[first / WARP % AT_ONCE]));
    }
    const struct exact_scale scale = scale_of(warp_max(amax));
#pragma unroll 4
    for (int first = 0; first < n; first += WARP) {
        const int i = first + me->lane;
        if (first + WARP > n && i >= n)
            break;
        if (n > AT_ONCE * WARP)
            x[first / WARP % AT_ONCE] = x_wait(me, i, epoch);
        const int8_t q =
            exact_quantise(x[first / WARP % AT_ONCE], scale.inverse);
        dt[i] = scale.scale == 0.0f ? 0 : q;
    }
    __syncwarp(); /* the warp reads all of dt */
    return scale.scale;
}

/* ---- dt_proj, scan ------------------------------------------------------ */

/* What a thread knows of place t of the scan: of its channel c, and its group
 * g of states. */
struct scan_share {
    int t, c, g;
    bool works;
    float dt_scale, dt_bias, d, a[EXACT_GROUP];
    weight_place rows; /* of dt_proj */
};

/* Takes the floats. */
template <class S>
static __device__ __forceinline__ struct scan_share
scan_begin(const struct self *me, weight_place floats, int t)
{
    const struct decode_plan *p = me->plan;
    const int n = p->n_channels, bits = S::state_bits(me);
    struct scan_share f;
    f.t = t;
    f.works = t < me->n_channels << bits;
    f.c = f.works ? t >> bits : 0;
    f.g = t & ((1 << bits) - 1);
    f.dt_scale = share_float(me, floats, f.c);
    f.dt_bias = share_float(me, floats, n + f.c);
    f.d = share_float(me, floats, 2 * n + f.c);
#pragma unroll
    for (int k = 0; k < EXACT_GROUP; k++)
        f.a[k] = share_float(me, floats, (3 + f.g * EXACT_GROUP + k) * n + f.c);
    f.rows = weights_behind(&me->weights, floats, p->scan.float_bytes);
    return f;
}

/* delta of the thread's channel, by all threads of the channel. */
template <class S>
static __device__ __forceinline__ float
scan_delta(const struct self *me, const struct scan_share *f, uint32_t epoch)
{
    const int stride = round_up(S::dt_rank(me), COPY_ALIGN);
    const int bits = S::state_bits(me);
    int8_t *dt = me->dt + me->scan_thread / WARP * stride;
    const float scale = quantise_dt<S>(me, dt, epoch);
    int32_t sum = 0;
#pragma unroll 2
    for (int first = 0; first < stride; first += COPY_ALIGN << bits) {
        const int i = first + f->g * COPY_ALIGN;
        if (first + (COPY_ALIGN << bits) > stride && i >= stride)
            break;
        sum = dot16(
            *(const int4 *)weights_at(&me->weights, f->rows, f->c * stride + i),
            *(const int4 *)(dt + i), sum);
    }
    sum = lanes_sum(sum, 1 << bits);
    return exact_softplus(exact_dequantise(sum, scale, f->dt_scale) +
                          f->dt_bias);
}

/* y to all: a thread for a group of states of a channel.  Threads without one
 * go along, as the shuffles need whole warps.  Asks for the states of the
 * next layer. */
template <class S>
static __device__ __forceinline__ void
scan(const struct self *me, const struct scan_share *f, float *image, int layer,
     uint32_t epoch)
{
    const struct decode_plan *p = me->plan;
    const int bits = S::state_bits(me);
    const bool stays = state_stays(me);
    float *s = state_s<S>(me, layer) + f->t;
    const int first = round_up(S::dt_rank(me), 2) + f->g * EXACT_GROUP;
    float b[EXACT_GROUP], c[EXACT_GROUP], old_s[EXACT_GROUP];
    if (!stays)
        copy_wait_all();
    const float u = me->u[f->c], gate = me->gate[f->c];
#pragma unroll
    for (int k = 0; k < EXACT_GROUP; k++)
        old_s[k] = s[k * p->scan_threads];
    x_wait_group(b, me, first, epoch);
    x_wait_group(c, me, first + S::d_state(me), epoch);
    const float delta = scan_delta<S>(me, f, epoch);
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
        word_publish(p->y_words + me->c0 + f->c, y, epoch);
    float *kept = stays ? s : image_s<S>(me, image, layer, f->t);
    const int step = stays ? p->scan_threads : S::d_inner(me);
#pragma unroll
    for (int k = 0; k < EXACT_GROUP; k++)
        kept[k * step] = new_s[k];
    if (!stays)
        fetch_states<S>(me, image,
                        layer + 1 < p->config.n_layer ? layer + 1 : 0, f->t);
}

#endif
