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
} // namespace emulated
