/* validate.c -- how well a finished model predicts bytes it did not learn from.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train/validate.h"

#include <stdlib.h>

#include "base/signals.h"
#include "engine/engine.h"
#include "train/export.h"

enum { READ_BYTES = 1 << 15 };

static enum status feed_bytes(struct tally *tally, struct engine *engine,
                              struct state *state,
                              const struct data_source *source, uint64_t begin,
                              uint64_t end)
{
    static uint8_t bytes[READ_BYTES];
    static float bits[READ_BYTES];
    *tally = (struct tally){0};
    while (begin < end) {
        size_t n =
            end - begin < READ_BYTES ? (size_t)(end - begin) : READ_BYTES;
        struct segment segment = {
            .state = state, .bytes = bytes, .n = n, .bits = bits};
        TRY(signals_check());
        data_source_read(source, begin, bytes, n);
        TRY(engine_feed(engine, &segment, 1));
        tally_add(tally, bits, n);
        begin += n;
    }
    return OK;
}

static enum status read_source(struct tally *tally, struct engine *engine,
                               const struct validation *v, int i)
{
    struct state *state;
    const struct data_source *source = &v->dataset->sources[i];
    uint64_t begin = v->begins[i], end = source->n_bytes;
    if (end - begin > v->most)
        end = begin + v->most;
    TRY(engine_state_new(engine, &state));
    enum status status = feed_bytes(tally, engine, state, source, begin, end);
    engine_state_free(engine, state);
    return status;
}

static enum status with_model(struct tally *tallies, const struct validation *v,
                              const struct model *model)
{
    struct engine *engine;
    bool is_on_cpu = trainer_device(v->trainer) == DEVICE_CPU;
    struct engine_options options = {
        .device = is_on_cpu ? DEVICE_CPU : DEVICE_AUTO,
        .cuda_index = trainer_cuda_index(v->trainer),
        .n_threads = v->n_threads,
    };
    TRY(engine_open(&engine, model, &options));
    enum status status = OK;
    for (int i = 0; status == OK && i < v->dataset->n; i++)
        status = read_source(&tallies[i], engine, v, i);
    engine_close(engine);
    return status;
}

enum status validate(struct tally *tallies, const struct validation *validation,
                     const struct parameters *parameters, const float *weights)
{
    struct provenance none = {NULL, 0};
    struct model *model;
    uint8_t *bytes;
    size_t n;
    TRY(export_memory(&bytes, &n, parameters, weights, &none));
    enum status status =
        model_open_memory(&model, "the model in training", bytes, n);
    if (status == OK) {
        status = with_model(tallies, validation, model);
        model_close(model);
    }
    free(bytes);
    return status;
}
