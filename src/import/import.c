/* import.c -- a published checkpoint becomes a model of ours, or one of ours a
 * checkpoint.
 *
 * SPDX-License-Identifier: MIT
 */
#include "import/import.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/signals.h"
#include "base/text.h"
#include "config.h"
#include "engine/measure.h"
#include "import/adopt.h"
#include "import/average.h"
#include "import/equalise.h"
#include "import/foreign.h"
#include "import/publish.h"
#include "model/describe.h"
#include "model/metadata_list.h"
#include "model/safetensors_write.h"
#include "train/checkpoint.h"
#include "train/export.h"
#include "train/parameters.h"

struct import_job {
    const struct import_options *options;
    struct sink *out;
    struct foreign foreign;
    struct adopted adopted;
    struct sample sample; /* empty without --calibrate */
};

/* ---- what was found ----------------------------------------------------- */

/* Our own files say in their metadata what others have in config.json. */
static bool is_own(const struct foreign *foreign)
{
    return foreign->metadata &&
           (is_checkpoint(foreign->metadata) ||
            safetensors_metadata(foreign->metadata, "architecture"));
}

static enum status print_found(const struct import_job *job)
{
    uint64_t rows = job->adopted.vocabulary;
    TRY(describe_key(job->out, "names"));
    TRY(sink_format(job->out, "%s\n", job->adopted.naming));
    if (rows > N_BYTES_VOCAB)
        TRY(sink_format(job->out,
                        "%-17s %" PRIu64 ", cut to the %d bytes: the rest is "
                        "taken for padding or special tokens\n",
                        "vocabulary", rows, N_BYTES_VOCAB));
    if (!job->foreign.config && !is_own(&job->foreign))
        TRY(sink_format(job->out,
                        "%-17s is not there: an unusual epsilon, and norms "
                        "without weights, would go unseen\n",
                        "config.json"));
    return describe_model(job->out, job->adopted.model);
}

static enum status print_bits(const struct import_job *job, const char *key,
                              const struct tally *tally)
{
    TRY(describe_key(job->out, key));
    TRY(sink_number(job->out, tally_bits_per_byte(tally)));
    return sink_text(job->out, " bits per byte\n");
}

/* ---- float -------------------------------------------------------------- */

static enum status measure_float(const struct import_job *job)
{
    struct tally tally;
    if (job->sample.n == 0)
        return OK;
    signals_be_hasty(false);
    TRY(measure(&tally, job->adopted.model, &job->sample,
                job->options->n_threads, "float"));
    signals_be_hasty(true);
    return print_bits(job, "float", &tally);
}

static enum status write_float(const struct import_job *job)
{
    return safetensors_write(job->options->output, &job->adopted.content);
}

/* ---- int8 --------------------------------------------------------------- */

/* An int8 model being made. */
struct quantiser {
    const struct import_job *job;
    struct parameters parameters;
    float *weights; /* [parameters.n_floats], owned */
    char remedy[80];
    char mean[40]; /* "of 3 models"; "" when there is one */
};

/* list: all zero. */
static struct provenance origin_of(const struct quantiser *q,
                                   struct metadata_list *list)
{
    metadata_list_add(list, "imported_by", "mambyte-import " PACKAGE_VERSION);
    metadata_list_add(list, "quantization", q->remedy);
    metadata_list_add(list, "mean", *q->mean ? q->mean : NULL);
    return (struct provenance){list->items, list->n};
}

static enum status measure_int8(const struct quantiser *q, struct tally *tally)
{
    const struct import_job *job = q->job;
    struct metadata_list list = {.n = 0};
    struct provenance origin = origin_of(q, &list);
    struct model *model;
    uint8_t *bytes;
    size_t n;
    TRY(export_memory(&bytes, &n, &q->parameters, q->weights, &origin));
    enum status status = model_open_memory(&model, "the int8 model", bytes, n);
    if (status == OK) {
        status = measure(tally, model, &job->sample, job->options->n_threads,
                         "int8");
        model_close(model);
    }
    free(bytes);
    return status;
}

static enum status load_weights(struct quantiser *q)
{
    snprintf(q->remedy, sizeof q->remedy, "int8 as it is");
    return parameters_load(&q->parameters, q->weights,
                           q->job->adopted.model->file, "");
}

