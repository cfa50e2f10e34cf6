// Most of a backend's interface is a declaration: it is made once, as data, and served from here.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "algorithms/backend.h"

namespace hyperattn {

struct BackendDescription {
  std::string name;
  std::string meaning;
  Capabilities capabilities;
  std::vector<ParameterSpec> parameters;
};

class DescribedBackend : public Backend {
 public:
  explicit DescribedBackend(BackendDescription description) : description_(std::move(description)) {}

  [[nodiscard]] const std::string& name() const final { return description_.name; }
  [[nodiscard]] const std::string& meaning() const final { return description_.meaning; }
  [[nodiscard]] const std::vector<ParameterSpec>& parameters() const final { return description_.parameters; }
  [[nodiscard]] Capabilities capabilities() const final { return description_.capabilities; }

 private:
  BackendDescription description_;
};

/// Score entries of exact attention on such shapes, all heads together.
[[nodiscard]] inline double exact_entries(const TensorShape& query, const TensorShape& key, bool causal) {
  const auto rows = static_cast<double>(query.rows);
  const double per_head = causal ? rows * (rows + 1) / 2 : rows * static_cast<double>(key.rows);
  return per_head * static_cast<double>(query.matrices());
}

}  // namespace hyperattn
