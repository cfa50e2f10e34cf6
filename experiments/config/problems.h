// Collects everything that is wrong with a configuration, so that all of it is reported at once.
#pragma once

#include <string>
#include <vector>

#include "experiments/config/yaml_document.h"

namespace hyperattn {

class Problems {
 public:
  explicit Problems(std::string file) : file_(std::move(file)) {}

  void add(const Origin& origin, const std::string& message);
  /// A name that is not one of `allowed`: "unknown key 'x' in timing; did you mean 'y'? Allowed: …".
  void add_unknown(const Origin& origin, const std::string& what, const std::string& name,
                   const std::string& where, const std::vector<std::string>& allowed);

  [[nodiscard]] bool empty() const { return found_.empty(); }
  [[nodiscard]] size_t size() const { return found_.size(); }
  /// "file.yaml:12: …", a line each, in the order of the file, then those of the command line.
  [[nodiscard]] std::string text() const;
  /// Throws Error(usage) unless empty.
  void throw_if_any() const;
  /// Adds those of `other` that are not here yet.
  void merge(const Problems& other, const std::string& suffix);

 private:
  struct Problem {
    Layer layer;
    int line;
    std::string text;
  };
  void append(Problem problem);

  std::string file_;
  std::vector<Problem> found_;
};

}  // namespace hyperattn
