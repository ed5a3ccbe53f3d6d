/* bit_history.c -- the table of histories of a bit.
 *
 * SPDX-License-Identifier: MIT
 */
#include "compress/bit_history.h"

#include <stdbool.h>

enum { N_BOUNDS = 6, COUNT_MAX = 40 };

struct bit_history bit_histories[N_HISTORIES];

/* By the lower of the two counts: how large the other may be. */
static const int bounds[N_BOUNDS] = {COUNT_MAX, 20, 12, 6, 6, 6};

static bool is_history(int zeros, int ones)
{
    int low = zeros < ones ? zeros : ones, high = zeros < ones ? ones : zeros;
    return low < N_BOUNDS && high <= bounds[low];
}

/* What is left of a count after a bit of the other kind. */
static int fade(int count)
{
    return count < 6 ? count : count == 6 ? 5 : count == 7 ? 6 : 7;
}

/* The counts after a bit.  Where they are too large, the other count falls, so
 * long as it is above 1; then the count of the bit stays. */
static void add_bit(int counts[2], int bit)
{
    counts[bit]++;
    counts[!bit] = fade(counts[!bit]);
    while (!is_history(counts[0], counts[1]))
        counts[counts[!bit] > 1 ? !bit : bit]--;
}

void bit_history_init(void)
{
    static uint8_t numbers[COUNT_MAX + 1][COUNT_MAX + 1][2]; /* [last bit] */
    static bool is_made;
    int n = 0;
    if (is_made)
        return;
    for (int sum = 0; sum <= COUNT_MAX; sum++) {
        for (int i = 0; i <= 2 * sum + 1; i++) {
            int zeros = i / 2, ones = sum - zeros, last = i % 2;
            bool is_last = last ? ones > 0 : zeros > 0 || ones == 0;
            if (!is_last || !is_history(zeros, ones))
                continue;
            numbers[zeros][ones][last] = (uint8_t)n;
            bit_histories[n].zeros = (uint8_t)zeros;
            bit_histories[n].ones = (uint8_t)ones;
            n++;
        }
    }
    for (int i = 0; i < n; i++) {
        for (int bit = 0; bit < 2; bit++) {
            int counts[2] = {bit_histories[i].zeros, bit_histories[i].ones};
            add_bit(counts, bit);
            bit_histories[i].next[bit] = numbers[counts[0]][counts[1]][bit];
        }
    }
    is_made = true;
}
