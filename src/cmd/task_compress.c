/* task_compress.c -- -z, -d and -t, which behave as in xz.
 *
 * Standard input goes to standard output; FILE becomes FILE.mbz, or the other
 * way round (file_pair.h).  A file that fails is reported and stays as it is,
 * and the next one follows: only a failure that concerns all files ends the
 * task.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file_pair.h"
#include "base/message.h"
#include "base/text.h"
#include "cmd/task_io.h"
#include "compress/compressor.h"

#define SUFFIX ".mbz"

enum { SUFFIX_BYTES = 4 };

/* Does what the command asks with a source; sink is NULL for --test. */
static enum status convert(struct task *task, struct compressor *compressor,
                           struct source *source, struct sink *sink)
{
    const struct options *options = task->options;
    if (options->mode == MODE_COMPRESS)
        return compress(compressor, source, sink, options->block_bytes);
    if (options->has_range)
        return decompress_range(compressor, source, sink, options->range_offset,
                                options->range_length);
    return decompress(compressor, source, sink);
}

static void note_traffic(struct task *task, const struct compressor *compressor,
                         const char *name, double seconds)
{
    char plain[16], packed[16], speed[16];
    struct traffic traffic = compressor_traffic(compressor);
    double n_plain = (double)traffic.n_plain;
    double n_packed = (double)traffic.n_packed;
    message_size(speed, seconds > 0 ? n_plain / seconds : 0);
    message_note("%s: %s plain, %s packed, ratio %.3f, %.3f bits/byte, %s/s",
                 name, message_size(plain, n_plain),
                 message_size(packed, n_packed),
                 n_plain > 0 ? n_packed / n_plain : 0,
                 n_plain > 0 ? 8 * n_packed / n_plain : 0, speed);
    task->n_files++;
    task->n_plain += traffic.n_plain;
    task->n_packed += traffic.n_packed;
}

static void note_total(const struct task *task, double seconds)
{
    char plain[16], packed[16], speed[16];
    double n_plain = (double)task->n_plain, n_packed = (double)task->n_packed;
    message_size(speed, seconds > 0 ? n_plain / seconds : 0);
    message_note("%d file%s, %s plain, %s packed, ratio %.3f, %.2f s, %s/s",
                 task->n_files, text_plural((uint64_t)task->n_files),
                 message_size(plain, n_plain), message_size(packed, n_packed),
                 n_plain > 0 ? n_packed / n_plain : 0, seconds, speed);
}

static enum status convert_timed(struct task *task,
                                 struct compressor *compressor,
                                 struct source *source, struct sink *sink)
{
    double started = clock_now();
    TRY(convert(task, compressor, source, sink));
    note_traffic(task, compressor, source->name, clock_now() - started);
    return OK;
}

/* ---- standard input, standard output, --test ---------------------------- */

static enum status check_terminal(const struct task *task,
                                  const struct source *source)
{
    const struct options *options = task->options;
    if (options->force)
        return OK;
    if (options->mode == MODE_COMPRESS && byteio_is_terminal(STDOUT_FILENO))
        return fail(E_IO, "compressed data is not written to a terminal "
                          "without --force");
    if (options->mode != MODE_COMPRESS && byteio_is_terminal(source->fd))
        return fail(E_IO, "compressed data is not read from a terminal "
                          "without --force");
    return OK;
}

static enum status convert_to_output(struct task *task,
                                     struct compressor *compressor,
                                     const char *path)
{
    struct source source;
    struct sink *sink = task->options->mode == MODE_TEST ? NULL : task->out;
    TRY(source_open(&source, path));
    enum status status = check_terminal(task, &source);
    if (status == OK)
        status = convert_timed(task, compressor, &source, sink);
    if (status == OK && sink)
        status = sink_flush(sink);
    source_close(&source);
    return status;
}

/* ---- files that become others ------------------------------------------- */

static bool has_suffix(const char *path)
{
    const char *tail = text_find_tail(path, SUFFIX);
    return tail && tail > path && tail[-1] != '/';
}

/* The name of the file that path becomes, for the caller to free. */
static enum status make_target(char **target, const struct task *task,
                               const char *path)
{
    bool compresses = task->options->mode == MODE_COMPRESS;
    size_t n = strlen(path);
    if (compresses && has_suffix(path))
        return fail(E_SKIPPED,
                    "%s: has the suffix " SUFFIX " already, "
                    "skipped",
                    path);
    if (!compresses && !has_suffix(path))
        return fail(E_SKIPPED, "%s: lacks the suffix " SUFFIX ", skipped",
                    path);
    *target = malloc(n + SUFFIX_BYTES + 1);
    if (!*target)
        return fail_memory("a file name");
    memcpy(*target, path, n + 1);
    strcpy(*target + (compresses ? n : n - SUFFIX_BYTES),
           compresses ? SUFFIX : "");
    return OK;
}

static enum status convert_pair(struct task *task,
                                struct compressor *compressor, const char *path,
                                const char *target)
{
    static struct sink sink;
    const struct options *options = task->options;
    struct file_pair pair;
    TRY(file_pair_open(&pair, path, target, options->force, &sink));
    enum status status =
        convert_timed(task, compressor, &pair.source, pair.sink);
    if (status == OK)
        return file_pair_finish(&pair, options->keep);
    file_pair_abandon(&pair);
    return status;
}

static enum status convert_file(struct task *task,
                                struct compressor *compressor, const char *path)
{
    const struct options *options = task->options;
    if (options->mode == MODE_TEST || options->to_stdout ||
        options->has_range || strcmp(path, "-") == 0)
        return convert_to_output(task, compressor, path);
    char *target;
    TRY(make_target(&target, task, path));
    enum status status = convert_pair(task, compressor, path, target);
    free(target);
    return status;
}

/* ---- all files ---------------------------------------------------------- */

static enum status convert_files(struct task *task,
                                 struct compressor *compressor)
{
    for (int i = 0; i < task->options->n_files; i++)
        TRY(task_settle(
            task, convert_file(task, compressor, task->options->files[i])));
    return OK;
}

enum status task_compress(struct task *task)
{
    struct compressor *compressor;
    double started = clock_now();
    TRY(compressor_open(&compressor, task->engine,
                        safetensors_path(task->model->file),
                        task->options->engine.n_threads));
    enum status status = convert_files(task, compressor);
    if (status == OK && task->n_files > 1)
        note_total(task, clock_now() - started);
    compressor_close(compressor);
    return status;
}
