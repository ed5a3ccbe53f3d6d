/* backlog.cu -- the segments of a call, dealt out to microbatches.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/prefill/backlog.cuh"

enum {
    MIN_ROWS = 64,     /* of a microbatch: fewer leave the products idle   */
    MIN_ROWS_EACH = 32 /* of a stream, that rows are chosen for            */
};

/* Fills the list of active segments; empty ones are passed over. */
static void refill(struct backlog *b)
{
    for (; b->n_active < ROWS_MAX && b->next < b->n; b->next++) {
        struct segment_share share = {&b->segments[b->next], 0, 0, 0, NULL};
        if (share.segment->n > 0)
            b->active[b->n_active++] = share;
    }
}

void backlog_open(struct backlog *backlog, const struct segment *segments,
                  size_t n)
{
    backlog->segments = segments;
    backlog->n = n;
    backlog->next = 0;
    backlog->n_active = 0;
    backlog->left = 0;
    for (size_t i = 0; i < n; i++)
        backlog->left += segments[i].n;
    refill(backlog);
}

/* Enough rows to fill the chip, yet so few that a short input still makes as
 * many microbatches as there are layers.  While the first and the last
 * microbatches go through the layers the chip is not full, and more rows would
 * only make that time longer. */
int backlog_lone_rows(const struct backlog *backlog,
                      const struct prefill_batch *b)
{
    size_t want = backlog->left / (2 * (size_t)b->n_layer);
    size_t each = (size_t)backlog->n_active * MIN_ROWS_EACH;
    size_t most = backlog->left / (8 * (size_t)b->n_layer);
    if (most < ENOUGH_ROWS)
        most = ENOUGH_ROWS;
    if (want < each)
        want = each;
    if (want > most)
        want = most;
    if (want < MIN_ROWS)
        want = MIN_ROWS;
    return want < (size_t)b->rows ? (int)want : b->rows;
}

/* A call between two others neither fills nor drains the layers: the more rows
 * the better, as long as the other call's results come out meanwhile without a
 * wait.  They are whole chunks, so that spans of whole chunks are not cut.  A
 * call too short for that has the rows of a call that runs alone. */
int backlog_following_rows(const struct backlog *backlog,
                           const struct prefill_batch *b)
{
    size_t want = backlog->left / ((size_t)b->n_slots + 1);
    if (want < ENOUGH_ROWS)
        return backlog_lone_rows(backlog, b);
    want -= want % CHUNK;
    return want < (size_t)b->rows ? (int)want : b->rows;
}

/* Bytes that are in no microbatch and not in the share, up to a limit. */
static int rest_of(const struct segment_share *share, int limit)
{
    size_t rest = share->segment->n - share->offset - share->n;
    return rest < (size_t)limit ? (int)rest : limit;
}

/* How many of the first n segments have no more chunks than a microbatch may
 * have. */
static int count_starts(const struct backlog *backlog, int n,
                        int (*rows_of)(const struct segment_share *))
{
    int starts = 0;
    for (int i = 0; backlog->starts > 0 && i < n; i++) {
        starts += chunks_of(rows_of(&backlog->active[i])) - 1;
        if (starts > backlog->starts)
            return i;
    }
    return n;
}

static int given_rows(const struct segment_share *share)
{
    return share->n;
}

static int left_rows(const struct segment_share *share)
{
    return (int)(share->segment->n - share->offset);
}

bool backlog_fits(const struct backlog *b)
{
    return b->left <= (size_t)b->rows &&
           count_starts(b, b->n_active, left_rows) == b->n_active;
}

int backlog_share(struct backlog *backlog)
{
    int left = backlog->rows, each = backlog->rows / backlog->n_active, n = 0;
    if (each < backlog->least)
        each = backlog->least;
    for (; n < backlog->n_active && left > 0; n++) {
        struct segment_share *share = &backlog->active[n];
        share->n = rest_of(share, each < left ? each : left);
        left -= share->n;
    }
    for (int i = 0; i < n && left > 0; i++) {
        int more = rest_of(&backlog->active[i], left);
        backlog->active[i].n += more;
        left -= more;
    }
    int n_kept = count_starts(backlog, n, given_rows);
    for (int i = n_kept; i < n; i++)
        backlog->active[i].n = 0;
    return n_kept;
}

/* Finished segments leave the list. */
void backlog_advance(struct backlog *backlog, int n)
{
    int kept = 0;
    for (int i = 0; i < backlog->n_active; i++) {
        struct segment_share *share = &backlog->active[i];
        if (i < n) {
            share->offset += share->n;
            backlog->left -= share->n;
            share->n = 0;
        }
        if (share->offset < share->segment->n)
            backlog->active[kept++] = *share;
    }
    backlog->n_active = kept;
    refill(backlog);
}
