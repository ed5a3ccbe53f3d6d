/* ends.c -- the two ends of a model: the embedding; the prediction and its
 * loss.
 *
 * SPDX-License-Identifier: MIT
 */
#include <string.h>

#include "base/exact.h"
#include "train/backward_pass.h"

/* The byte that a row reads (offset 0), or predicts (offset 1). */
static uint8_t byte_at(const struct backward *b, int row, int offset)
{
    size_t w = (size_t)(row / b->n_t), i = (size_t)(row % b->n_t);
    return b->windows->bytes[w * (size_t)(b->n_t + 1) + i + (size_t)offset];
}

/* ---- the embedding ------------------------------------------------------ */

void embed(struct backward *b, int thread)
{
    struct range t = rows_of(b, thread);
    size_t d = (size_t)config_of(b)->d_model;
    const float *embedding =
        b->weights + parameters_embedding(b->parameters)->offset;
    for (int row = t.begin; row < t.end; row++)
        memcpy(b->tapes[0].h + (size_t)row * d,
               embedding + byte_at(b, row, 0) * d, d * sizeof(float));
}

void embed_backward(struct backward *b, int thread)
{
    size_t d = (size_t)config_of(b)->d_model;
    struct range mine = share_of(b, (int)d, thread);
    float *gradient = b->gradient + parameters_embedding(b->parameters)->offset;
    for (int row = 0; row < b->n_rows; row++) {
        float *to = gradient + byte_at(b, row, 0) * d;
        const float *dh = b->dh + (size_t)row * d;
        for (int i = mine.begin; i < mine.end; i++)
            to[i] += dh[i];
    }
}

/* ---- the prediction ----------------------------------------------------- */

/* loss = log(sum of e^logit) - logit[byte];
 * its gradient, over n rows, is (softmax - [i = byte]) / n. */
static float cross_entropy(float logits[N_BYTES_VOCAB], uint8_t byte, float n)
{
    float largest = logits[0], chosen = logits[byte];
    for (int i = 1; i < N_BYTES_VOCAB; i++)
        largest = logits[i] > largest ? logits[i] : largest;
    float sum = 0.0f;
    for (int i = 0; i < N_BYTES_VOCAB; i++) {
        logits[i] = exact_exp(logits[i] - largest);
        sum += logits[i];
    }
    float factor = 1.0f / (sum * n);
    for (int i = 0; i < N_BYTES_VOCAB; i++)
        logits[i] *= factor;
    logits[byte] -= 1.0f / n;
    return exact_log2(sum) / EXACT_LOG2E - (chosen - largest);
}

void predict(struct backward *b, int thread)
{
    int n_layer = config_of(b)->n_layer;
    size_t d = (size_t)config_of(b)->d_model;
    struct range t = rows_of(b, thread);
    struct activations x = {b->x, d}, dx = {b->dx, d};
    struct activations logits = {b->logits, N_BYTES_VOCAB};
    norm_forward(b, thread, n_layer);
    linear_forward(b, thread, logits, &b->lm_head, x, false);
    for (int row = t.begin; row < t.end; row++)
        b->loss[row] = cross_entropy(b->logits + (size_t)row * N_BYTES_VOCAB,
                                     byte_at(b, row, 1), (float)b->n_rows);
    memset(b->dh + (size_t)t.begin * d, 0,
           (size_t)(t.end - t.begin) * d * sizeof(float));
    linear_backward(b, thread, &b->lm_head, dx, logits, x, false);
    norm_backward(b, thread, n_layer);
}
