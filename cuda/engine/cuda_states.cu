/* cuda_states.cu -- the states of the GPU engine, and their copies.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/engine/cuda_states.cuh"

#include "cuda/engine/mamba2_image.cuh"

struct image_copy {
    float *to;
    const float *from;
};

/* Passed to the kernel by value. */
struct image_copies {
    struct image_copy list[COPIES_MAX];
};

void cuda_states_open(struct cuda_states *states,
                      const struct model_config *config, cudaStream_t stream)
{
    states->config = config;
    states->n_image = states->n_bytes = model_state_size(config);
    if (config->mixer == MIXER_MAMBA2)
        states->n_bytes = mamba2_layout_of(config).n_bytes;
    states->stream = stream;
}

static bool free_unused(struct cuda_states *states)
{
    bool has_any = states->unused != NULL;
    while (states->unused) {
        struct state *s = states->unused;
        states->unused = s->next;
        cudaFree(s->image);
        free(s);
    }
    return has_any;
}

void cuda_states_close(struct cuda_states *states)
{
    free_unused(states);
}

enum status cuda_states_new(struct cuda_states *states, struct state **state)
{
    struct state *s = states->unused;
    *state = NULL;
    if (s) {
        states->unused = s->next;
    } else {
        s = (struct state *)calloc(1, sizeof *s);
        if (!s)
            return fail_memory("a state");
        enum status status = cuda_status(cudaMalloc(&s->image, states->n_bytes),
                                         "memory for a state");
        if (status != OK) {
            free(s);
            return status;
        }
    }
    *state = s;
    return OK;
}

void cuda_states_free(struct cuda_states *states, struct state *state)
{
    state->next = states->unused;
    states->unused = state;
}

/* A block copies a part of an image. */
static __global__ void copy_images(const struct image_copies copies,
                                   int n_floats)
{
    const struct image_copy copy = copies.list[blockIdx.y];
    const int step = gridDim.x * blockDim.x;
#pragma unroll 4
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n_floats; i += step)
        copy.to[i] = copy.from[i];
}

enum status cuda_states_settle(struct cuda_states *states)
{
    enum { THREADS = 256, PARTS_MAX = 64 };
    if (states->n_copies == 0)
        return OK;
    int n_floats = (int)(states->n_bytes / sizeof(float));
    int n_parts = ceil_div(n_floats, 4 * THREADS);
    dim3 grid(n_parts < PARTS_MAX ? n_parts : PARTS_MAX, states->n_copies);
    struct image_copies copies = {};
    for (int i = 0; i < states->n_copies; i++) {
        struct state *to = states->targets[i], *from = states->sources[i];
        copies.list[i] = {to->image, from->image};
        to->is_target = from->is_source = false;
    }
    copy_images<<<grid, THREADS, 0, states->stream>>>(copies, n_floats);
    states->n_copies = 0;
    return cuda_status(cudaGetLastError(), "copying states");
}

enum status cuda_states_copy(struct cuda_states *states, struct state *to,
                             struct state *from)
{
    if (states->n_copies == COPIES_MAX || to->is_target || to->is_source ||
        from->is_target)
        TRY(cuda_states_settle(states));
    states->targets[states->n_copies] = to;
    states->sources[states->n_copies++] = from;
    to->is_target = from->is_source = true;
    return OK;
}

/* A copy that waits may be to one of them. */
bool cuda_states_release(struct cuda_states *states)
{
    return cuda_states_settle(states) == OK && free_unused(states);
}

/* Copies an image to or from the host, and waits. */
static enum status transfer(struct cuda_states *states, void *to,
                            const void *from, enum cudaMemcpyKind kind)
{
    TRY(cuda_states_settle(states));
    CUDA_TRY(cudaMemcpyAsync(to, from, states->n_image, kind, states->stream),
             "copying a state");
    CUDA_TRY(cudaStreamSynchronize(states->stream), "copying a state");
    return OK;
}

enum status cuda_states_get(struct cuda_states *states,
                            const struct state *state, float *image)
{
    TRY(transfer(states, image, state->image, cudaMemcpyDeviceToHost));
    if (states->config->mixer != MIXER_MAMBA2)
        return OK;
    return mamba2_image_finish(states->config, state, image);
}

enum status cuda_states_set(struct cuda_states *states, struct state *state,
                            const float *image)
{
    bool is_mamba2 = states->config->mixer == MIXER_MAMBA2;
    TRY(transfer(states, state->image, image, cudaMemcpyHostToDevice));
    if (!is_mamba2)
        return OK;
    TRY(mamba2_image_derive(states->config, state, states->stream));
    CUDA_TRY(cudaStreamSynchronize(states->stream), "copying a state");
    return OK;
}
