/* fibers.cpp -- see fibers.h.
 *
 * SPDX-License-Identifier: MIT
 */
#include "tests/emulated/fibers.h"

#include <algorithm>
#include <memory>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <vector>

#include "tests/emulated/cuda_runtime.h"

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulated
{
enum {
    STACK_BYTES = 128 << 10,
    STATIC_BYTES = 64 << 10,
    N_BARRIERS = 16,
    PAUSES_MAX = 50000000, /* without anything else: all wait for ever */
    LATE_MAX = 512
};

struct block;

struct copy {
    std::function<void()> act;
    int group;
};

struct thread {
    void *stack_pointer;
    block *home;
    int id, group; /* group: of its copies */
    std::vector<copy> copies;
};

struct barrier {
    std::vector<thread *> waiting;
};

struct warp {
    block *home;
    uint32_t alive, ready, arrived; /* a bit a lane */
    unsigned turn;                  /* which of the slots are in use */
    slot slots[2][LANES];
    const char *operation;
    bool is_listed, is_slow;
};

struct place {
    const void *key;
    size_t at;
};

struct cluster {
    int alive;
    barrier all;
};

struct block {
    dim3 index;
    int first, rank; /* of the blocks that run now; in its cluster */
    int alive;
    cluster *team;
    std::vector<thread> threads;
    std::vector<warp> warps;
    barrier barriers[N_BARRIERS];
    uint8_t *dynamic, *fixed;
    size_t used; /* of fixed */
    std::vector<place> places;
};

struct late {
    const void *address;
    std::function<void()> act;
};

static std::vector<std::unique_ptr<block>> blocks;
static std::vector<cluster> clusters;
static std::vector<warp *> runnable; /* that have a lane that is ready */
static std::vector<late> under_way;
static std::vector<uint8_t *> stacks;
static thread *current;
static void *scheduler_stack;
static const std::function<void()> *kernel_now;
static int left;
static unsigned n_pauses;

/* ---- numbers ------------------------------------------------------------- */

static uint64_t first_number()
{
    const char *seed = getenv("MAMBYTE_EMULATED_SEED");
    return (seed ? strtoull(seed, nullptr, 10) : 1) * 0x9e3779b97f4a7c15 | 1;
}

uint32_t draw(uint32_t n)
{
    static uint64_t number = first_number();
    number ^= number << 13;
    number ^= number >> 7;
    number ^= number << 17;
    return (uint32_t)((number >> 32) * n >> 32);
}

void complain(const char *what)
{
    fprintf(stderr, "emulated: %s: block %u %u %u, thread %d\n", what,
            blockIdx.x, blockIdx.y, blockIdx.z, current ? current->id : -1);
    abort();
}

void check_aligned(const void *p, size_t to)
{
    if ((uintptr_t)p % to)
        complain("an address is not aligned");
}

/* ---- from fiber to fiber ------------------------------------------------- */

#ifdef __x86_64__
extern "C" void emulated_switch(void **from, void *to);
asm(R"(
.text
.globl emulated_switch
emulated_switch:
	pushq %rbp
	pushq %rbx
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	movq %rsp, (%rdi)
	movq %rsi, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbx
	popq %rbp
	ret
)");
enum { SAVED_REGISTERS = 6 };
#else
#error "emulated_switch is written for x86-64 only"
#endif

static warp &warp_of(thread *t)
{
    return t->home->warps[t->id / LANES];
}

static uint32_t bit_of(const thread *t)
{
    return 1u << t->id % LANES;
}

static void leave()
{
    emulated_switch(&current->stack_pointer, scheduler_stack);
}

void pause()
{
    if (++n_pauses > PAUSES_MAX)
        complain("all wait for ever");
    leave();
}

static void wake(thread *t)
{
    warp &w = warp_of(t);
    w.ready |= bit_of(t);
    n_pauses = 0;
    if (!w.is_listed)
        runnable.push_back(&w);
    w.is_listed = true;
}

static void sleep()
{
    warp_of(current).ready &= ~bit_of(current);
    leave();
}

/* ---- barriers ------------------------------------------------------------ */

static void open_if(barrier *b, int n)
{
    if ((int)b->waiting.size() < n || b->waiting.empty())
        return;
    std::vector<thread *> waiting;
    waiting.swap(b->waiting);
    for (thread *t : waiting)
        wake(t);
}

/* The last one goes on like the others: when it is drawn. */
static void wait_at(barrier *b, int n)
{
    b->waiting.push_back(current);
    warp_of(current).ready &= ~bit_of(current);
    open_if(b, n);
    leave();
}

void block_barrier(int id, int n)
{
    block *home = current->home;
    if (id < 0 || id >= N_BARRIERS || n % LANES)
        complain("a barrier that does not exist");
    wait_at(&home->barriers[id], id == 0 ? home->alive : n);
}

void cluster_barrier()
{
    cluster *team = current->home->team;
    wait_at(&team->all, team->alive);
}

int lane()
{
    return current->id % LANES;
}

static void release(warp *w)
{
    uint32_t mask = w->arrived;
    int first = (int)(w - w->home->warps.data()) * LANES;
    w->arrived = 0;
    w->turn ^= 1;
    for (; mask; mask &= mask - 1)
        wake(&w->home->threads[first + __builtin_ctz(mask)]);
}

const slot *warp_exchange(const char *what, const void *bytes, size_t n)
{
    warp &w = warp_of(current);
    const slot *slots = w.slots[w.turn];
    if (w.arrived && w.operation != what && strcmp(w.operation, what) != 0)
        complain("lanes of a warp meet in different operations");
    w.operation = what;
    memcpy(w.slots[w.turn][lane()].bytes, bytes, n);
    w.arrived |= bit_of(current);
    if (w.arrived == w.alive)
        release(&w);
    else
        sleep();
    return slots;
}

/* ---- what arrives late --------------------------------------------------- */

static void deliver_one()
{
    size_t at = draw((uint32_t)under_way.size());
    for (size_t i = 0; i < at; i++) {
        if (under_way[i].address == under_way[at].address)
            at = i;
    }
    std::function<void()> act = std::move(under_way[at].act);
    under_way.erase(under_way.begin() + (ptrdiff_t)at);
    n_pauses = 0;
    act();
}

void do_late(const void *address, const std::function<void()> &act)
{
    under_way.push_back({address, act});
    if (under_way.size() > LATE_MAX)
        deliver_one();
}

void copy_late(const std::function<void()> &act)
{
    if (draw(2))
        act();
    else
        current->copies.push_back({act, current->group});
}

void end_copy_group()
{
    current->group++;
}

void wait_for_copies(int pending)
{
    std::vector<copy> kept;
    for (copy &c : current->copies) {
        if (c.group < current->group - pending || pending < 0)
            c.act();
        else
            kept.push_back(c);
    }
    current->copies.swap(kept);
}

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
    size_t at = (size_t)(home->first + rank);
    if (at >= blocks.size() || blocks[at]->team != home->team)
        complain("no block of the cluster has that rank");
    return blocks[at]->dynamic + number;
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
    n_pauses = 0;
    if (w.arrived && w.arrived == w.alive)
        release(&w);
    open_if(&home->barriers[0], home->alive);
    open_if(&home->team->all, home->team->alive);
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
    t.group = 0;
    t.copies.clear();
    void **top = (void **)(stack + STACK_BYTES - 64);
    *--top = nullptr; /* where enter would return */
    *--top = (void *)enter;
    for (int i = 0; i < SAVED_REGISTERS; i++)
        *--top = nullptr;
    t.stack_pointer = top;
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
    b->rank = at % s.cluster;
    b->first = at - b->rank;
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
    current = &w->home->threads[(size_t)id];
    threadIdx = dim3((unsigned)id, 0, 0);
    blockIdx = w->home->index;
    emulated_switch(&scheduler_stack, current->stack_pointer);
}

static void run_blocks(int n)
{
    for (unsigned tick = 0; left > 0; tick++) {
        if (tick % 4096 == 0)
            choose_slow(n);
        if (!under_way.empty() && (runnable.empty() || draw(8) == 0))
            deliver_one();
        if (runnable.empty() && under_way.empty())
            complain("threads wait for others that have ended");
        if (runnable.empty())
            continue;
        warp *w = draw_warp();
        if (w)
            run_lane(w);
    }
    while (!under_way.empty())
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
    clusters.assign((size_t)(n / s.cluster), cluster());
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
