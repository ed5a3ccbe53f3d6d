/* nccl.cuh -- sums over the GPUs of one host.
 *
 * NCCL is loaded when more than one GPU trains, and only then.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef MAMBYTE_NCCL_CUH
#define MAMBYTE_NCCL_CUH

#include "cuda/common/device.cuh"

struct nccl;

/* devices: [n].  E_DEVICE with the reason when libnccl.so.2 cannot be loaded
 * or does not start. */
enum status nccl_open(struct nccl **nccl, const int *devices, int n);
void nccl_close(struct nccl *nccl); /* NULL is accepted */

/* For GPU i of the list: x, [n], becomes the sum of the x of all GPUs.  A
 * thread for each GPU calls it, all at the same time; it is enqueued. */
enum status nccl_sum(struct nccl *nccl, int i, float *x, size_t n,
                     cudaStream_t stream);

#endif
