/* odds.c -- a prediction as integers: the scalar definition, which
 * cuda/common/cost.cuh and cuda/decode/sample.cuh follow.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model/odds.h"

#include "base/exact.h"

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

uint8_t odds_most_likely(const float logits[256])
{
    float m = largest_logit(logits);
    int i = 0;
    while (exact_logit(logits[i]) != m)
        i++;
    return (uint8_t)i;
}
