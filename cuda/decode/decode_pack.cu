/* decode_pack.cu -- a second copy of the weights, as the blocks read them.
 *
 * It is made on the device, from the engine's matrices.  Zeros pad each share
 * to the size of the largest; they add nothing.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/decode/decode_pack.cuh"

/* Block (b, l) of the grid: the share of layer l that block b has. */
static __global__ void pack_own_kernel(struct decode_plan p, uint8_t *own,
                                       const struct cuda_layer *layers)
{
    const struct cuda_layer *l = &layers[blockIdx.y];
    const int block = blockIdx.x, d_inner = p.config.d_inner;
    const int c0 = share_start(block, d_inner, p.n_blocks);
    const int c1 = share_start(block + 1, d_inner, p.n_blocks);
    const int r0 = share_start(block, p.config.d_model, p.n_blocks);
    const int r1 = share_start(block + 1, p.config.d_model, p.n_blocks);
    const int n = p.n_channels;
    uint8_t *in = own + block * p.block_bytes + blockIdx.y * p.layer_bytes;
    uint8_t *scan = in + p.in.bytes;
    uint8_t *out = scan + p.scan.bytes;

    float *f = (float *)in;
    f = pack_floats(f, l->in_proj.scale, c0, c1, n);
    f = pack_floats(f, l->in_proj.scale + d_inner, c0, c1, n);
    for (int k = 0; k < p.config.d_conv; k++)
        f = pack_floats(f, l->conv + (size_t)k * d_inner, c0, c1, n);
    pack_floats(f, l->conv_bias, c0, c1, n);
    uint8_t *rows = in + p.in.float_bytes;
    pack_rows(rows, &l->in_proj, c0, c1, n, p.in.stride);
    pack_rows(rows + n * p.in.stride, &l->in_proj, d_inner + c0, d_inner + c1,
              n, p.in.stride);

    f = (float *)scan;
    f = pack_floats(f, l->dt_proj.scale, c0, c1, n);
    f = pack_floats(f, l->dt_bias, c0, c1, n);
    f = pack_floats(f, l->d, c0, c1, n);
    for (int s = 0; s < p.config.d_state; s++)
        f = pack_floats(f, l->a_log2e + (size_t)s * d_inner, c0, c1, n);
    pack_rows(scan + p.scan.float_bytes, &l->dt_proj, c0, c1, n, p.scan.stride);

    pack_floats((float *)out, l->out_proj.scale, r0, r1, p.n_rows);
    pack_rows(out + p.out.float_bytes, &l->out_proj, r0, r1, p.n_rows,
              p.out.stride);
}

/* Block b of the grid: block b's rows of lm_head, after its layers. */
static __global__ void pack_head_kernel(struct decode_plan p, uint8_t *own,
                                        struct cuda_matrix lm_head)
{
    const int v0 = share_start(blockIdx.x, N_BYTES_VOCAB, p.n_blocks);
    const int v1 = share_start(blockIdx.x + 1, N_BYTES_VOCAB, p.n_blocks);
    uint8_t *head =
        own + blockIdx.x * p.block_bytes + p.config.n_layer * p.layer_bytes;
    pack_floats((float *)head, lm_head.scale, v0, v1, p.n_logits);
    pack_rows(head + p.head.float_bytes, &lm_head, v0, v1, p.n_logits,
              p.head.stride);
}

/* Block (i, l) of the grid: part i of x_proj of layer l. */
static __global__ void pack_parts_kernel(struct decode_plan p, uint8_t *parts,
                                         const struct cuda_layer *layers)
{
    const struct cuda_layer *l = &layers[blockIdx.y];
    const int n = p.config.dt_rank + 2 * p.config.d_state;
    const int x0 = share_start(blockIdx.x, n, p.n_parts);
    const int x1 = share_start(blockIdx.x + 1, n, p.n_parts);
    uint8_t *x =
        parts + ((size_t)blockIdx.x * gridDim.y + blockIdx.y) * p.x.bytes;
    pack_floats((float *)x, l->x_proj.scale, x0, x1, p.n_x_rows);
    pack_rows(x + p.x.float_bytes, &l->x_proj, x0, x1, p.n_x_rows, p.x.stride);
}

/* Block l of the grid: the norm of layer l; the last block: the final norm. */
static __global__ void pack_norms_kernel(struct decode_plan p, uint8_t *norms,
                                         const struct cuda_layer *layers,
                                         const float *norm_f,
                                         const float *norm_f_bias)
{
    const int l = blockIdx.x, n = p.config.d_model;
    const bool is_last = l == p.config.n_layer;
    float *to = (float *)(norms + (size_t)l * p.norm_bytes);
    to = pack_floats(to, is_last ? norm_f : layers[l].norm, 0, n, n);
    if (p.config.has_norm_bias)
        pack_floats(to, is_last ? norm_f_bias : layers[l].norm_bias, 0, n, n);
}

static void pack_mamba1(const struct decode_plan *p,
                        const struct cuda_model *model, cudaStream_t stream)
{
    const unsigned n_layer = (unsigned)p->config.n_layer;
    pack_own_kernel<<<dim3(p->n_blocks, n_layer), PACK_THREADS, 0, stream>>>(
        *p, (uint8_t *)p->own, model->device_layers);
    pack_parts_kernel<<<dim3(p->n_parts, n_layer), PACK_THREADS, 0, stream>>>(
        *p, (uint8_t *)p->parts, model->device_layers);
}

enum status decode_plan_pack(const struct decode_plan *p,
                             const struct cuda_model *model,
                             cudaStream_t stream)
{
    const char *what = "packing the weights";
    const unsigned n_layer = (unsigned)p->config.n_layer;
    uint8_t *own = (uint8_t *)p->own;
    uint8_t *norms = (uint8_t *)p->norms;

    if (p->config.mixer == MIXER_MAMBA2)
        TRY(pack_mamba2(p, model, stream));
    else
        pack_mamba1(p, model, stream);
    pack_head_kernel<<<p->n_blocks, PACK_THREADS, 0, stream>>>(*p, own,
                                                               model->lm_head);
    pack_norms_kernel<<<n_layer + 1, PACK_THREADS, 0, stream>>>(
        *p, norms, model->device_layers, model->norm_f, model->norm_f_bias);
    CUDA_TRY(cudaGetLastError(), what);
    return OK;
}
