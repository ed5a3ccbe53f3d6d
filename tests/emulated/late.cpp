/* late.cpp -- what arrives without its sender: stores that need no barrier, and
 * asynchronous copies.  See fibers.h.
 *
 * SPDX-License-Identifier: MIT
 */
#include "tests/emulated/block.h"

namespace emulated
{
enum { LATE_MAX = 512 };

struct late {
    const void *address;
    std::function<void()> act;
};

static std::vector<late> under_way;

bool is_something_under_way()
{
    return !under_way.empty();
}

void deliver_one()
{
    size_t at = draw((uint32_t)under_way.size());
    for (size_t i = 0; i < at; i++) {
        if (under_way[i].address == under_way[at].address)
            at = i;
    }
    std::function<void()> act = std::move(under_way[at].act);
    under_way.erase(under_way.begin() + (ptrdiff_t)at);
    note_progress();
    act();
}

void do_late(const void *address, const std::function<void()> &act)
{
    under_way.push_back({address, act});
    if (under_way.size() > LATE_MAX)
        deliver_one();
}

static void add(late_acts &to, const std::function<void()> &act)
{
    to.acts.push_back({act, to.group});
}

static void wait_for(late_acts &all, int pending)
{
    std::vector<late_act> kept;
    for (late_act &a : all.acts) {
        if (a.group < all.group - pending || pending < 0)
            a.act();
        else
            kept.push_back(a);
    }
    all.acts.swap(kept);
}

void copy_late(const std::function<void()> &act)
{
    if (draw(2))
        act();
    else
        add(current->copies, act);
}

void end_copy_group()
{
    current->copies.group++;
}

void wait_for_copies(int pending)
{
    wait_for(current->copies, pending);
}

void multiply_late(const std::function<void()> &act)
{
    add(current->products, act);
    if (draw(2))
        wait_for(current->products, -1);
}

void end_product_group()
{
    current->products.group++;
}

void wait_for_products(int pending)
{
    wait_for(current->products, pending);
}
} // namespace emulated
