/* task_next.c -- what comes next: the most likely bytes after each file, with
 * their probabilities.
 *
 * SPDX-License-Identifier: MIT
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/exact.h"
#include "cmd/json.h"
#include "cmd/task_io.h"
#include "engine/scorer.h"
#include "engine/state_image.h"
#include "model/odds.h"

#define TEMPERATURE_MIN 1e-6f
#define SCALED_MIN      (-1e30f) /* a byte that never comes */

struct prediction {
    struct task *task;
    float *image;  /* of the state that predicts */
    float *logits; /* [256], in image */
};

/* ---- lines -------------------------------------------------------------- */

static enum status print_columns(struct task *task, const struct source *source,
                                 uint8_t byte, double bits)
{
    struct sink *out = task->out;
    TRY(task_put_file(task, source->path));
    TRY(sink_format(out, "%d\t", byte));
    TRY(sink_number(out, 1 / score_exp2(bits)));
    TRY(sink_text(out, "\t"));
    TRY(sink_number(out, bits));
    return sink_text(out, "\n");
}

static enum status print_json(struct sink *out, const struct source *source,
                              uint8_t byte, double bits)
{
    TRY(json_begin(out));
    TRY(json_put_string(out, "file", source->path, strlen(source->path)));
    TRY(json_put_integer(out, "offset", source->n_read));
    TRY(json_put_integer(out, "byte", byte));
    TRY(json_put_number(out, "probability", 1 / score_exp2(bits)));
    TRY(json_put_number(out, "bits", bits));
    return json_end(out);
}

/* ---- the prediction ----------------------------------------------------- */

/* The bytes by falling logit, equal ones by rising value. */
static void rank(uint8_t bytes[256], const float logits[256])
{
    for (int i = 0; i < 256; i++) {
        int at = i;
        float logit = exact_logit(logits[i]);
        for (; at > 0 && exact_logit(logits[bytes[at - 1]]) < logit; at--)
            bytes[at] = bytes[at - 1];
        bytes[at] = (uint8_t)i;
    }
}

/* scaled <- (logits - the largest) / temperature.  The largest is that of the
 * first of the ranked bytes.  Nothing overflows. */
static void scale(float scaled[256], const float logits[256], uint8_t first,
                  double temperature)
{
    float divisor = exact_max((float)temperature, TEMPERATURE_MIN);
    float largest = exact_logit(logits[first]);
    for (int i = 0; i < 256; i++)
        scaled[i] =
            exact_max((exact_logit(logits[i]) - largest) / divisor, SCALED_MIN);
}

static enum status print_prediction(const struct prediction *p,
                                    const struct source *source)
{
    const struct options *options = p->task->options;
    struct sink *out = p->task->out;
    uint8_t bytes[256];
    float scaled[256];
    rank(bytes, p->logits);
    scale(scaled, p->logits, bytes[0], options->temperature);
    for (int i = 0; i < options->n_next; i++) {
        double bits = (double)odds_cost(scaled, bytes[i]);
        TRY(options->json ? print_json(out, source, bytes[i], bits)
                          : print_columns(p->task, source, bytes[i], bits));
    }
    return sink_flush(out);
}

static enum status predict(void *context, struct reader *reader,
                           struct stream *stream)
{
    struct prediction *p = context;
    for (size_t n;;) {
        TRY(reader_next(reader, &n));
        if (n == 0)
            break;
        TRY(reader_feed_piece(reader, stream, n, NULL));
    }
    TRY(engine_state_get(p->task->engine, stream->state, p->image));
    return print_prediction(p, &reader->source);
}

enum status task_next(struct task *task)
{
    const struct model_config *config = &task->model->config;
    struct prediction p = {.task = task,
                           .image = malloc(model_state_size(config))};
    if (!p.image)
        return fail_memory("a state");
    p.logits = state_logits(config, p.image);
    enum status status = task_each_file(task, predict, &p);
    free(p.image);
    return status;
}
