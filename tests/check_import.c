/* check_import.c -- imported checkpoints predict what others compute.
 *
 * tests/data/import has small random models as two projects name them, with
 * input and logits from an independent implementation (its README).
 *
 * SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/exact.h"
#include "engine/engine.h"
#include "engine/measure.h"
#include "import/adopt.h"
#include "import/equalise.h"
#include "tiny_model.h"
#include "train/export.h"

#include "runner.h" /* last */

enum { LENGTH = 32 };

static const char *const names[] = {"authors", "transformers", "mamba2-ssm",
                                    "mamba2-transformers"};
enum { N_NAMES = sizeof names / sizeof names[0] };

/* A file of a model's folder. */
static void read_data(void *bytes, size_t n, const char *model,
                      const char *name)
{
    char path[DATA_PATH_CHARS];
    FILE *file = fopen(data_path(path, "import/%s/%s", model, name), "rb");
    ck_assert_msg(file != NULL, "cannot read %s", path);
    ck_assert_uint_eq(fread(bytes, 1, n, file), n);
    fclose(file);
}

static const struct adopt_options as_said = {.begin_byte = BEGIN_BYTE_AS_SAID};

struct imported {
    struct foreign foreign;
    struct adopted adopted;
};

static void open_import(struct imported *i, const char *model)
{
    char path[DATA_PATH_CHARS];
    enum status status =
        foreign_open(&i->foreign, data_path(path, "import/%s", model));
    ck_assert_msg(status == OK, "%s", status_message());
    status = adopt(&i->adopted, &i->foreign, &as_said);
    ck_assert_msg(status == OK, "%s", status_message());
}

static void close_import(struct imported *i)
{
    adopted_close(&i->adopted);
    foreign_close(&i->foreign);
}

static void predict(const struct model *model, const uint8_t *bytes, size_t n,
                    float *logits)
{
    struct engine *engine;
    struct state *state;
    struct engine_options options = {.device = DEVICE_CPU, .n_threads = 2};
    ck_assert_int_eq(engine_open(&engine, model, &options), OK);
    ck_assert_int_eq(engine_state_new(engine, &state), OK);
    struct segment segment = {
        .state = state, .bytes = bytes, .n = n, .logits = logits};
    ck_assert_int_eq(engine_feed(engine, &segment, 1), OK);
    engine_state_free(engine, state);
    engine_close(engine);
}

/* The largest difference, in units of the largest logit. */
static double difference(const float *a, const float *b, size_t n)
{
    double most = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)a[i] - (double)b[i]));
        largest = fmax(largest, fabs((double)b[i]));
    }
    return most / largest;
}

START_TEST(logits_are_those_of_others)
{
    static float got[LENGTH * 256], want[LENGTH * 256];
    uint8_t input[LENGTH];
    struct imported i;
    open_import(&i, names[_i]);
    read_data(input, sizeof input, names[_i], "input.bin");
    read_data(want, sizeof want, names[_i], "logits.f32");
    predict(i.adopted.model, input, LENGTH, got);
    ck_assert_double_lt(difference(got, want, LENGTH * 256), 1e-6);
    close_import(&i);
}
END_TEST

START_TEST(shapes_are_found)
{
    struct imported i;
    open_import(&i, "authors");
    const struct model_config *c = &i.adopted.model->config;
    ck_assert(c->has_norm_bias && !c->is_tied && c->is_float);
    ck_assert_int_eq(c->begin_byte, -1);
    ck_assert_str_eq(i.adopted.naming, "the MambaByte authors");
    close_import(&i);
    open_import(&i, "transformers");
    c = &i.adopted.model->config;
    ck_assert(!c->has_norm_bias && c->is_tied && c->is_float);
    ck_assert_int_eq(c->d_state, 8);
    ck_assert_str_eq(i.adopted.naming, "transformers");
    close_import(&i);
}
END_TEST

START_TEST(shapes_of_mamba2_are_found)
{
    struct imported i;
    open_import(&i, "mamba2-ssm");
    const struct model_config *c = &i.adopted.model->config;
    ck_assert_int_eq(c->mixer, MIXER_MAMBA2);
    ck_assert(c->has_channel_d && c->has_norm_before_gate && !c->is_tied);
    ck_assert_int_eq(c->n_groups, 2);
    ck_assert_float_eq(c->delta_min, 0.02f);
    ck_assert_float_eq(c->delta_max, 0.2f);
    ck_assert_str_eq(i.adopted.naming, "mamba-ssm");
    close_import(&i);
    open_import(&i, "mamba2-transformers");
    c = &i.adopted.model->config;
    ck_assert_int_eq(c->mixer, MIXER_MAMBA2);
    ck_assert(!c->has_channel_d && !c->has_norm_before_gate && c->is_tied);
    ck_assert_int_eq(c->headdim, 16);
    ck_assert_float_eq(c->delta_min, 0.05f);
    ck_assert(isinf(c->delta_max));
    ck_assert_str_eq(i.adopted.naming, "transformers");
    close_import(&i);
}
END_TEST

/* ---- outliers ----------------------------------------------------------- */

/* A model of floats, its parameters, and bytes to look at. */
struct patient {
    struct tiny_model tiny;
    struct parameters parameters;
    float *weights;
    struct sample sample;
};

