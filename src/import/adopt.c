/* adopt.c -- a foreign checkpoint as a model of ours, nothing copied.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/adopt.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import/config_json.h"
#include "train/checkpoint.h"

enum { NAME_CHARS = 128, PADDED_MAX = 512, PADDING_UNIT = 8 };

#define EMBEDDING "backbone.embedding.weight"
#define HEAD      "lm_head.weight"
#define LAYERS    "backbone.layers."

/* Where names begin in another way than ours. */
static const struct {
    const char *theirs, *ours;
} prefixes[] = {
    {"backbone.embeddings.", "backbone.embedding."},
    {"mambabyte.token_embedding.", "backbone.embedding."},
    {"mambabyte.layers.", "backbone.layers."},
    {"mambabyte.final_norm.", "backbone.norm_f."},
};

static bool is_own_checkpoint(const struct foreign *f)
{
    return f->metadata && is_checkpoint(f->metadata);
}

static const char *naming_of(const struct foreign *f)
{
    if (is_own_checkpoint(f))
        return "mambyte-train";
    if (foreign_find(f, "mambabyte.token_embedding.weight"))
        return "the MambaByte authors";
    return foreign_find(f, "backbone.embeddings.weight") ? "transformers"
                                                         : "mamba-ssm";
}

static void rename_tensor(char name[NAME_CHARS], const char *theirs)
{
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        size_t n = strlen(prefixes[i].theirs);
        if (strncmp(theirs, prefixes[i].theirs, n) == 0) {
            snprintf(name, NAME_CHARS, "%s%s", prefixes[i].ours, theirs + n);
            return;
        }
    }
    snprintf(name, NAME_CHARS, "%s", theirs);
}

static struct tensor *find(const struct adopted *a, const char *name)
{
    for (size_t i = 0; i < a->content.n_tensors; i++) {
        if (strcmp(a->tensors[i].name, name) == 0)
            return &a->tensors[i];
    }
    return NULL;
}

static enum status rename_all(struct adopted *a, const struct foreign *f)
{
    a->names = calloc(f->n + 1, sizeof *a->names);
    a->tensors = calloc(f->n + 1, sizeof *a->tensors);
    if (!a->names || !a->tensors)
        return fail_memory("the list of tensors");
    const bool is_own = is_own_checkpoint(f);
    for (size_t i = 0; i < f->n; i++) {
        char name[NAME_CHARS];
        if (is_own && !is_checkpoint_weight(f->tensors[i].name))
            continue;
        rename_tensor(name, f->tensors[i].name);
        if (find(a, name))
            return fail(E_MODEL, "two tensors are %s", name);
        size_t at = a->content.n_tensors++;
        memcpy(a->names[at], name, sizeof name);
        a->tensors[at] = f->tensors[i];
        a->tensors[at].name = a->names[at];
    }
    a->content.tensors = a->tensors;
    return OK;
}

/* ---- the layers --------------------------------------------------------- */

/* Only Mamba-2 has dt_bias. */
static enum mixer mixer_of(const struct adopted *a)
{
    return find(a, LAYERS "0.mixer.dt_bias") ? MIXER_MAMBA2 : MIXER_MAMBA1;
}

/* A layer of attention has projections, but no A_log. */
static bool is_attention(const struct adopted *a, const char *name)
{
    static const char tail[] = "mixer.out_proj.weight";
    size_t n = strlen(name), n_tail = sizeof tail - 1;
    char other[NAME_CHARS + 16];
    if (n <= n_tail || strcmp(name + n - n_tail, tail) != 0)
        return false;
    snprintf(other, sizeof other, "%.*smixer.A_log", (int)(n - n_tail), name);
    return !find(a, other);
}

/* Refuses layers that are no Mamba, by the tensor that shows it. */
static enum status check_layers(const struct adopted *a)
{
    for (size_t i = 0; i < a->content.n_tensors; i++) {
        const char *name = a->tensors[i].name;
        if (strncmp(name, LAYERS, sizeof LAYERS - 1) != 0)
            continue;
        if (strstr(name, ".mlp."))
            return fail(E_MODEL, "the model has layers of MLP: %s", name);
        if (is_attention(a, name))
            return fail(E_MODEL,
                        "the model has layers of attention: %s, and no A_log",
                        name);
    }
    return OK;
}

/* ---- the vocabulary ----------------------------------------------------- */

/* The bytes, perhaps padded to a round number. */
static bool is_vocabulary(uint64_t n)
{
    return n == N_BYTES_VOCAB ||
           (n > N_BYTES_VOCAB && n <= PADDED_MAX && n % PADDING_UNIT == 0);
}

