/* state_image.c -- whether an image is that of a state.
 *
 * SPDX-License-Identifier: MIT
 */
#include "engine/state_image.h"

static bool all_zero(const void *p, size_t n)
{
    const uint8_t *bytes = p;
    uint8_t any = 0;
    for (size_t i = 0; i < n; i++)
        any |= bytes[i];
    return any == 0;
}

/* Each with its place, the last of them. */
static bool are_in_range(const int8_t *int8s, size_t n)
{
    bool is_any_least = false;
    for (size_t i = 0; i < n; i++)
        is_any_least |= int8s[i] == INT8_MIN;
    return !is_any_least && int8s[n - 1] >= 0 && int8s[n - 1] < CHUNK;
}

/* w [n_heads][CHUNK] and e [n_heads] behind it. */
static bool are_weights_clear(const struct model_config *c, const float *w,
                              size_t place)
{
    size_t n_heads = (size_t)c->n_heads;
    bool is_clear =
        place > 0 || all_zero(w + n_heads * CHUNK, n_heads * sizeof *w);
    for (size_t h = 0; h < n_heads && is_clear; h++)
        is_clear = all_zero(w + h * CHUNK + place, (CHUNK - place) * sizeof *w);
    return is_clear;
}

/* x [CHUNK][d_inner] and b [CHUNK][n_groups][d_state] behind it. */
static bool are_int8s_clear(const struct model_config *c, const int8_t *x,
                            size_t place)
{
    size_t n_x = (size_t)c->d_inner;
    size_t n_b = (size_t)c->n_groups * (size_t)c->d_state, left = CHUNK - place;
    return all_zero(x + place * n_x, left * n_x) &&
           all_zero(x + CHUNK * n_x + place * n_b, left * n_b);
}

static bool is_clear(const struct model_config *c, float *image, size_t place)
{
    size_t s_floats = (size_t)c->d_inner * (size_t)c->d_state;
    size_t layer_int8s = (model_state_int8s(c) - 1) / (size_t)c->n_layer;
    for (int l = 0; l < c->n_layer; l++) {
        const float *w = state_s(c, image, l) + s_floats;
        const int8_t *x = state_int8s(c, image) + (size_t)l * layer_int8s;
        if (!are_weights_clear(c, w, place) || !are_int8s_clear(c, x, place))
            return false;
    }
    return true;
}

enum status state_image_check(const struct model_config *c, const float *image)
{
    float *floats = (float *)image; /* only to be read */
    size_t n = model_state_int8s(c);
    if (n == 0)
        return OK;
    const int8_t *int8s = state_int8s(c, floats);
    if (!are_in_range(int8s, n))
        return fail(E_FORMAT, "not a state of the model: one of its numbers is "
                              "out of range");
    if (!is_clear(c, floats, (size_t)int8s[n - 1]))
        return fail(E_FORMAT, "not a state of the model: it has numbers of "
                              "bytes that it has not read");
    return OK;
}
