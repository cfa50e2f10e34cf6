// Sorted LSH alone: every row attends to the keys of its own block and to nothing else.
#pragma once

#include "algorithms/backend.h"

namespace hyperattn {

/// The backend `lsh`.
[[nodiscard]] const Backend& lsh_backend();

}  // namespace hyperattn
