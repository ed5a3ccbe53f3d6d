/* tiny_model.c -- makes random models from a seed, of any shape.
 *
 * list_model() lists the tensors in the order of their data; from the list
 * come the header and then, each from its own generator, the contents.
 *
 * SPDX-License-Identifier: MIT
 */
#include "tiny_model.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/exact.h"
#include "base/little_endian.h"
#include "engine/engine.h"

enum { PER_LAYER = 16, OUTSIDE_LAYERS = 5, NAME_CHARS = 64, ALIGNMENT = 8 };

/* How the contents of a tensor are made from random numbers. */
enum contents {
    WEIGHTS, /* int8 from -127 to 127, all alike */
    FLOATS,  /* center + amplitude * [-1, 1), in F32, BF16 or F16 */
    DECAYS   /* log(1 + column), or log(1 + row % 16) of a vector */
};

struct item {
    char name[NAME_CHARS];
    enum contents contents;
    enum dtype dtype;
    int n_dims;
    int shape[3];
    float center, amplitude;
};

/* The tensors so far. */
struct list {
    struct item *items; /* [n] */
    size_t n;
    char prefix[NAME_CHARS / 2];
    enum dtype weights; /* of the projections */
};

/* ---- the list ---------------------------------------------------------- */

static struct item *add(struct list *list, const char *name,
                        enum contents contents, int rows, int cols)
{
    struct item *item = &list->items[list->n++];
    snprintf(item->name, sizeof item->name, "%s%s", list->prefix, name);
    item->contents = contents;
    item->dtype = contents == WEIGHTS ? DTYPE_I8 : DTYPE_F32;
    item->n_dims = cols > 0 ? 2 : 1;
    item->shape[0] = rows;
    item->shape[1] = cols > 0 ? cols : 1;
    item->shape[2] = 1;
    return item;
}

static struct item *add_floats(struct list *list, const char *name, int rows,
                               int cols, float center, float amplitude)
{
    struct item *item = add(list, name, FLOATS, rows, cols);
    item->center = center;
    item->amplitude = amplitude;
    return item;
}

/* A projection of inputs near 1 to outputs near gain: int8 uniform in
 * [-127, 127] has a deviation of 73, floats in [-1, 1) one of 0.58. */
static void add_matrix(struct list *list, const char *name, int rows, int cols,
                       float gain)
{
    char scale[NAME_CHARS / 2];
    if (list->weights != DTYPE_I8) {
        add_floats(list, name, rows, cols, 0.0f,
                   gain / (0.58f * sqrtf((float)cols)))
            ->dtype = list->weights;
        return;
    }
    float center = gain / (73.0f * sqrtf((float)cols));
    snprintf(scale, sizeof scale, "%s_scale", name);
    add(list, name, WEIGHTS, rows, cols);
    add_floats(list, scale, rows, 0, center, center * 0.5f);
}

static void add_norm(struct list *list, const struct tiny_spec *spec,
                     const char *name)
{
    char part[NAME_CHARS / 2];
    snprintf(part, sizeof part, "%s.weight", name);
    add_floats(list, part, spec->d_model, 0, 1.0f, 0.25f);
    if (spec->has_norm_bias) {
        snprintf(part, sizeof part, "%s.bias", name);
        add_floats(list, part, spec->d_model, 0, 0.0f, 0.25f);
    }
}

static void add_conv(struct list *list, int channels, int d_conv)
{
    struct item *conv =
        add_floats(list, "mixer.conv1d.weight", channels, 1, 0.25f, 0.75f);
    conv->n_dims = 3;
    conv->shape[2] = d_conv;
    add_floats(list, "mixer.conv1d.bias", channels, 0, 0.0f, 0.25f);
}

/* What D and out_proj are multiplied by. */
static float large_d(const struct tiny_spec *spec)
{
    return spec->overflow == FEATURES_OVERFLOW ? 3e38f : 1.0f;
}

