/* scarce_engine.c -- an engine whose memory ends.
 *
 * SPDX-License-Identifier: MIT
 */
#include "scarce_engine.h"

#include "engine/engine_ops.h"

static const struct engine_ops *real;
static struct engine_ops scarce;
static int n_left;

static enum status scarce_state_new(struct engine *engine, struct state **state)
{
    *state = NULL;
    if (n_left <= 0)
        return fail(E_MEMORY, "no room for a state");
    TRY(real->state_new(engine, state));
    n_left--;
    return OK;
}

static void scarce_state_free(struct engine *engine, struct state *state)
{
    real->state_free(engine, state);
    n_left++;
}

void scarce_engine_make(struct engine *engine, int n_states)
{
    n_left = n_states;
    if (engine->ops == &scarce)
        return;
    real = engine->ops;
    scarce = *real;
    scarce.state_new = scarce_state_new;
    scarce.state_free = scarce_state_free;
    engine->ops = &scarce;
}
