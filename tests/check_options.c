/* check_options.c -- command lines are read as they should be.
 *
 * SPDX-License-Identifier: MIT
 */
#include <stdlib.h>
#include <string.h>

#include "cmd/options.h"

#include "runner.h" /* last */

enum { WORDS_MAX = 64 };

/* Parses the words of line, after the name of the program.  They stay until the
 * next call, as options point at them. */
static enum status parse(struct options *options, const char *line)
{
    static char text[1024];
    static char *argv[WORDS_MAX];
    int argc = 0;
    argv[argc++] = "mambyte";
    strcpy(text, line);
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    argv[argc] = NULL;
    return options_parse(options, argc, argv);
}

static void refused(const char *line, const char *sentence)
{
    struct options options;
    ck_assert_int_eq(parse(&options, line), E_USAGE);
    ck_assert_str_eq(status_message(), sentence);
}

START_TEST(nothing_is_generate_from_standard_input)
{
    struct options o;
    unsetenv("MAMBYTE_MODEL");
    unsetenv("MAMBYTE_CPU");
    ck_assert_int_eq(parse(&o, ""), OK);
    ck_assert_int_eq(o.mode, MODE_GENERATE);
    ck_assert_int_eq(o.n_files, 1);
    ck_assert_str_eq(o.files[0], "-");
    ck_assert_uint_eq(o.n_bytes, 256);
    ck_assert_double_eq(o.temperature, 0.8);
    ck_assert_uint_eq(o.top_k, 256);
    ck_assert_double_eq(o.top_p, 1);
    ck_assert_double_eq(o.min_p, 0);
    ck_assert_uint_eq(o.seed, 0);
    ck_assert(!o.is_seed_random);
    ck_assert_int_eq(o.engine.device, DEVICE_AUTO);
    ck_assert_int_eq(o.engine.n_threads, 0);
    ck_assert_ptr_null(o.engine.cpu);
    ck_assert_ptr_null(o.model);
    ck_assert_int_eq(o.verbosity, NORMAL);
}
END_TEST

START_TEST(every_value_arrives)
{
    struct options o;
    ck_assert_int_eq(
        parse(&o, "-n 3K --temp 0.5 --top-k=7 --top-p 0.25 --min-p=1e-2 "
                  "--seed=18446744073709551615 --stop a --stop=bc --echo "
                  "--utf8 --load-state l --save-state=s -m x -T3 -v "
                  "--device cuda:2 --progress one - two"),
        OK);
    ck_assert_uint_eq(o.n_bytes, 3072);
    ck_assert_double_eq(o.temperature, 0.5);
    ck_assert_uint_eq(o.top_k, 7);
    ck_assert_double_eq(o.top_p, 0.25);
    ck_assert_double_eq(o.min_p, 0.01);
    ck_assert_uint_eq(o.seed, UINT64_MAX);
    ck_assert_int_eq(o.n_stops, 2);
    ck_assert_str_eq(o.stops[1], "bc");
    ck_assert(o.echo && o.utf8 && o.progress);
    ck_assert_str_eq(o.load_state, "l");
    ck_assert_str_eq(o.save_state, "s");
    ck_assert_str_eq(o.model, "x");
    ck_assert_int_eq(o.engine.n_threads, 3);
    ck_assert_int_eq(o.engine.device, DEVICE_CUDA);
    ck_assert_int_eq(o.engine.cuda_index, 2);
    ck_assert_int_eq(o.verbosity, VERBOSE);
    ck_assert_int_eq(o.n_files, 3);
    ck_assert_str_eq(o.files[2], "two");

    ck_assert_int_eq(parse(&o, "--score -0 --context=reset --threshold=1.5 "
                               "--json"),
                     OK);
    ck_assert(o.is_null_terminated && o.resets_context && o.json);
    ck_assert_double_eq(o.threshold, 1.5);
    ck_assert_int_eq(parse(&o, "--perplexity --words -q"), OK);
    ck_assert(o.words);
    ck_assert_int_eq(o.verbosity, SILENT);
}
END_TEST

START_TEST(next_may_lack_its_argument)
{
    struct options o;
    ck_assert_int_eq(parse(&o, "--next 5"), OK);
    ck_assert_int_eq(o.mode, MODE_NEXT);
    ck_assert_int_eq(o.n_next, 10);
    ck_assert_double_eq(o.temperature, 1);
    ck_assert_str_eq(o.files[0], "5");
    ck_assert_int_eq(parse(&o, "--next=256 --temp=0.8 --json"), OK);
    ck_assert_int_eq(o.n_next, 256);
    ck_assert_double_eq(o.temperature, 0.8);
    refused("--next=", "--next: '' is not a whole number");
    refused("--next=0", "--next: 0 is not between 1 and 256");
    refused("--next=257", "--next: 257 is not between 1 and 256");
    refused("--next --temp=0", "--temp=0 does not go with --next");
    refused("--next --top-k=3", "--top-k does not go with --next");
}
END_TEST

