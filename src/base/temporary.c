/* temporary.c -- names of unfinished files, which vanish with the program.
 *
 * They are in static memory, since a handler of signals reads them.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/temporary.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "base/signals.h"

enum { N_TEMPORARIES = 16, NAME_CHARS = 32 };

struct temporary {
    atomic_bool is_used, is_named; /* is_named: folder and name are set */
    int folder;
    char name[NAME_CHARS];
};

static struct temporary temporaries[N_TEMPORARIES];

/* From a handler of signals. */
static void remove_all(void)
{
    for (int i = 0; i < N_TEMPORARIES; i++) {
        if (temporaries[i].is_named)
            unlinkat(temporaries[i].folder, temporaries[i].name, 0);
    }
}

static struct temporary *find_free(void)
{
    for (int i = 0; i < N_TEMPORARIES; i++) {
        if (!atomic_exchange(&temporaries[i].is_used, true))
            return &temporaries[i];
    }
    return NULL;
}

struct temporary *temporary_new(int folder)
{
    uint64_t random;
    if (getentropy(&random, sizeof random) != 0)
        return NULL;
    struct temporary *t = find_free();
    if (!t)
        return NULL;
    t->folder = folder;
    snprintf(t->name, NAME_CHARS, ".mambyte-%016" PRIx64, random);
    signals_before_death(remove_all);
    t->is_named = true;
    return t;
}

const char *temporary_name(const struct temporary *temporary)
{
    return temporary->name;
}

void temporary_forget(struct temporary *temporary)
{
    temporary->is_named = false;
    temporary->is_used = false;
}

void temporary_remove(struct temporary *temporary)
{
    unlinkat(temporary->folder, temporary->name, 0);
    temporary_forget(temporary);
}