static float large_out(const struct tiny_spec *spec)
{
    static const float factors[] = {1.0f, 3e38f, 1e-33f};
    return factors[spec->overflow];
}

static void add_mamba1(struct list *list, const struct tiny_spec *spec)
{
    int d_inner = spec->d_inner, d_state = spec->d_state;
    add_matrix(list, "mixer.in_proj.weight", 2 * d_inner, spec->d_model, 1.0f);
    add_conv(list, d_inner, spec->d_conv);
    add_matrix(list, "mixer.x_proj.weight", spec->dt_rank + 2 * d_state,
               d_inner, 1.0f);
    add_matrix(list, "mixer.dt_proj.weight", d_inner, spec->dt_rank, 0.5f);
    /* softplus of it, the step size, goes from 0.001 to 0.1 */
    add_floats(list, "mixer.dt_proj.bias", d_inner, 0, -4.6f, 2.3f);
    add(list, "mixer.A_log", DECAYS, d_inner, d_state);
    add_floats(list, "mixer.D", d_inner, 0, large_d(spec), 0.5f);
    add_matrix(list, "mixer.out_proj.weight", spec->d_model, d_inner,
               0.5f * large_out(spec));
}

static void add_mamba2(struct list *list, const struct tiny_spec *spec)
{
    int d_inner = spec->d_inner, n_heads = d_inner / spec->headdim;
    int channels = d_inner + 2 * spec->n_groups * spec->d_state;
    add_matrix(list, "mixer.in_proj.weight", d_inner + channels + n_heads,
               spec->d_model, 1.0f);
    add_conv(list, channels, spec->d_conv);
    add_floats(list, "mixer.dt_bias", n_heads, 0, -4.0f, 2.3f);
    add(list, "mixer.A_log", DECAYS, n_heads, 0);
    add_floats(list, "mixer.D", spec->has_channel_d ? d_inner : n_heads, 0,
               1.0f, 0.5f);
    add_floats(list, "mixer.norm.weight", d_inner, 0, 1.0f, 0.25f);
    add_matrix(list, "mixer.out_proj.weight", spec->d_model, d_inner,
               0.5f * large_out(spec));
}

static void add_layer(struct list *list, const struct tiny_spec *spec)
{
    add_norm(list, spec, "norm");
    if (spec->mixer == MIXER_MAMBA2)
        add_mamba2(list, spec);
    else
        add_mamba1(list, spec);
}

static enum status list_model(struct list *list, const struct tiny_spec *spec)
{
    size_t most = (size_t)spec->n_layer * PER_LAYER + OUTSIDE_LAYERS;
    *list = (struct list){.items = calloc(most, sizeof *list->items),
                          .weights = spec->weights};
    if (!list->items)
        return fail_memory("the list of a model");

    add_floats(list, "backbone.embedding.weight", N_BYTES_VOCAB, spec->d_model,
               0.0f, 1.75f);
    for (int l = 0; l < spec->n_layer; l++) {
        snprintf(list->prefix, sizeof list->prefix, "backbone.layers.%d.", l);
        add_layer(list, spec);
    }
    list->prefix[0] = '\0';
    add_norm(list, spec, "backbone.norm_f");
    if (!spec->is_tied)
        add_matrix(list, "lm_head.weight", N_BYTES_VOCAB, spec->d_model, 3.0f);
    return OK;
}

static size_t item_elements(const struct item *item)
{
    return (size_t)item->shape[0] * (size_t)item->shape[1] *
           (size_t)item->shape[2];
}

static size_t item_bytes(const struct item *item)
{
    return item_elements(item) * dtype_size(item->dtype);
}

/* ---- the header -------------------------------------------------------- */

