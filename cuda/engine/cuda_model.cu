/* cuda_model.cu -- an int8 model on the device.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/engine/cuda_model.cuh"

#include "cuda/common/upload.cuh"

static struct cuda_matrix upload_matrix(struct upload *up,
                                        const struct matrix *from)
{
    struct cuda_matrix m = {};
    m.rows = from->rows;
    m.cols = from->cols;
    m.stride = round_up(from->cols, ROW_ALIGN);
    m.q = (const int8_t *)upload_rows(up, from->q, m.rows, m.cols, m.stride);
    m.scale = upload_floats(up, from->scale, m.rows);
    return m;
}

static struct cuda_layer upload_layer(struct upload *up,
                                      const struct layer *from,
                                      const struct model_config *c)
{
    struct cuda_layer l = {};
    bool is_mamba2 = c->mixer == MIXER_MAMBA2;
    size_t d_inner = c->d_inner, channels = conv_channels(c);
    size_t n_steps = is_mamba2 ? c->n_heads : d_inner;
    size_t n_decays = is_mamba2 ? c->n_heads : c->d_state * d_inner;
    l.norm = upload_floats(up, from->norm, c->d_model);
    l.norm_bias = upload_floats(up, from->norm_bias, c->d_model);
    l.in_proj = upload_matrix(up, &from->in_proj);
    l.conv = upload_floats(up, from->conv, c->d_conv * channels);
    l.conv_bias = upload_floats(up, from->conv_bias, channels);
    if (is_mamba2) {
        l.gate_norm = upload_floats(up, from->gate_norm, d_inner);
    } else {
        l.x_proj = upload_matrix(up, &from->x_proj);
        l.dt_proj = upload_matrix(up, &from->dt_proj);
    }
    l.dt_bias = upload_floats(up, from->dt_bias, n_steps);
    l.a_log2e = upload_floats(up, from->a_log2e, n_decays);
    l.d = upload_floats(up, from->d, d_inner);
    l.out_proj = upload_matrix(up, &from->out_proj);
    return l;
}

static void upload_model(struct upload *up, struct cuda_model *m,
                         const struct model *from)
{
    const struct model_config *c = &m->config;
    m->embedding =
        upload_floats(up, from->embedding, (size_t)N_BYTES_VOCAB * c->d_model);
    for (int i = 0; i < c->n_layer; i++)
        m->layers[i] = upload_layer(up, &from->layers[i], c);

    struct cuda_layer *head = &m->layers[c->n_layer];
    m->norm_f = head->norm = upload_floats(up, from->norm_f, c->d_model);
    m->norm_f_bias = head->norm_bias =
        upload_floats(up, from->norm_f_bias, c->d_model);
    m->lm_head = head->in_proj = upload_matrix(up, &from->lm_head);

    m->device_layers = (const struct cuda_layer *)upload_bytes(
        up, m->layers, (c->n_layer + 1) * sizeof *m->layers);
}

enum status cuda_model_open(struct cuda_model *m, const struct model *from)
{
    m->source = from;
    m->config = from->config;
    m->image.layer = state_layer_floats(&m->config);
    m->image.s = (size_t)(m->config.d_conv - 1) * conv_channels(&m->config);
    m->image.logits = m->image.layer * m->config.n_layer;
    m->layers =
        (struct cuda_layer *)calloc(m->config.n_layer + 1, sizeof *m->layers);
    if (!m->layers)
        return fail_memory("the weights");
    struct upload up = {};
    upload_model(&up, m, from);
    m->arena_bytes = up.carver.n_bytes;
    TRY(upload_allocate(&up, &m->arena));
    upload_model(&up, m, from);
    return upload_finish(&up);
}

void cuda_model_close(struct cuda_model *m)
{
    cudaFree(m->arena);
    free(m->layers);
}
