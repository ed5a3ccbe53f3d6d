/* fibers.cpp -- threads as fibers: how one stops and another goes on; barriers,
 * and the exchanges of a warp.  See fibers.h.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/emulated/block.h"

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulated
{
enum { PAUSES_MAX = 50000000 }; /* without anything else: all wait for ever */

std::vector<std::unique_ptr<block>> blocks;
std::vector<warp *> runnable;
thread *current;
static void *scheduler_stack;
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

void set_stack(thread *t, uint8_t *stack, size_t bytes, void (*enter)())
{
    void **top = (void **)(stack + bytes - 64);
    *--top = nullptr; /* where enter would return */
    *--top = (void *)enter;
    for (int i = 0; i < SAVED_REGISTERS; i++)
        *--top = nullptr;
    t->stack_pointer = top;
}

void go_on_with(thread *t)
{
    current = t;
    threadIdx = dim3((unsigned)t->id, 0, 0);
    blockIdx = t->home->index;
    emulated_switch(&scheduler_stack, t->stack_pointer);
}

void leave()
{
    emulated_switch(&current->stack_pointer, scheduler_stack);
}

void note_progress()
{
    n_pauses = 0;
}

void pause()
{
    if (++n_pauses > PAUSES_MAX)
        complain("all wait for ever");
    leave();
}

void wake(thread *t)
{
    warp &w = warp_of(t);
    w.ready |= bit_of(t);
    note_progress();
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

void recount(block *home, warp *w)
{
    if (w->arrived && w->arrived == w->alive)
        release(w);
    open_if(&home->barriers[0], home->alive);
    open_if(&home->team->all, home->team->alive);
}
} // namespace emulated
