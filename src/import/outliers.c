/* outliers.c -- the channels of a projection's input that are too large.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/outliers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { EXPONENT_MAX = 8 }; /* a channel is divided by 2^8 at most */

enum status outliers_open(struct outliers *outliers, size_t widest)
{
    *outliers = (struct outliers){
        .amax = malloc(widest * sizeof *outliers->amax),
        .sorted = malloc(widest * sizeof *outliers->sorted),
        .exponent = malloc(widest),
    };
    if (!outliers->amax || !outliers->sorted || !outliers->exponent)
        return fail_memory("the inputs of projections");
    return OK;
}

void outliers_close(struct outliers *outliers)
{
    free(outliers->amax);
    free(outliers->sorted);
    free(outliers->exponent);
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

float outliers_divisor(const struct outliers *outliers, int channel)
{
    return ldexpf(1.0f, outliers->exponent[channel]);
}

/* Divides what is larger than the bound, by a power of two. */
static int set_exponents(struct outliers *o, float bound)
{
    int n_channels = 0;
    for (int i = 0; i < o->in->n; i++) {
        int exponent = 0;
        while (exponent < EXPONENT_MAX && ldexpf(o->amax[i], -exponent) > bound)
            exponent++;
        o->exponent[i] = (uint8_t)exponent;
        n_channels += exponent > 0;
    }
    return n_channels;
}

/* Of the rows of a matrix: the squares of all elements, and of the largest one
 * of each row, by which a rounding error grows. */
struct energy {
    double all, steps;
};

/* x: [n_rows][n], its column i times 2^(sign exponent[i]). */
static struct energy energy_of(const struct outliers *o, const float *x,
                               int n_rows, int sign)
{
    struct energy e = {0, 0};
    for (int r = 0; r < n_rows; r++) {
        double largest = 0;
        for (int i = 0; i < o->in->n; i++) {
            double v = fabs((double)ldexpf(*x++, sign * o->exponent[i]));
            largest = v > largest ? v : largest;
            e.all += v * v;
        }
        e.steps += largest * largest;
    }
    return e;
}

/* The energy of the rounding errors, each uniform over one step of its row:
 * those of the inputs, weighed by the weights, and the other way round. */
static double noise(const struct outliers *o)
{
    struct energy inputs = energy_of(o, o->in->x, o->in->n_rows, -1);
    struct energy weights = energy_of(o, o->w, o->rows, 1);
    return inputs.steps * weights.all + inputs.all * weights.steps;
}

static void find_largest(struct outliers *o)
{
    const struct projection_inputs *in = o->in;
    for (int i = 0; i < in->n; i++) {
        o->amax[i] = 0;
        for (int t = 0; t < in->n_rows; t++) {
            float v = fabsf(in->x[(size_t)t * (size_t)in->n + (size_t)i]);
            o->amax[i] = v > o->amax[i] ? v : o->amax[i];
        }
    }
    memcpy(o->sorted, o->amax, (size_t)in->n * sizeof *o->sorted);
    qsort(o->sorted, (size_t)in->n, sizeof *o->sorted, compare_floats);
}

int outliers_choose(struct outliers *outliers)
{
    static const float bounds[] = {2, 4, 8, 16, 32}; /* in medians */
    struct outliers *o = outliers;
    find_largest(o);
    float median = o->sorted[o->in->n / 2], best = INFINITY;
    set_exponents(o, best);
    double least = noise(o);
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        if (median == 0 || set_exponents(o, bounds[i] * median) == 0)
            break;
        double now = noise(o);
        if (now < 0.9 * least) {
            least = now;
            best = bounds[i] * median;
        }
    }
    return set_exponents(o, best);
}
