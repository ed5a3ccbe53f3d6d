/* check_records.c -- records read many together are those read alone.
 *
 * Their features and bits are the same, however they come in parts, whether
 * the engine is asynchronous, and where its memory ends.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "engine/engine_ops.h"
#include "engine/pooled.h"
#include "engine/records.h"
#include "late_engine.h"
#include "scarce_engine.h"
#include "tiny_model.h"

#include "runner.h" /* last */

enum {
    N_RECORDS = 200,
    BYTES = 11,   /* of a record, at most */
    TOGETHER = 9, /* records of a call */
    STARTS = 3,
    PLENTY = 10000 /* states */
};

static struct tiny_model tiny;
static struct engine *engine;
static struct state *starts[STARTS];
static uint8_t text[N_RECORDS + BYTES];
static size_t n_pooled;

/* What is known of the records, in their order. */
struct findings {
    float *pooled; /* [N_RECORDS][n_pooled] */
    double bits[N_RECORDS][STARTS];
    uint64_t n_bytes[N_RECORDS];
    int n;
};

static void assert_ok(enum status status)
{
    ck_assert_msg(status == OK, "%s", status_message());
}

static void open_engine(bool is_late)
{
    struct tiny_spec spec = tiny_spec_mamba2(64, 2, 1);
    struct engine_options options = {.device = DEVICE_CPU, .n_threads = 1};
    assert_ok(tiny_model_open(&tiny, &spec));
    assert_ok(engine_open(&engine, tiny.model, &options));
    if (is_late)
        late_engine_make(engine);
    engine->busy_bytes = 2 * TOGETHER * STARTS;
    n_pooled = pooled_floats(&tiny.model->config);
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (uint8_t)(random_at(5, i) >> 56);
    for (int j = 0; j < STARTS; j++) {
        struct segment s = {.bytes = text + j, .n = 3};
        assert_ok(engine_state_new(engine, &starts[j]));
        s.state = starts[j];
        assert_ok(engine_feed(engine, &s, 1));
    }
}

static void close_engine(void)
{
    for (int j = 0; j < STARTS; j++)
        engine_state_free(engine, starts[j]);
    engine_close(engine);
    tiny_model_close(&tiny);
}

static struct record_part record_at(int i)
{
    return (struct record_part){text + i, random_at(6, (uint64_t)i) % BYTES};
}

static void take_aside(struct findings *f, const struct records *r)
{
    const struct record_set *set = &r->sets[r->aside];
    for (int i = 0; i < set->n; i++) {
        const struct record *record = &set->items[i];
        f->n_bytes[f->n] = record->n_bytes;
        if (r->has_pooled)
            memcpy(f->pooled + (size_t)f->n * n_pooled, record->pooled,
                   n_pooled * sizeof(float));
        else
            memcpy(f->bits[f->n], record->bits, sizeof f->bits[0]);
        f->n++;
    }
}

/* Whole records, TOGETHER of them in a call that is only started. */
static void start_all(struct findings *f, struct records *r)
{
    struct record_part parts[TOGETHER];
    for (int i = 0; i < N_RECORDS; i += TOGETHER) {
        int n = N_RECORDS - i < TOGETHER ? N_RECORDS - i : TOGETHER;
        for (int k = 0; k < n; k++)
            parts[k] = record_at(i + k);
        assert_ok(records_start(r, parts, n, false));
        assert_ok(records_turn(r));
        take_aside(f, r);
    }
    assert_ok(records_finish(r));
    take_aside(f, r);
}

/* The last record of each call but the last goes on in the next. */
static void feed_all(struct findings *f, struct records *r)
{
    struct record_part parts[TOGETHER], rest = {text, 0};
    for (int i = 0; i < N_RECORDS;) {
        bool goes_on = i > 0;
        int n = 0, first = i;
        for (; n < TOGETHER && i < N_RECORDS; n++, i++)
            parts[n] = n == 0 && goes_on ? rest : record_at(i);
        bool is_cut = i < N_RECORDS && i - first > 1;
        if (is_cut) {
            struct record_part *last = &parts[n - 1];
            rest = (struct record_part){last->bytes + last->n / 2,
                                        last->n - last->n / 2};
            last->n /= 2;
            i--;
        }
        assert_ok(records_feed(r, parts, n, goes_on));
        assert_ok(records_set_aside(r, is_cut ? n - 1 : n, is_cut));
        take_aside(f, r);
    }
}

typedef void reading(struct findings *f, struct records *r);

