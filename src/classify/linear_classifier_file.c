/* linear_classifier_file.c -- a linear classifier, to and from a file.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/linear_classifier_file.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/exact.h"
#include "base/little_endian.h"
#include "base/printable.h"
#include "base/signals.h"
#include "classify/examples.h"
#include "classify/gram_file.h"
#include "classify/gram_pack.h"
#include "engine/engine.h"
#include "engine/pooled.h"
#include "model/json_text.h"
#include "model/quantise.h"
#include "model/safetensors.h"
#include "model/safetensors_checksum.h"
#include "model/safetensors_write.h"

#define FORMAT       "mambyte-head"
#define HEAD_VERSION "4"

enum {
    FEATURE_TENSORS = 4,
    OTHER_TENSORS = 4,
    FEATURE_METADATA = 2,
    OTHER_METADATA = 5
};

/* ---- reading ------------------------------------------------------------ */

static enum status read_metadata(const struct safetensors *file,
                                 const char *key, const char **value)
{
    *value = safetensors_metadata(file, key);
    return *value ? OK
                  : fail(E_MODEL, "is not a head: its metadata have no \"%s\"",
                         key);
}

static enum status read_model(struct linear_classifier *c,
                              const struct safetensors *file)
{
    const char *hex, *name;
    TRY(read_metadata(file, "fingerprint", &hex));
    TRY(read_metadata(file, "model", &name));
    for (size_t i = 0; i < sizeof c->model.bytes; i++) {
        unsigned byte;
        if (strspn(hex, "0123456789abcdef") != FINGERPRINT_CHARS - 1 ||
            sscanf(hex + 2 * i, "%2x", &byte) != 1)
            return fail(E_MODEL, "the fingerprint is not %d hexadecimal digits",
                        (int)FINGERPRINT_CHARS - 1);
        c->model.bytes[i] = (uint8_t)byte;
    }
    printable_start(c->model_name, name, strlen(name));
    return OK;
}

bool is_linear_classifier(const struct safetensors *file)
{
    const char *format = safetensors_metadata(file, "format");
    return format && strcmp(format, FORMAT) == 0;
}

static enum status read_kind(struct linear_classifier *c,
                             const struct safetensors *file)
{
    const char *format, *temperature;
    const char *version = safetensors_metadata(file, "version");
    char *end;
    TRY(read_metadata(file, "format", &format));
    if (!is_linear_classifier(file))
        return fail(E_MODEL, "is not a head: its format is not " FORMAT);
    if (!version || strcmp(version, HEAD_VERSION) != 0)
        return fail(E_MODEL, "is a head of another version than " HEAD_VERSION
                             ": make it again with mambyte-train --head");
    TRY(read_metadata(file, "temperature", &temperature));
    c->temperature = strtod(temperature, &end);
    if (*end || !(c->temperature > 0 && c->temperature < 1e6))
        return fail(E_MODEL, "the temperature is not a number above 0");
    return OK;
}

static enum status take_labels(struct linear_classifier *c, const json_t *array)
{
    size_t n = json_array_size(array);
    if (n < 2 || n > LABELS_MAX)
        return fail(E_MODEL, "the labels are not an array of 2 to %d",
                    LABELS_MAX);
    c->labels = calloc(n, sizeof *c->labels);
    if (!c->labels)
        return fail_memory("the labels");
    for (size_t i = 0; i < n; i++) {
        const char *label = json_string_value(json_array_get(array, i));
        if (!label)
            return fail(E_MODEL, "a label is not a string");
        if (label_check(label) != OK)
            return E_MODEL;
        if (i > 0 && strcmp(c->labels[i - 1], label) >= 0)
            return fail(E_MODEL, "the labels are not sorted");
        c->labels[i] = strdup(label);
        if (!c->labels[i])
            return fail_memory("the labels");
        c->n_labels++;
    }
    return OK;
}

static enum status read_labels(struct linear_classifier *c,
                               const struct safetensors *file)
{
    const char *text;
    TRY(read_metadata(file, "labels", &text));
    json_t *array;
    TRY(json_text_parse(&array, text, strlen(text), 0, NULL));
    enum status status = take_labels(c, array);
    json_decref(array);
    return status;
}

/* The tensor of that name and shape; cols 0: of one dimension. */
static enum status find_tensor(const struct safetensors *file, const char *name,
                               enum dtype dtype, uint64_t rows, uint64_t cols,
                               const struct tensor **tensor)
{
    const struct tensor *t = safetensors_find(file, name);
    if (!t)
        return fail(E_MODEL, "there is no tensor %s", name);
    if (t->dtype != dtype || t->n_dims != (cols ? 2 : 1) ||
        t->shape[0] != rows || (cols && t->shape[1] != cols)) {
        char text[160];
        return fail(E_MODEL,
                    cols ? "%s is %s, expected %s [%" PRIu64 "][%" PRIu64 "]"
                         : "%s is %s, expected %s [%" PRIu64 "]",
                    name, tensor_describe(t, text), dtype_name(dtype), rows,
                    cols);
    }
    *tensor = t;
    return OK;
}

