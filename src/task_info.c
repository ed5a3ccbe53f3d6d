/* task_info.c -- what a model is, and which there are.
 *
 * SPDX-License-Identifier: MIT
 */
#include <inttypes.h>
#include <string.h>

#include "catalog.h"
#include "message.h"
#include "task.h"

/* Text from a file, which may want to command the terminal. */
static enum status print_text(struct sink *out, const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7f)
            TRY(sink_format(out, "\\x%02X", c));
        else
            TRY(sink_write(out, text, 1));
    }
    return sink_text(out, "\n");
}

static enum status print_key(struct sink *out, const char *key)
{
    return sink_format(out, "%-17s ", key);
}

static enum status print_shape(struct sink *out, const struct model *model)
{
    const struct model_config *c = &model->config;
    char size[16];
    TRY(sink_format(out, "%-17s %" PRIu64 "\n", "parameters",
                    model->n_parameters));
    TRY(sink_format(out, "%-17s %d\n%-17s %d\n%-17s %d\n", "layers", c->n_layer,
                    "d_model", c->d_model, "d_inner", c->d_inner));
    TRY(sink_format(out, "%-17s %d\n%-17s %d\n%-17s %d\n", "d_state",
                    c->d_state, "d_conv", c->d_conv, "dt_rank", c->dt_rank));
    TRY(sink_format(out, "%-17s %s, epsilon %g\n", "norm",
                    c->has_norm_bias ? "LayerNorm" : "RMSNorm",
                    (double)c->norm_epsilon));
    TRY(sink_format(out, "%-17s %s\n", "head",
                    c->is_tied ? "tied to the embedding" : "of its own"));
    if (c->begin_byte >= 0)
        TRY(sink_format(out, "%-17s %d\n", "begin byte", c->begin_byte));
    else
        TRY(sink_format(out, "%-17s none\n", "begin byte"));
    message_size(size, (double)model_state_floats(c) * sizeof(float));
    return sink_format(out, "%-17s %s\n", "state of a stream", size);
}

static enum status print_fingerprint(struct sink *out,
                                     const struct model *model)
{
    struct fingerprint fingerprint;
    model_fingerprint(model, &fingerprint);
    TRY(print_key(out, "fingerprint"));
    for (size_t i = 0; i < sizeof fingerprint.bytes; i++)
        TRY(sink_format(out, "%02x", fingerprint.bytes[i]));
    return sink_text(out, "\n");
}

/* Where the weights come from: the metadata of the file. */
static enum status print_metadata(struct sink *out,
                                  const struct safetensors *file)
{
    const char *key;
    for (size_t i = 0; (key = safetensors_metadata_key(file, i)); i++) {
        TRY(sink_format(out, "metadata          %.64s = ", key));
        TRY(print_text(out, safetensors_metadata(file, key)));
    }
    return OK;
}

enum status task_info(struct task *task)
{
    const struct safetensors *file = task->model->file;
    struct sink *out = task->out;
    char size[16];
    uint64_t n_bytes = safetensors_file_size(file);
    TRY(print_key(out, "model"));
    TRY(print_text(out, safetensors_path(file)));
    TRY(sink_format(out, "%-17s %s (%" PRIu64 " bytes)\n", "size",
                    message_size(size, (double)n_bytes), n_bytes));
    TRY(print_shape(out, task->model));
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
        status = sink_text(out, entry->name);
        if (status == OK)
            status = sink_format(out, "\t%" PRIu64 "\t", entry->size);
        if (status == OK)
            status = print_text(out, entry->path);
    }
    catalog_close(&catalog);
    return status;
}
