/* source.cuh -- the segments of a call, dealt out to waves.
 *
 * Every segment under way gets an equal share of the rows of a wave, but not
 * too few: a row alone is no work for the trouble of fetching a state.  The
 * first that have more get what is left, so that streams of all lengths keep
 * the waves full.  Part of prefill.cu.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_SOURCE_CUH
#define MAMBYTE_SOURCE_CUH

#include "cuda/common/kernels.cuh"

enum {
    MIN_ROWS = 64,      /* of a wave: fewer leave the products idle        */
    MIN_ROWS_EACH = 32, /* of a stream in a wave, where it has them        */
    ENOUGH_ROWS = 1024  /* of a wave: more only of a long input            */
};

/* Bytes of one segment in a wave, for the host. */
struct part {
    const struct segment *segment;
    size_t offset;
    int row, n;
};

/* What has been asked for and is not in a wave yet. */
struct source {
    const struct segment *segments;
    size_t n, next;
    struct part active[ROWS_MAX]; /* segments that have begun              */
    int n_active;
    size_t left; /* bytes in no wave                      */
    int rows;    /* of a wave                             */
};

/* Fills the list of active segments; empty ones are passed over. */
static void source_refill(struct source *s)
{
    for (; s->n_active < ROWS_MAX && s->next < s->n; s->next++) {
        struct part p = {&s->segments[s->next], 0, 0, 0};
        if (p.segment->n > 0)
            s->active[s->n_active++] = p;
    }
}

/* Rows of the waves of a call by itself: enough to fill the chip, yet so few
 * that a short input still makes as many waves as there are layers.  While the
 * first and the last waves go through the layers the chip is not full: rows
 * that are not needed to fill it must not make that time long. */
static int lone_rows(const struct source *s, const struct batch *b)
{
    size_t want = s->left / (2 * (size_t)b->n_layer);
    size_t each = (size_t)s->n_active * MIN_ROWS_EACH;
    size_t most = s->left / (8 * (size_t)b->n_layer);
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

/* Of one that follows another, and is followed: nothing fills or drains, so
 * the more the better, as long as the other's results come out meanwhile
 * without a wait.  Too short for that, it is as if alone. */
static int following_rows(const struct source *s, const struct batch *b)
{
    size_t want = s->left / ((size_t)b->n_slots + 1);
    if (want < ENOUGH_ROWS)
        return lone_rows(s, b);
    return want < (size_t)b->rows ? (int)want : b->rows;
}

/* s->rows is still to be chosen. */
static void source_open(struct source *s, const struct segment *segments,
                        size_t n)
{
    s->segments = segments;
    s->n = n;
    s->next = 0;
    s->n_active = 0;
    s->left = 0;
    for (size_t i = 0; i < n; i++)
        s->left += segments[i].n;
    source_refill(s);
}

static int rest_of(const struct part *p, int limit)
{
    size_t rest = p->segment->n - p->offset - p->n;
    return rest < (size_t)limit ? (int)rest : limit;
}

/* Gives the active segments their shares while there are rows, then what is
 * left to the first that have more; how many got any. */
static int share_rows(struct source *s)
{
    int left = s->rows, each = s->rows / s->n_active, n = 0;
    if (each < MIN_ROWS_EACH)
        each = MIN_ROWS_EACH;
    for (; n < s->n_active && left > 0; n++) {
        s->active[n].n = rest_of(&s->active[n], each < left ? each : left);
        left -= s->active[n].n;
    }
    for (int i = 0; i < n && left > 0; i++) {
        int more = rest_of(&s->active[i], left);
        s->active[i].n += more;
        left -= more;
    }
    return n;
}

/* Drops the finished segments among the first n active ones. */
static void source_advance(struct source *s, int n)
{
    int kept = 0;
    for (int i = 0; i < s->n_active; i++) {
        struct part *a = &s->active[i];
        if (i < n) {
            a->offset += a->n;
            s->left -= a->n;
            a->n = 0;
        }
        if (a->offset < a->segment->n)
            s->active[kept++] = *a;
    }
    s->n_active = kept;
    source_refill(s);
}

static void add_spans(struct wave *w, int piece)
{
    const struct piece *p = &w->pieces[piece];
    for (int t = 0; t < p->n; t += SPAN) {
        struct span span = {piece, p->row + t, p->n - t};
        span.n = span.n < SPAN ? span.n : SPAN;
        w->spans[w->n_spans++] = span;
    }
}

#endif
