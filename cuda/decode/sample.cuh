/* sample.cuh -- odds and the choice of a byte, a thread a byte.
 *
 * The same integers as sampler.c.  All threads of the computing warps call a
 * function together; the first 256 work, and all meet at the barriers.  What
 * runs over bytes is a maximum, or a sum of integers: no result depends on the
 * order.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SAMPLE_CUH
#define MAMBYTE_SAMPLE_CUH

#include "base/random.h"
#include "cuda/common/ptx.cuh"
#include "cuda/common/reduce.cuh"
#include "cuda/decode/decode_plan.cuh"

enum { SAMPLE_WARPS = N_BYTES_VOCAB / WARP };

struct sample_scratch {
    uint32_t frequency[N_BYTES_VOCAB];
    uint64_t sums[SAMPLE_WARPS];
    uint32_t keys[SAMPLE_WARPS];
    uint32_t weights[SAMPLE_WARPS];
    uint32_t tops[SAMPLE_WARPS];
    uint32_t totals[SAMPLE_WARPS];
    uint32_t byte;
};

/* The barrier of the computing warps, without the fetching warp.  (Not
 * barrier_sync of ptx.cuh: with constants the compiler makes better code.)
 */
static __device__ __forceinline__ void compute_barrier(void)
{
    asm volatile("bar.sync 1, %0;" ::"n"((int)N_THREADS) : "memory");
}

/* An unsigned number that rises with x, which is not a NaN. */
static __device__ __forceinline__ uint32_t order_key(float x)
{
    uint32_t u = exact_bits(x);
    return u & 0x80000000u ? ~u : u | 0x80000000u;
}

