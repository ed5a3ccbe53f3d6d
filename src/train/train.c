/* train.c -- a run: from data and options to a model.
 *
 * Nothing here knows where the trainer computes.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train/train.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/exact.h"
#include "base/memlimit.h"
#include "base/message.h"
#include "base/signals.h"
#include "base/text.h"
#include "config.h"
#include "model/metadata_list.h"
#include "train/autosave.h"
#include "train/export.h"
#include "train/held_out.h"
#include "train/loader.h"
#include "train/plot.h"
#include "train/schedule.h"
#include "train/train_log.h"
#include "train/trainer.h"
#include "train/validate.h"

/* All bytes alike cost 8 bits; a model that pays twice that has diverged. */
#define DIVERGED_BITS 16.0

/* How much a step counts in the smoothed loss. */
#define SMOOTHING 0.05

enum { WARMUP_MOST = 100 };

struct run {
    const struct train_options *options;
    struct dataset dataset;
    struct held_out held_out;
    struct parameters parameters;
    struct trainer *trainer;
    struct loader loader;
    struct train_log log;
    struct schedule schedule;
    struct autosave autosave;
    float *weights; /* [n_floats], a copy for the host */
    struct progress progress;
    bool has_failed;  /* with a sentence, but the run went on */
    uint64_t n_steps; /* of the whole run; 0: --minutes counts */
    double started;   /* on the clock; progress.seconds ran before */
};

/* ---- data --------------------------------------------------------------- */

static enum status open_data(struct run *run)
{
    const struct train_options *o = run->options;
    struct file_places own = {.n = 0};
    signals_guard_mapping("the data");
    file_places_add(&own, o->output);
    file_places_add(&own, o->checkpoint);
    file_places_add(&own, o->log);
    file_places_add(&own, o->plot);
    TRY(dataset_open(&run->dataset, o->operands, o->n_operands, &own));
    return held_out_open(&run->held_out, &o->valids, &run->dataset, &own);
}

static enum status open_loader(struct run *run)
{
    const struct train_options *o = run->options;
    bool holds_out = o->valids.n == 0;
    struct loader_options options = {
        .n_windows = (int)o->n_windows,
        .n_t = (int)o->n_t,
        .carry = o->carry,
        .begin_byte = run->parameters.config.begin_byte,
        .seed = o->seed,
        .most_held_out = holds_out ? o->valid_bytes : 0,
    };
    TRY(loader_open(&run->loader, &run->dataset, &options));
    for (int i = 0; holds_out && i < run->dataset.n; i++)
        run->held_out.begins[i] = run->loader.n_bytes[i];
    return OK;
}

/* ---- the model ---------------------------------------------------------- */

static void add_mamba1(struct model_config *c, const struct train_options *o)
{
    uint64_t dt_rank = o->dt_rank > 0 ? o->dt_rank : (o->d_model + 15) / 16;
    c->d_state = o->d_state > 0 ? (int)o->d_state : 16;
    c->dt_rank = (int)dt_rank;
}

static void add_mamba2(struct model_config *c, const struct train_options *o)
{
    c->d_state = o->d_state > 0 ? (int)o->d_state : 64;
    c->headdim = (int)o->headdim;
    c->n_heads = c->d_inner / c->headdim;
    c->n_groups = (int)o->n_groups;
    c->delta_max = INFINITY;
}

static struct model_config new_config(const struct train_options *o)
{
    struct model_config c = {
        .mixer = o->mixer,
        .d_model = (int)o->d_model,
        .n_layer = (int)o->n_layer,
        .d_inner = (int)(o->d_model * o->expand),
        .d_conv = (int)o->d_conv,
        .is_tied = o->is_tied,
        .begin_byte = 0,
        .norm_epsilon = 1e-5f,
    };
    if (c.mixer == MIXER_MAMBA1)
        add_mamba1(&c, o);
    else
        add_mamba2(&c, o);
    return c;
}

/* The shape of the model, and its first weights. */
static enum status make_model(struct run *run, const struct model *init)
{
    const struct train_options *o = run->options;
    struct model_config config = init ? init->config : new_config(o);
    if (config.has_norm_before_gate || config.has_channel_d)
        return fail(E_MODEL, "%s: has %s, which mambyte-train does not support",
                    o->init,
                    config.has_channel_d ? "a D for each channel"
                                         : "the norm before the gate");
    TRY(parameters_open(&run->parameters, &config));
    run->weights = malloc(run->parameters.n_floats * sizeof(float));
    if (!run->weights)
        return fail_memory("the weights");
    if (init)
        return parameters_load(&run->parameters, run->weights, init->file, "");
    parameters_init(&run->parameters, run->weights, o->seed);
    return OK;
}

