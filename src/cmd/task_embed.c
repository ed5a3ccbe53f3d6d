/* task_embed.c -- the features of records, for other tools.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/exact.h"
#include "base/little_endian.h"
#include "cmd/task_records.h"
#include "cmd/task_io.h"
#include "engine/pooled.h"

struct features {
    struct task *task;
    struct record_reader reader;
    struct state *start; /* of every record */
};

static enum status average(void *context)
{
    struct features *f = context;
    records_average(&f->reader.records, 0, record_reader_aside(&f->reader)->n);
    return OK;
}

static enum status print_binary(struct sink *out, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t bytes[4];
        store_le(bytes, exact_bits(x[i]), 4);
        TRY(sink_write(out, bytes, sizeof bytes));
    }
    return OK;
}

static enum status print_columns(struct sink *out, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        TRY(sink_format(out, "%s%.9g", i > 0 ? "\t" : "", (double)x[i]));
    return OK;
}

static enum status show_features(void *context,
                                 const struct ended_record *ended)
{
    struct task *task = ((struct features *)context)->task;
    size_t n = pooled_floats(&task->model->config);
    if (task->options->binary)
        return print_binary(task->out, ended->record->pooled, n);
    TRY(print_columns(task->out, ended->record->pooled, n));
    return task_end_record(task);
}

static enum status run(struct features *f)
{
    const struct record_use use = {average, show_features, f};
    TRY(engine_state_new(f->task->engine, &f->start));
    TRY(record_reader_open(&f->reader, f->task->engine, &f->start, 1, true,
                           NULL, 1));
    return task_each_record(f->task, &f->reader, &use);
}

enum status task_embed(struct task *task)
{
    struct features features = {.task = task};
    enum status status = run(&features);
    record_reader_close(&features.reader);
    engine_state_free(task->engine, features.start);
    return status;
}
