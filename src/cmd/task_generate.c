/* task_generate.c -- continues the input.
 *
 * The input is read to its end, then bytes are drawn: one at a time at first,
 * more at a time while they come so quickly that nobody sees the difference.
 * The random number of a byte follows from the seed and from the byte's
 * position in the stream: the output is the same however many are drawn at a
 * time, and when a saved state continues it.
 *
 * A saved state has read the input and the bytes that were written, not one
 * more.  The engine may be ahead of the output (a stop string, half a
 * character).  The saved state then comes from a copy that is not ahead, and
 * that reads the bytes written since.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/random.h>

#include "base/message.h"
#include "base/signals.h"
#include "cmd/outlet.h"
#include "cmd/task_io.h"

#define DRAW_SECONDS 0.02 /* that a call of the engine should take */

enum {
    DRAW_MAX = 256,
    SINCE_FEED = 2 * OUTLET_STOP_MAX, /* bytes after which behind reads on */
    SINCE_MAX = SINCE_FEED + DRAW_MAX
};

struct generator {
    struct task *task;
    struct sampler sampler;
    struct stream stream; /* has read all that was drawn */
    struct outlet outlet;
    uint64_t n_drawn;

    /* For --save-state: a stream that is not ahead of the output. */
    bool keeps_behind;
    struct stream behind;
    uint8_t since[SINCE_MAX]; /* [n_since], drawn after behind */
    size_t n_since;
};

/* ---- the input ---------------------------------------------------------- */

static enum status read_prompt(struct generator *g, struct reader *reader)
{
    struct task *task = g->task;
    for (size_t n;;) {
        TRY(reader_next(reader, &n));
        if (n == 0)
            return OK;
        TRY(reader_feed_piece(reader, &g->stream, n, NULL));
        outlet_after(&g->outlet, reader->bytes, n);
        if (task->options->echo) {
            TRY(sink_write(task->out, reader->bytes, n));
            TRY(sink_flush(task->out));
        }
    }
}

static enum status read_prompts(struct generator *g)
{
    const struct options *options = g->task->options;
    struct reader reader;
    TRY(reader_open(&reader, g->task));
    enum status status = OK;
    for (int i = 0; i < options->n_files && status == OK; i++) {
        status = source_open(&reader.source, options->files[i]);
        if (status == OK)
            status = read_prompt(g, &reader);
        source_close(&reader.source);
    }
    reader_close(&reader);
    return status;
}

/* ---- the state that is saved -------------------------------------------- */

/* behind reads the bytes of since that were written. */
static enum status catch_up(struct generator *g)
{
    size_t n = g->n_since - (size_t)(g->n_drawn - g->outlet.n_out);
    struct segment segment = {
        .state = g->behind.state, .bytes = g->since, .n = n};
    TRY(engine_feed(g->task->engine, &segment, 1));
    g->behind.position += n;
    g->n_since -= n;
    memmove(g->since, g->since + n, g->n_since);
    return OK;
}

/* Before bytes are drawn. */
static enum status keep_behind(struct generator *g)
{
    if (!g->keeps_behind)
        return OK;
    if (g->outlet.n_out == g->n_drawn) {
        g->n_since = 0;
        return stream_copy(&g->behind, &g->stream, g->task);
    }
    return g->n_since > SINCE_FEED ? catch_up(g) : OK;
}

static enum status save(struct generator *g)
{
    if (!g->keeps_behind || g->outlet.n_out == g->n_drawn)
        return stream_save(&g->stream, g->task);
    TRY(catch_up(g));
    return stream_save(&g->behind, g->task);
}

/* ---- the output --------------------------------------------------------- */

static enum status draw(struct generator *g, size_t n)
{
    uint8_t bytes[DRAW_MAX];
    TRY(keep_behind(g));
    TRY(engine_generate(g->task->engine, g->stream.state, &g->sampler,
                        g->stream.position, bytes, n));
    g->stream.position += n;
    g->n_drawn += n;
    if (g->keeps_behind) {
        memcpy(g->since + g->n_since, bytes, n);
        g->n_since += n;
    }
    for (size_t i = 0; i < n && !g->outlet.is_stopped; i++)
        TRY(outlet_add(&g->outlet, bytes[i]));
    return sink_flush(g->task->out);
}

static enum status write_continuation(struct generator *g)
{
    uint64_t limit = g->task->options->n_bytes;
    struct pace pace = pace_make(1, DRAW_MAX, DRAW_SECONDS);
    while (g->n_drawn < limit && !g->outlet.is_stopped) {
        uint64_t left = limit - g->n_drawn;
        size_t n = left < pace.n ? (size_t)left : pace.n;
        TRY(signals_check());
        pace_begin(&pace);
        TRY(draw(g, n));
        pace_end(&pace, n);
    }
    TRY(outlet_finish(&g->outlet));
    g->task->n_written = g->outlet.n_out;
    return sink_flush(g->task->out);
}

/* ---- all of it ---------------------------------------------------------- */

static enum status make_sampler(struct sampler *sampler,
                                const struct options *options)
{
    uint64_t seed = options->seed;
    if (options->is_seed_random &&
        getrandom(&seed, sizeof seed, 0) != sizeof seed)
        return fail(E_IO, "no random numbers: %s", strerror(errno));
    *sampler = sampler_make((float)options->temperature, (int)options->top_k,
                            (float)options->top_p, (float)options->min_p, seed);
    message_note("seed %" PRIu64, seed);
    return OK;
}

static enum status run(struct generator *g)
{
    TRY(stream_open(&g->stream, g->task));
    if (g->keeps_behind)
        TRY(stream_open_copy(&g->behind, &g->stream, g->task));
    TRY(read_prompts(g));
    TRY(write_continuation(g));
    return save(g);
}

enum status task_generate(struct task *task)
{
    const struct options *options = task->options;
    struct generator g = {
        .task = task,
        .outlet = {.sink = task->out,
                   .stops = options->stops,
                   .n_stops = options->n_stops,
                   .is_utf8 = options->utf8},
        .keeps_behind =
            options->save_state && (options->n_stops > 0 || options->utf8),
    };
    TRY(make_sampler(&g.sampler, options));
    enum status status = run(&g);
    stream_close(&g.behind, task);
    stream_close(&g.stream, task);
    return status;
}
