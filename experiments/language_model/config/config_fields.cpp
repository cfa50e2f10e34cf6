#include "experiments/language_model/config/config_fields.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "experiments/files/json_file.h"

namespace hyperattn {
namespace {

using nlohmann::json;

// Larger than any model's; keeps every product of two sizes inside int64.
constexpr int64_t kMaxSize = int64_t{1} << 30;

const json kNull;

// What transformers writes into every file, or what only training, generation and tokenizers read.
const std::set<std::string>& harmless_keys() {
  static const std::set<std::string> keys = {"architectures",
                                             "auto_map",
                                             "bad_words_ids",
                                             "begin_suppress_tokens",
                                             "cache_implementation",
                                             "chunk_size_feed_forward",
                                             "cross_attention_hidden_size",
                                             "diversity_penalty",
                                             "do_sample",
                                             "dtype",
                                             "early_stopping",
                                             "encoder_no_repeat_ngram_size",
                                             "exponential_decay_length_penalty",
                                             "finetuning_task",
                                             "gradient_checkpointing",
                                             "id2label",
                                             "initializer_factor",
                                             "initializer_range",
                                             "is_decoder",
                                             "is_llama_config",
                                             "label2id",
                                             "language",
                                             "length_penalty",
                                             "max_length",
                                             "min_length",
                                             "model_max_length",
                                             "model_type",
                                             "name_or_path",
                                             "no_repeat_ngram_size",
                                             "num_beam_groups",
                                             "num_beams",
                                             "num_labels",
                                             "num_return_sequences",
                                             "output_attentions",
                                             "output_hidden_states",
                                             "output_router_logits",
                                             "output_scores",
                                             "prefix",
                                             "pretraining_tp",
                                             "problem_type",
                                             "pruned_heads",
                                             "remove_invalid_values",
                                             "repetition_penalty",
                                             "return_dict",
                                             "return_dict_in_generate",
                                             "suppress_tokens",
                                             "task_specific_params",
                                             "temperature",
                                             "tf_legacy_loss",
                                             "tie_encoder_decoder",
                                             "tokenizer",
                                             "tokenizer_class",
                                             "top_k",
                                             "top_p",
                                             "torch_dtype",
                                             "torchscript",
                                             "transformers.js_config",
                                             "transformers_version",
                                             "typical_p",
                                             "unsloth_fixed",
                                             "unsloth_version",
                                             "use_bfloat16",
                                             "use_cache",
                                             "use_flash_attn"};
  return keys;
}

bool has_no_effect(const std::string& key) {
  for (const char* ending : {"_token_id", "_token_ids", "_dropout", "_dropout_prob", "_pdrop"})
    if (key.ends_with(ending)) return true;
  return key.starts_with("_") || harmless_keys().count(key) > 0;
}

bool is_off(const json& value) {
  const bool empty = (value.is_structured() || value.is_string()) &&
                     (value.is_string() ? value.get_ref<const std::string&>().empty() : value.empty());
  return value.is_null() || empty || (value.is_boolean() && !value.get<bool>());
}

[[noreturn]] void fail_unread(const std::string& name, const std::string& key, const json& value,
                              const std::string& model) {
  fail_input(
      fmt::format("{}: '{}' is {}, but the key is not known for {}, so what it changes is not computed; "
                  "remove it if it changes nothing",
                  name, key, excerpt(value), model));
}

}  // namespace

ConfigFields::ConfigFields(const json& document, std::string name)
    : document_(document), name_(std::move(name)) {}

bool ConfigFields::has(const std::string& key) const {
  return !value(key).is_null();
}

bool ConfigFields::is_null(const std::string& key) const {
  return !has(key) && document_.contains(key);
}

const json& ConfigFields::value(const std::string& key) const {
  read_.insert(key);
  const auto found = document_.find(key);
  return found == document_.end() ? kNull : *found;
}

void ConfigFields::refuse(const std::string& key, const std::string& allowed) const {
  fail_input(fmt::format("{}: '{}' must be {}, but {}", name_, key, allowed,
                         document_.contains(key) ? "is " + excerpt(value(key)) : "is missing"));
}

int64_t ConfigFields::size(const std::string& key) const {
  const json& found = value(key);
  if (!found.is_number_integer()) refuse(key, "a positive integer");
  const bool too_large =
      found.is_number_unsigned() && found.get<uint64_t>() > static_cast<uint64_t>(kMaxSize);
  if (too_large || found.get<int64_t>() < 1) refuse(key, "between 1 and " + std::to_string(kMaxSize));
  return found.get<int64_t>();
}

int64_t ConfigFields::size(const std::string& key, int64_t fallback) const {
  return has(key) ? size(key) : fallback;
}

int64_t ConfigFields::size_named(const std::string& key, const std::string& other) const {
  if (!has(other)) return size(key);
  if (!has(key)) return size(other);
  if (size(key) != size(other))
    refuse(key, fmt::format("the same as '{}' ({})", other, excerpt(value(other))));
  return size(key);
}

double ConfigFields::positive(const std::string& key) const {
  const double found = value(key).is_number() ? value(key).get<double>() : 0;
  if (!(found > 0) || !std::isfinite(found)) refuse(key, "a positive number");
  return found;
}

double ConfigFields::positive(const std::string& key, double fallback) const {
  return has(key) ? positive(key) : fallback;
}

double ConfigFields::number(const std::string& key, double fallback) const {
  if (!has(key)) return fallback;
  if (!value(key).is_number() || !std::isfinite(value(key).get<double>())) refuse(key, "a finite number");
  return value(key).get<double>();
}

bool ConfigFields::flag(const std::string& key, bool fallback) const {
  if (!has(key)) return fallback;
  if (!value(key).is_boolean()) refuse(key, "true or false");
  return value(key).get<bool>();
}

std::string ConfigFields::text(const std::string& key, const std::string& fallback) const {
  if (!has(key)) return fallback;
  if (!value(key).is_string()) refuse(key, "text");
  return value(key).get<std::string>();
}

std::vector<std::string> ConfigFields::texts(const std::string& key) const {
  std::vector<std::string> list;
  if (!has(key)) return list;
  if (!value(key).is_array()) refuse(key, "a list of texts");
  for (const json& item : value(key)) {
    if (!item.is_string()) refuse(key, "a list of texts");
    list.push_back(item.get<std::string>());
  }
  return list;
}

std::vector<double> ConfigFields::positive_numbers(const std::string& key) const {
  std::vector<double> list;
  if (!has(key)) return list;
  if (!value(key).is_array()) refuse(key, "a list of positive numbers");
  for (const json& item : value(key)) {
    const double number = item.is_number() ? item.get<double>() : 0;
    if (!(number > 0) || !std::isfinite(number)) refuse(key, "a list of positive numbers");
    list.push_back(number);
  }
  return list;
}

void ConfigFields::without_effect(std::initializer_list<const char*> keys) const {
  read_.insert(keys.begin(), keys.end());
}

void ConfigFields::refuse_unread(const std::string& model) const {
  for (const auto& [key, found] : document_.items())
    if (read_.count(key) == 0 && !has_no_effect(key) && !is_off(found)) fail_unread(name_, key, found, model);
}

}  // namespace hyperattn
