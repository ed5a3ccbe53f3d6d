/* task_perplexity.c -- a line for each file: how well the model predicts it.
 *
 * Files are read several at a time, each with a stream of its own: an engine
 * works best with many streams, and many small files go as quickly as a large
 * one.  Lines come in the order of the files, each as soon as it is known.
 *
 * SPDX-License-Identifier: MIT
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/escape.h"
#include "base/message.h"
#include "base/signals.h"
#include "cmd/json.h"
#include "cmd/task_io.h"
#include "engine/scorer.h"

enum {
    FILES_MAX = 64 /* that are read together */
};

struct scored_file {
    struct source source;
    struct stream stream;
    struct tally tally;
    struct words words;
    size_t n;        /* bytes of the current round */
    bool is_reading; /* else its line can be printed */
    bool has_failed; /* and there is none to print */
};

/* File i of the command line is files[i % size], in its turn. */
struct file_ring {
    struct task *task;
    struct reader reader;      /* buffers and pace; its source is not used */
    struct stream first;       /* where each file starts */
    struct scored_file *files; /* [size] */
    int size;
    int n_opened, n_printed; /* of the command line */
    int n_summed;            /* files in the total */
    struct tally total;
    uint64_t n_words;
};

/* ---- lines -------------------------------------------------------------- */

