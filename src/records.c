/* records.c -- the engine reads records, many in company.
 *
 * SPDX-License-Identifier: MIT
 */
#include "records.h"

#include <stdlib.h>
#include <string.h>

enum {
    STREAMS = 64,           /* together, where the engine has no wish */
    STREAMS_BYTES = 1 << 30 /* of memory that their states may take */
};

/* ---- opening ------------------------------------------------------------ */

static int count_items(const struct records *r)
{
    const struct model_config *c = &r->engine->model->config;
    size_t state = model_state_floats(c) * sizeof(float);
    size_t most = STREAMS_BYTES / state / (size_t)r->n_begins;
    int n = (r->engine->n_streams > 0 ? r->engine->n_streams : STREAMS) /
            r->n_begins;
    n = (size_t)n < most ? n : (int)most;
    return n > 0 ? n : 1;
}

static enum status open_item(struct records *r, struct record *item,
                             bool wants_sums)
{
    size_t n = (size_t)r->n_begins;
    item->streams = calloc(n, sizeof(struct state *));
    if (wants_sums)
        item->sums =
            calloc(sums_floats(&r->engine->model->config), sizeof(float));
    else
        item->bits = calloc(n, sizeof(double));
    if (!item->streams || (!item->sums && !item->bits))
        return fail_memory("records");
    for (size_t i = 0; i < n; i++)
        TRY(engine_state_new(r->engine, &item->streams[i]));
    return OK;
}

enum status records_open(struct records *records, struct engine *engine,
                         struct state *const *begins, int n_begins,
                         bool wants_sums)
{
    *records = (struct records){
        .engine = engine, .begins = begins, .n_begins = n_begins};
    records->n = count_items(records);
    size_t n = (size_t)records->n;
    records->items = calloc(n, sizeof *records->items);
    records->segments = calloc(n * (size_t)n_begins, sizeof *records->segments);
    enum status status =
        records->items && records->segments ? OK : fail_memory("records");
    for (size_t i = 0; i < n && status == OK; i++)
        status = open_item(records, &records->items[i], wants_sums);
    if (status != OK)
        records_close(records);
    return status;
}

void records_close(struct records *records)
{
    for (int i = 0; records->items && i < records->n; i++) {
        struct record *item = &records->items[i];
        for (int j = 0; item->streams && j < records->n_begins; j++)
            engine_state_free(records->engine, item->streams[j]);
        free(item->streams);
        free(item->sums);
        free(item->bits);
    }
    free(records->items);
    free(records->segments);
    free(records->costs);
    *records = (struct records){0};
}

/* ---- reading ------------------------------------------------------------ */

static enum status begin_item(struct records *r, struct record *item)
{
    item->n_bytes = 0;
    if (item->sums)
        memset(item->sums, 0,
               sums_floats(&r->engine->model->config) * sizeof(float));
    for (int j = 0; j < r->n_begins; j++) {
        if (item->bits)
            item->bits[j] = 0;
        TRY(engine_state_copy(r->engine, item->streams[j], r->begins[j]));
    }
    return OK;
}

/* Room for the cost of every byte, once for each begin. */
static enum status need_costs(struct records *r,
                              const struct record_part *parts, int n)
{
    size_t n_bytes = 0;
    for (int i = 0; i < n; i++)
        n_bytes += parts[i].n * (size_t)r->n_begins;
    if (!r->items[0].bits || n_bytes <= r->n_costs)
        return OK;
    float *costs = realloc(r->costs, n_bytes * sizeof *costs);
    if (!costs)
        return fail_memory("records");
    r->costs = costs;
    r->n_costs = n_bytes;
    return OK;
}

static void make_segments(struct records *r, const struct record_part *parts,
                          int n)
{
    struct segment *s = r->segments;
    float *costs = r->costs;
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < r->n_begins; j++, s++) {
            *s = (struct segment){.state = r->items[i].streams[j],
                                  .bytes = parts[i].bytes,
                                  .n = parts[i].n,
                                  .sums = r->items[i].sums};
            if (r->items[i].bits) {
                s->bits = costs;
                costs += parts[i].n;
            }
        }
    }
}

static void add_costs(struct record *item, int n_begins,
                      const struct segment *segments)
{
    for (int j = 0; j < n_begins; j++) {
        for (size_t t = 0; t < segments[j].n; t++)
            item->bits[j] += (double)segments[j].bits[t];
    }
}

enum status records_feed(struct records *records,
                         const struct record_part *parts, int n, bool goes_on)
{
    struct records *r = records;
    for (int i = goes_on ? 1 : 0; i < n; i++)
        TRY(begin_item(r, &r->items[i]));
    TRY(need_costs(r, parts, n));
    make_segments(r, parts, n);
    TRY(engine_feed(r->engine, r->segments, (size_t)n * (size_t)r->n_begins));
    for (int i = 0; i < n; i++) {
        r->items[i].n_bytes += parts[i].n;
        if (r->items[i].bits)
            add_costs(&r->items[i], r->n_begins,
                      r->segments + (size_t)i * (size_t)r->n_begins);
    }
    return OK;
}

void records_keep(struct records *records, int i)
{
    struct record kept = records->items[i];
    records->items[i] = records->items[0];
    records->items[0] = kept;
}

void records_average(struct records *records, int i)
{
    struct record *item = &records->items[i];
    size_t n = sums_floats(&records->engine->model->config);
    float n_bytes = item->n_bytes > 0 ? (float)item->n_bytes : 1.0f;
    for (size_t j = 0; j < n; j++)
        item->sums[j] /= n_bytes;
}
