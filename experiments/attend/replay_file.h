// Prescribed random choices from HDF5, so that another implementation's computation can be repeated to
// rounding (tests/golden/README.md states the format).
#pragma once

#include <map>
#include <string>

#include "algorithms/backend.h"
#include "experiments/files/hdf5_file.h"

namespace hyperattn {

/// The parameters that the file's attributes prescribe, by our names: block_size, sample_size, bucket_count
/// (2^num_projections), causal, min_seq_len, scale and bucket_order, as far as they are there; sample_size
/// and bucket_count otherwise follow from the shapes in /replay. Throws Error(input) for an attribute of a
/// wrong type.
[[nodiscard]] std::map<std::string, ParameterValue> replay_parameters(const Hdf5File& file);

/// Reads /replay for a call on a problem of these shapes. Throws Error(input) for what is missing or does not
/// fit: directions (d, log2 bucket_count); samples (batch, heads, nodes, sample_size) of rows that exist,
/// and, unless causal, samples_rows_N with N = n_q where sample_size > 0 (a causal call looks up its nodes
/// itself).
[[nodiscard]] Replay read_replay(const Hdf5File& file, const TensorShape& query, const TensorShape& key,
                                 bool causal, const Parameters& parameters);

}  // namespace hyperattn
