// The cases of `hyperattn lm`: for every point of the sweep's grid, so many layers replaced by its backend.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/config/config.h"
#include "experiments/config/grid.h"
#include "experiments/language_model/decoder.h"

namespace hyperattn {

/// One row of the results for each trial.
struct ModelCase {
  std::string id;
  std::string parameters;           ///< JSON
  const Case* grid_case = nullptr;  ///< of the input point's first case where no layer is replaced
  const InputPoint* point = nullptr;
  int64_t replaced = 0;
};

/// In the order of the grid's input points; the first case of each has no layer replaced. Refers to `grid`.
/// Reads the models' configurations; throws Error(input) where one is wrong.
[[nodiscard]] std::vector<ModelCase> plan_model_cases(const ExperimentConfig& config, const Grid& grid);

/// Throws Error(usage) where a layer that the case replaces sees a sliding window that its backend cannot
/// honour.
void check_model_case(const ModelCase& model_case);

/// All layers in the order in which they are replaced. `replace`: `last` (from the last one down), `first`,
/// `even` (0, 2, …, then the others), `odd`.
[[nodiscard]] std::vector<int64_t> replacement_order(const std::string& replace, int64_t layers);

/// The layers that a case replaces, ascending.
[[nodiscard]] std::vector<int64_t> replaced_layers(const ModelCase& model_case, int64_t layers);

/// What computes the attention of each layer: the case's backend where it is replaced, else `exact`.
[[nodiscard]] std::vector<LayerAttention> attention_of(const ModelCase& model_case, int64_t layers);

/// "2 layers: hyper block_size=64 on language_model seq_len=8192".
[[nodiscard]] std::string describe(const ModelCase& model_case);

/// Of one trial: all windows, attention and the model's matrices.
[[nodiscard]] double estimated_flops(const ModelCase& model_case);

}  // namespace hyperattn