static enum status open_model(struct run *run)
{
    const char *path = run->options->init;
    struct model *init = NULL;
    if (path)
        TRY(model_open(&init, path));
    enum status status = make_model(run, init);
    model_close(init);
    return status;
}

static enum status open_trainer(struct run *run)
{
    const struct train_options *o = run->options;
    struct trainer_options options = {
        .n_windows = (int)o->n_windows,
        .n_t = (int)o->n_t,
        .imitates_int8 = o->imitates_int8,
        .n_threads = o->engine.n_threads,
        .device = o->engine.device,
        .cuda_index = o->engine.cuda_index,
        .n_gpus = (int)o->n_gpus,
    };
    TRY(trainer_open(&run->trainer, &run->parameters, &options));
    if (o->engine.device == DEVICE_AUTO &&
        trainer_device(run->trainer) == DEVICE_CPU)
        message_note("not on a GPU: %s", status_message());
    return trainer_set(run->trainer, PART_WEIGHTS, run->weights);
}

/* ---- how long ----------------------------------------------------------- */

static uint64_t step_bytes(const struct run *run)
{
    return run->options->n_windows * run->options->n_t;
}

/* Without an option for it, every byte is read once. */
static void set_length(struct run *run)
{
    const struct train_options *o = run->options;
    uint64_t n_bytes = o->n_bytes;
    for (int i = 0; o->n_bytes == 0 && i < run->dataset.n; i++)
        n_bytes += run->loader.n_bytes[i];
    run->n_steps = (n_bytes + step_bytes(run) - 1) / step_bytes(run);
    if (o->n_steps > 0)
        run->n_steps = o->n_steps;
    if (o->minutes > 0)
        run->n_steps = 0;
}

/* A run of --minutes may have any number of steps. */
static uint64_t warmup_steps(const struct run *run)
{
    uint64_t tenth = run->n_steps / 10;
    if (run->options->warmup != WARMUP_DEFAULT)
        return run->options->warmup;
    return run->n_steps > 0 && tenth < WARMUP_MOST ? tenth : WARMUP_MOST;
}

static double seconds_of(const struct run *run)
{
    return run->progress.seconds + clock_now() - run->started;
}

/* The share of the run that is done. */
static double share_done(const struct run *run)
{
    if (run->n_steps > 0)
        return (double)run->progress.step / (double)run->n_steps;
    return seconds_of(run) / (60 * run->options->minutes);
}

/* ---- the checkpoint ----------------------------------------------------- */

/* Two runs of one name read the same windows in the same way. */
static void name_run(const struct run *run, char name[RUN_CHARS],
                     bool has_names)
{
    const struct train_options *o = run->options;
    snprintf(name, RUN_CHARS,
             "%" PRIu64 " windows of %" PRIu64 " bytes, carry %" PRIu64
             ", seed %" PRIu64 ", imitating %s, data %016" PRIx64
             ", begin byte %d",
             o->n_windows, o->n_t, o->carry, o->seed,
             o->imitates_int8 ? "int8" : "none",
             dataset_fingerprint(&run->dataset, has_names),
             run->parameters.config.begin_byte);
}

static enum status open_autosave(struct run *run)
{
    run->autosave.path = run->options->checkpoint;
    run->autosave.trainer = run->trainer;
    run->autosave.minutes = run->options->checkpoint_minutes;
    name_run(run, run->autosave.run, false);
    name_run(run, run->autosave.named_run, true);
    return run->options->resumes
               ? autosave_resume(&run->autosave, &run->progress)
               : OK;
}

static struct progress progress_now(const struct run *run)
{
    struct progress now = run->progress;
    now.seconds = seconds_of(run);
    return now;
}

/* ---- validation --------------------------------------------------------- */

static enum status run_validation(struct run *run)
{
    struct held_out *h = &run->held_out;
    struct validation validation = {
        .dataset = h->dataset,
        .begins = h->begins,
        .most = run->options->valid_bytes,
        .n_threads = run->options->engine.n_threads,
        .trainer = run->trainer,
    };
    TRY(trainer_get(run->trainer, PART_WEIGHTS, run->weights));
    TRY(validate(h->tallies, &validation, &run->parameters, run->weights));
    for (int i = 0; i < h->dataset->n; i++)
        h->bits[i] = tally_bits_per_byte(&h->tallies[i]);
    return OK;
}

