/* float_model.cuh -- a model of floats on the device, in the types of its
 * file.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_FLOAT_MODEL_CUH
#define MAMBYTE_FLOAT_MODEL_CUH

#include "cuda/common/device.cuh"

struct float_matrix {
    int rows, cols;
    enum dtype dtype;
    const void *w; /* [rows][cols] */
};

struct float_layer {
    const float *norm, *norm_bias, *conv, *conv_bias, *dt_bias, *a_log2e, *d;
    struct float_matrix in_proj, x_proj, dt_proj, out_proj;
};

struct float_model {
    void *arena; /* owned: all that lies on the device */
    const float *embedding, *norm_f, *norm_f_bias;
    struct float_matrix lm_head;
    struct float_layer *layers; /* [n_layer], host, owned */
};

/* Copies the model to the current device.  A model of zeros may be closed,
 * and one whose opening failed. */
enum status float_model_open(struct float_model *m, const struct model *from);
void float_model_close(struct float_model *m);

#endif
