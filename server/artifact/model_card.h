// README.md of an expert: what it is, what it was made from, how it was measured, how to load it.
// Text from plain data; no time, host or path, so that the same expert has the same card. Free text
// and values that come from files are escaped: they cannot end a line, a table cell or the front
// matter. Pure functions, but ReadBaseLicense, which reads two files of the base folder.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "server/base/digest.h"

namespace secateur {

// What Hugging Face's front matter says about a licence; empty fields are left out.
struct BaseLicense {
  std::string license;       // "apache-2.0", "gemma", "other"
  std::string license_name;  // with "other"
  std::string license_link;
};

// From the front matter of the base's README.md, else "apache-2.0" or "mit" when its LICENSE is
// that text; all empty when neither says anything.
BaseLicense ReadBaseLicense(const std::string& base_folder);

struct ModelCard {
  struct Selection {  // "language" and "ko", "ja"
    std::string key;
    std::vector<std::string> values;
  };
  struct Evaluation {  // on one corpus
    std::string corpus;
    int64_t documents = 0;
    int64_t bytes = 0;
    double base = 0;  // bits per byte, lower is better
    double expert = 0;
    int64_t questions = 0;  // documents with choices; the rest is about them
    double base_accuracy = 0;
    double expert_accuracy = 0;
    double difference_low = 0;  // 95 % interval of expert_accuracy - base_accuracy
    double difference_high = 0;
    int64_t base_tokens = 0;  // that the text takes; told where the vocabulary was trimmed
    int64_t expert_tokens = 0;
    std::optional<double> overlap;  // share of the text that the expert was made from as well
  };

  std::string title;        // display name, may be empty: then "Expert of <base>"
  std::string base_model;   // name on the server, or a hub id
  std::string base_digest;  // of config and weights
  BaseLicense license;
  std::vector<Selection> selections;  // empty: general
  std::string rule;                   // "RELATIVE_MEAN"; empty: no neurons were removed
  bool compensated = false;           // down_proj weights were solved anew
  bool biased = false;                // down_proj has a bias that the base's has not
  bool unjudged = false;              // with either: no text was held out to compare it on
  bool attention_channels = false;    // channels of attention were removed, too
  int64_t base_kv_head_groups = 0;    // of each layer
  int64_t expert_kv_head_groups = 0;
  bool masked = false;  // removed neurons are zeros, the tensors have the base's shape
  int64_t layers = 0;
  int64_t base_width = 0;  // FFN neurons of each layer
  int64_t expert_width = 0;
  int64_t base_vocabulary = 0;  // rows of the embedding
  int64_t expert_vocabulary = 0;
  int64_t base_parameters = 0;
  int64_t expert_parameters = 0;
  std::vector<Evaluation> evaluations;
  // Smoke check on calibration text.
  double perplexity_ratio = 0;  // of the expert over the base
  double base_repetition = 0;   // share of runs of 4 tokens that a greedy continuation repeats
  double expert_repetition = 0;
};

std::string ModelCardText(const ModelCard& card);

}  // namespace secateur
