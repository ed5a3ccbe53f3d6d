/* task_surprisal.c -- a line for each byte: offset, byte, bits.
 *
 * SPDX-License-Identifier: MIT
 */
#include <inttypes.h>
#include <string.h>

#include "cmd/json.h"
#include "cmd/task_io.h"
#include "engine/scorer.h"

static enum status print_byte(struct task *task, const char *file,
                              uint64_t offset, uint8_t byte, float bits)
{
    TRY(task_put_file(task, file));
    return sink_format(task->out, "%" PRIu64 "\t%d\t%.6f\n", offset, byte,
                       (double)bits);
}

static enum status print_json(struct sink *out, const char *file,
                              uint64_t offset, uint8_t byte, float bits)
{
    TRY(json_begin(out));
    TRY(json_put_string(out, "file", file, strlen(file)));
    TRY(json_put_integer(out, "offset", offset));
    TRY(json_put_integer(out, "byte", byte));
    TRY(json_put_number(out, "bits", (double)bits));
    return json_end(out);
}

static enum status print_file(void *context, struct reader *reader,
                              struct stream *stream)
{
    struct task *task = context;
    uint64_t offset = 0;
    for (size_t n;;) {
        TRY(reader_next(reader, &n));
        if (n == 0)
            return OK;
        TRY(reader_feed_piece(reader, stream, n, reader->bits));
        for (size_t t = 0; t < n; t++, offset++) {
            float bits = reader->bits[t];
            if (task->options->json)
                TRY(print_json(task->out, reader->source.path, offset,
                               reader->bytes[t], bits));
            else
                TRY(print_byte(task, reader->source.path, offset,
                               reader->bytes[t], bits));
        }
        TRY(sink_flush(task->out));
    }
}

enum status task_surprisal(struct task *task)
{
    return task_each_file(task, print_file, task);
}
