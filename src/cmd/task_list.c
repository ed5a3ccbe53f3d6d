/* task_list.c -- -l: what compressed files hold, by what their ends say.
 *
 * SPDX-License-Identifier: MIT
 */
#include <inttypes.h>
#include <string.h>

#include "base/escape.h"
#include "cmd/json.h"
#include "cmd/task_io.h"
#include "compress/compressed_streams.h"

struct total {
    uint64_t n_files;
    struct listing listing;
};

static double ratio_of(const struct listing *listing)
{
    double n_plain = (double)listing->traffic.n_plain;
    double n_packed = (double)listing->traffic.n_packed;
    return n_plain > 0 ? n_packed / n_plain : 0;
}

/* name, model: "total" and "-" of all files. */
static enum status print_columns(struct sink *sink,
                                 const struct listing *listing,
                                 const char *name, const char *model)
{
    TRY(sink_format(
        sink, "%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%.3f\t%s\t",
        listing->n_streams, listing->n_blocks, listing->traffic.n_packed,
        listing->traffic.n_plain, ratio_of(listing), model));
    TRY(escape_column(sink, name));
    return sink_text(sink, "\n");
}

static enum status print_sizes(struct sink *sink, const struct listing *listing)
{
    TRY(json_put_integer(sink, "streams", listing->n_streams));
    TRY(json_put_integer(sink, "blocks", listing->n_blocks));
    TRY(json_put_integer(sink, "packed", listing->traffic.n_packed));
    TRY(json_put_integer(sink, "plain", listing->traffic.n_plain));
    return json_put_number(sink, "ratio", ratio_of(listing));
}

static enum status print_file(const struct task *task,
                              const struct listing *listing, const char *path)
{
    struct sink *out = task->out;
    const char *model = listing->header.model_name;
    if (!task->options->json)
        return print_columns(out, listing, path, model);
    TRY(json_begin(out));
    TRY(json_put_string(out, "file", path, strlen(path)));
    TRY(print_sizes(out, listing));
    TRY(json_put_string(out, "model", model, strlen(model)));
    return json_end(out);
}

static enum status print_total(const struct task *task,
                               const struct total *total)
{
    struct sink *out = task->out;
    if (!task->options->json)
        return print_columns(out, &total->listing, "total", "-");
    TRY(json_begin(out));
    TRY(json_put_integer(out, "files", total->n_files));
    TRY(print_sizes(out, &total->listing));
    return json_end(out);
}

static enum status list_file(const struct task *task, struct total *total,
                             const char *path)
{
    struct source source;
    struct listing listing;
    TRY(source_open(&source, path));
    enum status status = compressed_streams_list(&listing, &source);
    source_close(&source);
    TRY(status);
    total->n_files++;
    total->listing.n_streams += listing.n_streams;
    total->listing.n_blocks += listing.n_blocks;
    total->listing.traffic.n_plain += listing.traffic.n_plain;
    total->listing.traffic.n_packed += listing.traffic.n_packed;
    return print_file(task, &listing, path);
}

enum status task_list(struct task *task)
{
    struct total total = {0};
    const struct options *o = task->options;
    if (!o->json)
        TRY(sink_text(task->out, "streams\tblocks\tpacked\tplain\tratio\tmodel"
                                 "\tfile\n"));
    for (int i = 0; i < o->n_files; i++)
        TRY(task_settle(task, list_file(task, &total, o->files[i])));
    return total.n_files > 1 ? print_total(task, &total) : OK;
}
