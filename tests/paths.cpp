#include "tests/paths.h"

namespace hyperattn::testing {

std::string source_dir() {
  return HYPERATTN_SOURCE_DIR;
}
std::string binary_dir() {
  return HYPERATTN_BINARY_DIR;
}

}  // namespace hyperattn::testing
