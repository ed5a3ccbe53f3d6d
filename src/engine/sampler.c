/* sampler.c -- chooses the next byte from a prediction, in integers.
 *
 * The scalar definition; cuda/sample.cuh does the same with a thread a byte.
 *
 * SPDX-License-Identifier: MIT
 */
#include "engine/sampler.h"

/* Below it the most likely byte is certain for all logits that differ. */
#define SMALLEST_TEMPERATURE 1e-6f

struct sampler sampler_make(float temperature, int top_k, float top_p,
                            float min_p, uint64_t seed)
{
    struct sampler s = {
        .inverse_temperature =
            temperature >= SMALLEST_TEMPERATURE ? 1.0f / temperature : 0.0f,
        .top_k = (uint32_t)top_k,
        .top_p = (uint32_t)(top_p * (float)EXACT_TOTAL),
        .min_p = (uint32_t)(min_p * (float)EXACT_TOTAL),
        .seed = seed,
    };
    return s;
}

static float largest_logit(const float logits[256])
{
    float m = exact_logit(logits[0]);
    for (int i = 1; i < 256; i++)
        m = exact_max(exact_logit(logits[i]), m);
    return m;
}

/* The weights of exact.h relative to the largest logit m; returns their sum. */
static uint64_t odds_weights(uint32_t weight[256], const float logits[256],
                             float m, float inverse_temperature)
{
    uint64_t sum = 0;
    for (int i = 0; i < 256; i++) {
        weight[i] =
            exact_odds_weight(exact_logit(logits[i]) - m, inverse_temperature);
        sum += weight[i];
    }
    return sum;
}

float odds_cost(const float logits[256], uint8_t byte)
{
    uint32_t weight[256];
    float m = largest_logit(logits);
    uint64_t sum = odds_weights(weight, logits, m, 1.0f);
    return exact_cost(exact_logit(logits[byte]) - m, sum);
}

void odds_from_logits(uint32_t frequency[256], const float logits[256],
                      float inverse_temperature)
{
    uint64_t sum = odds_weights(frequency, logits, largest_logit(logits),
                                inverse_temperature);
    uint64_t reciprocal = exact_odds_reciprocal(sum);
    uint32_t left = EXACT_TOTAL;
    int top = 0;
    for (int i = 0; i < 256; i++) {
        if (frequency[i] > frequency[top])
            top = i;
    }
    for (int i = 0; i < 256; i++) {
        frequency[i] = exact_odds_frequency(frequency[i], reciprocal);
        left -= frequency[i];
    }
    frequency[top] += left;
}

static uint8_t most_likely(const float logits[256])
{
    float m = largest_logit(logits);
    int i = 0;
    while (exact_logit(logits[i]) != m)
        i++;
    return (uint8_t)i;
}

/* Sets to 0 the frequencies that top-k, top-p and min-p exclude. */
static void truncate_tail(const struct sampler *s, uint32_t frequency[256])
{
    uint32_t kept[256];
    uint32_t largest = 0;
    for (int i = 0; i < 256; i++)
        largest = frequency[i] > largest ? frequency[i] : largest;
    for (int i = 0; i < 256; i++) {
        uint32_t rank = 0, before = 0;
        for (int j = 0; j < 256; j++) {
            if (frequency[j] > frequency[i] ||
                (frequency[j] == frequency[i] && j < i)) {
                rank++;
                before += frequency[j];
            }
        }
        int is_kept =
            rank == 0 || (rank < s->top_k && before < s->top_p &&
                          (uint64_t)frequency[i] << EXACT_TOTAL_BITS >=
                              (uint64_t)s->min_p * largest);
        kept[i] = is_kept ? frequency[i] : 0;
    }
    memcpy(frequency, kept, sizeof kept);
}

uint8_t sampler_choose(const struct sampler *s, const float logits[256],
                       uint64_t index)
{
    if (s->inverse_temperature == 0.0f)
        return most_likely(logits);

    uint32_t frequency[256];
    odds_from_logits(frequency, logits, s->inverse_temperature);
    if (s->top_k < 256 || s->top_p < EXACT_TOTAL || s->min_p > 0)
        truncate_tail(s, frequency);

    uint32_t total = 0;
    for (int i = 0; i < 256; i++)
        total += frequency[i];
    uint32_t r = sampler_below(sampler_random(s->seed, index), total);
    int byte = 0;
    while (r >= frequency[byte])
        r -= frequency[byte++];
    return (uint8_t)byte;
}
