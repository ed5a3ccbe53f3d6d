/* adopt.c -- a foreign checkpoint as a model of ours, nothing copied.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/adopt.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "import/config_json.h"
#include "import/families.h"
#include "import/json_file.h"
#include "import/vocabulary.h"
#include "model/safetensors_checksum.h"
#include "train/checkpoint.h"

#define EMBEDDING "backbone.embedding.weight"
#define HEAD      "lm_head.weight"
#define LAYERS    "backbone.layers."

static bool is_own_checkpoint(const struct foreign *f)
{
    return f->metadata && is_checkpoint(f->metadata);
}

static void sort(struct adopted *a)
{
    qsort(a->tensors, a->content.n_tensors, sizeof *a->tensors,
          tensor_compare_names);
}

static struct tensor *find(const struct adopted *a, const char *name)
{
    const struct tensor key = {.name = name};
    return bsearch(&key, a->tensors, a->content.n_tensors, sizeof *a->tensors,
                   tensor_compare_names);
}

/* The tensors; of a checkpoint of mambyte-train only the weights. */
static enum status list_tensors(struct adopted *a, const struct foreign *f)
{
    a->names = calloc(2 * f->n + 1, sizeof *a->names);
    a->tensors = calloc(2 * f->n + 1, sizeof *a->tensors);
    if (!a->names || !a->tensors)
        return fail_memory("the list of tensors");
    a->content.tensors = a->tensors;
    const bool is_own = is_own_checkpoint(f);
    for (size_t i = 0; i < f->n; i++) {
        const char *name = f->tensors[i].name;
        if (is_own && !is_checkpoint_weight(name))
            continue;
        if (strlen(name) >= TENSOR_NAME_CHARS)
            return fail(E_MODEL, "a tensor's name is too long: %.64s..", name);
        size_t at = a->content.n_tensors++;
        strcpy(a->names[at], name);
        a->tensors[at] = f->tensors[i];
        a->tensors[at].name = a->names[at];
    }
    return OK;
}

static enum status rename_all(struct adopted *a, const struct foreign *f)
{
    TRY(list_tensors(a, f));
    TRY(tensor_names_adopt(a->names, a->content.n_tensors, &a->naming));
    if (is_own_checkpoint(f)) {
        TRY(safetensors_check_checksum(f->metadata, false));
        a->naming = "mambyte-train";
    }
    sort(a);
    return OK;
}

/* ---- the layers --------------------------------------------------------- */

/* Only Mamba-2 has dt_bias. */
static enum mixer mixer_of(const struct adopted *a)
{
    return find(a, LAYERS "0.mixer.dt_bias") ? MIXER_MAMBA2 : MIXER_MAMBA1;
}

/* sibling <- name with end, which is shorter, in place of tail; false when name
 * does not end with tail. */
static bool name_sibling(char sibling[TENSOR_NAME_CHARS], const char *name,
                         const char *tail, const char *end)
{
    const char *at = text_find_tail(name, tail);
    if (!at || at == name)
        return false;
    snprintf(sibling, TENSOR_NAME_CHARS, "%.*s%s", (int)(at - name), name, end);
    return true;
}

/* A layer of attention has projections, but no A_log. */
static bool is_attention(const struct adopted *a, const char *name)
{
    char a_log[TENSOR_NAME_CHARS];
    return name_sibling(a_log, name, "mixer.out_proj.weight", "mixer.A_log") &&
           !find(a, a_log);
}

/* Refuses layers other than Mamba; the sentence names a tensor of theirs. */
static enum status check_layers(const struct adopted *a)
{
    for (size_t i = 0; i < a->content.n_tensors; i++) {
        const char *name = a->tensors[i].name;
        TRY(families_check_tensor(name));
        if (!text_starts_with(name, LAYERS))
            continue;
        if (strstr(name, ".mixer.in_proj.bias") ||
            strstr(name, ".mixer.out_proj.bias"))
            return fail(E_MODEL,
                        "the model has biases of in_proj and out_proj "
                        "(use_bias), which mambyte does not support: %s",
                        name);
        if (strstr(name, ".mlp."))
            return fail(E_MODEL, "the model has MLP layers: %s", name);
        if (is_attention(a, name))
            return fail(E_MODEL,
                        "the model has attention layers: %s has no A_log",
                        name);
    }
    return OK;
}

