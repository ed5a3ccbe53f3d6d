/* block.h -- what the files here share: the blocks that run side by side, their
 * warps and their threads.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMULATED_BLOCK_H
#define EMULATED_BLOCK_H

#include <memory>
#include <vector>

#include "tests/emulated/cuda_runtime.h"
#include "tests/emulated/fibers.h"

namespace emulated
{
enum { N_BARRIERS = 16 };

struct block;

struct late_act {
    std::function<void()> act;
    int group;
};

/* What a thread has under way; group: of what comes next. */
struct late_acts {
    std::vector<late_act> acts;
    int group;
};

struct thread {
    void *stack_pointer;
    block *home;
    int id;
    late_acts copies, products;
};

struct barrier {
    std::vector<thread *> waiting;
};

/* A lane is ready when it can go on.  In an exchange that is under way lanes
 * have arrived, and have named its operation. */
struct warp {
    block *home;
    uint32_t alive, ready, arrived; /* a bit a lane */
    unsigned turn;                  /* which of the slots are in use */
    slot slots[2][LANES];
    const char *operation;
    bool is_listed, is_slow;
};

/* An array in static shared memory. */
struct place {
    const void *key;
    size_t at;
};

struct cluster {
    int size, alive; /* blocks; threads */
    barrier all;
};

struct block {
    dim3 index;
    int first; /* of its cluster, among the blocks that run now */
    int alive;
    cluster *team;
    std::vector<thread> threads;
    std::vector<warp> warps;
    barrier barriers[N_BARRIERS];
    uint8_t *dynamic, *fixed;
    size_t used; /* of fixed */
    std::vector<place> places;
};

/* The first ones run now; the others are used again when more are needed. */
extern std::vector<std::unique_ptr<block>> blocks;

/* Warps that have a lane that is ready, and perhaps some that have none. */
extern std::vector<warp *> runnable;

/* The thread that runs; NULL while the host does. */
extern thread *current;

static inline warp &warp_of(thread *t)
{
    return t->home->warps[(size_t)t->id / LANES];
}

static inline uint32_t bit_of(const thread *t)
{
    return 1u << t->id % LANES;
}

/* ---- fibers.cpp ---------------------------------------------------------- */

/* Gives a thread its stack, on which it will call enter. */
void set_stack(thread *t, uint8_t *stack, size_t bytes, void (*enter)());

/* The scheduler goes on with a thread; the thread goes back to it. */
void go_on_with(thread *t);
void leave();

/* The thread becomes ready. */
void wake(thread *t);

/* What waits goes on if all have come, now that a thread has ended. */
void recount(block *home, warp *w);

/* Something has happened for which threads may have waited. */
void note_progress();

/* ---- late.cpp ------------------------------------------------------------ */

bool is_something_under_way();
void deliver_one();
} // namespace emulated

#endif