/* n_states: for which there is room, beside the starts. */
static struct findings find(reading *read, bool wants_pooled, int n_states)
{
    struct findings f = {.pooled = calloc(N_RECORDS, n_pooled * sizeof(float))};
    struct records records;
    scarce_engine_make(engine, n_states);
    assert_ok(records_open(&records, engine, starts, wants_pooled ? 1 : STARTS,
                           wants_pooled));
    ck_assert_int_ge(records.n, TOGETHER);
    read(&f, &records);
    ck_assert_int_eq(f.n, N_RECORDS);
    records_close(&records);
    return f;
}

static void assert_same(const struct findings *got, const struct findings *want)
{
    ck_assert_mem_eq(got->n_bytes, want->n_bytes, sizeof got->n_bytes);
    ck_assert_mem_eq(got->bits, want->bits, sizeof got->bits);
    ck_assert_mem_eq(got->pooled, want->pooled,
                     N_RECORDS * n_pooled * sizeof(float));
}

/* A record alone: what find() has to give. */
static struct findings find_alone(bool wants_pooled)
{
    struct findings f = {.pooled = calloc(N_RECORDS, n_pooled * sizeof(float))};
    struct state *state;
    assert_ok(engine_state_new(engine, &state));
    for (; f.n < N_RECORDS; f.n++) {
        struct record_part part = record_at(f.n);
        float bits[BYTES];
        struct segment s = {state, part.bytes, part.n, bits, NULL, NULL};
        if (wants_pooled)
            s.pooled = f.pooled + (size_t)f.n * n_pooled;
        for (int j = 0; j < (wants_pooled ? 1 : STARTS); j++) {
            assert_ok(engine_state_copy(engine, state, starts[j]));
            assert_ok(engine_feed(engine, &s, 1));
            for (size_t t = 0; t < part.n && !wants_pooled; t++)
                f.bits[f.n][j] += (double)bits[t];
        }
        f.n_bytes[f.n] = part.n;
    }
    engine_state_free(engine, state);
    return f;
}

static void assert_reading(reading *read, bool is_late, bool wants_pooled)
{
    static const int room[] = {PLENTY, 3, 4, 5, 7, 9, 12, 17, 20, 28, 40, 53};
    open_engine(is_late);
    struct findings want = find_alone(wants_pooled);
    for (size_t i = 0; i < sizeof room / sizeof room[0]; i++) {
        struct findings got = find(read, wants_pooled, room[i]);
        assert_same(&got, &want);
        free(got.pooled);
    }
    free(want.pooled);
    close_engine();
}

START_TEST(together_is_as_alone)
{
    assert_reading(start_all, _i & 1, _i & 2);
    assert_reading(feed_all, _i & 1, _i & 2);
}
END_TEST

/* A record that is open, where the set being read has the most streams. */
START_TEST(an_open_record_goes_on)
{
    struct record_part parts[TOGETHER];
    open_engine(true);
    struct findings want = find_alone(true);
    for (int room = 2; room < 2 * TOGETHER; room++) {
        struct findings got = {.pooled =
                                   calloc(N_RECORDS, n_pooled * sizeof(float))};
        struct records r;
        scarce_engine_make(engine, room);
        assert_ok(records_open(&r, engine, starts, 1, true));
        for (int i = 0; i < TOGETHER; i++)
            parts[i] = record_at(i);
        assert_ok(records_feed(&r, parts, 2, false));
        assert_ok(records_set_aside(&r, 1, true));
        take_aside(&got, &r);
        parts[1].n = 0;
        assert_ok(records_start(&r, parts + 1, TOGETHER - 1, true));
        assert_ok(records_turn(&r));
        assert_ok(records_finish(&r));
        take_aside(&got, &r);
        ck_assert_int_eq(got.n, TOGETHER);
        ck_assert_mem_eq(got.pooled, want.pooled,
                         TOGETHER * n_pooled * sizeof(float));
        records_close(&r);
        free(got.pooled);
    }
    free(want.pooled);
    close_engine();
}
END_TEST

/* The smallest room of all: less than one record needs. */
START_TEST(no_room_is_an_error)
{
    struct record_part part = record_at(0);
    struct records r;
    open_engine(false);
    scarce_engine_make(engine, STARTS - 1);
    assert_ok(records_open(&r, engine, starts, STARTS, false));
    ck_assert_int_eq(records_start(&r, &part, 1, false), E_MEMORY);
    records_close(&r);
    close_engine();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("records");
    TCase *tests = tcase_create("tests");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, together_is_as_alone, 0, 4);
    tcase_add_test(tests, an_open_record_goes_on);
    tcase_add_test(tests, no_room_is_an_error);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
