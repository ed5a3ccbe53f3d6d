/* model.c -- binds the tensors of a file to the places of a Mamba.
 *
 * read_config() learns the sizes from the shapes of the embedding and of
 * layer 0; then every tensor is taken by its name, which checks dtype and
 * shape against those sizes.  Projections stay where they are mapped; all
 * other floats are copied into one arena.  All floats are checked to be
 * finite.  At the end each
 * tensor of the file must have been taken.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model/model.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL /* so that its state may live on our stack */
#include <xxhash.h>

#include "base/exact.h"
#include "base/little_endian.h"
#include "model/quantise.h"

enum { ALIGNMENT = 64, NAME_CHARS = 128 };

#define LAYERS      "backbone.layers."
#define LAYERS_SIZE (sizeof LAYERS - 1)

/* A model while it is being made. */
struct binder {
    struct model *model;
    const struct safetensors *file;
    const struct tensor **taken; /* [n_taken], those that have a place      */
    size_t n_taken;
    char prefix[NAME_CHARS / 2]; /* of the names: "backbone.layers.3."      */
    char *free;                  /* what is left of the arena               */
};

static size_t round_up(size_t n)
{
    return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* ---- tensors by name --------------------------------------------------- */

/* What a tensor has to be.  F32 stands for any type of floats. */
static struct tensor vector_of(int n)
{
    return (struct tensor){
        .dtype = DTYPE_F32, .n_dims = 1, .shape = {(uint64_t)n}};
}

static struct tensor matrix_of(enum dtype dtype, int rows, int cols)
{
    return (struct tensor){
        .dtype = dtype, .n_dims = 2, .shape = {(uint64_t)rows, (uint64_t)cols}};
}

static struct tensor conv_of(int channels, int taps)
{
    return (struct tensor){.dtype = DTYPE_F32,
                           .n_dims = 3,
                           .shape = {(uint64_t)channels, 1, (uint64_t)taps}};
}

static const char *full_name(const struct binder *b, char full[NAME_CHARS],
                             const char *name)
{
    snprintf(full, NAME_CHARS, "%s%s", b->prefix, name);
    return full;
}

static enum status find(const struct binder *b, const struct tensor **tensor,
                        const char *name)
{
    char full[NAME_CHARS];
    *tensor = safetensors_find(b->file, full_name(b, full, name));
    if (!*tensor)
        return fail(E_MODEL, "tensor %s is missing", full);
    return OK;
}

static enum status wrong_shape(const struct tensor *is,
                               const struct tensor *expected)
{
    char is_text[160], expected_text[160];
    return fail(E_MODEL, "%s is %s, expected %s", is->name,
                tensor_describe(is, is_text),
                tensor_describe(expected, expected_text));
}

/* Finds a tensor, holds it to what is expected and notes that it is known. */
static enum status take(struct binder *b, const struct tensor **tensor,
                        const char *name, struct tensor expected)
{
    TRY(find(b, tensor, name));
    const struct tensor *t = *tensor;
    bool is_type = t->dtype == expected.dtype ||
                   (dtype_is_float(t->dtype) && expected.dtype == DTYPE_F32);
    if (!is_type || t->n_dims != expected.n_dims ||
        memcmp(t->shape, expected.shape, sizeof t->shape) != 0)
        return wrong_shape(t, &expected);
    b->taken[b->n_taken++] = t;
    return OK;
}

/* ---- the arena ---------------------------------------------------------- */

static bool is_projection(const char *name)
{
    static const char tail[] = "_proj.weight";
    size_t n = strlen(name), n_tail = sizeof tail - 1;
    return strcmp(name, "lm_head.weight") == 0 ||
           (n > n_tail && strcmp(name + n - n_tail, tail) == 0);
}

/* Room for every float of the file that is copied, and for a quantised
 * embedding: whatever sizes a header claims, no more than the file has. */
static enum status allocate_arena(struct binder *b)
{
    const struct model_config *c = &b->model->config;
    size_t n = ALIGNMENT; /* never empty */
    for (size_t i = 0; i < safetensors_count(b->file); i++) {
        const struct tensor *t = safetensors_at(b->file, i);
        if (dtype_is_float(t->dtype) && !is_projection(t->name))
            n += round_up((size_t)t->n_elements * sizeof(float));
    }
    if (c->is_tied && !c->is_float)
        n += round_up((size_t)N_BYTES_VOCAB * (size_t)c->d_model) +
             round_up(N_BYTES_VOCAB * sizeof(float));
    b->model->arena = aligned_alloc(ALIGNMENT, n);
    if (!b->model->arena)
        return fail_memory("the weights");
    b->free = b->model->arena;
    return OK;
}

static void *carve(struct binder *b, size_t n_bytes)
{
    void *room = b->free;
    b->free += round_up(n_bytes);
    return room;
}

/* Of an F16, the largest exponent says that it is not finite; of the others,
 * that of their value. */
static enum status check_finite(const struct tensor *tensor)
{
    uint32_t bound =
        tensor->dtype == DTYPE_F16 ? exact_bits(0x1p16f) : EXACT_INF_BITS;
    uint32_t largest = 0;
    size_t n = 0;
    for (size_t i = 0; i < tensor->n_elements; i += n) {
        float x[256];
        n = tensor->n_elements - i < 256 ? tensor->n_elements - i : 256;
        tensor_read_floats(x, tensor, i, n);
        for (size_t k = 0; k < n; k++) {
            uint32_t magnitude = exact_bits(x[k]) & EXACT_ABS_MASK;
            largest = magnitude > largest ? magnitude : largest;
        }
    }
    if (largest >= bound)
        return fail(E_MODEL, "%s holds a value that is not finite",
                    tensor->name);
    return OK;
}

/* Copies [rows][columns] as [columns][rows]; one column: as it is. */
static enum status copy_finite(float *to, const struct tensor *from,
                               size_t columns)
{
    TRY(check_finite(from));
    size_t rows = (size_t)from->n_elements / columns;
    if (columns == 1)
        tensor_read_floats(to, from, 0, rows);
    for (size_t c = 0; c < columns && columns > 1; c++) {
        for (size_t r = 0; r < rows; r++)
            tensor_read_floats(to++, from, r * columns + c, 1);
    }
    return OK;
}

static enum status take_copy(struct binder *b, float **floats, const char *name,
                             struct tensor expected, int columns)
{
    const struct tensor *tensor;
    TRY(take(b, &tensor, name, expected));
    *floats = carve(b, (size_t)tensor->n_elements * sizeof(float));
    return copy_finite(*floats, tensor, (size_t)columns);
}

static enum status take_floats(struct binder *b, const float **floats,
                               const char *name, struct tensor expected)
{
    float *copy;
    TRY(take_copy(b, &copy, name, expected, 1));
    *floats = copy;
    return OK;
}

static enum status take_vector(struct binder *b, const float **vector,
                               const char *name, int n)
{
    return take_floats(b, vector, name, vector_of(n));
}

/* ---- the places of a layer ---------------------------------------------- */

static enum status check_scales(const struct binder *b, const char *name,
                                const float *scale, int n)
{
    char full[NAME_CHARS];
    for (int i = 0; i < n; i++) {
        if (scale[i] < 0)
            return fail(E_MODEL, "%s holds a negative scale, in row %d",
                        full_name(b, full, name), i);
    }
    return OK;
}

/* -128 has no opposite, which the int8 products of some machines need. */
static enum status check_weights(const struct tensor *weight)
{
    const int8_t *q = weight->data;
    uint8_t found = 0;
    for (size_t i = 0; i < weight->n_elements; i++)
        found |= q[i] == -128;
    if (found)
        return fail(E_MODEL, "%s holds -128: int8 weights go from -127 to 127",
                    weight->name);
    return OK;
}

static enum status take_float_matrix(struct binder *b, struct matrix *matrix,
                                     const char *name)
{
    const struct tensor *weight;
    TRY(take(b, &weight, name,
             matrix_of(DTYPE_F32, matrix->rows, matrix->cols)));
    matrix->floats = weight->data;
    matrix->dtype = weight->dtype;
    return check_finite(weight);
}

static enum status take_matrix(struct binder *b, struct matrix *matrix,
                               const char *name, int rows, int cols)
{
    matrix->rows = rows;
    matrix->cols = cols;
    if (b->model->config.is_float)
        return take_float_matrix(b, matrix, name);

    const struct tensor *weight;
    TRY(take(b, &weight, name, matrix_of(DTYPE_I8, rows, cols)));
    TRY(check_weights(weight));
    matrix->q = weight->data;

    char scale_name[NAME_CHARS / 2];
    snprintf(scale_name, sizeof scale_name, "%s_scale", name);
    TRY(take_vector(b, &matrix->scale, scale_name, rows));
    return check_scales(b, scale_name, matrix->scale, rows);
}

static enum status take_norm(struct binder *b, const float **norm,
                             const float **bias, const char *name)
{
    const struct model_config *c = &b->model->config;
    char part[NAME_CHARS / 2];
    snprintf(part, sizeof part, "%s.weight", name);
    TRY(take_vector(b, norm, part, c->d_model));
    if (!c->has_norm_bias)
        return OK;
    snprintf(part, sizeof part, "%s.bias", name);
    return take_vector(b, bias, part, c->d_model);
}

/* [d_inner][1][d_conv] in the file. */
static enum status take_conv(struct binder *b, const float **conv)
{
    const struct model_config *c = &b->model->config;
    float *taps;
    TRY(take_copy(b, &taps, "mixer.conv1d.weight",
                  conv_of(c->d_inner, c->d_conv), c->d_conv));
    *conv = taps;
    return OK;
}

/* A_log is [d_inner][d_state] in the file. */
static enum status take_decay(struct binder *b, const float **a_log2e)
{
    const struct model_config *c = &b->model->config;
    float *a;
    TRY(take_copy(b, &a, "mixer.A_log",
                  matrix_of(DTYPE_F32, c->d_inner, c->d_state), c->d_state));
    for (int i = 0; i < c->d_state * c->d_inner; i++)
        a[i] = -exact_exp(a[i]) * EXACT_LOG2E;
    *a_log2e = a;
    return OK;
}

static enum status bind_layer(struct binder *b, struct layer *layer)
{
    const struct model_config *c = &b->model->config;
    int d_model = c->d_model, d_inner = c->d_inner, dt_rank = c->dt_rank;
    TRY(take_norm(b, &layer->norm, &layer->norm_bias, "norm"));
    TRY(take_matrix(b, &layer->in_proj, "mixer.in_proj.weight", 2 * d_inner,
                    d_model));
    TRY(take_conv(b, &layer->conv));
    TRY(take_vector(b, &layer->conv_bias, "mixer.conv1d.bias", d_inner));
    TRY(take_matrix(b, &layer->x_proj, "mixer.x_proj.weight",
                    dt_rank + 2 * c->d_state, d_inner));
    TRY(take_matrix(b, &layer->dt_proj, "mixer.dt_proj.weight", d_inner,
                    dt_rank));
    TRY(take_vector(b, &layer->dt_bias, "mixer.dt_proj.bias", d_inner));
    TRY(take_decay(b, &layer->a_log2e));
    TRY(take_vector(b, &layer->d, "mixer.D", d_inner));
    return take_matrix(b, &layer->out_proj, "mixer.out_proj.weight", d_model,
                       d_inner);
}

/* ---- the head ------------------------------------------------------------ */

/* Published checkpoints have two names for the embedding. */
static const struct tensor *find_embedding(const struct binder *b)
{
    const struct tensor *t =
        safetensors_find(b->file, "backbone.embedding.weight");
    return t ? t : safetensors_find(b->file, "backbone.embeddings.weight");
}

static void tie_head(struct binder *b)
{
    struct model *model = b->model;
    int d_model = model->config.d_model;
    model->lm_head = (struct matrix){.rows = N_BYTES_VOCAB, .cols = d_model};
    if (model->config.is_float) {
        const struct tensor *embedding = find_embedding(b);
        model->lm_head.floats = embedding->data;
        model->lm_head.dtype = embedding->dtype;
        return;
    }
    int8_t *q = carve(b, (size_t)N_BYTES_VOCAB * (size_t)d_model);
    float *scale = carve(b, N_BYTES_VOCAB * sizeof *scale);
    for (int i = 0; i < N_BYTES_VOCAB; i++) {
        size_t at = (size_t)i * (size_t)d_model;
        quantise_row(q + at, scale + i, model->embedding + at, d_model);
    }
    model->lm_head.q = q;
    model->lm_head.scale = scale;
}

/* ---- the shape ----------------------------------------------------------- */

static enum status check_embedding(const struct tensor *embedding)
{
    if (!embedding)
        return fail(E_MODEL, "tensor backbone.embedding.weight is missing");
    if (embedding->n_dims != 2) {
        char text[160];
        return fail(E_MODEL, "%s is %s, expected 2 dimensions", embedding->name,
                    tensor_describe(embedding, text));
    }
    if (embedding->shape[0] != N_BYTES_VOCAB)
        return fail(E_MODEL,
                    "not a byte model: embedding has %" PRIu64
                    " rows, expected %d",
                    embedding->shape[0], N_BYTES_VOCAB);
    return OK;
}

static enum status set_size(int *size, const char *what, uint64_t value,
                            int least, int most, int multiple)
{
    bool is_multiple = value % (uint64_t)multiple == 0;
    if (value < (uint64_t)least || value > (uint64_t)most || !is_multiple)
        return fail(E_MODEL,
                    "%s is %" PRIu64 ", expected %d to %d in steps of %d", what,
                    value, least, most, multiple);
    *size = (int)value;
    return OK;
}

/* The layer that a tensor of this name belongs to, counted from 1; or 0. */
static uint64_t layer_of(const char *name)
{
    if (strncmp(name, LAYERS, LAYERS_SIZE) != 0)
        return 0;
    uint64_t n = 0;
    for (const char *p = name + LAYERS_SIZE; *p >= '0' && *p <= '9'; p++)
        n = n * 10 + (uint64_t)(*p - '0');
    return n + 1;
}

static uint64_t count_layers(const struct safetensors *file)
{
    uint64_t n = 0;
    for (size_t i = 0; i < safetensors_count(file); i++) {
        uint64_t layer = layer_of(safetensors_at(file, i)->name);
        n = layer > n ? layer : n;
    }
    return n;
}

static enum status find_shape(const struct binder *b,
                              const struct tensor **tensor, const char *name,
                              int n_dims)
{
    TRY(find(b, tensor, name));
    if ((*tensor)->n_dims != n_dims) {
        char text[160];
        return fail(E_MODEL, "%s is %s, expected %d dimensions", name,
                    tensor_describe(*tensor, text), n_dims);
    }
    return OK;
}

static enum status read_sizes(const struct binder *b)
{
    struct model_config *c = &b->model->config;
    TRY(set_size(&c->d_model, "d_model", find_embedding(b)->shape[1], 4,
                 D_MODEL_MAX, 4));
    TRY(set_size(&c->n_layer, "n_layer", count_layers(b->file), 1, N_LAYER_MAX,
                 1));

    const struct tensor *a_log, *conv, *dt, *in;
    TRY(find_shape(b, &a_log, LAYERS "0.mixer.A_log", 2));
    TRY(find_shape(b, &conv, LAYERS "0.mixer.conv1d.weight", 3));
    TRY(find_shape(b, &dt, LAYERS "0.mixer.dt_proj.weight", 2));
    TRY(find_shape(b, &in, LAYERS "0.mixer.in_proj.weight", 2));
    c->is_float = dtype_is_float(in->dtype);
    TRY(set_size(&c->d_inner, "d_inner", a_log->shape[0], 4, D_INNER_MAX, 4));
    TRY(set_size(&c->d_state, "d_state", a_log->shape[1], 4, D_STATE_MAX, 4));
    TRY(set_size(&c->d_conv, "d_conv", conv->shape[2], 2, D_CONV_MAX, 1));
    TRY(set_size(&c->dt_rank, "dt_rank", dt->shape[1], 1, D_MODEL_MAX, 1));
    if ((c->d_state & (c->d_state - 1)) != 0)
        return fail(E_MODEL, "d_state is %d, expected a power of two",
                    c->d_state);
    return OK;
}

static enum status read_begin_byte(int *byte, const char *text)
{
    *byte = -1;
    if (!text)
        return OK;
    int value = 0;
    size_t n = strspn(text, "0123456789");
    if (n >= 1 && n <= 3 && text[n] == '\0')
        value = atoi(text);
    else
        value = N_BYTES_VOCAB;
    if (value >= N_BYTES_VOCAB)
        return fail(E_MODEL, "begin_byte of the metadata is not a number "
                             "from 0 to 255");
    *byte = value;
    return OK;
}

/* A number as JSON has it: the same in every locale. */
static enum status read_epsilon(float *epsilon, const char *text)
{
    *epsilon = 1e-5f;
    if (!text)
        return OK;
    json_t *number = json_loads(text, JSON_DECODE_ANY, NULL);
    float value = (float)json_number_value(number);
    json_decref(number);
    if (!(value > 0.0f) || !isfinite(value))
        return fail(E_MODEL, "norm_epsilon of the metadata is not a number "
                             "above 0");
    *epsilon = value;
    return OK;
}

static enum status read_config(struct binder *b)
{
    const struct safetensors *file = b->file;
    struct model_config *c = &b->model->config;
    const char *architecture = safetensors_metadata(file, "architecture");
    if (architecture && strcmp(architecture, "mamba1") != 0)
        return fail(E_MODEL, "architecture of the metadata is not mamba1");

    TRY(check_embedding(find_embedding(b)));
    TRY(read_sizes(b));
    c->has_norm_bias = safetensors_find(file, "backbone.norm_f.bias");
    c->is_tied = !safetensors_find(file, "lm_head.weight");
    TRY(read_begin_byte(&c->begin_byte,
                        safetensors_metadata(file, "begin_byte")));
    return read_epsilon(&c->norm_epsilon,
                        safetensors_metadata(file, "norm_epsilon"));
}

/* ---- the whole ----------------------------------------------------------- */

static enum status bind_layers(struct binder *b)
{
    struct model *model = b->model;
    for (int l = 0; l < model->config.n_layer; l++) {
        snprintf(b->prefix, sizeof b->prefix, LAYERS "%d.", l);
        TRY(bind_layer(b, &model->layers[l]));
    }
    b->prefix[0] = '\0';
    return OK;
}

static enum status bind_tensors(struct binder *b)
{
    struct model *model = b->model;
    int d_model = model->config.d_model;
    TRY(take_floats(b, &model->embedding, find_embedding(b)->name,
                    matrix_of(DTYPE_F32, N_BYTES_VOCAB, d_model)));
    TRY(bind_layers(b));
    TRY(take_norm(b, &model->norm_f, &model->norm_f_bias, "backbone.norm_f"));
    if (model->config.is_tied)
        tie_head(b);
    else
        TRY(take_matrix(b, &model->lm_head, "lm_head.weight", N_BYTES_VOCAB,
                        d_model));
    return OK;
}

/* No tensor is taken twice, so the first that differs has no place. */
static enum status check_all_taken(const struct binder *b)
{
    for (size_t i = 0; i < safetensors_count(b->file); i++) {
        const struct tensor *t = safetensors_at(b->file, i);
        size_t j = 0;
        while (j < b->n_taken && b->taken[j] != t)
            j++;
        if (j == b->n_taken)
            return fail(E_MODEL, "unknown tensor %s", t->name);
    }
    return OK;
}

static uint64_t count_parameters(const struct binder *b)
{
    uint64_t n = 0;
    for (size_t i = 0; i < b->n_taken; i++) {
        const char *end = strrchr(b->taken[i]->name, '_');
        if (!end || strcmp(end, "_scale") != 0)
            n += b->taken[i]->n_elements;
    }
    return n;
}

static enum status bind(struct binder *b)
{
    TRY(read_config(b));
    struct model *model = b->model;
    b->taken = calloc(safetensors_count(b->file), sizeof *b->taken);
    model->layers =
        calloc((size_t)model->config.n_layer, sizeof *model->layers);
    if (!b->taken || !model->layers)
        return fail_memory("the layers");
    TRY(allocate_arena(b));
    TRY(bind_tensors(b));
    if (b->n_taken != safetensors_count(b->file))
        return check_all_taken(b);
    model->n_parameters = count_parameters(b);
    return OK;
}

/* Takes the file over, also when it fails. */
static enum status model_make(struct model **result, struct safetensors *file)
{
    struct model *model = calloc(1, sizeof *model);
    if (!model) {
        safetensors_close(file);
        return fail_memory("the model");
    }
    model->file = file;
    struct binder b = {.model = model, .file = file};
    enum status status = bind(&b);
    free(b.taken);
    if (status != OK) {
        status_prefix(status, safetensors_path(file));
        model_close(model);
        return status;
    }
    *result = model;
    return OK;
}

enum status model_open(struct model **model, const char *path)
{
    struct safetensors *file;
    *model = NULL;
    TRY(safetensors_open(&file, path));
    return model_make(model, file);
}

enum status model_open_memory(struct model **model, const char *name,
                              const void *bytes, size_t n)
{
    struct safetensors *file;
    *model = NULL;
    TRY(safetensors_open_memory(&file, name, bytes, n));
    return model_make(model, file);
}

enum status model_open_content(struct model **model, const char *name,
                               const struct safetensors_content *content)
{
    struct safetensors *file;
    *model = NULL;
    TRY(safetensors_open_content(&file, name, content));
    return model_make(model, file);
}

void model_close(struct model *model)
{
    if (!model)
        return;
    safetensors_close(model->file);
    free(model->layers);
    free(model->arena);
    free(model);
}

enum status model_needs_int8(const struct model *model, const char *what)
{
    const char *path = safetensors_path(model->file);
    if (!model->config.is_float)
        return OK;
    return fail(E_MODEL,
                "%s has float weights, and %s needs int8: 'mambyte-import "
                "--quantize=int8 -o NEW %s' makes such a model of it",
                path, what, path);
}

size_t model_state_floats(const struct model_config *c)
{
    size_t a_channel = (size_t)(c->d_conv - 1 + c->d_state);
    return (size_t)c->n_layer * a_channel * (size_t)c->d_inner + N_BYTES_VOCAB;
}

/* ---- the fingerprint ----------------------------------------------------- */

static void hash_number(XXH3_state_t *hash, uint32_t number)
{
    uint8_t bytes[4];
    store_le(bytes, number, sizeof bytes);
    XXH3_128bits_update(hash, bytes, sizeof bytes);
}

static void hash_config(XXH3_state_t *hash, const struct model_config *c)
{
    hash_number(hash, EXACT_VERSION);
    hash_number(hash, (uint32_t)c->d_model);
    hash_number(hash, (uint32_t)c->n_layer);
    hash_number(hash, (uint32_t)c->d_inner);
    hash_number(hash, (uint32_t)c->d_state);
    hash_number(hash, (uint32_t)c->d_conv);
    hash_number(hash, (uint32_t)c->dt_rank);
    hash_number(hash, c->has_norm_bias);
    hash_number(hash, (uint32_t)c->begin_byte);
    hash_number(hash, exact_bits(c->norm_epsilon));
}

static void hash_floats(XXH3_state_t *hash, const float *x, int rows, int cols)
{
    uint8_t bytes[1024];
    size_t n = (size_t)rows * (size_t)cols, n_bytes = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = exact_bits(x[i]);
        for (int shift = 0; shift < 32; shift += 8)
            bytes[n_bytes++] = (uint8_t)(bits >> shift);
        if (n_bytes == sizeof bytes || i + 1 == n) {
            XXH3_128bits_update(hash, bytes, n_bytes);
            n_bytes = 0;
        }
    }
}

