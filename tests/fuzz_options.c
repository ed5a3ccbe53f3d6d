/* fuzz_options.c -- a command line of any words: read, or refused with a
 * sentence.
 *
 * The input holds the words, each ended by a NUL or the end.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

enum { WORDS_MAX = 100, INPUT_MAX = 100000 };

static void require(int is_true)
{
    if (!is_true)
        __builtin_trap();
}

/* What tasks rely on. */
static void check(const struct options *o)
{
    require(o->mode <= MODE_VERSION);
    if (o->mode == MODE_HELP || o->mode == MODE_VERSION)
        return;
    require(o->n_files >= 1 && o->files && o->files[0]);
    require(o->n_stops >= 0 && o->n_stops <= STOPS_MAX);
    for (int i = 0; i < o->n_stops; i++)
        require(o->stops[i][0] && strlen(o->stops[i]) <= STOP_BYTES_MAX);
    require(o->temperature >= 0 && o->temperature <= 100);
    require(o->top_k >= 1 && o->top_k <= 256);
    require(o->top_p > 0 && o->top_p <= 1);
    require(o->min_p >= 0 && o->min_p <= 1);
    require(o->threshold >= 0);
    require(o->n_next >= 1 && o->n_next <= 256);
    require(o->engine.n_threads >= 0 && o->engine.n_threads <= 1024);
    require(o->engine.cuda_index >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    char *argv[WORDS_MAX + 2] = {"mambyte"};
    int argc = 1;
    if (n > INPUT_MAX)
        return 0;
    char *text = malloc(n + 1);
    require(text != NULL);
    memcpy(text, bytes, n);
    text[n] = '\0';
    for (size_t i = 0; i < n && argc <= WORDS_MAX; i += strlen(text + i) + 1)
        argv[argc++] = text + i;

    struct options options;
    enum status status = options_parse(&options, argc, argv);
    require(status == OK || status == E_USAGE);
    if (status == OK)
        check(&options);
    else
        require(status_message()[0] != '\0');
    free(text);
    return 0;
}