static void print_item(FILE *out, const struct item *item, size_t begin)
{
    fprintf(out, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", item->name,
            dtype_name(item->dtype));
    for (int i = 0; i < item->n_dims; i++)
        fprintf(out, "%s%d", i > 0 ? "," : "", item->shape[i]);
    fprintf(out, "],\"data_offsets\":[%zu,%zu]}", begin,
            begin + item_bytes(item));
}

static void print_header(FILE *out, const struct list *list,
                         const struct tiny_spec *spec)
{
    bool is_mamba2 = spec->mixer == MIXER_MAMBA2;
    fprintf(out, "{\"__metadata__\":{\"architecture\":\"mamba%d\"",
            is_mamba2 ? 2 : 1);
    if (is_mamba2)
        fprintf(out, ",\"head_dim\":\"%d\",\"n_groups\":\"%d\"", spec->headdim,
                spec->n_groups);
    if (spec->begin_byte >= 0)
        fprintf(out, ",\"begin_byte\":\"%d\"", spec->begin_byte);
    fprintf(out, ",\"norm_epsilon\":\"1e-05\"}");
    size_t begin = 0;
    for (size_t i = 0; i < list->n; i++) {
        print_item(out, &list->items[i], begin);
        begin += item_bytes(&list->items[i]);
    }
    fputc('}', out);
    for (long at = ftell(out); at % ALIGNMENT != 0; at++)
        fputc(' ', out);
}

/* *header: the JSON, the caller's to free. */
static enum status make_header(char **header, size_t *n,
                               const struct list *list,
                               const struct tiny_spec *spec)
{
    FILE *out = open_memstream(header, n);
    if (!out)
        return fail_memory("a header");
    print_header(out, list, spec);
    return fclose(out) == 0 ? OK : fail_memory("a header");
}

/* ---- the contents ------------------------------------------------------ */