struct file_score {
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

static enum status print_columns(const struct file_ring *ring,
                                 const struct file_score *score)
{
    struct sink *out = ring->task->out;
    const struct tally *tally = score->tally;
    TRY(escape_column(out, score->name ? score->name : "total"));
    TRY(sink_format(out, "\t%" PRIu64, tally->n_bytes));
    TRY(print_column(out, tally->bits));
    TRY(print_column(out, tally_bits_per_byte(tally)));
    TRY(print_column(out, perplexity(tally->bits, tally->n_bytes)));
    if (ring->task->options->words) {
        TRY(sink_format(out, "\t%" PRIu64, score->n_words));
        TRY(print_column(out, perplexity(tally->bits, score->n_words)));
    }
    return sink_text(out, "\n");
}

static enum status print_json(const struct file_ring *ring,
                              const struct file_score *score)
{
    struct sink *out = ring->task->out;
    const struct tally *tally = score->tally;
    TRY(json_begin(out));
    if (score->name)
        TRY(json_put_string(out, "file", score->name, strlen(score->name)));
    else
        TRY(json_put_integer(out, "files", (uint64_t)ring->n_summed));
    TRY(json_put_integer(out, "bytes", tally->n_bytes));
    TRY(json_put_number(out, "bits", tally->bits));
    TRY(json_put_number(out, "bits_per_byte", tally_bits_per_byte(tally)));
    TRY(json_put_number(out, "perplexity",
                        perplexity(tally->bits, tally->n_bytes)));
    if (ring->task->options->words) {
        TRY(json_put_integer(out, "words", score->n_words));
        TRY(json_put_number(out, "word_perplexity",
                            perplexity(tally->bits, score->n_words)));
    }
    return json_end(out);
}

static enum status print_line(const struct file_ring *ring,
                              const struct file_score *score)
{
    TRY(ring->task->options->json ? print_json(ring, score)
                                  : print_columns(ring, score));
    return sink_flush(ring->task->out);
}

static enum status print_file(struct file_ring *ring,
                              const struct scored_file *file)
{
    struct file_score score = {file->source.path, &file->tally,
                               words_count(&file->words)};
    if (file->has_failed)
        return OK;
    message_progress_end();
    tally_join(&ring->total, &file->tally);
    ring->n_words += score.n_words;
    ring->n_summed++;
    return print_line(ring, &score);
}

static enum status print_total(const struct file_ring *ring)
{
    struct file_score score = {NULL, &ring->total, ring->n_words};
    return ring->n_opened > 1 ? print_line(ring, &score) : OK;
}

/* ---- files -------------------------------------------------------------- */

static void leave_out(struct file_ring *ring, struct scored_file *file)
{
    task_report(ring->task);
    source_close(&file->source);
    file->is_reading = false;
    file->has_failed = true;
}

static enum status open_file(struct file_ring *ring, int i)
{
    struct scored_file *file = &ring->files[i % ring->size];
    file->tally = (struct tally){0};
    file->words = (struct words){0};
    file->is_reading = true;
    file->has_failed = false;
    enum status status =
        source_open(&file->source, ring->task->options->files[i]);
    if (status != OK)
        leave_out(ring, file);
    return stream_copy(&file->stream, &ring->first, ring->task);
}

/* Prints the lines that are known, and opens files in place of theirs. */
static enum status advance(struct file_ring *ring)
{
    int n_files = ring->task->options->n_files;
    while (ring->n_printed < n_files) {
        if (ring->n_opened < n_files &&
            ring->n_opened < ring->n_printed + ring->size) {
            TRY(open_file(ring, ring->n_opened++));
            continue;
        }
        const struct scored_file *front =
            &ring->files[ring->n_printed % ring->size];
        if (front->is_reading)
            return OK;
        TRY(print_file(ring, front));
        ring->n_printed++;
    }
    return OK;
}

/* Reads the next bytes of a file, at most n of them, into bytes. */
static enum status read_file(struct file_ring *ring, struct scored_file *file,
                             uint8_t *bytes, size_t n)
{
    enum status status = source_read(&file->source, bytes, n, &file->n);
    if (status == E_IO) {
        leave_out(ring, file);
        return OK;
    }
    if (status == OK && file->n == 0) {
        source_close(&file->source);
        file->is_reading = false;
    }
    return status;
}

static int count_reading(const struct file_ring *ring)
{
    int n = 0;
    for (int i = 0; i < ring->size; i++)
        n += ring->files[i].is_reading;
    return n;
}

static void show_progress(const struct file_ring *ring)
{
    const struct source *source =
        &ring->files[ring->n_printed % ring->size].source;
    message_progress(source->name, source->n_read, source->size);
}

/* One call of the engine: each file that is being read gets an equal part of
 * the buffers. */
static enum status do_round(struct file_ring *ring)
{
    struct reader *reader = &ring->reader;
    struct segment segments[FILES_MAX];
    struct scored_file *files[FILES_MAX];
    size_t part = reader->pace.n / (size_t)count_reading(ring);
    size_t k = 0, n = 0;
    part = part > 0 ? part : 1;
    for (int i = 0; i < ring->size; i++) {
        struct scored_file *file = &ring->files[i];
        if (!file->is_reading)
            continue;
        TRY(read_file(ring, file, reader->bytes + n, part));
        if (!file->is_reading)
            continue;
        segments[k] = (struct segment){.state = file->stream.state,
                                       .bytes = reader->bytes + n,
                                       .n = file->n,
                                       .bits = reader->bits + n};
        files[k++] = file;
        n += file->n;
    }
    if (k > 0)
        TRY(reader_feed(reader, segments, k, n));
    for (size_t i = 0; i < k; i++) {
        tally_add(&files[i]->tally, segments[i].bits, segments[i].n);
        words_add(&files[i]->words, segments[i].bytes, segments[i].n);
        files[i]->stream.position += segments[i].n;
    }
    return OK;
}

/* ---- all of it ---------------------------------------------------------- */

/* How many files may be open together: half of the descriptors are for others.
 */
static int count_files(const struct task *task)
{
    long n_files = task->options->n_files, n_open = sysconf(_SC_OPEN_MAX) / 2;
    long n = n_files < FILES_MAX ? n_files : FILES_MAX;
    return n_open < 1 || n < n_open ? (int)n : (int)n_open;
}

/* A smaller ring where the engine's memory ends. */
static enum status make_files(struct file_ring *ring)
{
    struct task *task = ring->task;
    struct state *states[FILES_MAX];
    size_t n_made;
    int n = task_count_streams(task, count_files(task));
    ring->files = calloc((size_t)n, sizeof *ring->files);
    if (!ring->files)
        return fail_memory("reading");
    enum status status =
        engine_states_new(task->engine, states, (size_t)n, 1, &n_made);
    while ((size_t)ring->size < n_made) {
        struct scored_file *file = &ring->files[ring->size];
        file->source.fd = -1;
        file->stream.state = states[ring->size++];
    }
    return status;
}

static void free_files(struct file_ring *ring)
{
    for (int i = 0; i < ring->size; i++) {
        source_close(&ring->files[i].source);
        stream_close(&ring->files[i].stream, ring->task);
    }
    free(ring->files);
}

static enum status run(struct file_ring *ring)
{
    int n_files = ring->task->options->n_files;
    TRY(reader_open(&ring->reader, ring->task));
    TRY(stream_open(&ring->first, ring->task));
    TRY(make_files(ring));
    for (;;) {
        TRY(advance(ring));
        if (ring->n_printed == n_files)
            break;
        TRY(signals_check());
        show_progress(ring);
        TRY(do_round(ring));
    }
    message_progress_end();
    TRY(print_total(ring));
    struct scored_file *last = &ring->files[(n_files - 1) % ring->size];
    return stream_save(&last->stream, ring->task);
}

enum status task_perplexity(struct task *task)
{
    struct file_ring ring = {.task = task, .reader.source.fd = -1};
    enum status status = run(&ring);
    message_progress_end();
    free_files(&ring);
    stream_close(&ring.first, task);
    reader_close(&ring.reader);
    return status;
}
