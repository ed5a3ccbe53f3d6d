/* memlimit.c -- how much memory a file may make us take (--memlimit).
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/memlimit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/number.h"
#include "base/text.h"

#define DEFAULT_LIMIT ((uint64_t)1 << 30)

enum { KIB = 1 << 10, MIB = 1 << 20, PERCENT = 100 };

/* What jansson allocates, at most, for each of these characters: an object, an
 * array, a value, a key. */
enum { PER_OBJECT = 240, PER_ARRAY = 140, PER_VALUE = 96, PER_KEY = 96 };

static uint64_t limit; /* of the user; 0: there is none */

static uint64_t machine_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size
                                 : UINT64_MAX;
}

static uint64_t default_limit(void)
{
    uint64_t half = machine_memory() / 2;
    return half < DEFAULT_LIMIT ? half : DEFAULT_LIMIT;
}

void memlimit_set(uint64_t n_bytes)
{
    limit = n_bytes;
}

bool memlimit_parse(const char *text, uint64_t *n_bytes)
{
    char *end;
    if (number_parse(text, n_bytes))
        return true;
    if (*text < '1' || *text > '9')
        return false;
    unsigned long percent = strtoul(text, &end, 10);
    if (strcmp(end, "%") != 0 || percent > PERCENT)
        return false;
    *n_bytes = machine_memory() / PERCENT * percent;
    return true;
}

/* In the largest unit of which there are some: the user may have said 100K. */
static void describe_limit(char text[32], uint64_t n_bytes)
{
    if (n_bytes >= MIB)
        snprintf(text, 32, "%" PRIu64 " MiB", n_bytes / MIB);
    else if (n_bytes >= KIB)
        snprintf(text, 32, "%" PRIu64 " KiB", n_bytes / KIB);
    else
        snprintf(text, 32, "%" PRIu64 " byte%s", n_bytes, text_plural(n_bytes));
}

static enum status refuse(uint64_t n_bytes, uint64_t most, const char *what)
{
    char shown[32];
    uint64_t needed = n_bytes / MIB + 1;
    describe_limit(shown, most);
    return fail(E_LIMIT,
                "%s needs %" PRIu64 " MiB of memory, the limit is %s: "
                "--memlimit=%" PRIu64 "M allows it",
                what, needed, shown, needed);
}

enum status memlimit_check(uint64_t n_bytes, const char *what)
{
    uint64_t most = limit > 0 ? limit : default_limit();
    return n_bytes <= most ? OK : refuse(n_bytes, most, what);
}

enum status memlimit_check_content(uint64_t n_bytes, const char *what)
{
    return limit == 0 || n_bytes <= limit ? OK : refuse(n_bytes, limit, what);
}

/* Those in strings count too: an upper bound is all we want. */
static uint64_t json_memory(const uint8_t *text, size_t n)
{
    uint64_t n_bytes = n;
    for (size_t i = 0; i < n; i++) {
        switch (text[i]) {
        case '{':
            n_bytes += PER_OBJECT;
            break;
        case '[':
            n_bytes += PER_ARRAY;
            break;
        case ',':
            n_bytes += PER_VALUE;
            break;
        case ':':
            n_bytes += PER_KEY;
            break;
        default:
            break;
        }
    }
    return n_bytes;
}

enum status memlimit_check_json(const void *text, size_t n, const char *what)
{
    return memlimit_check(json_memory(text, n), what);
}
