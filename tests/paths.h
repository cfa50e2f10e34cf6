// Where the tests find the project's files and what was built.
#pragma once

#include <string>

namespace hyperattn::testing {

[[nodiscard]] std::string source_dir();  ///< the root of the repository
[[nodiscard]] std::string binary_dir();  ///< the build folder, which holds the program `hyperattn`

}  // namespace hyperattn::testing
