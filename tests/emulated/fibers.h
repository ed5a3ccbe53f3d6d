/* fibers.h -- the threads of a kernel as fibers of one thread of the CPU.
 *
 * A fiber runs until it waits: at a barrier, for the other lanes of its warp,
 * for bytes or for a word.  Which fiber runs next is drawn from the seed in
 * MAMBYTE_EMULATED_SEED (1 when it is unset); now and then some warps are slow.
 * Blocks run in an order that is drawn as well, as many side by side as must
 * be: one, a cluster, or the whole grid of a cooperative launch.  The same seed
 * gives the same run.
 *
 * What travels without its sender (asynchronous copies, stores to other blocks,
 * words of exchanges) arrives late, at a time that is drawn.
 *
 * So a missing barrier, __syncwarp or wait shows as wrong bits with some seed.
 * It does not show what depends on weak memory order, as memory has one order
 * here; nor a race of two instructions between which nothing waits; nor speed.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef EMULATED_FIBERS_H
#define EMULATED_FIBERS_H

#include <functional>
#include <stddef.h>
#include <stdint.h>

namespace emulated
{
enum { LANES = 32, SLOT_BYTES = 64, SHARED_BYTES = 227 * 1024 };

/* A launch. */
struct shape {
    unsigned grid[3];
    int n_threads, cluster; /* cluster: blocks, at least 1 */
    bool is_cooperative;
    size_t shared_bytes;
};

/* Runs all threads of a kernel to their end. */
void run_grid(const shape &shape, const std::function<void()> &kernel);

/* The next random number of the seed. */
uint32_t draw(uint32_t n); /* below n */

/* Ends the program with a sentence that names block and thread. */
[[noreturn]] void complain(const char *what);

void check_aligned(const void *p, size_t to);

/* ---- for the thread that runs -------------------------------------------- */

/* Lets others run; a loop that waits calls this. */
void pause();

/* Waits at barrier `id` of the block for n threads; of number 0 for all. */
void block_barrier(int id, int n);
void cluster_barrier();

/* What a lane gives to its warp. */
struct slot {
    alignas(16) unsigned char bytes[SLOT_BYTES];
};

/* Gives n bytes to the other lanes, waits for theirs, and returns all, valid
 * until the next call.  `what` names the operation: all lanes name the same. */
const slot *warp_exchange(const char *what, const void *bytes, size_t n);
int lane();

/* Does this at a time that is drawn, after all earlier ones for the same
 * address. */
void do_late(const void *address, const std::function<void()> &act);

/* Does this now, or when this thread waits for all but the last `pending`
 * groups of copies: drawn. */
void copy_late(const std::function<void()> &copy);
void end_copy_group();
void wait_for_copies(int pending);

/* The same of products of a warpgroup, which keep their order. */
void multiply_late(const std::function<void()> &product);
void end_product_group();
void wait_for_products(int pending);

/* ---- shared memory ------------------------------------------------------- */

/* What `extern __shared__' names. */
void *dynamic_shared();

/* A place in the block's static shared memory; the same for the same key. */
void *static_shared(const void *key, size_t bytes, size_t align);

/* An address in it as a number, and back, in the block of that rank. */
uint32_t shared_number(const void *p);
uint8_t *shared_of(int rank, uint32_t number);

/* What the transforming script makes of `__shared__ T x;'. */
template <class T> T &shared(const void *key, size_t align = alignof(T))
{
    return *(T *)static_shared(key, sizeof(T), align);
}
} // namespace emulated

#endif
