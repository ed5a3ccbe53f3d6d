/* batch_team.cu -- teams of blocks, launched: a method of batch decode.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/batch/batch_method.cuh"
#include "cuda/batch/batch_pack.cuh"
#include "cuda/batch/batch_plan.cuh"

enum {
    TEAM_ROWS = 4096,   /* of a launch, at most                            */
    TILE_ROWS_LEAST = 8 /* where there are as many                         */
};

struct team {
    struct batch_model model; /* without `at`, which depends on the rows    */
    struct batch_variant few, many; /* for tiles of few rows, and of more   */
    int n_teams;    /* that can run at the same time                      */
    int max_shared; /* bytes                                               */
    void *weights;  /* owned                                               */
};

static void set_launch(cudaLaunchConfig_t *config,
                       cudaLaunchAttribute *attribute, const struct team *t,
                       int n_teams, int shared)
{
    *config = {};
    attribute->id = cudaLaunchAttributeClusterDimension;
    attribute->val.clusterDim.x = t->model.size;
    attribute->val.clusterDim.y = attribute->val.clusterDim.z = 1;
    config->gridDim = dim3(n_teams * t->model.size);
    config->blockDim = dim3(BATCH_THREADS);
    config->dynamicSmemBytes = shared;
    config->attrs = attribute;
    config->numAttrs = 1;
}

/* Rows of a tile: as few rounds as the memory of a team allows, with equal
 * shares for all teams. */
static int tile_rows(const struct team *t, int n)
{
    int rounds = ceil_div(n, t->n_teams * t->many.rows);
    int rows = ceil_div(n, t->n_teams * rounds);
    return rows < TILE_ROWS_LEAST ? TILE_ROWS_LEAST : rows;
}

static int team_form(const void *self, int n)
{
    return tile_rows((const struct team *)self, n);
}

static enum status team_launch(void *self, const struct batch_job *rows,
                               cudaStream_t stream)
{
    const struct team *t = (const struct team *)self;
    struct batch_job job = *rows;
    job.tile_rows = tile_rows(t, job.n_rows);
    int n_tiles = ceil_div(job.n_rows, job.tile_rows);
    cudaLaunchConfig_t config;
    cudaLaunchAttribute attribute;
    const struct batch_variant *v =
        job.tile_rows <= t->few.rows ? &t->few : &t->many;
    struct batch_model m = t->model;
    batch_place_memory(&m, v, job.tile_rows, t->max_shared);
    set_launch(&config, &attribute, t,
               n_tiles < t->n_teams ? n_tiles : t->n_teams, m.at.bytes);
    config.stream = stream;
    return cuda_status(cudaLaunchKernelEx(&config, v->kernel, m, job),
                       "decoding a batch");
}

/* ---- opening ------------------------------------------------------------- */

/* The most rows of a tile that fit beside a ring large enough to be of use, if
 * the variant has one; 0 when not even a small tile fits. */
static int most_rows(const struct team *t, const struct batch_variant *v)
{
    struct batch_model m = t->model;
    for (int rows = v->rows_max; rows >= TILE_ROWS_LEAST; rows--) {
        batch_place_memory(&m, v, rows, t->max_shared);
        if (m.at.bytes <= t->max_shared &&
            (!v->has_ring || m.at.ring_stages >= RING_STAGES_LEAST))
            return rows;
    }
    return 0;
}

static enum status prepare(struct batch_variant *v, const struct team *t)
{
    const char *what = "preparing the kernel of batch decode";
    v->rows = most_rows(t, v);
    CUDA_TRY(cudaFuncSetAttribute((const void *)v->kernel,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  t->max_shared),
             what);
    return cuda_status(
        cudaFuncSetAttribute((const void *)v->kernel,
                             cudaFuncAttributeNonPortableClusterSizeAllowed, 1),
        what);
}

/* How many teams can run at the same time; 0 where the shape does not fit. */
static enum status count_teams(struct team *t, int channels)
{
    cudaLaunchConfig_t config;
    cudaLaunchAttribute attribute;
    batch_choose_variants(&t->few, &t->many, channels);
    TRY(prepare(&t->few, t));
    TRY(prepare(&t->many, t));
    if (t->many.rows == 0)
        return OK;
    set_launch(&config, &attribute, t, 1, t->max_shared);
    if (cudaOccupancyMaxActiveClusters(
            &t->n_teams, (const void *)t->many.kernel, &config) != cudaSuccess)
        t->n_teams = 0;
    cudaGetLastError(); /* it is no failure: there is prefill */
    return OK;
}

static enum status choose_grid(struct team *t, int channels)
{
    int device;
    bool has_clusters;
    CUDA_TRY(cudaGetDevice(&device), "asking for the device");
    CUDA_TRY(cudaDeviceGetAttribute(&t->max_shared,
                                    cudaDevAttrMaxSharedMemoryPerBlockOptin,
                                    device),
             "asking for the device's properties");
    TRY(cuda_has_clusters(&has_clusters));
    return has_clusters ? count_teams(t, channels) : OK;
}

static enum status team_set_up(struct team *t, const struct cuda_model *model,
                               cudaStream_t stream)
{
    int channels = batch_choose_channels(&model->config);
    if (channels == 0)
        return OK;
    batch_describe_model(&t->model, model, channels);
    TRY(choose_grid(t, channels));
    if (t->n_teams == 0)
        return OK;
    return batch_pack(&t->weights, &t->model, model, channels, stream);
}

static void team_close(void *self)
{
    struct team *t = (struct team *)self;
    if (t)
        cudaFree(t->weights);
    free(t);
}

static enum status team_open(void **self, const struct cuda_model *model,
                             cudaStream_t stream)
{
    *self = NULL;
    struct team *t = (struct team *)calloc(1, sizeof *t);
    if (!t)
        return fail_memory("the GPU engine");
    enum status status = team_set_up(t, model, stream);
    if (status == OK && t->n_teams > 0)
        *self = t;
    else
        team_close(t);
    return status;
}

const struct batch_method batch_team = {
    TEAM_ROWS, team_open, team_close, team_form, team_launch,
};
