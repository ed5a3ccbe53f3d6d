/* task_info.c -- --info and --list-models.
 *
 * SPDX-License-Identifier: MIT
 */
#include <inttypes.h>
#include <string.h>

#include "base/escape.h"
#include "base/message.h"
#include "cmd/task.h"
#include "model/catalog.h"
#include "model/describe.h"

static enum status print_fingerprint(struct sink *out,
                                     const struct model *model)
{
    struct fingerprint fingerprint;
    model_fingerprint(model, &fingerprint);
    TRY(describe_key(out, "fingerprint"));
    for (size_t i = 0; i < sizeof fingerprint.bytes; i++)
        TRY(sink_format(out, "%02x", fingerprint.bytes[i]));
    return sink_text(out, "\n");
}

/* The metadata of the file: where the weights come from. */
static enum status print_metadata(struct sink *out,
                                  const struct safetensors *file)
{
    const char *key;
    for (size_t i = 0; (key = safetensors_metadata_key(file, i)); i++) {
        TRY(describe_key(out, "metadata"));
        TRY(escape_text(out, key));
        TRY(sink_text(out, " = "));
        TRY(describe_text(out, safetensors_metadata(file, key)));
    }
    return OK;
}

enum status task_info(struct task *task)
{
    const struct safetensors *file = task->model->file;
    struct sink *out = task->out;
    char size[16];
    uint64_t n_bytes = safetensors_file_size(file);
    TRY(describe_key(out, "model"));
    TRY(describe_text(out, safetensors_path(file)));
    TRY(sink_format(out, "%-17s %s (%" PRIu64 " bytes)\n", "size",
                    message_size(size, (double)n_bytes), n_bytes));
    TRY(describe_model(out, task->model));
    TRY(print_fingerprint(out, task->model));
    return print_metadata(out, file);
}

enum status task_list_models(struct sink *out)
{
    struct catalog catalog;
    TRY(catalog_open(&catalog));
    enum status status = OK;
    for (size_t i = 0; i < catalog.n && status == OK; i++) {
        const struct catalog_entry *entry = &catalog.entries[i];
        status = escape_column(out, entry->name);
        if (status == OK)
            status = sink_format(out, "\t%" PRIu64 "\t", entry->size);
        if (status == OK)
            status = escape_column(out, entry->path);
        if (status == OK)
            status = sink_text(out, "\n");
    }
    catalog_close(&catalog);
    return status;
}
