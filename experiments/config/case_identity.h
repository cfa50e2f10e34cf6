// Names for cases and input points that depend on what they are, not on where they stand in a sweep.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace hyperattn {

struct Case;
struct InputPoint;

/// What results mean, and how their file lays them out (results/results_file.h).
inline constexpr const char* kResultsSchema = "hyperattn.results/1";

/// 16 hexadecimal digits: FNV-1a, 64 bits. The same on every machine, which std::hash does not promise.
[[nodiscard]] std::string hash_text(std::string_view text);

/// Canonical JSON (keys sorted, numbers in their shortest form) of what the identity depends on, the version
/// of the results' schema included: a change of what results mean gives every case a new name. A parameter
/// that version 0.1 did not have is in it only where it differs from its default; a label only where it is
/// all that tells two inputs apart.
[[nodiscard]] std::string input_identity(uint64_t seed, const InputPoint& input);
[[nodiscard]] std::string case_identity(uint64_t seed, const InputPoint& input, const Case& grid_case);

}  // namespace hyperattn