static void hash_matrix(XXH3_state_t *hash, const struct matrix *m)
{
    size_t n = (size_t)m->rows * (size_t)m->cols;
    if (!m->q) {
        hash_number(hash, m->dtype);
        XXH3_128bits_update(hash, m->floats, n * dtype_size(m->dtype));
        return;
    }
    XXH3_128bits_update(hash, m->q, n);
    hash_floats(hash, m->scale, m->rows, 1);
}

static void hash_norm(XXH3_state_t *hash, const float *norm, const float *bias,
                      int d_model)
{
    hash_floats(hash, norm, 1, d_model);
    if (bias)
        hash_floats(hash, bias, 1, d_model);
}

static void hash_layer(XXH3_state_t *hash, const struct layer *layer,
                       const struct model_config *c)
{
    hash_norm(hash, layer->norm, layer->norm_bias, c->d_model);
    hash_matrix(hash, &layer->in_proj);
    hash_floats(hash, layer->conv, c->d_conv, c->d_inner);
    hash_floats(hash, layer->conv_bias, 1, c->d_inner);
    hash_matrix(hash, &layer->x_proj);
    hash_matrix(hash, &layer->dt_proj);
    hash_floats(hash, layer->dt_bias, 1, c->d_inner);
    hash_floats(hash, layer->a_log2e, c->d_state, c->d_inner);
    hash_floats(hash, layer->d, 1, c->d_inner);
    hash_matrix(hash, &layer->out_proj);
}

/* What is hashed is what predicts: whether the head is tied is not part of
 * it, nor are names, the order of the file and its other metadata. */
void model_fingerprint(const struct model *model,
                       struct fingerprint *fingerprint)
{
    const struct model_config *c = &model->config;
    XXH3_state_t hash;
    XXH3_INITSTATE(&hash);
    XXH3_128bits_reset(&hash);
    hash_config(&hash, c);
    hash_floats(&hash, model->embedding, N_BYTES_VOCAB, c->d_model);
    for (int l = 0; l < c->n_layer; l++)
        hash_layer(&hash, &model->layers[l], c);
    hash_norm(&hash, model->norm_f, model->norm_f_bias, c->d_model);
    hash_matrix(&hash, &model->lm_head);

    XXH128_canonical_t digest;
    XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(&hash));
    memcpy(fingerprint->bytes, digest.digest, sizeof fingerprint->bytes);
}