/* ---- the convolution ---------------------------------------------------- */

enum { CHANNELS_MAX = 2 * D_INNER_MAX };

/* One of zeros; the weight has at most CHANNELS_MAX channels, or will be
 * refused. */
static enum status add_conv_bias(struct adopted *a, size_t at, const char *name,
                                 const struct tensor *weight)
{
    uint64_t n = weight->shape[0] <= CHANNELS_MAX ? weight->shape[0] : 0;
    if (!a->zeros)
        a->zeros = calloc(CHANNELS_MAX, sizeof(float));
    if (!a->zeros)
        return fail_memory("a bias");
    strcpy(a->names[at], name);
    a->tensors[at] = (struct tensor){.name = a->names[at],
                                     .dtype = DTYPE_F32,
                                     .n_dims = 1,
                                     .shape = {n},
                                     .data = a->zeros};
    return OK;
}

/* A convolution without a bias has one of 0. */
static enum status add_conv_biases(struct adopted *a, bool *are_there)
{
    const size_t n_found = a->content.n_tensors;
    size_t n = n_found;
    for (size_t i = 0; i < n_found; i++) {
        char bias[TENSOR_NAME_CHARS];
        if (name_sibling(bias, a->tensors[i].name, "mixer.conv1d.weight",
                         "mixer.conv1d.bias") &&
            !find(a, bias))
            TRY(add_conv_bias(a, n++, bias, &a->tensors[i]));
    }
    *are_there = n == n_found;
    a->content.n_tensors = n;
    sort(a);
    return OK;
}

/* ---- the vocabulary ----------------------------------------------------- */

static void cut_rows(struct tensor *t)
{
    if (t && t->n_dims == 2 && t->shape[0] > N_BYTES_VOCAB)
        t->shape[0] = N_BYTES_VOCAB;
}

static void remove_tensor(struct adopted *a, const struct tensor *tensor)
{
    size_t i = (size_t)(tensor - a->tensors);
    size_t after = --a->content.n_tensors - i;
    memmove(&a->tensors[i], &a->tensors[i + 1], after * sizeof *a->tensors);
}

/* An lm_head that equals the embedding, whether or not it shares its memory. */
static bool is_tied(const struct tensor *head, const struct tensor *embedding)
{
    return head->n_dims == 2 && head->dtype == embedding->dtype &&
           head->dtype != DTYPE_I8 &&
           memcmp(head->shape, embedding->shape, sizeof head->shape) == 0 &&
           memcmp(head->data, embedding->data,
                  (size_t)(head->shape[0] * head->shape[1]) *
                      dtype_size(head->dtype)) == 0;
}

static enum status trim_vocabulary(struct adopted *a, const struct foreign *f,
                                   uint64_t said,
                                   const struct adopt_options *options)
{
    struct tensor *embedding = find(a, EMBEDDING);
    if (!embedding || embedding->n_dims != 2)
        return fail(E_MODEL, "there is no embedding under any known name: "
                             "not a Mamba");
    a->vocabulary = embedding->shape[0];
    TRY(vocabulary_check(f, a->vocabulary, said, options->cuts_vocabulary));
    struct tensor *head = find(a, HEAD);
    cut_rows(embedding);
    cut_rows(head);
    if (head && is_tied(head, embedding))
        remove_tensor(a, head);
    return OK;
}

/* ---- the whole ---------------------------------------------------------- */

/* What our own metadata say, if the checkpoint is ours; else NULL. */
static const char *own_metadata(const struct foreign *f, const char *key)
{
    return f->metadata ? safetensors_metadata(f->metadata, key) : NULL;
}

/* The groups of heads, by config.json or by our own metadata. */
static void describe_groups(struct metadata_list *list, const struct foreign *f,
                            const struct config_json *says)
{
    if (says->n_groups > 0)
        metadata_list_print(list, "n_groups", "%d", says->n_groups);
    else
        metadata_list_add(list, "n_groups", own_metadata(f, "n_groups"));
}