static void open_patient(struct patient *p)
{
    struct tiny_spec spec = tiny_spec_make(64, 2, 5);
    spec.weights = DTYPE_F32;
    ck_assert_int_eq(tiny_model_open(&p->tiny, &spec), OK);
    const struct model *model = p->tiny.model;
    ck_assert_int_eq(parameters_open(&p->parameters, &model->config), OK);
    p->weights = calloc(p->parameters.n_floats, sizeof(float));
    ck_assert_int_eq(
        parameters_load(&p->parameters, p->weights, model->file, ""), OK);
    p->sample = (struct sample){"text", malloc(6000), 6000};
    for (size_t i = 0; i < p->sample.n; i++)
        p->sample.bytes[i] = (uint8_t)(i * i >> 5);
}

static void close_patient(struct patient *p)
{
    tiny_model_close(&p->tiny);
    parameters_close(&p->parameters);
    free(p->weights);
    sample_close(&p->sample);
}

static float *weights_of(const struct patient *p, int l, enum place place)
{
    return p->weights + parameters_at(&p->parameters, l, place)->offset;
}

/* Channel c of what a projection multiplies is made g times as large, and
 * the projection's column as much smaller. */
static void plant(struct patient *p, int l, enum place scaled,
                  enum place projection, int c, float g)
{
    const struct parameter *w = parameters_at(&p->parameters, l, projection);
    weights_of(p, l, scaled)[c] *= g;
    for (int r = 0; r < w->shape[0]; r++)
        p->weights[w->offset + (size_t)r * (size_t)w->shape[1] + (size_t)c] /=
            g;
}

/* Opens the model that the weights make now, in floats or in int8. */
static struct model *open_weights(const struct patient *p, bool is_int8,
                                  void **memory)
{
    struct provenance none = {NULL, 0};
    struct model *model;
    uint8_t *bytes;
    size_t n;
    enum status status;
    if (is_int8) {
        ck_assert_int_eq(
            export_memory(&bytes, &n, &p->parameters, p->weights, &none), OK);
        *memory = bytes;
        status = model_open_memory(&model, "int8", bytes, n);
    } else {
        struct tensor *list = calloc(p->parameters.n, sizeof *list);
        struct safetensors_content content = {NULL, 0, list, 0};
        for (size_t i = 0; i < p->parameters.n; i++) {
            const struct parameter *from = &p->parameters.list[i];
            if (from->n > 0)
                list[content.n_tensors++] = parameter_tensor(
                    from, DTYPE_F32, p->weights + from->offset);
        }
        *memory = list;
        status = model_open_content(&model, "float", &content);
    }
    ck_assert_msg(status == OK, "%s", status_message());
    return model;
}

static double distance(const struct patient *p, bool is_int8, const float *want)
{
    static float got[LENGTH * 256];
    void *memory;
    struct model *model = open_weights(p, is_int8, &memory);
    predict(model, p->sample.bytes, LENGTH, got);
    model_close(model);
    free(memory);
    return difference(got, want, LENGTH * 256);
}

/* Outliers before in_proj; before out_proj, in a channel of small delta: D
 * grows, and the state by a larger delta of slower decays. */
static void plant_outliers(struct patient *p, int l, enum place projection)
{
    const float g = 256.0f, log_g = 8.0f / EXACT_LOG2E;
    int c = 11 + l;
    if (projection == P_IN_PROJ) {
        plant(p, l, P_NORM, P_IN_PROJ, c, g);
        return;
    }
    plant(p, l, P_D, P_OUT_PROJ, c, g);
    weights_of(p, l, P_DT_BIAS)[c] = -10.0f + log_g;
    for (int s = 0; s < 16; s++)
        weights_of(p, l, P_A_LOG)[c * 16 + s] -= log_g;
}

/* The model in floats stays nearly the same; int8, where it was far from that,
 * comes nearer. */
START_TEST(outliers_are_made_equal)
{
    static const enum place places[] = {P_IN_PROJ, P_OUT_PROJ};
    static float want[LENGTH * 256];
    struct patient p;
    struct equalised done;
    void *memory;
    open_patient(&p);
    for (int l = 0; l < 2; l++)
        plant_outliers(&p, l, places[_i]);
    struct model *model = open_weights(&p, false, &memory);
    predict(model, p.sample.bytes, LENGTH, want);
    double before = distance(&p, true, want);

    ck_assert_int_eq(
        equalise(&done, model, &p.sample, &p.parameters, p.weights), OK);
    ck_assert_int_ge(done.n_projections, 2);
    ck_assert_int_ge(done.n_channels, 2);
    ck_assert_double_lt(distance(&p, false, want), 1e-2);
    if (_i == 0)
        ck_assert_double_lt(distance(&p, true, want), 0.5 * before);
    ck_assert(fabsf(weights_of(&p, 0, _i == 0 ? P_NORM : P_D)[11]) < 32);
    model_close(model);
    free(memory);
    close_patient(&p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("import");
    TCase *tcase = tcase_create("import");
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, logits_are_those_of_others, 0, N_NAMES);
    tcase_add_test(tcase, shapes_are_found);
    tcase_add_test(tcase, shapes_of_mamba2_are_found);
    tcase_add_loop_test(tcase, outliers_are_made_equal, 0, 2);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