/* Finite floats into x: [n]. */
static enum status read_floats(const struct safetensors *file, const char *name,
                               int n, float *x)
{
    const struct tensor *t = NULL;
    TRY(find_tensor(file, name, DTYPE_F32, (uint64_t)n, 0, &t));
    const uint8_t *p = t->data;
    for (int i = 0; i < n; i++, p += 4) {
        uint32_t bits = (uint32_t)load_le(p, 4);
        if ((bits & EXACT_ABS_MASK) >= EXACT_INF_BITS)
            return fail(E_MODEL, "%s has a value that is not a finite number",
                        name);
        x[i] = exact_float(bits);
    }
    return OK;
}

/* w: [n][n_labels], from a tensor [n_labels][n] and the scales of its rows. */
static enum status read_matrix(const struct linear_classifier *c,
                               const struct safetensors *file,
                               const char *scale_name,
                               const struct tensor *weight, float *w)
{
    size_t n_labels = (size_t)c->n_labels, n = (size_t)weight->shape[1];
    float *scale = calloc(n_labels, sizeof *scale);
    if (!scale)
        return fail_memory("a head");
    enum status status = read_floats(file, scale_name, c->n_labels, scale);
    const int8_t *q = weight->data;
    for (size_t k = 0; status == OK && k < n_labels; k++) {
        for (size_t i = 0; i < n; i++)
            w[i * n_labels + k] = (float)q[k * n + i] * scale[k];
    }
    free(scale);
    return status;
}

/* The features, where the file has them. */
static enum status read_features(struct linear_classifier *c,
                                 const struct safetensors *file)
{
    const struct tensor *weight = safetensors_find(file, "weight");
    if (!weight)
        return linear_classifier_make_room(c);
    if (weight->n_dims != 2 || weight->shape[1] == 0 ||
        weight->shape[1] > POOLED_LAYERS * D_INNER_MAX)
        return fail(E_MODEL, "the tensor weight has a wrong shape");
    c->n_features = (int)weight->shape[1];
    TRY(find_tensor(file, "weight", DTYPE_I8, (uint64_t)c->n_labels,
                    weight->shape[1], &weight));
    TRY(linear_classifier_make_room(c));
    TRY(read_model(c, file));
    TRY(read_floats(file, "mean", c->n_features, c->mean));
    TRY(read_floats(file, "inverse", c->n_features, c->inverse));
    return read_matrix(c, file, "weight_scale", weight, c->w);
}

static enum status read_grams(struct linear_classifier *c,
                              const struct safetensors *file)
{
    const struct tensor *t = safetensors_find(file, "grams");
    if (!t)
        return fail(E_MODEL, "there is no tensor grams");
    TRY(find_tensor(file, "grams", DTYPE_U8, t->shape[0], 0, &t));
    TRY(grams_unpack(&c->grams, t->data, (size_t)t->shape[0], c->n_labels));
    TRY(read_floats(file, "gram_shift", c->n_labels, c->grams.shifts));
    return read_floats(file, "gram_ease", 1, &c->ease);
}

static enum status read_classifier(struct linear_classifier *c,
                                   const struct safetensors *file)
{
    TRY(read_kind(c, file));
    TRY(safetensors_check_checksum(file, true));
    TRY(read_labels(c, file));
    TRY(read_features(c, file));
    TRY(read_floats(file, "bias", c->n_labels,
                    c->w + (size_t)c->n_features * (size_t)c->n_labels));
    return read_grams(c, file);
}

/* Closes file; the classifier is the caller's, or all zero after a failure. */
static enum status load(struct linear_classifier *c, struct safetensors *file,
                        const char *name)
{
    *c = (struct linear_classifier){0};
    enum status status = read_classifier(c, file);
    safetensors_close(file);
    if (status != OK) {
        linear_classifier_free(c);
        return status_prefix(status, name);
    }
    return OK;
}

enum status linear_classifier_load(struct linear_classifier *c,
                                   const char *path)
{
    struct safetensors *file;
    *c = (struct linear_classifier){0};
    TRY(safetensors_open(&file, path));
    return load(c, file, path);
}

enum status linear_classifier_load_memory(struct linear_classifier *c,
                                          const char *name, const void *bytes,
                                          size_t n)
{
    struct safetensors *file;
    *c = (struct linear_classifier){0};
    TRY(safetensors_open_memory(&file, name, bytes, n));
    return load(c, file, name);
}

