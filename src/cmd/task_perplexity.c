/* task_perplexity.c -- a line a file: how well the model predicts it.
 *
 * Files are read several at a time, each in a lane with a stream of its own:
 * an engine that has many streams to step works at its best, and a folder of
 * small files goes as quickly as a large one.  Lines come in the order of
 * the files, each as soon as it is known.
 *
 * SPDX-License-Identifier: MIT
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/message.h"
#include "base/signals.h"
#include "cmd/json.h"
#include "cmd/task_io.h"
#include "engine/scorer.h"

enum {
    LANES_MAX = 64 /* files that are read together */
};

struct lane {
    struct source source;
    struct stream stream;
    struct tally tally;
    struct words words;
    size_t n;        /* bytes of the current round */
    bool is_reading; /* else its line can be printed */
    bool has_failed; /* and there is none to print */
};

/* A ring of lanes: that of file i is lanes[i % n_lanes]. */
struct table {
    struct task *task;
    struct reader reader; /* buffers and pace; its source is not used */
    struct stream first;  /* where each file begins */
    struct lane *lanes;   /* [n_lanes] */
    int n_lanes;
    int n_opened, n_printed; /* files */
    int n_summed;            /* files in the total */
    struct tally total;
    uint64_t n_words;
};

/* ---- lines -------------------------------------------------------------- */

struct line {
    const char *name; /* NULL: the total */
    const struct tally *tally;
    uint64_t n_words;
};

/* Bits spread over n things: 2^(bits/n), infinite for none. */
static double perplexity(double bits, uint64_t n)
{
    if (bits == 0)
        return 1;
    return score_exp2(bits / (double)n);
}

static enum status print_column(struct sink *out, double value)
{
    TRY(sink_text(out, "\t"));
    return sink_number(out, value);
}

static enum status print_columns(const struct table *table,
                                 const struct line *line)
{
    struct sink *out = table->task->out;
    const struct tally *tally = line->tally;
    TRY(sink_text(out, line->name ? line->name : "total"));
    TRY(sink_format(out, "\t%" PRIu64, tally->n_bytes));
    TRY(print_column(out, tally->bits));
    TRY(print_column(out, tally_bits_per_byte(tally)));
    TRY(print_column(out, perplexity(tally->bits, tally->n_bytes)));
    if (table->task->options->words) {
        TRY(sink_format(out, "\t%" PRIu64, line->n_words));
        TRY(print_column(out, perplexity(tally->bits, line->n_words)));
    }
    return sink_text(out, "\n");
}

static enum status print_json(const struct table *table,
                              const struct line *line)
{
    struct sink *out = table->task->out;
    const struct tally *tally = line->tally;
    TRY(json_begin(out));
    if (line->name)
        TRY(json_put_string(out, "file", line->name, strlen(line->name)));
    else
        TRY(json_put_integer(out, "files", (uint64_t)table->n_summed));
    TRY(json_put_integer(out, "bytes", tally->n_bytes));
    TRY(json_put_number(out, "bits", tally->bits));
    TRY(json_put_number(out, "bits_per_byte", tally_bits_per_byte(tally)));
    TRY(json_put_number(out, "perplexity",
                        perplexity(tally->bits, tally->n_bytes)));
    if (table->task->options->words) {
        TRY(json_put_integer(out, "words", line->n_words));
        TRY(json_put_number(out, "word_perplexity",
                            perplexity(tally->bits, line->n_words)));
    }
    return json_end(out);
}

static enum status print_line(const struct table *table,
                              const struct line *line)
{
    TRY(table->task->options->json ? print_json(table, line)
                                   : print_columns(table, line));
    return sink_flush(table->task->out);
}

static enum status print_lane(struct table *table, const struct lane *lane)
{
    struct line line = {lane->source.path, &lane->tally,
                        words_count(&lane->words)};
    if (lane->has_failed)
        return OK;
    message_progress_end();
    tally_join(&table->total, &lane->tally);
    table->n_words += line.n_words;
    table->n_summed++;
    return print_line(table, &line);
}

static enum status print_total(const struct table *table)
{
    struct line line = {NULL, &table->total, table->n_words};
    return table->n_opened > 1 ? print_line(table, &line) : OK;
}

/* ---- lanes -------------------------------------------------------------- */

static void leave_out(struct table *table, struct lane *lane)
{
    task_report(table->task);
    source_close(&lane->source);
    lane->is_reading = false;
    lane->has_failed = true;
}

static enum status open_file(struct table *table, int i)
{
    struct lane *lane = &table->lanes[i % table->n_lanes];
    lane->tally = (struct tally){0};
    lane->words = (struct words){0};
    lane->is_reading = true;
    lane->has_failed = false;
    if (source_open(&lane->source, table->task->options->files[i]) != OK)
        leave_out(table, lane);
    return stream_copy(&lane->stream, &table->first, table->task);
}

