/* examples.c -- records with their labels, from a file.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/examples.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/byteio.h"
#include "base/text.h"
#include "base/utf8.h"

#define PREFIX "__label__"

enum status label_check(const char *label)
{
    size_t n = strlen(label);
    if (n == 0)
        return fail(E_FORMAT, "a label is empty");
    if (n > LABEL_MAX)
        return fail(E_FORMAT, "a label is longer than %d bytes", LABEL_MAX);
    if (strcmp(label, "-") == 0)
        return fail(E_FORMAT, "'-' is not a label: it stands for none");
    for (const char *p = label; *p; p++) {
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            return fail(E_FORMAT, "a label has a control character");
    }
    for (size_t i = 0, part; i < n; i += part) {
        int length = utf8_length((const uint8_t *)label + i, n - i);
        if (length <= 0)
            return fail(E_FORMAT, "a label is not UTF-8");
        part = (size_t)length;
    }
    return OK;
}

static int compare_labels(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The index of a label; -1 when it is not among them. */
static int find_label(const char *const *labels, int n, const char *label)
{
    const char *const *found = n > 0 ? bsearch(&label, labels, (size_t)n,
                                               sizeof *labels, compare_labels)
                                     : NULL;
    return found ? (int)(found - labels) : -1;
}

/* ---- reading ------------------------------------------------------------ */

static size_t count_lines(const uint8_t *bytes, size_t n)
{
    size_t n_lines = 0;
    for (size_t i = 0; i < n; i++)
        n_lines += bytes[i] == '\n';
    return n_lines;
}

/* Splits a line of n bytes and a newline, and ends its label with NUL. */
static enum status split(uint8_t *line, size_t n, const char **label,
                         struct example *example)
{
    bool is_fasttext =
        n >= strlen(PREFIX) && memcmp(line, PREFIX, strlen(PREFIX)) == 0;
    size_t begin = is_fasttext ? strlen(PREFIX) : 0, end = begin;
    size_t most = n - (n > 0 && line[n - 1] == '\r'); /* of the label */
    while (end < most && line[end] != '\t' &&
           !(is_fasttext && line[end] == ' '))
        end++;
    if (end == most && !is_fasttext)
        return fail(E_FORMAT, "there is no label: a line is LABEL, a tab and "
                              "TEXT, or " PREFIX "LABEL TEXT");
    if (memchr(line + begin, '\0', end - begin))
        return fail(E_FORMAT, "a label has a control character");
    line[end] = '\0'; /* in place of the newline when the text is empty */
    *label = (const char *)line + begin;
    TRY(label_check(*label));
    size_t text = end < n ? end + 1 : n;
    *example =
        (struct example){.text = line + text, .n = n - text, .weight = 1};
    if (is_fasttext && example->n >= strlen(PREFIX) &&
        memcmp(example->text, PREFIX, strlen(PREFIX)) == 0)
        return fail(E_FORMAT, "a second label: a record has one");
    return OK;
}

/* lines: [n_lines], the label of each item. */
static enum status split_all(struct examples *e, size_t n_bytes,
                             const char **lines)
{
    size_t line = 1;
    for (size_t i = utf8_mark_length(e->bytes, n_bytes), n; i < n_bytes;
         i += n + 1, line++) {
        const uint8_t *end = memchr(e->bytes + i, '\n', n_bytes - i);
        n = (size_t)(end - (e->bytes + i));
        struct example *item = &e->items[e->n];
        if (text_is_blank(e->bytes + i, n)) {
            e->n_empty++;
            continue;
        }
        if (split(e->bytes + i, n, &lines[e->n], item) != OK) {
            char place[32];
            snprintf(place, sizeof place, "line %zu", line);
            return status_prefix(E_FORMAT, place);
        }
        if (text_is_blank(item->text, item->n))
            e->n_empty++;
        else
            e->n++;
    }
    return OK;
}

