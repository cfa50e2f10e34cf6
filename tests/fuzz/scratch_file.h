// The fuzzer's bytes as a file, for readers that take a path.
#pragma once

#include <fstream>
#include <string>

#include "tests/scratch_folder.h"

namespace hyperattn::fuzz {

/// One path for the whole process, since the file system would be busy with folders otherwise.
class ScratchFile {
 public:
  explicit ScratchFile(const std::string& bytes) { std::ofstream(path(), std::ios::binary) << bytes; }

  [[nodiscard]] static const std::string& path() {
    static const testing::ScratchFolder folder;
    static const std::string path = folder / "input";
    return path;
  }
};

}  // namespace hyperattn::fuzz
