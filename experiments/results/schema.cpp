#include "experiments/results/schema.h"

#include <fmt/core.h>

#include <algorithm>
#include <sstream>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>

#include "experiments/measures/measure.h"
#include "experiments/results/declared.h"

namespace hyperattn {
namespace {

constexpr auto kInteger = ColumnKind::integer;
constexpr auto kNumber = ColumnKind::number;
constexpr auto kText = ColumnKind::text;
constexpr auto kIdentity = ColumnRole::identity;
constexpr auto kParameter = ColumnRole::parameter;
constexpr auto kOutcome = ColumnRole::outcome;
constexpr auto kFigure = ColumnRole::figure;

ColumnKind kind_of(const ParameterSpec& spec) {
  switch (spec.type) {
    case ParameterType::integer:
    case ParameterType::boolean:
      return kInteger;
    case ParameterType::number:
      return kNumber;
    case ParameterType::text:
    case ParameterType::choice:
    case ParameterType::integer_list:
      return kText;
  }
  return kText;
}

/// "1: …" of a truth value, and the words of a choice.
std::string meaning_of(const ParameterSpec& spec) {
  if (spec.type == ParameterType::boolean) return "1: " + spec.meaning;
  std::string words;
  for (size_t i = 0; i < spec.choices.size(); ++i)
    words += (i == 0 ? "" : i + 1 == spec.choices.size() ? " or " : ", ") + spec.choices[i];
  if (words.empty()) return spec.meaning;
  if (spec.type == ParameterType::choice) return fmt::format("{} ({})", spec.meaning, words);
  return fmt::format("{} ({}: {})", spec.meaning, spec.type == ParameterType::integer ? "−1" : "NaN", words);
}

class Columns {
 public:
  /// What no declaration of a parameter or a figure has.
  void fact(const std::string& name, ColumnKind kind, ColumnRole role, const std::string& meaning) {
    add({name, kind, role, meaning});
  }

  void parameter(const std::string& column) {
    const ParameterSpec* found = nullptr;
    for (const DeclaredParameter& declared : case_parameters())
      // Where owners differ, the one with the most choices has the words of all.
      if (column_of(declared.spec) == column &&
          (found == nullptr || declared.spec.choices.size() > found->choices.size()))
        found = &declared.spec;
    if (found == nullptr)
      throw std::logic_error(fmt::format("no parameter is declared for the column '{}'", column));
    add({column, kind_of(*found), kParameter, meaning_of(*found), found->unit});
  }

  void figure(const std::string& name, ColumnRole role = kFigure, ColumnKind kind = kNumber) {
    for (const Measure* measure : all_measures())
      for (const FigureSpec& spec : measure->figures())
        if (spec.name == name) return figure(spec, role, kind);
    throw std::logic_error(fmt::format("no measure declares the figure '{}'", name));
  }

  void figure(const FigureSpec& spec, ColumnRole role, ColumnKind kind = kNumber) {
    add({spec.name, spec.is_text ? kText : kind, role, spec.meaning, spec.unit, spec.is_headline,
         spec.is_error});
  }

  /// Everything that is declared and not there yet, in the order of declaration.
  void others() {
    for (const DeclaredParameter& declared : case_parameters())
      if (!has(column_of(declared.spec))) parameter(column_of(declared.spec));
    for (const DeclaredParameter& declared : run_settings())
      if (!has(column_of(declared.spec)))
        add({column_of(declared.spec), kind_of(declared.spec), ColumnRole::setting, meaning_of(declared.spec),
             declared.spec.unit});
    for (const Measure* measure : all_measures())
      for (const FigureSpec& spec : measure->figures())
        if (!has(spec.name)) figure(spec, kFigure);
  }

  [[nodiscard]] std::vector<ColumnSpec> take() { return std::move(columns_); }

 private:
  void add(ColumnSpec column) { columns_.push_back(std::move(column)); }
  [[nodiscard]] bool has(const std::string& name) const {
    return std::any_of(columns_.begin(), columns_.end(),
                       [&](const ColumnSpec& column) { return column.name == name; });
  }

