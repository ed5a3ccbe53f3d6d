/* measure.c -- how well a model predicts some bytes.
 *
 * SPDX-License-Identifier: MIT
 */
#include "engine/measure.h"

#include <stdlib.h>

#include "base/byteio.h"
#include "base/message.h"
#include "base/signals.h"

enum { PIECE_BYTES = 1 << 10 };

static enum status fill(struct sample *sample, struct source *source,
                        size_t most)
{
    sample->bytes = malloc(most);
    if (!sample->bytes)
        return fail_memory(sample->path);
    TRY(source_read_full(source, sample->bytes, most, &sample->n));
    if (sample->n == 0)
        return fail(E_IO, "%s: is empty, there is nothing to measure on",
                    source->name);
    return OK;
}

enum status sample_open(struct sample *sample, const char *path, size_t most)
{
    struct source source;
    *sample = (struct sample){.path = path};
    TRY(source_open(&source, path));
    enum status status = fill(sample, &source, most);
    source_close(&source);
    if (status != OK)
        sample_close(sample);
    return status;
}

void sample_close(struct sample *sample)
{
    free(sample->bytes);
    *sample = (struct sample){0};
}

static enum status read_pieces(struct tally *tally, struct engine *engine,
                               struct state *state, const struct sample *sample,
                               const char *what)
{
    float bits[PIECE_BYTES];
    for (size_t at = 0; at < sample->n; at += PIECE_BYTES) {
        size_t left = sample->n - at;
        struct segment segment = {
            .state = state,
            .bytes = sample->bytes + at,
            .n = left < PIECE_BYTES ? left : PIECE_BYTES,
            .bits = bits,
        };
        TRY(signals_check());
        message_status("%s: %zu of %zu bytes", what, at, sample->n);
        TRY(engine_feed(engine, &segment, 1));
        tally_add(tally, bits, segment.n);
    }
    return OK;
}

enum status measure_with(struct tally *tally, const struct model *model,
                         const struct sample *sample,
                         const struct engine_options *options, const char *what)
{
    struct engine *engine;
    struct state *state;
    *tally = (struct tally){0};
    TRY(engine_open(&engine, model, options));
    enum status status = engine_state_new(engine, &state);
    if (status == OK) {
        status = read_pieces(tally, engine, state, sample, what);
        engine_state_free(engine, state);
    }
    engine_close(engine);
    message_progress_end();
    return status;
}

enum status measure(struct tally *tally, const struct model *model,
                    const struct sample *sample, int n_threads,
                    const char *what)
{
    struct engine_options options = {.device = DEVICE_CPU,
                                     .n_threads = n_threads};
    return measure_with(tally, model, sample, &options, what);
}
