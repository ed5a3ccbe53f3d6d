/* trainer.c -- chooses the hardware that trains, and what all trainers share.
 *
 * SPDX-License-Identifier: MIT
 */
#include "train/trainer.h"

#include "config.h"
#include "train/trainer_ops.h"

#if !HAVE_CUDA
enum status cuda_trainer_open(struct trainer **trainer,
                              const struct parameters *parameters,
                              const struct trainer_options *options)
{
    (void)parameters;
    (void)options;
    *trainer = NULL;
    return fail(E_DEVICE, "this build trains on the CPU only");
}
#endif

/* Where there is no GPU at all, or none that trains, the CPU does; several
 * GPUs are never taken to be one CPU. */
enum status trainer_open(struct trainer **trainer,
                         const struct parameters *parameters,
                         const struct trainer_options *options)
{
    if (options->device != DEVICE_CPU) {
        enum status status = cuda_trainer_open(trainer, parameters, options);
        bool may_differ = options->device == DEVICE_AUTO && options->n_gpus < 2;
        if (status != E_DEVICE || !may_differ)
            return status;
    }
    return cpu_trainer_open(trainer, parameters, options);
}

void trainer_close(struct trainer *trainer)
{
    if (trainer)
        trainer->ops->close(trainer);
}

/* Mamba-2: windows start chunks, so that no chunk is half done. */
size_t trainer_state_floats(const struct model_config *config)
{
    const struct model_config *c = config;
    if (c->mixer == MIXER_MAMBA1)
        return model_state_floats(c) - N_BYTES_VOCAB;
    size_t conv = (size_t)(c->d_conv - 1) * (size_t)conv_channels(c);
    size_t s = (size_t)c->d_inner * (size_t)c->d_state;
    return (size_t)c->n_layer * (conv + s);
}

size_t trainer_part_floats(const struct trainer *trainer,
                           enum trainer_part part)
{
    const struct parameters *p = trainer->parameters;
    if (part == PART_STATES)
        return (size_t)trainer->n_windows * trainer_state_floats(&p->config);
    return p->n_floats;
}

enum status trainer_gradient(struct trainer *trainer, struct step *step,
                             const struct windows *windows)
{
    return trainer->ops->gradient(trainer, step, windows);
}

enum status trainer_update(struct trainer *trainer, const struct update *update)
{
    return trainer->ops->update(trainer, update);
}

enum status trainer_get(struct trainer *trainer, enum trainer_part part,
                        float *host)
{
    return trainer->ops->get(trainer, part, host);
}

enum status trainer_set(struct trainer *trainer, enum trainer_part part,
                        const float *host)
{
    return trainer->ops->set(trainer, part, host);
}

void trainer_describe(const struct trainer *trainer, char text[160])
{
    trainer->ops->describe(trainer, text);
}

const struct parameters *trainer_parameters(const struct trainer *trainer)
{
    return trainer->parameters;
}

int trainer_windows(const struct trainer *trainer)
{
    return trainer->n_windows;
}

enum device trainer_device(const struct trainer *trainer)
{
    return trainer->device;
}

int trainer_cuda_index(const struct trainer *trainer)
{
    return trainer->cuda_index;
}

double trainer_peak(const struct trainer *trainer)
{
    return trainer->peak;
}