/* ---- steps -------------------------------------------------------------- */

static enum status check_step(const struct run *run, const struct step *step,
                              double bits)
{
    const char *what = "the loss is not a number";
    if (isfinite(step->loss) && isfinite(step->gradient_norm)) {
        if (bits <= DIVERGED_BITS)
            return OK;
        what = "the loss has diverged";
    }
    if (run->autosave.saved_step == 0)
        return fail(E_IO, "step %" PRIu64 ": %s; a lower --rate may help",
                    run->progress.step + 1, what);
    return fail(E_IO,
                "step %" PRIu64 ": %s; %s holds step %" PRIu64
                ", from where a lower --rate may help",
                run->progress.step + 1, what, run->autosave.path,
                run->autosave.saved_step);
}

/* ", 31 % of peak": what the products of the forward pass (two operations for
 * each weight and byte) and of the backward pass (four) are of what the chip
 * can do. */
static void describe_share(const struct run *run, double speed, char text[32])
{
    double operations = 6 * (double)run->parameters.n_floats * speed;
    *text = '\0';
    if (trainer_peak(run->trainer) > 0)
        snprintf(text, 32, ", %.0f %% of peak",
                 100 * operations / trainer_peak(run->trainer));
}

static void show(const struct run *run, double rate)
{
    char bytes[16], speed[16], share[32];
    double elapsed = seconds_of(run), done = share_done(run);
    bool is_between = done > 0 && done < 1;
    uint64_t left = is_between ? (uint64_t)(elapsed * (1 - done) / done) : 0;
    double n = (double)run->progress.n_bytes;
    double a_second = elapsed > 0 ? n / elapsed : 0;
    describe_share(run, a_second, share);
    message_status("step %" PRIu64 ", %s, %.4f bits/byte, rate %.2e, %s/s%s, "
                   "%" PRIu64 ":%02d:%02d left",
                   run->progress.step, message_size(bytes, n),
                   run->progress.bits_per_byte, rate,
                   message_size(speed, a_second), share, left / 3600,
                   (int)(left / 60 % 60), (int)(left % 60));
}

static void smooth(struct progress *progress, double bits)
{
    double weight = progress->step == 1 ? 1 : SMOOTHING;
    progress->bits_per_byte += weight * (bits - progress->bits_per_byte);
}

/* The gradient, a look at it, the update. */
static enum status make_step(struct run *run, struct train_log_row *row)
{
    const struct train_options *o = run->options;
    struct trainer *t = run->trainer;
    struct step step;
    uint64_t index = run->progress.step;
    double rate = schedule_rate(&run->schedule, index, share_done(run));
    struct windows windows = loader_windows(&run->loader, index);
    TRY(trainer_gradient(t, &step, &windows));
    double bits = step.loss * (double)EXACT_LOG2E;
    TRY(check_step(run, &step, bits));

    double scale = o->clip / (step.gradient_norm + 1e-6);
    struct update update = {
        .learning_rate = rate,
        .gradient_scale = scale < 1 ? scale : 1,
        .weight_decay = o->weight_decay,
        .n = index + 1,
    };
    TRY(trainer_update(t, &update));
    run->progress.step++;
    run->progress.n_bytes += step_bytes(run);
    smooth(&run->progress, bits);
    *row = (struct train_log_row){
        .step = run->progress.step,
        .n_bytes = run->progress.n_bytes,
        .bits_per_byte = bits,
        .gradient_norm = step.gradient_norm,
        .learning_rate = rate,
        .seconds = seconds_of(run),
    };
    return OK;
}

/* A step whose validation was interrupted, or failed, is still logged. */
static enum status one_step(struct run *run)
{
    struct train_log_row row;
    uint64_t every = run->options->valid_every;
    enum status status = OK;
    TRY(make_step(run, &row));
    bool is_last = share_done(run) >= 1;
    if (is_last || (every > 0 && run->progress.step % every == 0)) {
        status = run_validation(run);
        row.valid = status == OK ? run->held_out.bits : NULL;
    }
    train_log_write(&run->log, &row);
    struct progress now = progress_now(run);
    if (status != OK)
        return status == E_INTERRUPTED ? status
                                       : autosave_failed(&run->autosave, &now);
    show(run, row.learning_rate);
    autosave_by_timer(&run->autosave, &now);
    return OK;
}

