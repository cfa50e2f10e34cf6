// HyperAttention: a heavy mask computed exactly, and a sample of keys for the rest.
#pragma once

#include "algorithms/backend.h"

namespace hyperattn {

/// The backend `hyper`.
[[nodiscard]] const Backend& hyper_backend();

}  // namespace hyperattn
