/* cpu_vector_cost.h -- what a byte costs under a prediction.
 *
 * odds_cost() in vectors: the weights are integers, and their sum is the same
 * in any order.  A weight is at most 2^29; its halves of 16 bits are summed
 * apart, so that no lane overflows.
 *
 * Included by cpu_vector.h only.
 *
 * SPDX-License-Identifier: MIT
 */

/* exact_logit() */
static inline vfloat v_logit(vfloat x)
{
    return v_keep(x, v_set1(FLT_MAX), (vfloat)v_magnitude(x));
}

static float largest_logit(const float *logits)
{
    float lanes[V_LANES];
    vfloat m = v_logit(v_load(logits));
    for (int i = V_LANES; i < N_BYTES_VOCAB; i += V_LANES)
        m = v_max(v_logit(v_load(logits + i)), m);
    v_store(lanes, m);
    for (int i = 1; i < V_LANES; i++)
        lanes[0] = exact_max(lanes[i], lanes[0]);
    return lanes[0];
}

static float cost(const float *logits, uint8_t byte)
{
    float m = largest_logit(logits);
    vint low = {0}, high = {0};
    for (int i = 0; i < N_BYTES_VOCAB; i += V_LANES) {
        vfloat e = v_exp(v_logit(v_load(logits + i)) - v_set1(m));
        vfloat scaled = e * v_set1(536870912.0f) + v_set1(0.5f);
        vint weight = __builtin_convertvector(scaled, vint);
        low += weight & 0xffff;
        high += weight >> 16;
    }
    uint64_t sum = ((uint64_t)v_sum_of(high) << 16) + (uint64_t)v_sum_of(low);
    return exact_cost(exact_logit(logits[byte]) - m, sum);
}
