#include "experiments/running/trials.h"

#include <filesystem>
#include <map>

namespace hyperattn {

std::string output_path(const RunOptions& options, const ExperimentConfig& config) {
  if (!options.output.empty()) return options.output;
  if (options.shard.count == 1) return config.output;
  std::filesystem::path path(config.output);
  const std::string extension = path.extension().string();
  path.replace_extension();
  return path.string() + ".shard-" + std::to_string(options.shard.index) + "-of-" +
         std::to_string(options.shard.count) + extension;
}

bool in_shard(size_t point, const Shard& shard) {
  return static_cast<int64_t>(point) % shard.count == shard.index;
}

std::set<size_t> points_of(const std::vector<RunCase>& cases, const Shard& shard) {
  std::set<size_t> points;
  for (const RunCase& one : cases)
    if (in_shard(one.point, shard)) points.insert(one.point);
  return points;
}

std::vector<Trial> missing_trials(const std::vector<RunCase>& cases, int64_t trials_per_case,
                                  const RunOptions& options, const IsDone& is_done) {
  std::map<size_t, std::vector<size_t>> by_point;
  for (size_t i = 0; i < cases.size(); ++i)
    if (in_shard(cases[i].point, options.shard)) by_point[cases[i].point].push_back(i);
  std::vector<Trial> trials;
  for (const auto& [point, members] : by_point)
    for (int64_t number = 0; number < trials_per_case; ++number) {
      Trial trial{point, number, {}, {}, options.case_timeout};
      for (const size_t i : members)
        (is_done({cases[i].id, number}) ? trial.stored : trial.missing).push_back(i);
      if (!trial.missing.empty()) trials.push_back(std::move(trial));
    }
  return trials;
}

}  // namespace hyperattn