/* The x of such a number. */
static __device__ __forceinline__ float order_value(uint32_t key)
{
    return exact_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

/* The largest logit. */
static __device__ float sample_largest(struct sample_scratch *s, float logit,
                                       int thread)
{
    if (thread < N_BYTES_VOCAB) {
        uint32_t key = warp_max(order_key(logit));
        if (thread % WARP == 0)
            s->keys[thread / WARP] = key;
    }
    compute_barrier(); /* keys are written */
    uint32_t key = 0;
    for (int i = 0; i < SAMPLE_WARPS; i++)
        key = max(key, s->keys[i]);
    return order_value(key);
}

/* What sample_weigh() finds. */
struct sample_weights {
    float largest;   /* logit */
    uint32_t weight; /* of this thread's byte */
    uint32_t top;    /* the first byte of the largest weight */
    uint64_t sum;    /* of all weights */
};

static __device__ struct sample_weights sample_weigh(struct sample_scratch *s,
                                                     const float *logits,
                                                     float inverse_temperature,
                                                     int thread)
{
    const int warp = thread / WARP;
    struct sample_weights w = {0.0f, 0, 0, 0};
    const float logit =
        thread < N_BYTES_VOCAB ? exact_logit(logits[thread]) : 0.0f;
    w.largest = sample_largest(s, logit, thread);
    if (thread < N_BYTES_VOCAB) {
        /* Weights are below 2^30: halves of them add up in 32 bits. */
        w.weight = exact_odds_weight(logit - w.largest, inverse_temperature);
        uint64_t low = warp_sum(w.weight & 0xffffu);
        uint64_t high = warp_sum(w.weight >> 16);
        uint32_t top = warp_max(w.weight);
        uint32_t equal = __ballot_sync(WHOLE_WARP, w.weight == top);
        if (thread % WARP == 0) {
            s->sums[warp] = (high << 16) + low;
            s->weights[warp] = top;
            s->tops[warp] = thread + __ffs(equal) - 1;
        }
    }
    compute_barrier(); /* sums, weights and tops are written */
    int best = 0;
    for (int i = 0; i < SAMPLE_WARPS; i++) {
        w.sum += s->sums[i];
        best = s->weights[i] > s->weights[best] ? i : best;
    }
    w.top = s->tops[best];
    return w;
}

/* odds_cost(); every thread gets it. */
static __device__ float sample_cost(struct sample_scratch *s,
                                    const float *logits, int byte, int thread)
{
    const struct sample_weights w = sample_weigh(s, logits, 1.0f, thread);
    return exact_cost(exact_logit(logits[byte]) - w.largest, w.sum);
}

/* odds_from_logits(), into s->frequency. */
static __device__ void sample_odds(struct sample_scratch *s,
                                   const float *logits,
                                   float inverse_temperature, int thread)
{
    const struct sample_weights w =
        sample_weigh(s, logits, inverse_temperature, thread);
    uint32_t f = 0;
    if (thread < N_BYTES_VOCAB) {
        f = exact_odds_frequency(w.weight, exact_odds_reciprocal(w.sum));
        uint32_t total = warp_sum(f);
        if (thread % WARP == 0)
            s->totals[thread / WARP] = total;
    }
    compute_barrier(); /* totals are written */
    uint32_t left = EXACT_TOTAL;
    for (int i = 0; i < SAMPLE_WARPS; i++)
        left -= s->totals[i];
    if (thread < N_BYTES_VOCAB)
        s->frequency[thread] = thread == (int)w.top ? f + left : f;
    compute_barrier(); /* frequencies are written, totals read */
}

/* The frequency of this thread's byte if top-k, top-p and min-p keep it. */
static __device__ uint32_t sample_truncated(const struct sample_scratch *s,
                                            const struct sampler *sampler,
                                            int thread)
{
    const uint32_t f = s->frequency[thread];
    uint32_t rank = 0, before = 0, largest = 0;
    for (int j = 0; j < N_BYTES_VOCAB; j++) {
        const uint32_t other = s->frequency[j];
        largest = max(largest, other);
        if (other > f || (other == f && j < thread)) {
            rank++;
            before += other;
        }
    }
    const bool is_kept =
        rank == 0 ||
        (rank < sampler->top_k && before < sampler->top_p &&
         (uint64_t)f << EXACT_TOTAL_BITS >= (uint64_t)sampler->min_p * largest);
    return is_kept ? f : 0;
}

/* Draws from the frequencies of the threads, in rising order of byte. */
static __device__ void sample_draw(struct sample_scratch *s, uint32_t f,
                                   uint64_t random, int thread)
{
    const bool works = thread < N_BYTES_VOCAB;
    const int warp = thread / WARP, lane = thread % WARP;
    uint32_t end = f;
    if (works) {
        for (int d = 1; d < WARP; d *= 2) {
            uint32_t lower = __shfl_up_sync(WHOLE_WARP, end, d);
            end += lane >= d ? lower : 0;
        }
        if (lane == WARP - 1)
            s->totals[warp] = end;
    }
    compute_barrier(); /* totals are written */
    uint32_t total = 0;
    for (int i = 0; i < SAMPLE_WARPS; i++) {
        end += i < warp ? s->totals[i] : 0;
        total += s->totals[i];
    }
    const uint32_t r = random_below(random, total);
    if (works && r < end && r >= end - f)
        s->byte = thread;
    compute_barrier(); /* the byte is written */
}

static __device__ void sample_most_likely(struct sample_scratch *s,
                                          const float *logits, int thread)
{
    const bool works = thread < N_BYTES_VOCAB;
    const float logit = works ? exact_logit(logits[thread]) : 0.0f;
    const float m = sample_largest(s, logit, thread);
    if (works) {
        uint32_t equal = __ballot_sync(WHOLE_WARP, logit == m);
        if (thread % WARP == 0)
            s->tops[thread / WARP] =
                equal ? thread + __ffs(equal) - 1 : N_BYTES_VOCAB;
    }
    compute_barrier(); /* tops are written */
    if (thread == 0) {
        uint32_t first = s->tops[0];
        for (int i = 1; i < SAMPLE_WARPS; i++)
            first = min(first, s->tops[i]);
        s->byte = first;
    }
    compute_barrier(); /* the byte is written */
}

/* sampler_choose(); every thread gets the byte. */
static __device__ uint32_t sample_choose(struct sample_scratch *s,
                                         const struct sampler *sampler,
                                         const float *logits, uint64_t index,
                                         int thread)
{
    if (sampler->inverse_temperature == 0.0f) {
        sample_most_likely(s, logits, thread);
        return s->byte;
    }
    sample_odds(s, logits, sampler->inverse_temperature, thread);
    uint32_t f = 0;
    if (thread < N_BYTES_VOCAB) {
        const bool truncates = sampler->top_k < N_BYTES_VOCAB ||
                               sampler->top_p < EXACT_TOTAL ||
                               sampler->min_p > 0;
        f = truncates ? sample_truncated(s, sampler, thread)
                      : s->frequency[thread];
    }
    sample_draw(s, f, random_at(sampler->seed, index), thread);
    return s->byte;
}

#endif
