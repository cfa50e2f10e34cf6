// The canonical text of an experiment, as stored in /config of the results and compared by --resume.
#pragma once

#include <string>

#include "experiments/config/config.h"
#include "experiments/config/entry_reader.h"

namespace hyperattn {

/// Every parameter with its value, generators expanded, no groups. Reading the text gives the same
/// experiment. The drafts are those that `config` was made from.
[[nodiscard]] std::string write_resolved_yaml(const ExperimentConfig& config,
                                              const std::vector<EntryDraft>& inputs,
                                              const std::vector<EntryDraft>& backends,
                                              const Registry& registry);

}  // namespace hyperattn
