/* scan_recurrence.cuh -- the part of the scan that runs in time.
 *
 * `split` threads share a channel, each with neighbouring states.  The lanes
 * that have the same part of the states have neighbouring channels, so that
 * shared memory is read without conflicts.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SCAN_RECURRENCE_CUH
#define MAMBYTE_SCAN_RECURRENCE_CUH

#include "cuda/common/exact_vector.cuh"
#include "cuda/prefill/scan_shape.cuh"

/* This thread's states of its channel. */
template <class T> struct states {
    float s[T::per_thread], a[T::per_thread];
};

/* What the recurrence reads of a byte. */
template <class T> struct operands {
    float2 delta; /* delta, delta u of the channel    */
    float4 b[T::groups], c[T::groups];
};

/* bc: B and C, for this thread's states. */
template <class T>
static __device__ __forceinline__ operands<T> load_operands(const float2 *delta,
                                                            const float *bc)
{
    operands<T> o;
    o.delta = *delta;
#pragma unroll
    for (int j = 0; j < T::groups; j++) {
        o.b[j] = ((const float4 *)bc)[j];
        o.c[j] = ((const float4 *)(bc + T::states))[j];
    }
    return o;
}

/* exact_exp2_neg; its clamp does nothing unless one is steep. */
template <int n, bool is_steep>
static __device__ __forceinline__ void decay_all(float *x)
{
    float t[n], f[n];
#pragma unroll
    for (int i = 0; i < n; i++) {
        if (is_steep)
            x[i] = exact_max(x[i], EXACT_EXP2_MIN);
        t[i] = x[i] + EXACT_ROUND;
    }
#pragma unroll
    for (int i = 0; i < n; i++)
        f[i] = x[i] - (t[i] - EXACT_ROUND);
    exp2_all<n>(x, t, f);
}

/* s = 2^(delta a) s + delta u B.  Returns the part of C s of these states. */
template <class T, bool is_steep>
static __device__ __forceinline__ float advance(states<T> &x,
                                                const operands<T> &o)
{
    float decay[T::per_thread], p[T::groups];
#pragma unroll
    for (int n = 0; n < T::per_thread; n++)
        decay[n] = o.delta.x * x.a[n];
    decay_all<T::per_thread, is_steep>(decay);
#pragma unroll
    for (int j = 0; j < T::groups; j++) {
        const float b[] = {o.b[j].x, o.b[j].y, o.b[j].z, o.b[j].w};
        const float c[] = {o.c[j].x, o.c[j].y, o.c[j].z, o.c[j].w};
#pragma unroll
        for (int i = 0; i < EXACT_GROUP; i++) {
            int n = j * EXACT_GROUP + i;
            x.s[n] = fmaf(decay[n], x.s[n], o.delta.y * b[i]);
            p[j] = i == 0 ? c[i] * x.s[n] : fmaf(c[i], x.s[n], p[j]);
        }
    }
#pragma unroll
    for (int n = T::groups / 2; n > 0; n /= 2) {
#pragma unroll
        for (int j = 0; j < n; j++)
            p[j] = p[2 * j] + p[2 * j + 1];
    }
    return p[0];
}

/* Where this thread's channel is in the block. */
template <class T> static __device__ __forceinline__ int own_channel(void)
{
    int lane = threadIdx.x % WARP;
    return threadIdx.x / WARP * T::lanes + lane % T::lanes;
}

/* The bytes of a tile, whose B and C are in bc.  The operands of a byte are
 * fetched while the one before is computed; those past the last byte are
 * fetched and never used. */
template <class T, bool is_steep>
static __device__ __forceinline__ void
scan_tile(scan_shared<T> &m, states<T> &x, const float *bc, int count)
{
    enum { ABREAST = 4 };
    int part = threadIdx.x % WARP / T::lanes, c = own_channel<T>();
    const float2 *delta = &m.delta[0][c];
    float *y = &m.y[part][c];
    bc += part * T::per_thread;
    operands<T> now = load_operands<T>(delta, bc);
    auto step = [&](int t) {
        operands<T> then = load_operands<T>(delta + (t + 1) * T::pitch,
                                            bc + (t + 1) * 2 * T::states);
        y[t * T::pitch] = advance<T, is_steep>(x, now);
        now = then;
    };
#pragma unroll 1
    for (; count >= ABREAST; count -= ABREAST) {
#pragma unroll
        for (int t = 0; t < ABREAST; t++)
            step(t);
        delta += ABREAST * T::pitch;
        bc += ABREAST * 2 * T::states;
        y += ABREAST * T::pitch;
    }
#pragma unroll 1
    for (; count > 0; count--) {
        step(0);
        delta += T::pitch;
        bc += 2 * T::states;
        y += T::pitch;
    }
}

/* One byte of each of `count` streams: row t goes on from the states of
 * m.image[t], of which this thread's are at `first`.  The states of ABREAST
 * rows are fetched at a time. */
template <class T>
static __device__ __forceinline__ void
scan_singles(scan_shared<T> &m, states<T> &x, const float *bc, size_t first,
             int d_inner, bool has_channel, int count)
{
    enum { ABREAST = 4 };
    int part = threadIdx.x % WARP / T::lanes, c = own_channel<T>();
    bc += part * T::per_thread;
#pragma unroll 1
    for (int t0 = 0; t0 < count; t0 += ABREAST) {
        float s[ABREAST][T::per_thread];
#pragma unroll
        for (int t = 0; t < ABREAST; t++) {
            bool is_there = has_channel && t0 + t < count;
            const float *from = m.image[is_there ? t0 + t : 0] + first;
#pragma unroll
            for (int n = 0; n < T::per_thread; n++)
                s[t][n] = is_there ? from[(size_t)n * d_inner] : 0.0f;
        }
#pragma unroll
        for (int t = 0; t < ABREAST; t++) {
            memcpy(x.s, s[t], sizeof x.s);
            m.y[part][(t0 + t) * T::pitch + c] = advance<T, true>(
                x, load_operands<T>(&m.delta[t0 + t][c],
                                    bc + (t0 + t) * 2 * T::states));
            float *to = m.image[min(t0 + t, count - 1)] + first;
#pragma unroll
            for (int n = 0; n < T::per_thread; n++) {
                if (has_channel && t0 + t < count)
                    to[(size_t)n * d_inner] = x.s[n];
            }
        }
    }
}

#endif
