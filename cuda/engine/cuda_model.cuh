/* cuda_model.cuh -- an int8 model on the device.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_CUDA_MODEL_CUH
#define MAMBYTE_CUDA_MODEL_CUH

#include "cuda/common/device.cuh"

/* Copies the model to the current device.  A model of zeros may be closed,
 * and one whose opening failed. */
enum status cuda_model_open(struct cuda_model *m, const struct model *from);
void cuda_model_close(struct cuda_model *m);

#endif
