/* adamw.c -- the optimiser of everything that Muon does not take.
 *
 * SPDX-License-Identifier: MIT
 */
#include "adamw.h"

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

void adamw_update(const struct parameter *parameter, float *weights, float *m,
                  float *v, const float *gradient, const struct update *update)
{
    const float beta_1 = (float)BETA_1, beta_2 = (float)BETA_2;
    const float rest_1 = (float)(1 - BETA_1), rest_2 = (float)(1 - BETA_2);
    float rate = (float)update->learning_rate;
    float decay = parameter->decays ? (float)update->weight_decay : 0.0f;
    float keep = 1.0f - rate * decay;
    float scale = (float)update->gradient_scale;
    float step = rate / (float)(1 - power(BETA_1, update->n));
    float unbias = 1.0f / (float)(1 - power(BETA_2, update->n));
    size_t end = parameter->offset + parameter->n;
    for (size_t i = parameter->offset; i < end; i++) {
        float g = gradient[i] * scale;
        m[i] = beta_1 * m[i] + rest_1 * g;
        v[i] = beta_2 * v[i] + rest_2 * g * g;
        weights[i] =
            weights[i] * keep - step * m[i] / (sqrtf(v[i] * unbias) + EPSILON);
    }
}
