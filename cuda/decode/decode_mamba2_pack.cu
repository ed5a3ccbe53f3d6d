/* decode_mamba2_pack.cu -- Mamba-2's part of the second copy of the weights.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/decode/decode_mamba2_plan.cuh"
#include "cuda/decode/decode_pack.cuh"

/* What a row of in_proj has besides its weights, as decode_mamba2_plan.cuh
 * says. */
static __device__ void pack_row_floats(float *to, int stride,
                                       const struct cuda_layer *l,
                                       const struct decode_plan *p, int row)
{
    const struct model_config *c = &p->config;
    const int channels = p->deal.conv_channels, conv = row - c->d_inner;
    const int head = conv - channels;
    to[0] = l->in_proj.scale[row];
    if (head >= 0) {
        to[stride] = l->dt_bias[head];
        to[2 * stride] = l->a_log2e[head];
    } else if (conv >= 0) {
        to[stride] = l->conv_bias[conv];
        for (int k = 0; k < c->d_conv; k++)
            to[(2 + k) * stride] = l->conv[(size_t)k * channels + conv];
    }
}

/* The columns of n rows in the order of strips: of each 512, byte k of lane i's
 * 16 is column i + 32 k. */
static __device__ void turn_columns(uint8_t *rows, int n, int stride)
{
    __shared__ uint8_t strip[STRIP_BYTES];
    for (int i = 0; i < n * (stride / STRIP_BYTES); i++) {
        uint8_t *at = rows + i * STRIP_BYTES;
        for (int c = threadIdx.x; c < STRIP_BYTES; c += blockDim.x)
            strip[c] = at[c];
        __syncthreads();
        for (int c = threadIdx.x; c < STRIP_BYTES; c += blockDim.x)
            at[c] = strip[c / 16 + c % 16 * WARP];
        __syncthreads();
    }
}

/* Block (b, l) of the grid: the share of layer l that block b has. */
static __global__ void pack_own_kernel(struct decode_plan p, uint8_t *own,
                                       const struct cuda_layer *layers)
{
    const struct cuda_layer *l = &layers[blockIdx.y];
    const int block = blockIdx.x;
    const struct mamba2_share s = mamba2_share_of(&p, block);
    const int c0 = s.channel0 + s.c0, n = s.n_channels;
    const int r0 = share_start(block, p.config.d_model, p.n_blocks);
    const int r1 = share_start(block + 1, p.config.d_model, p.n_blocks);
    uint8_t *in = own + block * p.block_bytes + blockIdx.y * p.layer_bytes;
    uint8_t *rows = in + p.in.float_bytes;
    uint8_t *d = in + p.in.bytes;
    uint8_t *out = d + p.scan.bytes;

    const int *list = p.deal.rows + block * p.in.rows;
    for (int i = threadIdx.x; i < p.in.rows; i += blockDim.x) {
        if (list[i] >= 0)
            pack_row_floats((float *)in + i, p.in.rows, l, &p, list[i]);
    }
    for (int i = 0; i < p.in.rows; i++)
        pack_rows(rows + i * p.in.stride, &l->in_proj, list[i],
                  list[i] < 0 ? list[i] : list[i] + 1, 1, p.in.stride);
    pack_floats((float *)d, l->d, c0, c0 + n, p.n_channels);
    pack_floats((float *)out, l->out_proj.scale, r0, r1, p.n_rows);
    pack_rows(out + p.out.float_bytes, &l->out_proj, r0, r1, p.n_rows,
              p.out.stride);
    __syncthreads();
    if (p.deal.has_strips)
        turn_columns(rows, p.in.rows, p.in.stride);
    if (p.deal.has_out_strips)
        turn_columns(out + p.out.float_bytes, p.n_rows, p.out.stride);
}

/* Block l of the grid: the norm before out_proj of layer l. */
static __global__ void pack_gate_norms_kernel(struct decode_plan p,
                                              uint8_t *norms,
                                              const struct cuda_layer *layers)
{
    const int n = p.config.d_inner;
    pack_floats((float *)(norms + (size_t)blockIdx.x * p.x.bytes),
                layers[blockIdx.x].gate_norm, 0, n, n);
}

enum status pack_mamba2(const struct decode_plan *p,
                        const struct cuda_model *model, cudaStream_t stream)
{
    int *rows = mamba2_list_rows(p);
    if (rows == NULL)
        return fail_memory("the decoder");
    /* On that stream the array is cleared first, and read afterwards. */
    cudaError_t error =
        cudaMemcpyAsync((int *)p->deal.rows, rows,
                        (size_t)p->n_blocks * p->in.rows * sizeof *rows,
                        cudaMemcpyHostToDevice, stream);
    if (error == cudaSuccess)
        error = cudaStreamSynchronize(stream);
    free(rows);
    CUDA_TRY(error, "packing the weights");
    const unsigned n_layer = (unsigned)p->config.n_layer;
    pack_own_kernel<<<dim3(p->n_blocks, n_layer), PACK_THREADS, 0, stream>>>(
        *p, (uint8_t *)p->own, model->device_layers);
    pack_gate_norms_kernel<<<n_layer, PACK_THREADS, 0, stream>>>(
        *p, (uint8_t *)p->parts, model->device_layers);
    return OK;
}
