# local.mk -- records to labels, and how classifiers are trained.
#
# SPDX-License-Identifier: MIT

libmambyte_a_SOURCES += \
  src/classify/classifier.c \
  src/classify/classifier.h \
  src/classify/confusion.c \
  src/classify/confusion.h \
  src/classify/example_sets.c \
  src/classify/example_sets.h \
  src/classify/examples.c \
  src/classify/examples.h \
  src/classify/feature_table.c \
  src/classify/feature_table.h \
  src/classify/gram_coder.c \
  src/classify/gram_coder.h \
  src/classify/gram_contexts.h \
  src/classify/gram_counts.c \
  src/classify/gram_counts.h \
  src/classify/gram_file.c \
  src/classify/gram_file.h \
  src/classify/gram_pack.c \
  src/classify/gram_pack.h \
  src/classify/gram_pairs.c \
  src/classify/gram_pairs.h \
  src/classify/gram_prune.c \
  src/classify/gram_prune.h \
  src/classify/gram_refine.c \
  src/classify/gram_refine.h \
  src/classify/gram_scan.c \
  src/classify/gram_scan.h \
  src/classify/gram_tree.c \
  src/classify/gram_tree.h \
  src/classify/gram_words.c \
  src/classify/gram_words.h \
  src/classify/grams.c \
  src/classify/grams.h \
  src/classify/lbfgs.c \
  src/classify/lbfgs.h \
  src/classify/linear_classifier.c \
  src/classify/linear_classifier.h \
  src/classify/linear_classifier_file.c \
  src/classify/linear_classifier_file.h \
  src/classify/linear_fit.c \
  src/classify/linear_fit.h \
  src/classify/lower_case.c \
  src/classify/lower_case.h \
  src/classify/record_reader.c \
  src/classify/record_reader.h \
  src/classify/regression.c \
  src/classify/regression.h \
  src/classify/train_classifier.c \
  src/classify/train_classifier.h
