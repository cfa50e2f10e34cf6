// The parameters that `lsh` and `hyper` share, declared once; their names are those of the configuration.
#pragma once

#include <string>
#include <vector>

#include "algorithms/methods/sparse_plan.h"
#include "core/parameters.h"

namespace hyperattn {

/// mask, bucket_count, block_size and the other parameters of the heavy mask; `allow_no_mask`: `mask: none`
/// is a choice.
[[nodiscard]] std::vector<ParameterSpec> mask_parameters(bool allow_no_mask);
/// sample_size, residual, column_share, sampling, collisions.
[[nodiscard]] std::vector<ParameterSpec> sample_parameters();

/// Reads the declared values; the sample's where they are there.
[[nodiscard]] SparseOptions sparse_options(const Parameters& parameters);

/// What is wrong with the options for a problem of this shape, or nothing. m > n_k is wrong although causal
/// nodes clamp it.
[[nodiscard]] std::string check_sparse_options(const SparseOptions& options, const Parameters& parameters,
                                               int64_t key_count);

/// Adds planning times, collisions and the not-applicable shares to what the engine reported.
void complete_diagnostics(const Plan& plan, const PlanningSeconds& seconds, Diagnostics& diagnostics);

}  // namespace hyperattn
