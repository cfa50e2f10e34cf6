// The token ids that a language model is evaluated on, and the hash of what was read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/parameters.h"
#include "experiments/language_model/config/model_config.h"

namespace hyperattn {

/// The folder of the evaluation text that the shipped model's README defines (Debian's
/// libeigen3-dev 3.4.0-4).
inline constexpr const char* kDefaultText = "/usr/include/eigen3/Eigen/src";
/// The model that is shipped, relative to the repository's root.
inline constexpr const char* kDefaultModel = "experiments/data/language_model";

struct TokenText {
  std::string name;    ///< the file or folder that was read
  std::string sha256;  ///< of its bytes (a folder: of the joined bytes)
  std::vector<int32_t> ids;
  bool bytes = false;  ///< one id a byte, so bits per token are bits per byte

  /// The n + 1 ids of window i: it predicts ids i·n + 1 … i·n + n from ids i·n … i·n + n − 1; the first n of
  /// them without the next one. Error(input) if the text ends before.
  [[nodiscard]] const int32_t* window(int64_t i, int64_t n, bool with_next = true) const;
};

/// A file's bytes, or those of all files under a folder, joined by one zero byte: a folder's own files in
/// sorted order, then its subfolders in sorted order. Error(input) where there is nothing to read.
[[nodiscard]] std::string read_text_bytes(const std::string& path);

/// One id a byte.
[[nodiscard]] TokenText byte_tokens(const std::string& path);

/// Ids of a file in any of the forms that token_file.h reads; errors as there.
[[nodiscard]] TokenText read_token_file(const std::string& path, int64_t vocab_size);

/// The parameters `model`, `text` and `ids`, which the source and the experiment share.
[[nodiscard]] std::vector<ParameterSpec> model_and_text_parameters();

/// What the parameters name: `ids`, or else `text` by bytes. Error(usage) where both are given, or where the
/// model has no byte tokenizer and `ids` is missing.
[[nodiscard]] TokenText read_tokens(const Parameters& parameters, const ModelConfig& config);

}  // namespace hyperattn
