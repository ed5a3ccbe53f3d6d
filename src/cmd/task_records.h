/* task_records.h -- the records of files, read many together.
 *
 * Records are read in batches, each record from the start.  When a batch has
 * been read it is set aside, and is shown while the next one is read.
 *
 * An asynchronous engine gets a batch while it still works on another.  So a
 * record that does not end within a piece of input waits for its end, unless it
 * is long; and when no more input is ready, all records that have ended are
 * shown at once.  Another engine reads the whole piece, and goes on with the
 * open record in the next one.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_TASK_RECORDS_H
#define MAMBYTE_TASK_RECORDS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "classify/record_reader.h"
#include "cmd/task.h"

/* A record at its end. */
struct ended_record {
    const struct record *record;
    int index; /* among those aside */
    const char *file;
    uint64_t offset;     /* of the record in the file */
    const uint8_t *text; /* [n_text], as much of it as is shown */
    size_t n_text;
};

/* What a task does with records: prepare is called once for all that are aside,
 * then show for each. */
struct record_use {
    enum status (*prepare)(void *context);
    enum status (*show)(void *context, const struct ended_record *ended);
    void *context;
};

/* Reads the records of all files of the task; after each batch the output is
 * flushed. */
enum status task_each_record(struct task *task, struct record_reader *reader,
                             const struct record_use *use);

#endif