static enum status run_steps(struct run *run)
{
    run->started = clock_now();
    run->autosave.saved = run->started;
    while (share_done(run) < 1) {
        enum status status = signals_check();
        if (status == OK)
            status = one_step(run);
        if (status == E_INTERRUPTED) {
            struct progress now = progress_now(run);
            return autosave_interrupted(&run->autosave, &now);
        }
        TRY(status);
    }
    return OK;
}

/* ---- the whole ---------------------------------------------------------- */

static enum status write_model(struct run *run)
{
    struct metadata_list list = {.n = 0};
    metadata_list_add(&list, "trained_by", "mambyte-train " PACKAGE_VERSION);
    metadata_list_print(&list, "trained_steps", "%" PRIu64, run->progress.step);
    metadata_list_print(&list, "trained_bytes", "%" PRIu64,
                        run->progress.n_bytes);
    struct provenance provenance = {list.items, list.n};
    TRY(trainer_get(run->trainer, PART_WEIGHTS, run->weights));
    return export_file(run->options->output, &run->parameters, run->weights,
                       &provenance);
}

static void note_run(const struct run *run)
{
    char device[160];
    trainer_describe(run->trainer, device);
    message_note("%.2f M parameters, %s",
                 1e-6 * (double)run->parameters.n_floats, device);
    if (run->n_steps > 0)
        message_note("%" PRIu64 " step%s of %" PRIu64 " bytes", run->n_steps,
                     text_plural(run->n_steps), step_bytes(run));
}

static void warn_of_length(const struct run *run)
{
    uint64_t step = run->progress.step;
    if (run->n_steps > 0 && step > run->n_steps)
        message_warning("%s: the run is at step %" PRIu64
                        " already, past the %" PRIu64 " of this command",
                        run->options->checkpoint, step, run->n_steps);
}

static enum status open_run(struct run *run)
{
    const struct train_options *o = run->options;
    if (o->plot)
        TRY(plot_check(o->plot));
    TRY(open_data(run));
    TRY(open_model(run));
    TRY(open_loader(run));
    TRY(open_trainer(run));
    set_length(run);
    run->schedule = (struct schedule){
        .peak = o->learning_rate,
        .warmup = warmup_steps(run),
        .decay_share = o->decay_share,
    };
    TRY(open_autosave(run));
    TRY(train_log_open(&run->log, o->log, run->progress.step,
                       run->held_out.dataset));
    memlimit_set(0); /* it is for files, not for the model in training */
    return OK;
}

/* Reports a failure; the run goes on, and ends with status 1. */
static void report(struct run *run, enum status status)
{
    if (status == OK)
        return;
    message_error("%s", status_message());
    run->has_failed = true;
}

/* The checkpoint comes first: what fails after it can be made from it. */
static enum status finish(struct run *run, struct sink *out)
{
    const struct train_options *o = run->options;
    struct progress now = progress_now(run);
    message_progress_end();
    report(run, autosave_now(&run->autosave, &now));
    enum status status = write_model(run);
    if (status != OK)
        return autosave_failed(&run->autosave, &now);
    train_log_close(&run->log);
    if (o->plot)
        report(run, plot_draw(o->plot, o->log, run->held_out.dataset));
    TRY(held_out_print(&run->held_out, out));
    return run->has_failed ? E_REPORTED : OK;
}

static enum status go(struct run *run, struct sink *out)
{
    TRY(open_run(run));
    note_run(run);
    warn_of_length(run);
    signals_be_patient(true);
    bool was_done = share_done(run) >= 1;
    TRY(run_steps(run));
    if (was_done)
        TRY(run_validation(run));
    return finish(run, out);
}

enum status train(const struct train_options *options, struct sink *out)
{
    struct run run = {
        .options = options, .started = clock_now(), .log.sink.fd = -1};
    signals_fail_writes();
    enum status status = go(&run, out);
    signals_be_patient(false);
    train_log_close(&run.log);
    loader_close(&run.loader);
    trainer_close(run.trainer);
    parameters_close(&run.parameters);
    free(run.weights);
    held_out_close(&run.held_out);
    dataset_close(&run.dataset);
    return status;
}
