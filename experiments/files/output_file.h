// An output that appears whole or not at all.
#pragma once

#include <string>

namespace hyperattn {

/// Refuses an existing output unless `force`: Error(usage) that says how to go on (`advice`).
void refuse_existing(const std::string& path, bool force, const std::string& advice);

/// A file being written under a temporary name in the folder of `path`, and renamed to `path` by `commit`;
/// removed by the destructor otherwise.
class OutputFile {
 public:
  /// Creates it at once, so that a place that cannot be written to is found before the work is done. Throws
  /// Error(environment).
  explicit OutputFile(std::string path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  [[nodiscard]] const std::string& temporary_path() const { return temporary_; }
  /// Call when the temporary file is closed. Throws Error(environment).
  void commit();

 private:
  std::string path_;
  std::string temporary_;
};

}  // namespace hyperattn
