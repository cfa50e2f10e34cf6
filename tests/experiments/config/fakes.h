// A small registry of made-up sources, backends and measures, so that the tests of the configuration depend
// on declared rules alone.
#pragma once

#include <string>
#include <vector>

#include "experiments/config/config.h"
#include "experiments/config/grid.h"

namespace hyperattn::fakes {

/// Sources gaussian, file and odd (which has a block_size, as the backends have); backends exact, lsh, hyper
/// and plain (no causal form, no backward pass, equal lengths only); measures timing, spectral_error, alpha.
const Registry& registry();

/// The message of the Error(usage) that reading the text throws; empty if it throws none.
std::string problems_of(const std::string& text, const std::vector<std::string>& overrides = {},
                        const std::string& group = {});

ExperimentConfig read(const std::string& text, const std::vector<std::string>& overrides = {},
                      const std::string& group = {});

/// "hyper block_size=64 on gaussian seq_len=4" for each case, in order.
std::vector<std::string> case_lines(const ExperimentConfig& config);

/// inputs and backends that every sweep test starts from.
inline const std::string kMinimal = "inputs: {source: gaussian, seq_len: 64}\nbackends: [exact]\n";

bool contains(const std::string& text, const std::string& part);

}  // namespace hyperattn::fakes
