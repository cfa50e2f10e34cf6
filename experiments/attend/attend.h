// `hyperattn attend`: one call of one backend on the tensors of a file.
#pragma once

#include <string>
#include <vector>

namespace hyperattn {

struct AttendOptions {
  std::string input;   ///< HDF5 file with /inputs/q, k and v (batch, heads, rows, dim), and /inputs/dout for
                       ///< `backward`
  std::string output;  ///< receives /out and /lse; with `backward` also /dq, /dk and /dv
  std::vector<std::string> arguments;  ///< KEY=VALUE: backend, its parameters, causal, scale, seed, trial
  bool backward = false;
  bool replay = false;     ///< hash directions and samples come from the input's /replay (see docs/attend.md)
  bool keep_type = false;  ///< tensors of the output in the floating-point types of the input's, else float32
  bool force = false;      ///< replace an existing output
};

/// Throws Error(usage) for arguments that are wrong, contradict /replay or do not fit the shapes, and for an
/// existing output without `force`; Error(input) for an input file that is missing, misshapen or non-finite;
/// Error(environment) where memory does not suffice or the output cannot be written. The output appears
/// whole or not at all.
void attend(const AttendOptions& options);

}  // namespace hyperattn
