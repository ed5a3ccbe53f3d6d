/* engine.h -- runs a model over bytes, on whatever hardware there is.
 *
 * Two nouns: an immutable model, and a mutable state, which is one stream's
 * recurrence together with its prediction of the next byte.  An engine owns
 * the states (they live where it computes) and its scratch, never the model.
 *
 * Every engine gives the same bits, however a stream is split into calls and
 * whatever other streams share its calls: what one machine compressed, another
 * decompresses.  check_engine.c checks this.  Models of floats
 * (model_needs_int8) are left out of the promise: a GPU adds in another order.
 *
 * A caller that reads nothing needs no engine: the functions that feed, and
 * engine_is_asynchronous(), accept NULL.
 *
 * An engine is used by one thread at a time.  engine_ops.h has the functions of
 * a backend, state_image.h the parts of a state.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_ENGINE_H
#define MAMBYTE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/device.h"
#include "engine/sampler.h"
#include "model/model.h"

struct engine;
struct state;
struct probe;

/* n bytes that one stream reads.  No two segments of a call share a state. */
struct segment {
    struct state *state;
    const uint8_t *bytes; /* [n] */
    size_t n;             /* may be 0 */
    float *bits;          /* [n] or NULL: what byte t cost under the
                           * prediction before it (odds_cost) */
    float *logits;        /* [n][256] or NULL: natural-log units, the
                           * prediction after byte t */
    float *pooled;        /* [pooled_floats()] or NULL: the features of the
                           * bytes are added to it, see pooled.h */
};

struct engine_options {
    enum device device;
    int cuda_index;  /* which GPU */
    int n_threads;   /* of the CPU; 0: one a core that we may run on */
    const char *cpu; /* "scalar", "avx2", ..: a named level; NULL: the best */
    const struct probe *probe; /* or NULL; DEVICE_CPU with one thread only, for
                                * a model of floats: see probe.h */
};

/* The model stays the caller's and must outlive the engine.  E_DEVICE with
 * the reason when DEVICE_CUDA cannot be had; DEVICE_AUTO is a GPU where one
 * can be had, else the CPU. */
enum status engine_open(struct engine **engine, const struct model *model,
                        const struct engine_options *options);
void engine_close(struct engine *engine); /* NULL is accepted */

const struct model *engine_model(const struct engine *engine);

/* How many streams keep the engine busy when a call gives each a byte; 0: a few
 * dozen. */
int engine_busy_streams(const struct engine *engine);

/* Bytes of a call, over all streams, up to which longer calls are faster; 0: a
 * few dozen. */
int engine_busy_bytes(const struct engine *engine);

/* Whether it computes without the cores of this machine, so that a caller has
 * them for itself while a call is under way. */
bool engine_is_asynchronous(const struct engine *engine);

/* A state at the start of a stream: zero, then the begin byte of the model.
 * A model without one predicts all bytes alike until it has read one. */
enum status engine_state_new(struct engine *engine, struct state **state);
void engine_state_free(struct engine *engine, struct state *state);
enum status engine_state_begin(struct engine *engine, struct state *state);
enum status engine_state_copy(struct engine *engine, struct state *to,
                              const struct state *from);

/* n states at the start of a stream; where memory ends, fewer, which leave the
 * engine some for its work, but never fewer than least.  The caller has to free
 * *n_made of them, after a failure too. */
enum status engine_states_new(struct engine *engine, struct state **states,
                              size_t n, size_t least, size_t *n_made);

/* A state in the memory of the host, the same on every engine:
 * state_image.h.  image: model_state_size() bytes.  E_FORMAT when it is no
 * state. */
enum status engine_state_get(struct engine *engine, const struct state *state,
                             float *image);
enum status engine_state_set(struct engine *engine, struct state *state,
                             const float *image);

/* Reads the segments' bytes: equal, bit for bit, to reading them one stream
 * and one byte at a time.  A signal ends a long call with E_INTERRUPTED; the
 * states have then read some of the bytes. */
enum status engine_feed(struct engine *engine, const struct segment *segments,
                        size_t n_segments);

/* Starts a call of engine_feed() and returns once the call that was started
 * before it has finished: then that one's results are there.  The segments of
 * the new call, and all that they name, stay in place until it has finished.
 * So one call is under way while its caller works on the results of another.
 *
 * A state may be in calls that follow each other: they read in order.  While
 * its call is under way a state must not be copied, overwritten or set to a
 * start, nor freed unless the engine is closed next; other states may.  After a
 * failure nothing is under way. */
enum status engine_feed_start(struct engine *engine,
                              const struct segment *segments,
                              size_t n_segments);

/* Waits for the call that is under way.  engine_feed, engine_generate,
 * engine_state_get and engine_state_set do so themselves. */
enum status engine_feed_finish(struct engine *engine);

/* Draws n bytes, each from the prediction of state, and reads it.  The
 * random number of bytes[i] is random_at(sampler->seed, index + i). */
enum status engine_generate(struct engine *engine, struct state *state,
                            const struct sampler *sampler, uint64_t index,
                            uint8_t *bytes, size_t n);

/* Memory for n floats to which the engine writes logits and pooled features
 * directly; for any other memory it makes an extra copy.  To be freed before
 * the engine is closed.
 */
enum status engine_floats_new(struct engine *engine, float **floats, size_t n);
void engine_floats_free(struct engine *engine, float *floats);

/* "cpu avx512vnni, 2 threads" */
void engine_describe(const struct engine *engine, char text[160]);

#endif
