/* state_dict.c -- finds the state dict in what a pickle holds.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/state_dict.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 4 };

/* Names of a state dict, from the one that is most likely the model's. */
static const char *const usual_names[] = {
    "state_dict", "model_state_dict", "model", "module", "ema", "model_ema"};

enum { N_USUAL = sizeof usual_names / sizeof usual_names[0] };

/* A search through dicts in dicts, each of which is visited once. */
struct dict_search {
    const struct pickle_machine *m;
    bool *is_visited; /* [n_values] */
    int found;        /* a dict, or NO_VALUE */
    int found_rank;   /* of its name among the usual ones */
    struct pickle_text found_name, other_name;
    bool is_unclear; /* another has the same rank */
};

static bool ends_with(const struct pickle_text *text, const char *tail)
{
    size_t n = strlen(tail);
    return text->n >= n && memcmp(text->at + text->n - n, tail, n) == 0;
}

static bool has_embedding(const struct pickle_machine *m, int dict)
{
    for (int i = m->values[dict].dict.first; i != NO_VALUE;
         i = m->entries[i].next) {
        const struct value *key = &m->values[m->entries[i].key];
        const struct value *value = &m->values[m->entries[i].value];
        if (key->kind == K_TEXT && value->kind == K_TENSOR &&
            (ends_with(&key->text, "embedding.weight") ||
             ends_with(&key->text, "embeddings.weight")))
            return true;
    }
    return false;
}

static int rank_of(const struct pickle_text *name)
{
    int rank = 0;
    while (rank < N_USUAL && !pickle_text_is(name, usual_names[rank]))
        rank++;
    return rank;
}

static void take(struct dict_search *s, int dict,
                 const struct pickle_text *name)
{
    int rank = rank_of(name);
    if (s->found != NO_VALUE && rank == s->found_rank) {
        s->is_unclear = true;
        s->other_name = *name;
    }
    if (s->found != NO_VALUE && rank >= s->found_rank)
        return;
    s->found = dict;
    s->found_rank = rank;
    s->found_name = *name;
    s->is_unclear = false;
}

static void visit(struct dict_search *s, int dict,
                  const struct pickle_text *name, int depth)
{
    const struct pickle_machine *m = s->m;
    if (s->is_visited[dict] || depth > DEPTH_MAX)
        return;
    s->is_visited[dict] = true;
    if (has_embedding(m, dict)) {
        take(s, dict, name);
        return;
    }
    for (int i = m->values[dict].dict.first; i != NO_VALUE;
         i = m->entries[i].next) {
        const struct value *key = &m->values[m->entries[i].key];
        int value = m->entries[i].value;
        if (key->kind == K_TEXT && m->values[value].kind == K_DICT)
            visit(s, value, &key->text, depth + 1);
    }
}

enum status state_dict_find(const struct pickle_machine *m, int root, int *dict)
{
    char shown[2][PRINTABLE_CHARS];
    struct dict_search s = {.m = m, .found = NO_VALUE};
    s.is_visited = calloc((size_t)m->n_values, sizeof *s.is_visited);
    if (!s.is_visited)
        return fail_memory("a pickle");
    visit(&s, root, &(struct pickle_text){"", 0}, 0);
    free(s.is_visited);
    *dict = s.found == NO_VALUE ? root : s.found;
    if (!s.is_unclear)
        return OK;
    return fail(E_MODEL,
                "the pickle has two models, %s and %s: save one by itself",
                pickle_show(shown[0], &s.found_name),
                pickle_show(shown[1], &s.other_name));
}
