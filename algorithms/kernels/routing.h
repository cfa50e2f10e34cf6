// The inner kernels of planning with a tree of keys (primitives/key_tree.h, primitives/beam.h), one table per
// instruction set: gates of segments, the largest of them, and halving.
#pragma once

#include <cstdint>

namespace hyperattn {

/// Segments side by side in a tile of children.
constexpr int64_t kFamilyColumns = 8;
/// Gates and their segments come in multiples of so many, the widest vector.
constexpr int64_t kGateStep = 16;
/// Most numbers that `ranks` takes.
constexpr int64_t kMostRanked = 128;

/// How a product q·k̄ becomes a gate: scale·x + h(root·r) + bias, h(σ) = τ(σ − τ/2), τ = min(σ, limit), with
/// r ≥ 0 and bias (0, or −∞ for what is no segment) of the segment.
struct GateTerms {
  float scale = 1;
  float root = 0;  ///< 0: no spread in the gate
  float limit = 0;
};

/// A row that looks at the segments of a tile, and where their gates go: from place · kFamilyColumns on.
struct GatePair {
  int32_t tile = 0;
  int32_t row = 0;
  int32_t place = 0;
};

/// Gates of the segments in some tiles for some rows; best in order of tiles, so that rows share what they
/// read. A tile is depth × kFamilyColumns numbers of keys, then r and bias of each column.
struct FamilyArguments {
  const float* queries = nullptr;  ///< row i is queries + i · stride
  int64_t stride = 0;
  int64_t depth = 0;
  const float* tiles = nullptr;
  const int32_t* first_segment = nullptr;  ///< of every tile: its columns are the segments that follow
  const GatePair* pairs = nullptr;
  int64_t count = 0;
  GateTerms terms;               ///< its root is not used
  const float* roots = nullptr;  ///< the terms' root by row
  float* gates = nullptr;
  int32_t* segments = nullptr;  ///< of the gates
};

/// The floats of a tile.
[[nodiscard]] constexpr int64_t family_floats(int64_t depth) {
  return (depth + 2) * kFamilyColumns;
}

/// Rows of `depth` numbers: row i is data + rows[i]·stride; rows null: data + i·stride.
struct NamedRows {
  const float* data = nullptr;
  int64_t stride = 0;
  const int32_t* rows = nullptr;
  int64_t count = 0;
  int64_t depth = 0;
};

/// Products of rows with one direction.
struct ProjectArguments : NamedRows {
  const float* direction = nullptr;
  float* products = nullptr;
};

/// Rows less their mean.
struct DeviationArguments : NamedRows {
  float* deviations = nullptr;  ///< count × depth
};

/// Σ_i factor[i] · row_i.
struct CombineArguments : NamedRows {
  const float* factors = nullptr;
  float* sum = nullptr;  ///< depth
};

struct RoutingKernels {
  void (*gate_families)(const FamilyArguments&);
  /// Gates of `count` (a multiple of lanes) products in place.
  void (*gate)(float* products, const float* spread_roots, const float* bias, int64_t count,
               const GateTerms&);
  /// The segments of the `keep` largest of `count` (a multiple of kGateStep) gates, in the order in which
  /// they stand, of equal gates the first; never those of −∞. Returns how many. `chosen` has room for keep +
  /// kGateStep.
  int64_t (*largest)(const float* gates, const int32_t* segments, int64_t count, int64_t keep,
                     int32_t* chosen);
  /// A product's bits depend on its row and the direction alone.
  void (*project)(const ProjectArguments&);
  void (*deviations)(const DeviationArguments&);
  void (*combine)(const CombineArguments&);
  /// The place of each of at most kMostRanked numbers in their stable order. Both arrays have room for whole
  /// vectors.
  void (*ranks)(const int32_t* numbers, int64_t count, int32_t* ranks);
};

/// The table of one of `usable_levels()` (kernels/tile.h).
[[nodiscard]] const RoutingKernels& routing_kernels_of_level(int64_t highway_target);

/// The table in use (see kernels/instruction_set.h).
[[nodiscard]] const RoutingKernels& routing_kernels();

}  // namespace hyperattn