  std::vector<ColumnSpec> columns_;
};

// Names and their order are for good: plots and papers use them. At a release, what `others` appends is
// written out here, so that it keeps its place when more is declared.
std::vector<ColumnSpec> make_columns() {
  Columns columns;
  columns.fact("case_id", kText, kIdentity, "hash of all resolved parameters and the schema version");
  columns.fact("backend", kText, kParameter, "attention method");
  columns.fact("source", kText, kParameter, "input source");
  columns.fact("seq_len", kInteger, kParameter, "query rows n_q");
  columns.fact("key_len", kInteger, kParameter, "key rows n_k");
  columns.fact("head_dim", kInteger, kParameter, "width d of queries and keys");
  columns.fact("value_dim", kInteger, kParameter, "width d_v of values");
  columns.fact("heads", kInteger, kParameter, "heads per batch entry");
  columns.fact("batch", kInteger, kParameter, "batch entries");
  columns.fact("causal", kInteger, kParameter, "1: query row i sees keys 0 to i + key_len − seq_len only");
  columns.fact("pass", kText, kParameter, "what is timed: forward or forward_backward");
  for (const char* name :
       {"bucket_count", "block_size", "sample_size", "condition_number", "min_seq_len", "estimator", "mask",
        "bucket_order", "sampling", "collisions", "blocks", "buckets"})
    columns.parameter(name);
  columns.fact("trial", kInteger, kIdentity, "independent draw of inputs and random choices, from 0");
  columns.fact("seed", ColumnKind::seed, kIdentity, "seed of the run");
  columns.fact("threads", kInteger, kIdentity, "threads that the run used");
  columns.fact("status", kText, kOutcome, "ok or failed");
  columns.fact("message", kText, kOutcome, "why it failed, one sentence");
  for (const char* name : {"seconds", "seconds_mad", "gflops", "speedup"}) columns.figure(name, kOutcome);
  columns.fact("baseline_backend", kText, kOutcome,
               "the fastest exact attention on the same inputs, device and precision");
  columns.figure("baseline_seconds", kOutcome);
  columns.figure("peak_bytes", kOutcome, kInteger);
  columns.fact("entries", kInteger, kOutcome, "score entries that the call computed");
  columns.fact("input_label", kText, kParameter, "name given to the inputs by label:");
  for (const char* name : {"approx_kappa", "approx_epsilon", "clip_constant", "residual", "column_share",
                           "query_blocks", "centre_keys"})
    columns.parameter(name);
  for (const char* name : {"error_op",
                           "norm_softmax",
                           "norm_softmax_upper",
                           "norm_value",
                           "epsilon",
                           "error_op_rel",
                           "error_fro_rel",
                           "error_max",
                           "epsilon_diagonal",
                           "error_lse",
                           "epsilon_product",
                           "alpha",
                           "alpha_skip",
                           "alpha_node",
                           "log_kappa",
                           "log_kappa_node",
                           "log_kappa_empty",
                           "mask_mass_mean",
                           "mask_mass_min",
                           "log_bound_diagonal",
                           "bound_product",
                           "bound_product_provable",
                           "norm_status",
                           "norm_residual",
                           "srank_softmax",
                           "srank_value"})
    columns.figure(name);
  columns.figure(FigureSpec{"clipped_share", "ApproxD: share of sampled unmasked entries capped by C_i"},
                 kFigure);
  columns.figure(FigureSpec{"floored_share", "ApproxD: share of rows lifted to τ/κ"}, kFigure);
  columns.fact("model", kText, kParameter, "language model: its folder");
  columns.fact("text", kText, kParameter, "language model: file or folder of its text or ids");
  columns.fact("text_sha256", kText, kOutcome, "SHA-256 of the text's or ids' bytes");
  columns.parameter("windows");
  columns.parameter("replace");
  columns.fact("replaced", kInteger, kParameter, "hyperattn lm: number of layers with replaced attention");
  columns.fact("layers", kText, kParameter,
               "layers replaced (hyperattn lm) or taken (source language_model)");
  columns.figure(
      FigureSpec{"cross_entropy", "mean cross-entropy of the predicted tokens"}.in_unit("nats").error(),
      kOutcome);
  columns.figure(
      FigureSpec{"bits_per_token", "cross_entropy over the logarithm of 2"}.in_unit("bits").headline(),
      kOutcome);
  columns.figure(FigureSpec{"bits_per_byte", "the same where every token is a byte"}.in_unit("bits"),
                 kOutcome);
  columns.figure(FigureSpec{"perplexity", "e to cross_entropy"}.headline(), kOutcome);
  columns.figure(FigureSpec{"attention_seconds", "hyperattn lm: time in all layers' attention, mean window"}
                     .in_unit("s")
                     .headline(),
                 kOutcome);
  columns.figure(
      FigureSpec{"attention_speedup", "hyperattn lm: attention_seconds without a replaced layer over it"}
          .headline(),
      kOutcome);
  columns.parameter("spectrum");
  columns.figure("query_moves");
  columns.fact("baseline_engine", kText, kOutcome, "the engine of baseline_backend");
  columns.figure(FigureSpec{"drawn_keys", "clt_sample: keys drawn for a row of a node, mean"}, kFigure);
  columns.figure(
      FigureSpec{"ceiling_share", "clt_sample: share of rows that wanted more keys than sample_size"},
      kFigure);
  columns.fact("window_cross_entropy", kText, kOutcome,
               "hyperattn lm: cross_entropy of each window, in nats");
  columns.others();
  return columns.take();
}

}  // namespace

const std::vector<ColumnSpec>& trial_columns() {
  static const std::vector<ColumnSpec> columns = make_columns();
  return columns;
}

int trial_column_index(const std::string& name) {
  static const std::unordered_map<std::string, int> indices = [] {
    std::unordered_map<std::string, int> map;
    for (const ColumnSpec& column : trial_columns()) map.emplace(column.name, static_cast<int>(map.size()));
    return map;
  }();
  const auto found = indices.find(name);
  return found == indices.end() ? -1 : found->second;
}

const ColumnSpec* find_trial_column(const std::string& name) {
  const int index = trial_column_index(name);
  return index < 0 ? nullptr : &trial_columns()[static_cast<size_t>(index)];
}

namespace {

/// The characters of a UTF-8 text.
size_t length(const std::string& text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

/// The words in lines of at most `width` characters, the first after "- ", the others indented as deep.
std::string wrapped_item(const std::string& text, size_t width) {
  std::istringstream words(text);
  std::string result;
  std::string line = "-";
  for (std::string word; words >> word;) {
    if (length(line) + 1 + length(word) > width) {
      result += line + "\n";
      line = " ";
    }
    line += " " + word;
  }
  return result + line;
}

}  // namespace

std::string list_item(const ColumnSpec& column) {
  const std::string kind = column.kind == ColumnKind::integer  ? "integer"
                           : column.kind == ColumnKind::number ? "number"
                           : column.kind == ColumnKind::text   ? "text"
                                                               : "uint64";
  const std::string unit = column.unit.empty() ? "" : ", in " + column.unit;
  return wrapped_item(fmt::format("`{}` ({}): {}{}", column.name, kind, column.meaning, unit), 120);
}

}  // namespace hyperattn
