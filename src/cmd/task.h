/* task.h -- what the program can do, a function each.
 *
 * A task reads its sources, runs the engine and writes to the sink.  A file
 * that cannot be read is reported; the others are read all the same, and the
 * program ends with status 1.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TASK_H
#define MAMBYTE_TASK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/byteio.h"
#include "base/status.h"
#include "cmd/options.h"
#include "cmd/own_file.h"
#include "engine/engine.h"
#include "model/model.h"

struct task {
    const struct options *options;
    const struct model *model; /* NULL where none is needed */
    struct engine *engine;     /* likewise, and for task_info */
    struct sink *out;
    uint64_t n_read, n_written; /* by the model, for the note at the end */
    int n_files;                /* compressed, decompressed or tested */
    uint64_t n_plain, n_packed; /* their bytes */
    bool has_failed;            /* a file was left out */
    bool has_skipped;           /* a file, with a warning: exit status 2 */
};

enum status task_generate(struct task *task);
enum status task_perplexity(struct task *task);
enum status task_score(struct task *task);
enum status task_surprisal(struct task *task);
enum status task_next(struct task *task);
enum status task_color(struct task *task);
enum status task_classify(struct task *task);
enum status task_evaluate(struct task *task); /* --classify with --eval */
enum status task_embed(struct task *task);
enum status task_compress(struct task *task); /* and --decompress, --test */
enum status task_list(struct task *task);     /* needs no model */
enum status task_info(struct task *task);

/* --info of a head or a checkpoint; needs no model. */
enum status task_info_other(struct task *task, const char *path,
                            enum own_file kind);
enum status task_list_models(struct sink *out); /* needs no model */

#endif
