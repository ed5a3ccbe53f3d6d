/* task_info.c -- --info and --list-models.
 *
 * SPDX-License-Identifier: MIT
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/escape.h"
#include "base/message.h"
#include "cmd/json.h"
#include "cmd/task.h"
#include "model/catalog.h"
#include "model/describe.h"

static void print_fingerprint(char text[FINGERPRINT_CHARS],
                              const struct model *model)
{
    struct fingerprint fingerprint;
    model_fingerprint(model, &fingerprint);
    fingerprint_text(text, &fingerprint);
}

/* ---- lines -------------------------------------------------------------- */

/* noun: what the file is. */
static enum status print_file(struct sink *out, const char *noun,
                              const struct safetensors *file)
{
    char size[16];
    uint64_t n_bytes = safetensors_file_size(file);
    TRY(describe_key(out, noun));
    TRY(describe_text(out, safetensors_path(file)));
    return sink_format(out, "%-17s %s (%" PRIu64 " bytes)\n", "size",
                       message_size(size, (double)n_bytes), n_bytes);
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

static enum status print_model(struct sink *out, const struct model *model)
{
    char fingerprint[FINGERPRINT_CHARS], size[16];
    TRY(print_file(out, "model", model->file));
    TRY(describe_model(out, model));
    message_size(size, (double)model_state_size(&model->config));
    TRY(sink_format(out, "%-17s %s\n", "state of a stream", size));
    print_fingerprint(fingerprint, model);
    TRY(describe_key(out, "fingerprint"));
    TRY(describe_text(out, fingerprint));
    return print_metadata(out, model->file);
}

/* ---- JSON --------------------------------------------------------------- */

static enum status put_text(struct sink *out, const char *key, const char *text)
{
    return json_put_string(out, key, text, strlen(text));
}

static enum status put_size(struct sink *out, const char *key, int size)
{
    return json_put_integer(out, key, (uint64_t)size);
}

static enum status put_file(struct sink *out, const char *noun,
                            const struct safetensors *file)
{
    TRY(json_begin(out));
    TRY(put_text(out, noun, safetensors_path(file)));
    return json_put_integer(out, "size", safetensors_file_size(file));
}

static enum status put_shape(struct sink *out, const struct model *model)
{
    const struct model_config *c = &model->config;
    TRY(put_text(out, "architecture", describe_architecture(c)));
    TRY(json_put_integer(out, "parameters", model->n_parameters));
    TRY(put_text(out, "weights", describe_weights(model)));
    TRY(describe_sizes(out, c, put_size));
    TRY(put_text(out, "norm", describe_norm(c)));
    TRY(json_put_float(out, "norm_epsilon", c->norm_epsilon));
    TRY(put_text(out, "lm_head", describe_lm_head(c)));
    if (c->begin_byte >= 0)
        TRY(put_size(out, "begin_byte", c->begin_byte));
    return json_put_integer(out, "state_bytes", model_state_size(c));
}

/* And the end of the object. */
static enum status put_metadata(struct sink *out,
                                const struct safetensors *file)
{
    const char *key;
    TRY(json_open(out, "metadata"));
    for (size_t i = 0; (key = safetensors_metadata_key(file, i)); i++)
        TRY(put_text(out, key, safetensors_metadata(file, key)));
    TRY(json_close(out));
    return json_end(out);
}

static enum status put_model(struct sink *out, const struct model *model)
{
    char fingerprint[FINGERPRINT_CHARS];
    TRY(put_file(out, "model", model->file));
    TRY(put_shape(out, model));
    print_fingerprint(fingerprint, model);
    TRY(put_text(out, "fingerprint", fingerprint));
    return put_metadata(out, model->file);
}

/* ---- all of it ---------------------------------------------------------- */

enum status task_info(struct task *task)
{
    return task->options->json ? put_model(task->out, task->model)
                               : print_model(task->out, task->model);
}

enum status task_info_other(struct task *task, const char *path,
                            enum own_file kind)
{
    struct safetensors *file;
    struct sink *out = task->out;
    bool is_json = task->options->json;
    const char *noun = kind == OWN_HEAD ? "head" : "checkpoint";
    TRY(safetensors_open(&file, path));
    enum status status = (is_json ? put_file : print_file)(out, noun, file);
    if (status == OK)
        status = (is_json ? put_metadata : print_metadata)(out, file);
    safetensors_close(file);
    return status;
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
    if (status == OK && catalog.unread)
        status = fail(E_IO, "%s", catalog.unread);
    catalog_close(&catalog);
    return status;
}