enum status linear_classifier_has_features(const char *path, bool *has)
{
    struct safetensors *file;
    struct linear_classifier unused = {0};
    signals_guard_mapping(path);
    TRY(safetensors_open(&file, path));
    enum status status = read_kind(&unused, file);
    *has = safetensors_find(file, "weight") != NULL;
    safetensors_close(file);
    return status == OK ? OK : status_prefix(status, path);
}

/* ---- writing ------------------------------------------------------------ */

static char *print_labels(const struct linear_classifier *c)
{
    json_t *array = json_array();
    bool is_whole = array != NULL;
    for (int i = 0; i < c->n_labels && is_whole; i++) {
        size_t n = strlen(c->labels[i]);
        is_whole = json_array_append_new(
                       array, json_stringn_nocheck(c->labels[i], n)) == 0;
    }
    char *text =
        is_whole ? json_text(array, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    json_decref(array);
    return text;
}

/* Weights in int8, as a file has them. */
struct quantised_weights {
    int8_t *q;    /* [n_labels][n] */
    float *scale; /* [n_labels] */
};

static enum status quantise(struct quantised_weights *m, const float *w,
                            int n_inputs, int n_labels)
{
    size_t n = (size_t)n_inputs, k = (size_t)n_labels;
    float *row = malloc((n + 1) * sizeof *row);
    m->q = malloc(n * k + 1);
    m->scale = malloc(k * sizeof *m->scale);
    bool is_done = row && m->q && m->scale;
    for (size_t j = 0; is_done && j < k; j++) {
        for (size_t i = 0; i < n; i++)
            row[i] = w[i * k + j];
        quantise_row(m->q + j * n, m->scale + j, row, n_inputs);
    }
    free(row);
    return is_done ? OK : fail_memory("a head");
}

static void free_quantised(struct quantised_weights *m)
{
    free(m->q);
    free(m->scale);
}

/* A tensor of one dimension, or of two where cols is not 0. */
static struct tensor describe(const char *name, enum dtype dtype,
                              const void *data, int rows, int cols)
{
    return (struct tensor){.name = name,
                           .dtype = dtype,
                           .n_dims = cols > 0 ? 2 : 1,
                           .shape = {(uint64_t)rows, (uint64_t)cols},
                           .data = data};
}

/* grams: a packed table, [n_grams]. */
static enum status write_tensors(const struct linear_classifier *c,
                                 const char *path, const char *labels,
                                 const struct quantised_weights *weights,
                                 const uint8_t *grams, size_t n_grams)
{
    char fingerprint[FINGERPRINT_CHARS], temperature[32],
        checksum[CHECKSUM_CHARS] = "";
    int n = c->n_features, k = c->n_labels;
    bool has_features = n > 0;
    fingerprint_text(fingerprint, &c->model);
    snprintf(temperature, sizeof temperature, "%.6g", c->temperature);
    const struct metadata metadata[OTHER_METADATA + FEATURE_METADATA] = {
        {"format", FORMAT},
        {"version", HEAD_VERSION},
        {"temperature", temperature},
        {"labels", labels},
        {SAFETENSORS_CHECKSUM, checksum},
        {"model", c->model_name},
        {"fingerprint", fingerprint},
    };
    const struct tensor tensors[OTHER_TENSORS + FEATURE_TENSORS] = {
        describe("bias", DTYPE_F32, c->w + (size_t)n * (size_t)k, k, 0),
        describe("gram_ease", DTYPE_F32, &c->ease, 1, 0),
        describe("gram_shift", DTYPE_F32, c->grams.shifts, k, 0),
        describe("grams", DTYPE_U8, grams, (int)n_grams, 0),
        describe("mean", DTYPE_F32, c->mean, n, 0),
        describe("inverse", DTYPE_F32, c->inverse, n, 0),
        describe("weight_scale", DTYPE_F32, weights->scale, k, 0),
        describe("weight", DTYPE_I8, weights->q, k, n),
    };
    const struct safetensors_content content = {
        metadata, OTHER_METADATA + (has_features ? FEATURE_METADATA : 0),
        tensors, OTHER_TENSORS + (has_features ? FEATURE_TENSORS : 0)};
    safetensors_checksum(checksum, &content);
    return safetensors_write(path, &content);
}

enum status linear_classifier_save(const struct linear_classifier *c,
                                   const char *path)
{
    struct quantised_weights weights = {0};
    uint8_t *grams = NULL;
    size_t n_grams = 0;
    char *labels = print_labels(c);
    enum status status = labels ? OK : fail_memory("a head");
    if (status == OK)
        status = grams_pack(&c->grams, &grams, &n_grams);
    if (status == OK)
        status = quantise(&weights, c->w, c->n_features, c->n_labels);
    if (status == OK)
        status = write_tensors(c, path, labels, &weights, grams, n_grams);
    free_quantised(&weights);
    free(grams);
    free(labels);
    return status;
}