/* The limit of delta that config.json gives. */
static void describe_delta_limit(struct metadata_list *list,
                                 const struct config_json *says)
{
    static const char key[] = "time_step_limit";
    float low = (float)says->delta_min, high = (float)says->delta_max;
    if (!isinf(high))
        metadata_list_print(list, key, "[%.9g, %.9g]", (double)low,
                            (double)high);
    else if (low > 0.0f)
        metadata_list_print(list, key, "[%.9g]", (double)low);
}

/* What the shapes of Mamba-2 leave open: by config.json, or our own metadata.
 */
static void describe_mamba2(struct metadata_list *list, const struct foreign *f,
                            const struct config_json *says)
{
    static const char limit[] = "time_step_limit", gate[] = "norm_before_gate";
    describe_groups(list, f, says);
    if (f->config) {
        describe_delta_limit(list, says);
        metadata_list_add(list, gate,
                          says->has_norm_before_gate ? "true" : NULL);
    } else {
        metadata_list_add(list, limit, own_metadata(f, limit));
        metadata_list_add(list, gate, own_metadata(f, gate));
    }
}

/* asked: by the options; said: by config.json, or below 0. */
static void describe_begin_byte(struct metadata_list *list,
                                const struct foreign *f, int said, int asked)
{
    static const char key[] = "begin_byte";
    int byte = asked == BEGIN_BYTE_AS_SAID ? said : asked;
    if (asked == BEGIN_BYTE_NONE)
        return;
    if (byte >= 0)
        metadata_list_print(list, key, "%d", byte);
    else
        metadata_list_add(list, key, own_metadata(f, key));
}

static void describe(struct adopted *a, const struct foreign *f,
                     const struct config_json *says, int begin_byte)
{
    struct metadata_list *list = &a->metadata;
    bool is_mamba2 = mixer_of(a) == MIXER_MAMBA2;
    metadata_list_add(list, "architecture", is_mamba2 ? "mamba2" : "mamba1");
    if (says->norm_epsilon > 0)
        metadata_list_print(list, "norm_epsilon", "%.9g", says->norm_epsilon);
    else
        metadata_list_add(list, "norm_epsilon",
                          own_metadata(f, "norm_epsilon"));
    describe_begin_byte(list, f, says->begin_byte, begin_byte);
    if (is_mamba2)
        describe_mamba2(list, f, says);
    a->content.metadata = list->items;
    a->content.n_metadata = list->n;
}

/* generation_config.json has the begin byte where config.json cannot. */
static enum status read_generation(struct config_json *says,
                                   const struct foreign *f)
{
    json_t *generation;
    TRY(foreign_read_json(&generation, f, "generation_config.json",
                          CONFIG_BYTES_MAX));
    if (says->begin_byte < 0)
        says->begin_byte = config_json_begin_byte(generation);
    json_decref(generation);
    return OK;
}

static enum status fill(struct adopted *a, const struct foreign *f,
                        const struct adopt_options *options,
                        bool *has_conv_bias)
{
    struct config_json says;
    TRY(families_check_config(f->config));
    TRY(rename_all(a, f));
    TRY(check_layers(a));
    TRY(config_json_read(&says, f->config, mixer_of(a)));
    TRY(read_generation(&says, f));
    TRY(add_conv_biases(a, has_conv_bias));
    TRY(trim_vocabulary(a, f, says.vocabulary, options));
    describe(a, f, &says, options->begin_byte);
    return OK;
}

enum status adopt(struct adopted *adopted, const struct foreign *foreign,
                  const struct adopt_options *options)
{
    bool has_conv_bias = false;
    *adopted = (struct adopted){0};
    enum status status = fill(adopted, foreign, options, &has_conv_bias);
    if (status != OK)
        status_prefix(status, foreign->path);
    else
        status = model_open_content(&adopted->model, foreign->path,
                                    &adopted->content);
    if (status == OK) {
        status = config_json_check(foreign->config, &adopted->model->config,
                                   has_conv_bias);
        if (status != OK)
            status_prefix(status, foreign->path);
    }
    if (status != OK)
        adopted_close(adopted);
    return status;
}

void adopted_close(struct adopted *adopted)
{
    model_close(adopted->model);
    free(adopted->names);
    free(adopted->tensors);
    free(adopted->zeros);
    *adopted = (struct adopted){0};
}
