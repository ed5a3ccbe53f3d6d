/* grid.cpp -- blocks from start to end, their shared memory, and which thread
 * runs next.  See fibers.h.
 *
 * SPDX-License-Identifier: MIT
 */
#include <algorithm>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/emulated/block.h"

namespace emulated
{
enum { STACK_BYTES = 128 << 10, STATIC_BYTES = 64 << 10 };

static std::vector<cluster> clusters;
static std::vector<uint8_t *> stacks;
static const std::function<void()> *kernel_now;
static int left; /* threads */

/* ---- shared memory ------------------------------------------------------- */

void *dynamic_shared()
{
    return current->home->dynamic;
}

void *static_shared(const void *key, size_t bytes, size_t align)
{
    block *home = current->home;
    for (const place &p : home->places) {
        if (p.key == key)
            return home->fixed + p.at;
    }
    size_t at = (home->used + align - 1) / align * align;
    home->used = at + bytes;
    if (home->used > STATIC_BYTES)
        complain("too much static shared memory");
    home->places.push_back({key, at});
    return home->fixed + at;
}

uint32_t shared_number(const void *p)
{
    size_t at = (size_t)((const uint8_t *)p - current->home->dynamic);
    if (at >= SHARED_BYTES)
        complain("an address outside of dynamic shared memory");
    return (uint32_t)at;
}

uint8_t *shared_of(int rank, uint32_t number)
{
    const block *home = current->home;
    if (rank < 0 || rank >= home->team->size)
        complain("no block of the cluster has that rank");
    return blocks[(size_t)(home->first + rank)]->dynamic + number;
}

/* ---- a block's life ------------------------------------------------------ */

static void end_thread()
{
    block *home = current->home;
    warp &w = warp_of(current);
    wait_for_copies(-1);
    w.alive &= ~bit_of(current);
    w.ready &= ~bit_of(current);
    home->alive--;
    home->team->alive--;
    left--;
    recount(home, &w);
    leave();
    abort();
}

static void enter()
{
    (*kernel_now)();
    end_thread();
}

static uint8_t *new_pages(size_t bytes)
{
    void *p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        complain("out of memory");
    return (uint8_t *)p;
}

static void start_thread(block *b, int id, uint8_t *stack)
{
    thread &t = b->threads[(size_t)id];
    t.home = b;
    t.id = id;
    t.copies.group = t.products.group = 0;
    t.copies.acts.clear();
    t.products.acts.clear();
    set_stack(&t, stack, STACK_BYTES, enter);
    wake(&t);
}

static void start_warps(block *b, int n_threads)
{
    b->warps.resize((size_t)(n_threads + LANES - 1) / LANES);
    for (size_t i = 0; i < b->warps.size(); i++) {
        warp &w = b->warps[i];
        int n = std::min<int>(LANES, n_threads - (int)i * LANES);
        w.home = b;
        w.alive = n == LANES ? ~0u : (1u << n) - 1;
        w.ready = w.arrived = 0;
        w.turn = 0;
        w.is_listed = w.is_slow = false;
    }
}

/* Shared memory starts with numbers that mean nothing. */
static void start_block(block *b, const shape &s, dim3 index, int at)
{
    b->index = index;
    b->first = at - at % s.cluster;
    b->alive = s.n_threads;
    b->team = &clusters[(size_t)(at / s.cluster)];
    b->team->alive += s.n_threads;
    b->used = 0;
    b->places.clear();
    for (barrier &x : b->barriers)
        x.waiting.clear();
    memset(b->dynamic, (int)(0x80 | draw(128)), s.shared_bytes);
    memset(b->fixed, (int)(0x80 | draw(128)), STATIC_BYTES);
    b->threads.resize((size_t)s.n_threads);
    start_warps(b, s.n_threads);
    for (int i = 0; i < s.n_threads; i++) {
        size_t n = (size_t)at * (size_t)s.n_threads + (size_t)i;
        while (stacks.size() <= n)
            stacks.push_back(new_pages(STACK_BYTES));
        start_thread(b, i, stacks[n]);
    }
}

static block *block_at(size_t at)
{
    while (blocks.size() <= at) {
        blocks.push_back(std::make_unique<block>());
        blocks.back()->dynamic = new_pages(256 << 10);
        blocks.back()->fixed = new_pages(STATIC_BYTES);
    }
    return blocks[at].get();
}

/* ---- the scheduler ------------------------------------------------------- */

/* A few warps fall behind the others for a while. */
static void choose_slow(int n)
{
    for (int i = 0; i < n; i++) {
        for (warp &w : blocks[(size_t)i]->warps)
            w.is_slow = draw(4) == 0;
    }
}

/* Slow warps run when they are drawn eight times. */
static warp *draw_warp()
{
    for (int i = 0; i < 8; i++) {
        size_t at = draw((uint32_t)runnable.size());
        warp *w = runnable[at];
        if (w->ready == 0) {
            w->is_listed = false;
            runnable[at] = runnable.back();
            runnable.pop_back();
            return nullptr;
        }
        if (!w->is_slow || i == 7)
            return w;
    }
    return nullptr;
}

static void run_lane(warp *w)
{
    uint32_t by = draw(LANES);
    uint32_t turned = w->ready >> by | w->ready << (LANES - by) % LANES;
    int at = (__builtin_ctz(turned) + (int)by) % LANES;
    int id = (int)(w - w->home->warps.data()) * LANES + at;
    go_on_with(&w->home->threads[(size_t)id]);
}

static void run_blocks(int n)
{
    for (unsigned tick = 0; left > 0; tick++) {
        if (tick % 4096 == 0)
            choose_slow(n);
        if (is_something_under_way() && (runnable.empty() || draw(8) == 0))
            deliver_one();
        if (runnable.empty() && !is_something_under_way())
            complain("threads wait for others that have ended");
        if (runnable.empty())
            continue;
        warp *w = draw_warp();
        if (w)
            run_lane(w);
    }
    while (is_something_under_way())
        deliver_one();
    runnable.clear();
}

static dim3 index_of(const shape &s, unsigned number)
{
    dim3 index(number % s.grid[0], number / s.grid[0] % s.grid[1],
               number / s.grid[0] / s.grid[1]);
    return index;
}

/* Blocks [first, first + n) side by side. */
static void run_some(const shape &s, unsigned first, int n)
{
    block_at((size_t)n - 1);
    clusters.assign((size_t)(n / s.cluster), {s.cluster, 0, {}});
    left = n * s.n_threads;
    for (int i = 0; i < n; i++)
        start_block(block_at((size_t)i), s, index_of(s, first + (unsigned)i),
                    i);
    run_blocks(n);
}

void run_grid(const shape &s, const std::function<void()> &kernel)
{
    unsigned n_blocks = s.grid[0] * s.grid[1] * s.grid[2];
    unsigned each = s.is_cooperative ? n_blocks : (unsigned)s.cluster;
    std::vector<unsigned> order(n_blocks / each);
    for (unsigned i = 0; i < order.size(); i++)
        order[i] = i;
    for (unsigned i = (unsigned)order.size(); i > 1; i--)
        std::swap(order[i - 1], order[draw(i)]);
    kernel_now = &kernel;
    gridDim = dim3(s.grid[0], s.grid[1], s.grid[2]);
    blockDim = dim3((unsigned)s.n_threads);
    for (unsigned i : order)
        run_some(s, i * each, (int)each);
    current = nullptr;
}
} // namespace emulated
