/* linear_classifier.c -- labels from features and grams, by weights.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/linear_classifier.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "classify/regression.h"
#include "engine/engine.h"
#include "engine/pooled.h"
#include "model/safetensors.h"

enum status linear_classifier_make_room(struct linear_classifier *c)
{
    size_t n = (size_t)c->n_features, k = (size_t)c->n_labels;
    c->mean = calloc(n + 1, sizeof *c->mean);
    c->inverse = calloc(n + 1, sizeof *c->inverse);
    c->w = calloc((n + 1) * k, sizeof *c->w);
    return c->mean && c->inverse && c->w ? OK : fail_memory("a head");
}

void linear_classifier_free(struct linear_classifier *c)
{
    for (int i = 0; c->labels && i < c->n_labels; i++)
        free(c->labels[i]);
    free(c->labels);
    free(c->mean);
    free(c->inverse);
    free(c->w);
    grams_close(&c->grams);
    *c = (struct linear_classifier){0};
}

/* ---- its model ---------------------------------------------------------- */

/* The name of a file without its folder and ".safetensors". */
static void name_model(char name[PRINTABLE_CHARS], const struct model *model)
{
    const char *path = safetensors_path(model->file);
    const char *slash = strrchr(path, '/');
    snprintf(name, PRINTABLE_CHARS, "%s", slash ? slash + 1 : path);
    char *dot = strstr(name, ".safetensors");
    if (dot)
        *dot = '\0';
}

void linear_classifier_name_model(struct linear_classifier *c,
                                  const struct model *model)
{
    model_fingerprint(model, &c->model);
    name_model(c->model_name, model);
}

enum status linear_classifier_check_model(const struct linear_classifier *c,
                                          const char *path,
                                          const struct model *model)
{
    struct fingerprint own;
    if (c->n_features == 0)
        return OK;
    model_fingerprint(model, &own);
    if (memcmp(&own, &c->model, sizeof own) != 0) {
        char fingerprint[FINGERPRINT_CHARS];
        fingerprint_text(fingerprint, &c->model);
        return fail(E_MODEL,
                    "%s: a head for another model, '%s' of fingerprint %s (see "
                    "--info): give it with --model",
                    path, c->model_name, fingerprint);
    }
    if ((size_t)c->n_features != pooled_floats(&model->config))
        return fail(E_MODEL, "%s: has %d features, the model gives %zu", path,
                    c->n_features, pooled_floats(&model->config));
    return OK;
}

/* ---- its use ------------------------------------------------------------ */

void linear_classifier_standardise(const struct linear_classifier *c,
                                   float *features, size_t n)
{
    size_t n_features = (size_t)c->n_features;
    for (size_t i = 0; i < n * n_features; i++) {
        size_t j = i % n_features;
        features[i] = (features[i] - c->mean[j]) * c->inverse[j];
    }
}

void linear_classifier_compute(const struct linear_classifier *c, float *logits,
                               float *features, const float *evidence,
                               size_t begin, size_t end)
{
    size_t n_labels = (size_t)c->n_labels, n_features = (size_t)c->n_features;
    float *x = n_features > 0 ? features + begin * n_features : NULL;
    linear_classifier_standardise(c, x, end - begin);
    regression_logits(logits + begin * n_labels, x, c->w,
                      evidence + begin * n_labels, c->ease, end - begin,
                      c->n_features, c->n_labels);
}
