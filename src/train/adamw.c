/* adamw.c -- the optimiser of everything that Muon does not take.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train/adamw.h"

#include <math.h>

#define BETA_1  0.9
#define BETA_2  0.95
#define EPSILON 1e-8f

/* base^n by repeated squaring: the same on every machine. */
static double power(double base, uint64_t n)
{
    double result = 1;
    for (; n > 0; n >>= 1) {
        if (n & 1)
            result *= base;
        base *= base;
    }
    return result;
}

struct adamw_factors adamw_factors_of(const struct update *update)
{
    return (struct adamw_factors){
        .rate = (float)update->learning_rate,
        .weight_decay = (float)update->weight_decay,
        .scale = (float)update->gradient_scale,
        .beta_1 = (float)BETA_1,
        .beta_2 = (float)BETA_2,
        .rest_1 = (float)(1 - BETA_1),
        .rest_2 = (float)(1 - BETA_2),
        .rate_1 = (float)update->learning_rate /
                  (float)(1 - power(BETA_1, update->n)),
        .unbias_2 = 1.0f / (float)(1 - power(BETA_2, update->n)),
        .epsilon = EPSILON,
    };
}

void adamw_update(const struct parameter *parameter, float *weights, float *m,
                  float *v, const float *gradient, const struct update *update)
{
    const struct adamw_factors s = adamw_factors_of(update);
    float keep = 1.0f - s.rate * (parameter->decays ? s.weight_decay : 0.0f);
    size_t end = parameter->offset + parameter->n;
    size_t first = parameter->offset + parameter_muon_floats(parameter);
    for (size_t i = first; i < end; i++) {
        float g = gradient[i] * s.scale;
        m[i] = s.beta_1 * m[i] + s.rest_1 * g;
        v[i] = s.beta_2 * v[i] + s.rest_2 * g * g;
        weights[i] = weights[i] * keep -
                     s.rate_1 * m[i] / (sqrtf(v[i] * s.unbias_2) + s.epsilon);
    }
}
