// A tiny random Llama model as plain numbers: written as safetensors for the decoder under test, and run by
// a double-precision forward pass that shares no code with it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "algorithms/backend.h"
#include "core/error.h"
#include "tests/scratch_folder.h"

namespace hyperattn::testing {

void write_file(const std::string& path, const std::string& bytes);

/// 8 bytes of header length, the header, the data.
[[nodiscard]] std::string safetensors_bytes(const std::string& header, const std::string& data);

struct PlainTensor {
  std::vector<int64_t> shape;
  std::vector<double> values;
};

struct TinyModelOptions {
  int64_t hidden = 24;
  int64_t intermediate = 40;
  int64_t layers = 3;
  int64_t heads = 6;
  int64_t key_heads = 2;
  int64_t head_dim = 8;  // 6 heads of 8 are wider than the hidden size, as some models are
  int64_t vocabulary = 37;
  bool tied = false;
  bool attention_bias = true;
  bool mlp_bias = true;
};

enum class WeightType { f32, f16, bf16 };

class TinyModel {
 public:
  /// Random weights, rounded to the type, so that the file holds them exactly.
  TinyModel(const TinyModelOptions& options, WeightType type, unsigned seed);

  /// config.json and model.safetensors, or `shards` files and their index.
  void write(const std::string& folder, int shards = 1) const;

  /// −ln p(ids[i + 1] | ids[0 … i]) for i = 0 … size − 2, in double with plain loops.
  [[nodiscard]] std::vector<double> losses(const std::vector<int32_t>& ids) const;

  TinyModelOptions options;
  WeightType type;
  std::map<std::string, PlainTensor> tensors;  ///< may be changed before `write`
  std::string config_json;                     ///< may be changed before `write`
};

/// A tiny model with a file of ids beside it.
struct ModelWithIds {
  ModelWithIds();

  /// `hyperattn lm` over four of its windows, with more arguments.
  [[nodiscard]] std::vector<std::string> lm(std::vector<std::string> more) const;

  ScratchFolder folder;
  TinyModel model{TinyModelOptions{}, WeightType::f32, 5};
  std::vector<int32_t> ids;
};

/// Runs `hyperattn` with these arguments in this process; returns its exit code.
[[nodiscard]] int program(std::vector<std::string> arguments);

/// Exact causal attention in double, plain loops: the test's own backend.
[[nodiscard]] const Backend& plain_attention_backend();

/// The message of the Error that the call throws; says so instead if it throws none or blames another.
[[nodiscard]] std::string input_error(const std::function<void()>& call);
[[nodiscard]] std::string usage_error(const std::function<void()>& call);

}  // namespace hyperattn::testing
