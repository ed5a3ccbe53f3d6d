/* float_model.cu -- a model of floats on the device.
 *
 * SPDX-License-Identifier: MIT
 */
#include "cuda/float/float_model.cuh"

#include "cuda/common/upload.cuh"

static struct float_matrix upload_matrix(struct upload *up,
                                         const struct matrix *from)
{
    struct float_matrix m = {from->rows, from->cols, from->dtype, NULL};
    m.w = upload_bytes(up, from->floats,
                       (size_t)m.rows * m.cols * dtype_size(m.dtype));
    return m;
}

static struct float_layer upload_layer(struct upload *up,
                                       const struct layer *from,
                                       const struct model_config *c)
{
    struct float_layer l = {};
    size_t d_inner = c->d_inner;
    l.norm = upload_floats(up, from->norm, c->d_model);
    l.norm_bias = upload_floats(up, from->norm_bias, c->d_model);
    l.in_proj = upload_matrix(up, &from->in_proj);
    l.conv = upload_floats(up, from->conv, c->d_conv * d_inner);
    l.conv_bias = upload_floats(up, from->conv_bias, d_inner);
    l.x_proj = upload_matrix(up, &from->x_proj);
    l.dt_proj = upload_matrix(up, &from->dt_proj);
    l.dt_bias = upload_floats(up, from->dt_bias, d_inner);
    l.a_log2e = upload_floats(up, from->a_log2e, c->d_state * d_inner);
    l.d = upload_floats(up, from->d, d_inner);
    l.out_proj = upload_matrix(up, &from->out_proj);
    return l;
}

static void upload_model(struct upload *up, struct float_model *m,
                         const struct model *from)
{
    const struct model_config *c = &from->config;
    m->embedding =
        upload_floats(up, from->embedding, (size_t)N_BYTES_VOCAB * c->d_model);
    for (int l = 0; l < c->n_layer; l++)
        m->layers[l] = upload_layer(up, &from->layers[l], c);
    m->norm_f = upload_floats(up, from->norm_f, c->d_model);
    m->norm_f_bias = upload_floats(up, from->norm_f_bias, c->d_model);
    m->lm_head = upload_matrix(up, &from->lm_head);
}

enum status float_model_open(struct float_model *m, const struct model *from)
{
    struct upload up = {};
    m->layers =
        (struct float_layer *)calloc(from->config.n_layer, sizeof *m->layers);
    if (!m->layers)
        return fail_memory("the weights");
    upload_model(&up, m, from);
    TRY(upload_allocate(&up, &m->arena));
    upload_model(&up, m, from);
    return upload_finish(&up);
}

void float_model_close(struct float_model *m)
{
    cudaFree(m->arena);
    free(m->layers);
}