/* Prints the lines that are known, and fills the lanes that they free. */
static enum status advance(struct table *table)
{
    int n_files = table->task->options->n_files;
    while (table->n_printed < n_files) {
        if (table->n_opened < n_files &&
            table->n_opened < table->n_printed + table->n_lanes) {
            TRY(open_file(table, table->n_opened++));
            continue;
        }
        const struct lane *front =
            &table->lanes[table->n_printed % table->n_lanes];
        if (front->is_reading)
            return OK;
        TRY(print_lane(table, front));
        table->n_printed++;
    }
    return OK;
}

/* The next bytes of a lane, at most n of them, into bytes. */
static enum status read_lane(struct table *table, struct lane *lane,
                             uint8_t *bytes, size_t n)
{
    enum status status = source_read(&lane->source, bytes, n, &lane->n);
    if (status == E_IO) {
        leave_out(table, lane);
        return OK;
    }
    if (status == OK && lane->n == 0) {
        source_close(&lane->source);
        lane->is_reading = false;
    }
    return status;
}

static int count_reading(const struct table *table)
{
    int n = 0;
    for (int i = 0; i < table->n_lanes; i++)
        n += table->lanes[i].is_reading;
    return n;
}

static void show_progress(const struct table *table)
{
    const struct source *source =
        &table->lanes[table->n_printed % table->n_lanes].source;
    message_progress(source->path, source->n_read, source->size);
}

/* One call of the engine: each lane that is reading gets an equal part of
 * the buffers. */
static enum status do_round(struct table *table)
{
    struct reader *reader = &table->reader;
    struct segment segments[LANES_MAX];
    struct lane *lanes[LANES_MAX];
    size_t part = reader->pace.n / (size_t)count_reading(table);
    size_t k = 0, n = 0;
    part = part > 0 ? part : 1;
    for (int i = 0; i < table->n_lanes; i++) {
        struct lane *lane = &table->lanes[i];
        if (!lane->is_reading)
            continue;
        TRY(read_lane(table, lane, reader->bytes + n, part));
        if (!lane->is_reading)
            continue;
        segments[k] = (struct segment){lane->stream.state,
                                       reader->bytes + n,
                                       lane->n,
                                       reader->bits + n,
                                       NULL,
                                       NULL};
        lanes[k++] = lane;
        n += lane->n;
    }
    if (k > 0)
        TRY(reader_feed(reader, segments, k, n));
    for (size_t i = 0; i < k; i++) {
        tally_add(&lanes[i]->tally, segments[i].bits, segments[i].n);
        words_add(&lanes[i]->words, segments[i].bytes, segments[i].n);
        lanes[i]->stream.position += segments[i].n;
    }
    return OK;
}

/* ---- all of it ---------------------------------------------------------- */

static enum status make_lanes(struct table *table)
{
    struct task *task = table->task;
    int n_files = task->options->n_files;
    int n = task_count_streams(task, n_files < LANES_MAX ? n_files : LANES_MAX);
    table->lanes = calloc((size_t)n, sizeof *table->lanes);
    if (!table->lanes)
        return fail_memory("reading");
    for (; table->n_lanes < n; table->n_lanes++) {
        struct lane *lane = &table->lanes[table->n_lanes];
        lane->source.fd = -1;
        TRY(engine_state_new(task->engine, &lane->stream.state));
    }
    return OK;
}

static void free_lanes(struct table *table)
{
    for (int i = 0; i < table->n_lanes; i++) {
        source_close(&table->lanes[i].source);
        stream_close(&table->lanes[i].stream, table->task);
    }
    free(table->lanes);
}

static enum status run(struct table *table)
{
    int n_files = table->task->options->n_files;
    TRY(reader_init(&table->reader, table->task));
    TRY(stream_open(&table->first, table->task));
    TRY(make_lanes(table));
    for (;;) {
        TRY(advance(table));
        if (table->n_printed == n_files)
            break;
        TRY(signals_check());
        show_progress(table);
        TRY(do_round(table));
    }
    message_progress_end();
    TRY(print_total(table));
    struct lane *last = &table->lanes[(n_files - 1) % table->n_lanes];
    return stream_save(&last->stream, table->task);
}

enum status task_perplexity(struct task *task)
{
    struct table table = {.task = task, .reader.source.fd = -1};
    enum status status = run(&table);
    message_progress_end();
    free_lanes(&table);
    stream_close(&table.first, task);
    reader_free(&table.reader);
    return status;
}