static enum status check_vocabulary(const struct adopted *a, uint64_t said)
{
    uint64_t wrong = is_vocabulary(a->vocabulary) ? said : a->vocabulary;
    if (wrong == 0 || is_vocabulary(wrong))
        return OK;
    return fail(E_MODEL,
                "the vocabulary has %" PRIu64 " tokens, which are not the 256 "
                "bytes: mambyte reads bytes, and has no tokenizer",
                wrong);
}

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

static enum status trim_vocabulary(struct adopted *a, uint64_t said)
{
    struct tensor *embedding = find(a, EMBEDDING);
    if (!embedding || embedding->n_dims != 2)
        return fail(E_MODEL, "there is no embedding under any known name: "
                             "not a Mamba");
    a->vocabulary = embedding->shape[0];
    TRY(check_vocabulary(a, said));
    struct tensor *head = find(a, HEAD);
    cut_rows(embedding);
    cut_rows(head);
    if (head && is_tied(head, embedding))
        remove_tensor(a, head);
    return OK;
}

/* ---- the whole ---------------------------------------------------------- */

static void add_metadata(struct adopted *a, const char *key, const char *value)
{
    if (value)
        a->metadata[a->content.n_metadata++] = (struct metadata){key, value};
}

static const char *old_metadata(const struct foreign *f, const char *key)
{
    return f->metadata ? safetensors_metadata(f->metadata, key) : NULL;
}

/* The limit of delta, as our metadata have it; NULL: none. */
static const char *delta_limit(struct adopted *a,
                               const struct config_json *says)
{
    float low = (float)says->delta_min, high = (float)says->delta_max;
    if (!(low > 0.0f) && isinf(high))
        return NULL;
    int n =
        snprintf(a->delta_limit, sizeof a->delta_limit, "[%.9g", (double)low);
    snprintf(a->delta_limit + n, sizeof a->delta_limit - (size_t)n,
             isinf(high) ? "]" : ", %.9g]", (double)high);
    return a->delta_limit;
}

/* What shapes do not say of Mamba-2: by config.json, or by our own metadata. */
static void describe_mamba2(struct adopted *a, const struct foreign *f,
                            const struct config_json *says)
{
    const char *groups = old_metadata(f, "n_groups");
    const char *limit = old_metadata(f, "time_step_limit");
    const char *gate = old_metadata(f, "norm_before_gate");
    if (says->n_groups > 0) {
        snprintf(a->n_groups, sizeof a->n_groups, "%d", says->n_groups);
        groups = a->n_groups;
    }
    if (f->config) {
        limit = delta_limit(a, says);
        gate = says->has_norm_before_gate ? "true" : NULL;
    }
    add_metadata(a, "n_groups", groups);
    add_metadata(a, "time_step_limit", limit);
    add_metadata(a, "norm_before_gate", gate);
}

static void describe(struct adopted *a, const struct foreign *f,
                     const struct config_json *says, int begin_byte)
{
    bool is_mamba2 = mixer_of(a) == MIXER_MAMBA2;
    const char *epsilon = old_metadata(f, "norm_epsilon");
    if (says->norm_epsilon > 0) {
        snprintf(a->norm_epsilon, sizeof a->norm_epsilon, "%.9g",
                 says->norm_epsilon);
        epsilon = a->norm_epsilon;
    }
    const char *byte = old_metadata(f, "begin_byte");
    if (begin_byte >= 0) {
        snprintf(a->begin_byte, sizeof a->begin_byte, "%d", begin_byte);
        byte = a->begin_byte;
    }
    a->content.metadata = a->metadata;
    add_metadata(a, "architecture", is_mamba2 ? "mamba2" : "mamba1");
    add_metadata(a, "norm_epsilon", epsilon);
    add_metadata(a, "begin_byte", byte);
    if (is_mamba2)
        describe_mamba2(a, f, says);
}

static enum status fill(struct adopted *a, const struct foreign *f,
                        int begin_byte)
{
    struct config_json says;
    TRY(rename_all(a, f));
    TRY(check_layers(a));
    TRY(config_json_read(&says, f->config, mixer_of(a)));
    TRY(trim_vocabulary(a, says.vocabulary));
    describe(a, f, &says, begin_byte);
    a->naming = naming_of(f);
    return OK;
}

enum status adopt(struct adopted *adopted, const struct foreign *foreign,
                  int begin_byte)
{
    *adopted = (struct adopted){0};
    enum status status = fill(adopted, foreign, begin_byte);
    if (status != OK)
        status_prefix(status, foreign->path);
    else
        status = model_open_content(&adopted->model, foreign->path,
                                    &adopted->content);
    if (status == OK) {
        status = config_json_check(foreign->config, &adopted->model->config);
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
    *adopted = (struct adopted){0};
}
