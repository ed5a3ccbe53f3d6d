/* json_text.c -- JSON from and to text, all or none.
 *
 * SPDX-License-Identifier: MIT
 */
#include "model/json_text.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

static _Thread_local bool lacks_memory;

static void *allocate(size_t n)
{
    void *p = malloc(n);
    if (!p)
        lacks_memory = true;
    return p;
}

/* What was allocated before is freed by free() as well. */
static void use_our_functions(void)
{
    json_set_alloc_funcs(allocate, free);
}

static void watch_memory(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, use_our_functions);
    lacks_memory = false;
}

enum status json_text_parse(json_t **json, const char *text, size_t n,
                            size_t flags, json_error_t *error)
{
    watch_memory();
    *json = json_loadb(text, n, flags, error);
    if (!lacks_memory)
        return OK;
    json_decref(*json);
    *json = NULL;
    return fail_memory("JSON");
}

/* Written into a buffer that is large enough: nothing can get lost. */
char *json_text(const json_t *json, size_t flags)
{
    watch_memory();
    size_t n = json ? json_dumpb(json, NULL, 0, flags) : 0;
    char *text = n > 0 ? malloc(n + 1) : NULL;
    if (!text)
        return NULL;
    if (json_dumpb(json, text, n, flags) == n && !lacks_memory) {
        text[n] = '\0';
        return text;
    }
    free(text);
    return NULL;
}
