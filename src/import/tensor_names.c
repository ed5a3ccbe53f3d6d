/* tensor_names.c -- the tensors of others, under our names.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/tensor_names.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define OURS "backbone."
#define HEAD "lm_head.weight"

/* What PyTorch puts around modules. */
static const char *const wrappers[] = {"module", "_orig_mod",
                                       "_fsdp_wrapped_module",
                                       "_checkpoint_wrapped_module"};

/* The embedding, by which the project and what stands before the parts of the
 * model are known. */
static const struct {
    const char *embedding, *project;
} projects[] = {
    {"embedding.weight", "mamba-ssm"},
    {"embeddings.weight", "transformers"},
    {"token_embedding.weight", "the MambaByte authors"},
};

/* Where the name of a part starts in another way than ours. */
static const struct {
    const char *theirs, *ours;
} parts[] = {
    {"embeddings.", "embedding."},
    {"token_embedding.", "embedding."},
    {"final_norm.", "norm_f."},
};

/* The end of name that is tail, after a dot or from the start; or NULL. */
static const char *find_tail(const char *name, const char *tail)
{
    const char *at = text_find_tail(name, tail);
    return at && (at == name || at[-1] == '.') ? at : NULL;
}

static bool is_wrapper(const char *word, size_t n)
{
    for (size_t i = 0; i < sizeof wrappers / sizeof wrappers[0]; i++) {
        if (strlen(wrappers[i]) == n && memcmp(word, wrappers[i], n) == 0)
            return true;
    }
    return false;
}

/* Leaves out the words that are wrappers. */
static void unwrap(char *name)
{
    char *to = name;
    for (const char *word = name; *word;) {
        size_t n = strcspn(word, "."), n_dot = word[n] == '.';
        if (n_dot == 0 || !is_wrapper(word, n)) {
            memmove(to, word, n + n_dot);
            to += n + n_dot;
        }
        word += n + n_dot;
    }
    *to = '\0';
}

/* Of the embedding, what stands before its part of the name: prefix, of n
 * characters. */
static enum status find_embedding(char (*names)[TENSOR_NAME_CHARS], size_t n,
                                  const char **project, char *prefix)
{
    const char *found = NULL;
    *project = NULL;
    for (size_t i = 0; i < n * (sizeof projects / sizeof projects[0]); i++) {
        const char *name = names[i % n];
        const char *tail = find_tail(name, projects[i / n].embedding);
        if (!tail)
            continue;
        if (found)
            return fail(E_MODEL,
                        "%s and %s: the model has two embeddings, not one",
                        found, name);
        found = name;
        *project = projects[i / n].project;
        snprintf(prefix, TENSOR_NAME_CHARS, "%.*s", (int)(tail - name), name);
    }
    return OK;
}

/* A part of the model, whose name begins after n_prefix characters. */
static enum status rename_part(char *name, size_t n_prefix)
{
    char theirs[TENSOR_NAME_CHARS];
    const char *start = "", *rest = theirs;
    snprintf(theirs, sizeof theirs, "%s", name + n_prefix);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (text_starts_with(theirs, parts[i].theirs)) {
            start = parts[i].ours;
            rest = theirs + strlen(parts[i].theirs);
        }
    }
    int n = snprintf(name, TENSOR_NAME_CHARS, OURS "%s%s", start, rest);
    return n < TENSOR_NAME_CHARS
               ? OK
               : fail(E_MODEL, "a tensor's name is too long: %.64s..", theirs);
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static enum status check_unique(char (*names)[TENSOR_NAME_CHARS], size_t n)
{
    const char **sorted = malloc((n + 1) * sizeof *sorted);
    enum status status = sorted ? OK : fail_memory("the list of tensors");
    for (size_t i = 0; i < n && sorted; i++)
        sorted[i] = names[i];
    if (sorted)
        qsort(sorted, n, sizeof *sorted, compare);
    for (size_t i = 1; i < n && status == OK; i++) {
        if (strcmp(sorted[i - 1], sorted[i]) == 0)
            status = fail(E_MODEL, "two tensors are named %s", sorted[i]);
    }
    free(sorted);
    return status;
}

enum status tensor_names_adopt(char (*names)[TENSOR_NAME_CHARS], size_t n,
                               const char **project)
{
    char prefix[TENSOR_NAME_CHARS] = "";
    for (size_t i = 0; i < n; i++)
        unwrap(names[i]);
    TRY(find_embedding(names, n, project, prefix));
    size_t n_prefix = strlen(prefix);
    for (size_t i = 0; i < n && *project; i++) {
        if (find_tail(names[i], HEAD))
            snprintf(names[i], TENSOR_NAME_CHARS, HEAD);
        else if (text_starts_with(names[i], prefix))
            TRY(rename_part(names[i], n_prefix));
    }
    return check_unique(names, n);
}
