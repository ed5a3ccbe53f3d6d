/* import_options.c -- reads the command line of mambyte-import.
 *
 * Every option is a row of the table (option_table.h).
 *
 * SPDX-License-Identifier: MIT
 */
#include "cmd/import_options.h"

#include <stddef.h>
#include <string.h>

#include "base/number.h"

#define AT(member) offsetof(struct import_command, member)

static enum status take_quantise(void *into, const struct option_row *row,
                                 const char *value)
{
    struct import_options *options = &((struct import_command *)into)->import;
    options->is_float = strcmp(value, "none") == 0;
    if (options->is_float || strcmp(value, "int8") == 0)
        return OK;
    return fail(E_USAGE, "--%s: '%s' is neither 'int8' nor 'none'", row->name,
                value);
}

static enum status take_naming(void *into, const struct option_row *row,
                               const char *value)
{
    struct import_options *options = &((struct import_command *)into)->import;
    if (strcmp(value, "mamba-ssm") == 0)
        options->naming = NAMING_MAMBA_SSM;
    else if (strcmp(value, "transformers") == 0)
        options->naming = NAMING_TRANSFORMERS;
    else
        return fail(E_USAGE,
                    "--%s: '%s' is neither 'mamba-ssm' nor "
                    "'transformers'",
                    row->name, value);
    return OK;
}

static enum status take_begin_byte(void *into, const struct option_row *row,
                                   const char *value)
{
    struct import_options *options = &((struct import_command *)into)->import;
    uint64_t byte;
    if (strcmp(value, "none") == 0) {
        options->adopt.begin_byte = BEGIN_BYTE_NONE;
        return OK;
    }
    if (!number_parse(value, &byte) || byte > 255)
        return fail(E_USAGE,
                    "--%s: '%s' is neither a number from 0 to 255 nor 'none'",
                    row->name, value);
    options->adopt.begin_byte = (int)byte;
    return OK;
}

static enum status take_vocabulary(void *into, const struct option_row *row,
                                   const char *value)
{
    struct import_options *options = &((struct import_command *)into)->import;
    options->adopt.cuts_vocabulary = true;
    if (strcmp(value, "cut") == 0)
        return OK;
    return fail(E_USAGE, "--%s: '%s' is not 'cut'", row->name, value);
}

static const struct option_row rows[] = {
    {.help = "Output"},
    {.letter = 'o',
     .name = "output",
     .argument = "FILE|DIR",
     INTO_TEXT(AT(import.output)),
     .help = "the model to write; with --to, a new folder"},
    {.name = "quantize",
     .argument = "int8|none",
     .take = take_quantise,
     .help = "make weights int8, or keep their type (int8)"},
    {.name = "average",
     .argument = "MODEL",
     INTO_LIST(AT(import.averages)),
     .help = "write the mean with MODEL, of the same shape; may\n"
             "be given several times"},
    {.name = "begin-byte",
     .argument = "N|none",
     .take = take_begin_byte,
     .help = "in training, every text began with byte N"},
    {.name = "vocabulary",
     .argument = "cut",
     .take = take_vocabulary,
     .help = "the first 256 tokens are the bytes, whatever a\n"
             "tokenizer says; cut off the rest"},
    {.name = "to",
     .argument = "mamba-ssm|transformers",
     .take = take_naming,
     .help = "write float weights under the names of others,\n"
             "and their config.json"},
    ROW_FORCE(AT(machine.force),
              "replace files of another kind, or those in DIR"),

    {.help = "Calibration"},
    {.name = "calibrate",
     .argument = "FILE",
     INTO_TEXT(AT(import.calibrate)),
     .help = "measure bits per byte of FILE in floats and in\n"
             "int8, and make int8 lose less"},
    {.name = "calibrate-bytes",
     .argument = "N",
     INTO_INTEGER(AT(import.calibrate_bytes), 1, 0x1p32),
     .help = "read only the first N bytes of it (64K)"},

    {.help = "The machine"},
    ROW_THREADS(AT(import.n_threads)),
    ROWS_MACHINE(AT(machine), "say what is done"),
};

enum { N_ROWS = sizeof rows / sizeof rows[0] };

const struct option_table import_options_table = {
    .rows = rows,
    .n = N_ROWS,
    .program = "mambyte-import",
    .usage = "[OPTION]... -o MODEL DIR|FILE",
    .about = "Turn a published checkpoint into a model that mambyte runs.  The "
             "input is\n"
             "safetensors, in one file or several, or PyTorch's .bin or .pt; "
             "nothing in it is\n"
             "executed.\n",
};

static enum status check_pairs(const struct import_options *o,
                               const bool *given)
{
    if (o->naming != NAMING_OURS && o->calibrate)
        return fail(E_USAGE, "--to does not go with --calibrate");
    if (o->naming != NAMING_OURS &&
        option_table_is_given(&import_options_table, given, "quantize"))
        return fail(E_USAGE, "--to does not go with --quantize: it writes "
                             "floats");
    if (!o->calibrate &&
        option_table_is_given(&import_options_table, given, "calibrate-bytes"))
        return fail(E_USAGE, "--calibrate-bytes needs --calibrate");
    if (o->averages.n > 0 && o->calibrate)
        return fail(E_USAGE, "--average does not go with --calibrate");
    if (o->averages.n > 0 && o->is_float && o->naming == NAMING_OURS)
        return fail(E_USAGE, "--average does not go with --quantize=none");
    return OK;
}

static enum status check(const struct import_options *o, const bool *given,
                         int n_operands)
{
    if (n_operands == 0)
        return fail(E_USAGE, "there is no DIR or FILE to import");
    if (n_operands > 1)
        return fail(E_USAGE, "only one DIR or FILE can be imported");
    if (!o->output)
        return fail(E_USAGE, "--output needs a FILE for the model");
    return check_pairs(o, given);
}

enum status import_options_parse(struct import_command *command, int argc,
                                 char **argv)
{
    bool given[N_ROWS];
    int first;
    *command = (struct import_command){
        .import = {.calibrate_bytes = 1 << 16,
                   .adopt = {.begin_byte = BEGIN_BYTE_AS_SAID}},
        .machine.verbosity = NORMAL};
    TRY(option_table_read(&import_options_table, command, given, argc, argv,
                          &first));
    if (machine_wants_text(&command->machine))
        return OK;
    command->import.input = argv[first];
    return check(&command->import, given, argc - first);
}
