/* sampler.c -- chooses the next byte from a prediction, in integers.
 *
 * The scalar definition; cuda/decode/sample.cuh does the same with a thread for
 * each byte.
 *
 * SPDX-License-Identifier: MIT
 */
#include "engine/sampler.h"

#include <string.h>

#include "base/random.h"
#include "model/odds.h"

/* Below it the most likely byte is certain, unless logits are equal. */
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
        return odds_most_likely(logits);

    uint32_t frequency[256];
    odds_from_logits(frequency, logits, s->inverse_temperature);
    if (s->top_k < 256 || s->top_p < EXACT_TOTAL || s->min_p > 0)
        truncate_tail(s, frequency);

    uint32_t total = 0;
    for (int i = 0; i < 256; i++)
        total += frequency[i];
    uint32_t r = random_below(random_at(s->seed, index), total);
    int byte = 0;
    while (r >= frequency[byte])
        r -= frequency[byte++];
    return (uint8_t)byte;
}
