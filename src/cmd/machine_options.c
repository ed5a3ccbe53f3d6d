/* machine_options.c -- options that several programs share.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cmd/machine_options.h"

#include <string.h>

#include "base/memlimit.h"
#include "base/number.h"
#include "base/text.h"

enum { CUDA_INDEX_MAX = 1023 };

enum status machine_take_device(void *options, const struct option_row *row,
                                const char *value)
{
    struct engine_options *engine = option_place(options, row);
    uint64_t index = 0;
    if (strcmp(value, "auto") == 0)
        engine->device = DEVICE_AUTO;
    else if (strcmp(value, "cpu") == 0)
        engine->device = DEVICE_CPU;
    else if (strcmp(value, "cuda") == 0 ||
             (text_starts_with(value, "cuda:") &&
              number_parse(value + 5, &index) && index <= CUDA_INDEX_MAX))
        engine->device = DEVICE_CUDA;
    else
        return fail(E_USAGE, "--%s: '%s' is not auto, cpu, cuda or cuda:N",
                    row->name, value);
    engine->cuda_index = (int)index;
    return OK;
}

enum status machine_take_memlimit(void *options, const struct option_row *row,
                                  const char *value)
{
    if (memlimit_parse(value, option_place(options, row)))
        return OK;
    return fail(E_USAGE,
                "--%s: '%s' is neither a size below 2^64 nor a percentage up "
                "to 100",
                row->name, value);
}

enum status machine_print_text(const struct machine_options *options,
                               const struct option_table *table,
                               struct sink *sink)
{
    return options->wants_help ? option_table_print_help(table, sink)
                               : option_table_print_version(table, sink);
}

void machine_apply(const struct machine_options *options)
{
    message_set(options->verbosity, options->progress);
    memlimit_set(options->memlimit);
}
