/* feature_table.c -- the features of examples, and the evidence of their grams.
 *
 * SPDX-License-Identifier: MIT
 */
#include "classify/feature_table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/message.h"
#include "base/signals.h"
#include "engine/pooled.h"

#define SMALLEST_SPREAD 1e-6 /* of a feature that tells anything apart */

/* Examples that are being read into a table. */
struct table_filling {
    struct feature_table *table;
    struct record_reader *reader;
    const char *path;
    size_t n; /* that were taken */
};

/* Takes the features of the records aside. */
static enum status take_aside(void *context)
{
    struct table_filling *f = context;
    struct record_set *set = record_reader_aside(f->reader);
    size_t size = f->table->n_features, n = (size_t)set->n;
    message_status("%s: %zu of %zu records read", f->path, f->n, f->table->n);
    if (n == 0)
        return OK;
    records_average(&f->reader->records, 0, set->n);
    memcpy(f->table->x + f->n * size, set->pooled, n * size * sizeof(float));
    f->n += n;
    return OK;
}

static enum status allocate(struct feature_table *table,
                            const struct examples *e)
{
    table->n = e->n;
    table->x = malloc((e->n * table->n_features + 1) * sizeof *table->x);
    table->labels = malloc(e->n * sizeof *table->labels);
    table->weights = malloc(e->n * sizeof *table->weights);
    if (!table->x || !table->labels || !table->weights)
        return fail_memory("the features");
    for (size_t i = 0; i < e->n; i++) {
        table->labels[i] = e->items[i].label;
        table->weights[i] = e->items[i].weight;
    }
    return OK;
}

enum status feature_table_read(struct feature_table *table,
                               const struct examples *examples,
                               struct record_reader *reader, const char *path)
{
    *table = (struct feature_table){0};
    if (reader)
        table->n_features =
            pooled_floats(&engine_model(reader->records.engine)->config);
    TRY(allocate(table, examples));
    if (!reader)
        return OK;
    struct table_filling filling = {
        .table = table, .reader = reader, .path = path};
    return record_reader_read(reader, examples, take_aside, &filling);
}

static enum status weigh(const struct example *item, struct grams *grams,
                         struct gram_bag *bag, int own, float *evidence)
{
    TRY(signals_check());
    gram_bag_begin(bag);
    TRY(grams_feed(grams, bag, item->text, item->n));
    TRY(grams_end(grams, bag));
    grams_evidence(grams, bag, own, evidence);
    return OK;
}

enum status feature_table_weigh_grams(struct feature_table *table,
                                      const struct examples *examples, size_t n,
                                      struct grams *grams, size_t n_counted)
{
    struct gram_bag bag = {0};
    size_t n_labels = (size_t)grams->n_labels;
    float *evidence = realloc(table->evidence, n * n_labels * sizeof *evidence);
    if (!evidence)
        return fail_memory("the grams");
    table->evidence = evidence;
    enum status status = OK;
    for (size_t i = 0; i < n && status == OK; i++) {
        const struct example *item = &examples->items[i];
        status = weigh(item, grams, &bag, i < n_counted ? item->label : -1,
                       evidence + i * n_labels);
    }
    gram_bag_free(&bag);
    return status;
}

void feature_table_free(struct feature_table *table)
{
    free(table->x);
    free(table->labels);
    free(table->weights);
    free(table->evidence);
    *table = (struct feature_table){0};
}

/* Adds up the features of whole records, and their squares, [n_features] each;
 * returns how many records there are. */
static double add_up(const struct feature_table *table, double *sums,
                     double *squares)
{
    size_t size = table->n_features, n = 0;
    for (size_t i = 0; i < table->n; i++) {
        if (table->weights[i] < 1)
            continue;
        n++;
        for (size_t j = 0; j < size; j++) {
            double x = (double)table->x[i * size + j];
            sums[j] += x;
            squares[j] += x * x;
        }
    }
    return (double)n;
}

enum status feature_table_measure(const struct feature_table *table,
                                  float *mean, float *inverse)
{
    size_t size = table->n_features;
    double *sums = calloc(2 * size + 1, sizeof *sums);
    if (!sums)
        return fail_memory("the features");
    double *squares = sums + size, n = add_up(table, sums, squares);
    for (size_t j = 0; j < size; j++) {
        double center = sums[j] / n;
        double variance = squares[j] / n - center * center;
        double spread = variance > 0 ? sqrt(variance) : 0;
        mean[j] = (float)center;
        inverse[j] = spread > SMALLEST_SPREAD ? (float)(1 / spread) : 0.0f;
    }
    free(sums);
    return OK;
}
