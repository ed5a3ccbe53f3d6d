/* mamba2_image.cu -- images of states of Mamba-2, to and from the device.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/engine/mamba2_image.cuh"

#include "cuda/common/exact_vector.cuh"

enum { THREADS = 256, WARPS = THREADS / WARP };

/* ---- to the host --------------------------------------------------------- */

static void clear_layer(const struct model_config *c,
                        const struct mamba2_layer_state *s, size_t place)
{
    size_t left = CHUNK - place, d_inner = c->d_inner;
    size_t n_b = (size_t)c->n_groups * c->d_state;
    for (int h = 0; h < c->n_heads; h++)
        memset(s->w + h * CHUNK + place, 0, left * sizeof *s->w);
    if (place == 0)
        memset(s->e, 0, c->n_heads * sizeof *s->e);
    memset(s->x + place * d_inner, 0, left * d_inner);
    memset(s->b + place * n_b, 0, left * n_b);
}

enum status mamba2_image_finish(const struct model_config *config,
                                const struct state *state, float *image)
{
    struct mamba2_layout l = mamba2_layout_of(config);
    int place;
    CUDA_TRY(cudaMemcpy(&place, mamba2_layer_state(state->image, l, 0).place,
                        sizeof place, cudaMemcpyDeviceToHost),
             "copying a state");
    for (int i = 0; i < config->n_layer; i++) {
        struct mamba2_layer_state s = mamba2_layer_state(image, l, i);
        clear_layer(config, &s, (size_t)place);
    }
    state_int8s(config, image)[model_state_int8s(config) - 1] = (int8_t)place;
    return OK;
}

/* ---- to the device ------------------------------------------------------- */

/* S^ of a layer, a warp a channel; and the place. */
static __global__ void __launch_bounds__(THREADS)
    derive(float *image, struct mamba2_layout l, int d_inner, int d_state)
{
    struct mamba2_layer_state s = mamba2_layer_state(image, l, blockIdx.y);
    int channel = blockIdx.x * WARPS + threadIdx.x / WARP;
    int lane = threadIdx.x % WARP;
    if (blockIdx.x == 0 && threadIdx.x == 0)
        *s.place = ((const int8_t *)image)[l.image - 1];
    if (channel >= d_inner)
        return;
    const float *row = s.s + (size_t)channel * d_state;
    int8_t *q = s.s_q + (size_t)channel * d_state;
    uint32_t amax = 0;
    for (int n = lane; n < d_state; n += WARP)
        amax = max(amax, magnitude_bits(row[n]));
    struct exact_scale scale = exact_scale_of_products(warp_max(amax));
    for (int n = lane; n < d_state; n += WARP)
        q[n] = scale.scale != 0.0f ? exact_quantise(row[n], scale.inverse) : 0;
    if (lane == 0)
        s.s_scale[channel] = scale.scale;
}

enum status mamba2_image_derive(const struct model_config *config,
                                const struct state *state, cudaStream_t stream)
{
    dim3 grid(ceil_div(config->d_inner, WARPS), config->n_layer);
    derive<<<grid, THREADS, 0, stream>>>(state->image, mamba2_layout_of(config),
                                         config->d_inner, config->d_state);
    return cuda_status(cudaGetLastError(), "copying a state");
}
