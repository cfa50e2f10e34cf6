// Most of what a source declares is data: it is given once, and served from here.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "experiments/inputs/input_source.h"

namespace hyperattn {

struct SourceDescription {
  std::string name;
  std::string meaning;
  std::vector<ParameterSpec> parameters;
};

class DescribedSource : public InputSource {
 public:
  explicit DescribedSource(SourceDescription description) : description_(std::move(description)) {}

  [[nodiscard]] const std::string& name() const final { return description_.name; }
  [[nodiscard]] const std::string& meaning() const final { return description_.meaning; }
  [[nodiscard]] const std::vector<ParameterSpec>& parameters() const final { return description_.parameters; }

 private:
  SourceDescription description_;
};

}  // namespace hyperattn