/* SplitMix64: a Weyl sequence, mixed. */
static uint64_t next_random(uint64_t *seed)
{
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* The binary16 towards zero from x, |x| < 65536; what is too small for its
 * exponent becomes a subnormal. */
static uint32_t half_of(float x)
{
    float magnitude = fabsf(x) / EXACT_HALF_SCALE;
    return exact_bits(magnitude) >> 13 | (x < 0 ? 0x8000u : 0);
}

static void store_float(uint8_t *p, float x, enum dtype dtype)
{
    if (dtype == DTYPE_F32)
        store_le(p, exact_bits(x), 4);
    else
        store_le(p, dtype == DTYPE_BF16 ? exact_bits(x) >> 16 : half_of(x), 2);
}

/* Byte b of 0..255 to (b mod 255) - 127. */
static void fill_weights(uint8_t *p, size_t n, uint64_t seed)
{
    uint64_t bits = 0;
    for (size_t i = 0; i < n; i++) {
        bits = i % 8 == 0 ? next_random(&seed) : bits >> 8;
        uint8_t b = (uint8_t)bits;
        p[i] = (uint8_t)((b == 255 ? 0 : b) - 127);
    }
}

static void fill_floats(uint8_t *p, const struct item *item, uint64_t seed)
{
    size_t n = item_elements(item);
    for (size_t i = 0; i < n; i++) {
        int32_t random = (int32_t)(next_random(&seed) >> 40) - (1 << 23);
        float x = item->center + item->amplitude * ((float)random * 0x1p-23f);
        store_float(p + dtype_size(item->dtype) * i, x, item->dtype);
    }
}

static void fill_decays(uint8_t *p, const struct item *item)
{
    int rows = item->shape[0], cols = item->shape[1];
    for (int r = 0; r < rows; r++) {
        for (int c = 0; c < cols; c++) {
            int n = item->n_dims == 1 ? r % 16 : c;
            float x = exact_log2((float)(1 + n)) / EXACT_LOG2E;
            store_le(p, exact_bits(x), 4);
            p += 4;
        }
    }
}

static void fill(uint8_t *p, const struct item *item, uint64_t seed)
{
    switch (item->contents) {
    case WEIGHTS:
        fill_weights(p, item_elements(item), seed);
        break;
    case FLOATS:
        fill_floats(p, item, seed);
        break;
    case DECAYS:
        fill_decays(p, item);
        break;
    }
}

/* ---- the whole --------------------------------------------------------- */

static enum status make_image(uint8_t **bytes, size_t *n,
                              const struct list *list, const char *header,
                              size_t n_header, uint64_t seed)
{
    *n = 8 + n_header;
    for (size_t i = 0; i < list->n; i++)
        *n += item_bytes(&list->items[i]);
    uint8_t *p = *bytes = malloc(*n);
    if (!p)
        return fail_memory("a model");

    store_le(p, n_header, 8);
    memcpy(p + 8, header, n_header);
    p += 8 + n_header;
    for (size_t i = 0; i < list->n; i++) {
        fill(p, &list->items[i], next_random(&seed));
        p += item_bytes(&list->items[i]);
    }
    return OK;
}

struct tiny_spec tiny_spec_make(int d_model, int n_layer, uint64_t seed)
{
    return (struct tiny_spec){
        .d_model = d_model,
        .n_layer = n_layer,
        .d_inner = 2 * d_model,
        .d_state = 16,
        .d_conv = 4,
        .dt_rank = (d_model + 15) / 16,
        .seed = seed,
    };
}

struct tiny_spec tiny_spec_mamba2(int d_model, int n_layer, uint64_t seed)
{
    return (struct tiny_spec){
        .mixer = MIXER_MAMBA2,
        .d_model = d_model,
        .n_layer = n_layer,
        .d_inner = 2 * d_model,
        .d_state = 64,
        .d_conv = 4,
        .headdim = 2 * d_model < 64 ? 2 * d_model : 64,
        .n_groups = 1,
        .seed = seed,
    };
}

enum status tiny_model_make(const struct tiny_spec *spec, uint8_t **bytes,
                            size_t *n)
{
    struct list list;
    char *header = NULL;
    size_t n_header = 0;
    *bytes = NULL;
    enum status status = list_model(&list, spec);
    if (status == OK)
        status = make_header(&header, &n_header, &list, spec);
    if (status == OK)
        status = make_image(bytes, n, &list, header, n_header, spec->seed);
    free(header);
    free(list.items);
    return status;
}

enum status tiny_model_write(const struct tiny_spec *spec, const char *path)
{
    uint8_t *bytes;
    size_t n;
    TRY(tiny_model_make(spec, &bytes, &n));
    FILE *out = fopen(path, "wb");
    bool is_written = out && fwrite(bytes, 1, n, out) == n;
    if (out && fclose(out) != 0)
        is_written = false;
    free(bytes);
    return is_written ? OK : fail(E_IO, "%s: %s", path, strerror(errno));
}

enum status tiny_model_open(struct tiny_model *tiny,
                            const struct tiny_spec *spec)
{
    size_t n;
    *tiny = (struct tiny_model){NULL, NULL};
    TRY(tiny_model_make(spec, &tiny->bytes, &n));
    enum status status =
        model_open_memory(&tiny->model, "tiny model", tiny->bytes, n);
    if (status != OK)
        tiny_model_close(tiny);
    return status;
}

void tiny_model_close(struct tiny_model *tiny)
{
    model_close(tiny->model);
    free(tiny->bytes);
    *tiny = (struct tiny_model){NULL, NULL};
}

bool tiny_model_runs_on_gpu(void)
{
    struct tiny_model tiny;
    struct tiny_spec spec = tiny_spec_make(4, 1, 1);
    const struct engine_options options = {.device = DEVICE_CUDA};
    struct engine *engine = NULL;
    if (tiny_model_open(&tiny, &spec) != OK)
        return false;
    bool has = engine_open(&engine, tiny.model, &options) == OK;
    engine_close(engine);
    tiny_model_close(&tiny);
    return has;
}
