/* late_engine.c -- an engine whose started calls take as long as they may.
 *
 * SPDX-License-Identifier: MIT
 */
#include "engine/engine_ops.h"
#include "late_engine.h"

static const struct engine_ops *real;
static struct engine_ops late;

/* The call under way. */
static const struct segment *segments;
static size_t n_segments;

static enum status late_feed_finish(struct engine *engine)
{
    size_t n = n_segments;
    n_segments = 0;
    return real->feed(engine, segments, n);
}

static enum status late_feed_start(struct engine *engine,
                                   const struct segment *next, size_t n)
{
    TRY(late_feed_finish(engine));
    segments = next;
    n_segments = n;
    return OK;
}

static bool is_under_way(const struct state *state)
{
    for (size_t i = 0; i < n_segments; i++) {
        if (segments[i].state == state)
            return true;
    }
    return false;
}

static enum status late_state_copy(struct engine *engine, struct state *to,
                                   const struct state *from)
{
    if (is_under_way(to) || is_under_way(from))
        return fail(E_DEVICE, "a state under way is copied");
    return real->state_copy(engine, to, from);
}

/* What is under way is forgotten. */
static void late_close(struct engine *engine)
{
    n_segments = 0;
    real->close(engine);
}

void late_engine_make(struct engine *engine)
{
    real = engine->ops;
    late = *real;
    late.state_copy = late_state_copy;
    late.feed_start = late_feed_start;
    late.feed_finish = late_feed_finish;
    late.close = late_close;
    n_segments = 0;
    engine->ops = &late;
    engine->is_asynchronous = true;
}
