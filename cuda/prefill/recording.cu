/* recording.cu -- the launches of a single microbatch, recorded as a graph.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/prefill/recording.cuh"

void recording_free(struct recording *recording)
{
    if (recording->launch)
        cudaGraphExecDestroy(recording->launch);
    recording->launch = NULL;
    recording->is_wanted = false;
}

static bool is_same(const struct launch_form *a, const struct launch_form *b)
{
    return a->rows == b->rows && a->spans == b->spans &&
           a->strips == b->strips && a->chunks == b->chunks &&
           a->has_pooled == b->has_pooled;
}

bool recording_meets(struct recording *recording,
                     const struct launch_form *form)
{
    if (!is_same(&recording->form, form))
        recording_free(recording);
    recording->form = *form;
    bool was_wanted = recording->is_wanted;
    recording->is_wanted = true;
    return was_wanted && !recording->launch && !recording->is_refused;
}

bool recording_start(struct recording *recording, cudaStream_t stream)
{
    recording->is_refused =
        cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed) !=
        cudaSuccess;
    return !recording->is_refused;
}

void recording_end(struct recording *recording, cudaStream_t stream, bool is_ok)
{
    cudaGraph_t graph = NULL;
    if (cudaStreamEndCapture(stream, &graph) != cudaSuccess || !is_ok ||
        cudaGraphInstantiate(&recording->launch, graph, 0) != cudaSuccess)
        recording->launch = NULL;
    if (graph)
        cudaGraphDestroy(graph);
    cudaGetLastError(); /* no failure: the launches can be made one by one */
    recording->is_refused = recording->launch == NULL;
}
