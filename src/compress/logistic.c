/* logistic.c -- the tables of log-odds.
 *
 * SPDX-License-Identifier: MIT
 */
#include "compress/logistic.h"

#include <stdbool.h>

#include "base/exact.h"

static bool is_made;
int32_t logistic_logs[1 << LOG_BITS];
uint32_t logistic_rare[SQUASH_ENTRIES];

static uint32_t rounded(float x)
{
    return (uint32_t)(x + 0.5f);
}

void logistic_init(void)
{
    if (is_made)
        return;
    for (int i = 0; i < 1 << LOG_BITS; i++) {
        float x = 1.0f + (float)i / (1 << LOG_BITS);
        logistic_logs[i] = (int32_t)rounded(exact_log2(x) * STRETCH_ONE);
    }
    for (int i = 0; i < SQUASH_ENTRIES; i++) {
        float odds = exact_exp2_neg(-(float)(i * SQUASH_STEP) / STRETCH_ONE);
        logistic_rare[i] = rounded(odds / (1.0f + odds) * PROBABILITY_ONE);
    }
    is_made = true;
}