START_TEST(the_last_mode_wins)
{
    struct options o;
    ck_assert_int_eq(parse(&o, "--score --surprisal --color"), OK);
    ck_assert_int_eq(o.mode, MODE_COLOR);
    ck_assert_int_eq(parse(&o, "--color --perplexity --json"), OK);
    ck_assert_int_eq(o.mode, MODE_PERPLEXITY);
    ck_assert_int_eq(parse(&o, "--score --help --nonsense"), OK);
    ck_assert_int_eq(o.mode, MODE_HELP);
}
END_TEST

START_TEST(names_may_be_shortened)
{
    struct options o;
    ck_assert_int_eq(parse(&o, "--perp --wor"), OK);
    ck_assert(o.words);
    refused("--to 5", "option '--to' is ambiguous");
}
END_TEST

START_TEST(suffixes_are_powers_of_1024)
{
    static const struct {
        const char *line;
        uint64_t n;
    } cases[] = {
        {"-n 0", 0},           {"-n 007", 7},         {"-n 1k", 1 << 10},
        {"-n 1KiB", 1 << 10},  {"-n 5M", 5 << 20},    {"-n 2G", 1ull << 31},
        {"-n 1T", 1ull << 40}, {"-n 4MiB", 4u << 20},
    };
    struct options o;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ck_assert_int_eq(parse(&o, cases[i].line), OK);
        ck_assert_uint_eq(o.n_bytes, cases[i].n);
    }
    refused("-n 1KB", "--bytes: '1KB' is not a whole number");
    refused("-n 1Ki", "--bytes: '1Ki' is not a whole number");
    refused("-n K", "--bytes: 'K' is not a whole number");
    refused("-n +1", "--bytes: '+1' is not a whole number");
    refused("-n 17179869184G",
            "--bytes: 17179869184G is not between 0 and 4611686018427387904");
    refused("-n 99999999999999999999x",
            "--bytes: '99999999999999999999x' is not a whole number");
    refused("-n 9000000000000000000",
            "--bytes: 9000000000000000000 is not between 0 and "
            "4611686018427387904");
}
END_TEST

START_TEST(the_environment_has_the_second_word)
{
    struct options o;
    setenv("MAMBYTE_MODEL", "from-environment", 1);
    setenv("MAMBYTE_CPU", "scalar", 1);
    ck_assert_int_eq(parse(&o, ""), OK);
    ck_assert_str_eq(o.model, "from-environment");
    ck_assert_str_eq(o.engine.cpu, "scalar");
    ck_assert_int_eq(parse(&o, "-m given"), OK);
    ck_assert_str_eq(o.model, "given");
    setenv("MAMBYTE_MODEL", "", 1);
    ck_assert_int_eq(parse(&o, ""), OK);
    ck_assert_ptr_null(o.model);
    unsetenv("MAMBYTE_MODEL");
    unsetenv("MAMBYTE_CPU");
}
END_TEST

START_TEST(too_many_stops_are_refused)
{
    struct options o;
    char line[1024] = "";
    for (int i = 0; i < STOPS_MAX; i++)
        strcat(line, "--stop=x ");
    ck_assert_int_eq(parse(&o, line), OK);
    ck_assert_int_eq(o.n_stops, STOPS_MAX);
    strcat(line, "--stop=x ");
    refused(line, "--stop: more than 32 strings");
}
END_TEST

START_TEST(a_long_stop_is_refused)
{
    struct options o;
    char word[STOP_BYTES_MAX + 16] = "--stop=";
    memset(word + 7, 'x', STOP_BYTES_MAX);
    char *argv[] = {"mambyte", word, NULL};
    ck_assert_int_eq(options_parse(&o, 2, argv), OK);
    word[7 + STOP_BYTES_MAX] = 'x';
    ck_assert_int_eq(options_parse(&o, 2, argv), E_USAGE);
}
END_TEST

int main(void)
{
    TCase *cases = tcase_create("options");
    tcase_add_test(cases, nothing_is_generate_from_standard_input);
    tcase_add_test(cases, every_value_arrives);
    tcase_add_test(cases, next_may_lack_its_argument);
    tcase_add_test(cases, the_last_mode_wins);
    tcase_add_test(cases, names_may_be_shortened);
    tcase_add_test(cases, suffixes_are_powers_of_1024);
    tcase_add_test(cases, the_environment_has_the_second_word);
    tcase_add_test(cases, too_many_stops_are_refused);
    tcase_add_test(cases, a_long_stop_is_refused);
    Suite *suite = suite_create("options");
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}