/* Makes the set of labels, and finds the label of each item in it. */
static enum status number_labels(struct examples *e, const char **lines)
{
    size_t n = 0;
    e->labels = malloc((e->n + 1) * sizeof *e->labels);
    if (!e->labels)
        return fail_memory("the labels");
    memcpy(e->labels, lines, e->n * sizeof *lines);
    if (e->n > 0)
        qsort(e->labels, e->n, sizeof *e->labels, compare_labels);
    for (size_t i = 0; i < e->n; i++) {
        if (n == 0 || strcmp(e->labels[n - 1], e->labels[i]) != 0)
            e->labels[n++] = e->labels[i];
    }
    if (n > LABELS_MAX)
        return fail(E_FORMAT, "there are %zu labels, at most %d are possible",
                    n, LABELS_MAX);
    e->n_labels = (int)n;
    for (size_t i = 0; i < e->n; i++)
        e->items[i].label = find_label(e->labels, e->n_labels, lines[i]);
    return OK;
}

/* ---- the same text twice ------------------------------------------------ */

/* By text, then by label, then by their order in the file. */
static int compare_items(const void *a, const void *b)
{
    const struct example *x = *(const struct example *const *)a;
    const struct example *y = *(const struct example *const *)b;
    int order = memcmp(x->text, y->text, x->n < y->n ? x->n : y->n);
    if (order != 0)
        return order;
    if (x->n != y->n)
        return x->n < y->n ? -1 : 1;
    if (x->label != y->label)
        return x->label < y->label ? -1 : 1;
    return x < y ? -1 : 1;
}

static bool is_same_text(const struct example *x, const struct example *y)
{
    return x->n == y->n && memcmp(x->text, y->text, x->n) == 0;
}

/* Counts conflicts, and marks duplicates by the label -1. */
static void mark_repeated(struct examples *e, struct example **sorted)
{
    size_t n;
    for (size_t i = 0; i < e->n; i += n) {
        int label = sorted[i]->label;
        bool has_conflict = false;
        for (n = 1; i + n < e->n && is_same_text(sorted[i], sorted[i + n]);
             n++) {
            if (sorted[i + n]->label != label) {
                label = sorted[i + n]->label;
                has_conflict = true;
            } else {
                sorted[i + n]->label = -1;
                e->n_duplicates++;
            }
        }
        e->n_conflicts += has_conflict;
    }
}

enum status examples_drop(struct examples *e)
{
    struct example **sorted = malloc((e->n + 1) * sizeof(struct example *));
    if (!sorted)
        return fail_memory("the examples");
    for (size_t i = 0; i < e->n; i++)
        sorted[i] = &e->items[i];
    if (e->n > 0)
        qsort(sorted, e->n, sizeof *sorted, compare_items);
    mark_repeated(e, sorted);
    free(sorted);
    size_t kept = 0;
    for (size_t i = 0; i < e->n; i++) {
        if (e->items[i].label >= 0)
            e->items[kept++] = e->items[i];
    }
    e->n = kept;
    return OK;
}

/* ---- all of it ---------------------------------------------------------- */

static enum status fill(struct examples *e, struct source *source)
{
    size_t n_bytes;
    TRY(source_read_all(source, &e->bytes, &n_bytes));
    if (n_bytes > 0 && e->bytes[n_bytes - 1] != '\n')
        e->bytes[n_bytes++] = '\n';
    size_t n_lines = count_lines(e->bytes, n_bytes);
    const char **lines = malloc((n_lines + 1) * sizeof *lines);
    e->items = malloc((n_lines + 1) * sizeof *e->items);
    enum status status = lines && e->items ? OK : fail_memory("the examples");
    if (status == OK)
        status = split_all(e, n_bytes, lines);
    if (status == OK)
        status = number_labels(e, lines);
    free(lines);
    return status;
}

enum status examples_read(struct examples *examples, const char *path)
{
    struct source source;
    *examples = (struct examples){0};
    TRY(source_open(&source, path));
    enum status status = fill(examples, &source);
    if (status == E_FORMAT)
        status_prefix(status, source.name);
    if (status == OK && examples->n == 0)
        status = fail(E_FORMAT, "%s: there are no records", source.name);
    source_close(&source);
    if (status != OK)
        examples_free(examples);
    return status;
}

void examples_free(struct examples *examples)
{
    free(examples->items);
    free(examples->labels);
    free(examples->bytes);
    *examples = (struct examples){0};
}
