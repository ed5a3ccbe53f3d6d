/* adopt.c -- a foreign checkpoint as a model of ours, nothing copied.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/adopt.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import/config_json.h"
#include "train/checkpoint.h"

enum { NAME_CHARS = 128, PADDED_MAX = 512, PADDING_UNIT = 8 };

#define EMBEDDING "backbone.embedding.weight"
#define HEAD      "lm_head.weight"

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

static void describe(struct adopted *a, const struct foreign *f,
                     double norm_epsilon, int begin_byte)
{
    const char *epsilon = old_metadata(f, "norm_epsilon");
    if (norm_epsilon > 0) {
        snprintf(a->norm_epsilon, sizeof a->norm_epsilon, "%.9g", norm_epsilon);
        epsilon = a->norm_epsilon;
    }
    const char *byte = old_metadata(f, "begin_byte");
    if (begin_byte >= 0) {
        snprintf(a->begin_byte, sizeof a->begin_byte, "%d", begin_byte);
        byte = a->begin_byte;
    }
    a->content.metadata = a->metadata;
    add_metadata(a, "architecture", "mamba1");
    add_metadata(a, "norm_epsilon", epsilon);
    add_metadata(a, "begin_byte", byte);
}

static enum status fill(struct adopted *a, const struct foreign *f,
                        int begin_byte)
{
    struct config_json says;
    TRY(config_json_read(&says, f->config));
    TRY(rename_all(a, f));
    TRY(trim_vocabulary(a, says.vocabulary));
    describe(a, f, says.norm_epsilon, begin_byte);
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