/* The weights become the mean with those of --average. */
static enum status take_mean(struct quantiser *q)
{
    const struct import_job *job = q->job;
    const struct import_options *o = job->options;
    snprintf(q->mean, sizeof q->mean, "of %d models", o->averages.n + 1);
    TRY(average_weights(q->weights, &q->parameters, job->adopted.model,
                        o->averages.items, o->averages.n));
    TRY(describe_key(job->out, "mean"));
    return describe_text(job->out, q->mean);
}

/* Measures int8 as it is and with outliers equalised, and takes the better
 * one. */
static enum status choose_remedy(struct quantiser *q)
{
    const struct import_job *job = q->job;
    struct tally plain, equal;
    struct equalised done;
    TRY(measure_int8(q, &plain));
    TRY(print_bits(job, "int8", &plain));
    TRY(equalise(&done, job->adopted.model, &job->sample, &q->parameters,
                 q->weights));
    if (done.n_channels == 0)
        return OK;
    snprintf(q->remedy, sizeof q->remedy,
             "int8, %d channel%s of %d projection%s equalised", done.n_channels,
             text_plural((uint64_t)done.n_channels), done.n_projections,
             text_plural((uint64_t)done.n_projections));
    TRY(measure_int8(q, &equal));
    TRY(print_bits(job, "int8, equalised", &equal));
    return equal.bits < plain.bits ? OK : load_weights(q);
}

static enum status quantise(struct quantiser *q)
{
    const struct import_job *job = q->job;
    struct metadata_list list = {.n = 0};
    if (job->adopted.model->config.has_norm_before_gate)
        return fail(
            E_MODEL,
            "%s: has the norm before the gate, which int8 models cannot "
            "have: --quantize=none imports it",
            job->foreign.path);
    if (job->sample.n > 0) {
        signals_be_hasty(false);
        TRY(choose_remedy(q));
        signals_be_hasty(true);
    }
    struct provenance origin = origin_of(q, &list);
    TRY(export_file(job->options->output, &q->parameters, q->weights, &origin));
    TRY(describe_key(job->out, "written"));
    return describe_text(job->out, q->remedy);
}

/* Calls make with the weights as floats. */
static enum status with_weights(const struct import_job *job,
                                enum status (*make)(struct quantiser *))
{
    struct quantiser q = {.job = job};
    TRY(parameters_open(&q.parameters, &job->adopted.model->config));
    q.weights = malloc(q.parameters.n_floats * sizeof *q.weights);
    enum status status =
        q.weights ? load_weights(&q) : fail_memory("the weights");
    if (status == OK && job->options->averages.n > 0)
        status = take_mean(&q);
    if (status == OK)
        status = make(&q);
    free(q.weights);
    parameters_close(&q.parameters);
    return status;
}

/* ---- the names of others ------------------------------------------------ */

static enum status write_foreign(struct quantiser *q)
{
    const struct import_options *o = q->job->options;
    enum status status =
        publish(o->output, o->naming, &q->parameters, q->weights);
    return status == E_MODEL ? status_prefix(status, q->job->foreign.path)
                             : status;
}

/* ---- the whole ---------------------------------------------------------- */

static enum status go(struct import_job *job)
{
    const struct import_options *o = job->options;
    signals_guard_mapping(o->input);
    /* Calibration looks for signals itself. */
    signals_be_hasty(true);
    if (o->calibrate)
        TRY(sample_open(&job->sample, o->calibrate, o->calibrate_bytes));
    TRY(foreign_open(&job->foreign, o->input));
    TRY(adopt(&job->adopted, &job->foreign, &o->adopt));
    if (o->naming == NAMING_OURS && o->averages.n == 0 &&
        !job->adopted.model->config.is_float)
        return fail(E_MODEL, "%s: is in int8 already, and mambyte runs it",
                    job->foreign.path);
    TRY(print_found(job));
    if (o->naming != NAMING_OURS)
        return with_weights(job, write_foreign);
    TRY(measure_float(job));
    return o->is_float ? write_float(job) : with_weights(job, quantise);
}

enum status import(const struct import_options *options, struct sink *out)
{
    struct import_job job = {.options = options, .out = out};
    enum status status = go(&job);
    if (job.adopted.model)
        adopted_close(&job.adopted);
    foreign_close(&job.foreign);
    sample_close(&job.sample);
    return status;
}
