#include "algorithms/residuals/runs.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "algorithms/primitives/run_means.h"

namespace hyperattn {
namespace {

// Offsets into `ranks` at which runs of equally many keys begin, and the end.
std::vector<int64_t> cut_by_count(const std::vector<int32_t>& ranks, const std::vector<int64_t>& borders,
                                  int64_t budget) {
  const auto total = static_cast<int64_t>(ranks.size());
  std::vector<int64_t> begins;
  int64_t begin = 0;
  for (const int64_t border : borders) {
    const int64_t end = std::lower_bound(ranks.begin() + begin, ranks.end(), border) - ranks.begin();
    // Rounded from the start of the list, so that shares below one add up.
    const int64_t pieces = std::max<int64_t>(end * budget / total - begin * budget / total, 1);
    for (int64_t piece = 0; piece < pieces && begin < end; ++piece)
      begins.push_back(begin + piece * (end - begin) / pieces);
    begin = end;
  }
  begins.push_back(total);
  begins.erase(std::unique(begins.begin(), begins.end()), begins.end());
  return begins;
}

// Ranks at which runs begin that weigh one piece each, and the end; half of all pieces is spread evenly, half
// by mass. A key that weighs a piece by its mass is a run of its own, which cuts twice; borders cut, too.
std::vector<int64_t> cut_by_mass(const std::vector<float>& mass_of_rank, const std::vector<int64_t>& borders,
                                 int64_t budget) {
  const auto keys = static_cast<int64_t>(mass_of_rank.size());
  if (budget >= keys) {
    std::vector<int64_t> every(static_cast<size_t>(keys) + 1);
    std::iota(every.begin(), every.end(), int64_t{0});
    return every;
  }
  const double total = std::accumulate(mass_of_rank.begin(), mass_of_rank.end(), 0.0);
  const double mass_share = total > 0 ? 0.5 / total : 0;
  const auto least_heavy_mass = [&](int64_t pieces) {
    return 1 / (mass_share * static_cast<double>(pieces));
  };
  int64_t pieces = std::max<int64_t>(budget - static_cast<int64_t>(borders.size()), 1);
  const double least = least_heavy_mass(pieces);
  pieces = std::max<int64_t>(
      pieces - std::count_if(mass_of_rank.begin(), mass_of_rank.end(),
                             [least](float mass) { return static_cast<double>(mass) >= least; }),
      1);
  const double heavy = least_heavy_mass(pieces);
  const double for_count = 0.5 * static_cast<double>(pieces) / static_cast<double>(keys);
  const double for_mass = mass_share * static_cast<double>(pieces);

  std::vector<int64_t> begins = {0};
  auto border = std::upper_bound(borders.begin(), borders.end(), 0);
  double weight = 0;  // of the open run, and what the run before weighed too much
  for (int64_t rank = 0; rank < keys; ++rank) {
    const auto mass = static_cast<double>(mass_of_rank[static_cast<size_t>(rank)]);
    const bool alone = mass >= heavy;
    if (alone && begins.back() < rank) begins.push_back(rank);
    weight += for_count + for_mass * mass;
    const bool at_border = rank + 1 == *border;
    if (at_border) ++border;
    if (!alone && !at_border && weight < 1) continue;
    begins.push_back(rank + 1);
    weight = weight < 1 || alone ? 0 : weight - 1;
  }
  return begins;
}

// Runs of members, whose log-weights are filled in.
struct Runs : KeyRuns {
  std::vector<float> log_weights;
};

Runs plain_runs(const NodeMask& mask, const std::vector<int32_t>& ranks, std::vector<int64_t> begins) {
  Runs runs;
  runs.begins = std::move(begins);
  runs.members.reserve(ranks.size());
  for (const int32_t rank : ranks) runs.members.push_back(static_cast<int32_t>(mask.keys[rank]));
  runs.shares.resize(ranks.size());
  for (int64_t run = 0; run < runs.count(); ++run) {
    const auto size = static_cast<double>(runs.size(run));
    std::fill_n(runs.shares.begin() + runs.begin(run), runs.size(run), static_cast<float>(1 / size));
    runs.log_weights.push_back(static_cast<float>(std::log(size)));
  }
  return runs;
}

RankedList centroid_list(Runs runs, const std::vector<int32_t>& ranks, std::shared_ptr<SyntheticKeys> means) {
  RankedList centroids;
  for (int64_t run = 0; run < runs.count(); ++run)
    centroids.ranks.push_back(ranks[static_cast<size_t>(runs.begin(run))]);
  centroids.list.order = RowOrder::run(0, runs.count());
  centroids.list.log_weight = std::make_shared<const std::vector<float>>(std::move(runs.log_weights));
  means->member_order = RowOrder::list(std::move(runs.members));
  means->member_begin = std::move(runs.begins);
  means->member_share = std::move(runs.shares);
  centroids.list.synthetic = std::move(means);
  centroids.list.stage = Stage::sample;
  return centroids;
}

double mass_of_run(const Runs& runs, const std::vector<float>& mass_of_rank, int64_t run) {
  const auto first = mass_of_rank.begin() + runs.begin(run);
  return std::accumulate(first, first + runs.size(run), 0.0);
}

// Masses below this are rounding errors of a query's softmax, and nothing to calibrate on.
constexpr double kLeastMass = 1e-20;

void share_by_mass(const std::vector<float>& mass_of_rank, const std::vector<double>& run_mass, Runs& runs) {
  for (int64_t run = 0; run < runs.count(); ++run) {
    const double total = run_mass[static_cast<size_t>(run)];
    if (total < kLeastMass) continue;
    const double equal = 0.5 / static_cast<double>(runs.size(run));
    for (int64_t i = runs.begin(run); i < runs.begin(run + 1); ++i) {
      const auto rank = static_cast<size_t>(i);
      runs.shares[rank] = static_cast<float>(equal + 0.5 * static_cast<double>(mass_of_rank[rank]) / total);
    }
  }
}

// Log-weights that make each run's mass right over the sampled queries.
void calibrate(const SampledQueries& queries, const ColumnMasses& masses, const std::vector<double>& run_mass,
               const SyntheticKeys& means, Runs& runs) {
  const MatrixView<const float> keys = means.key.matrix(0);
  const int64_t columns = queries.columns();
  Buffer<float> scores(runs.count() * columns);
  queries.score(keys, scores.data());
  for (int64_t run = 0; run < runs.count(); ++run) {
    const double wanted = run_mass[static_cast<size_t>(run)];
    if (runs.size(run) == 1 || wanted < kLeastMass) continue;
    double seen = 0;
    for (int64_t q = 0; q < queries.count(); ++q)
      seen += std::exp2(
          static_cast<double>(scores[run * columns + q] - masses.log2_sums[static_cast<size_t>(q)]));
    if (seen > 0) runs.log_weights[static_cast<size_t>(run)] = static_cast<float>(std::log(wanted / seen));
  }
}

}  // namespace

RankedList make_centroids(const BoundProblem& bound, int64_t head, const NodeMask& mask,
                          const std::vector<int32_t>& ranks, int64_t budget) {
  if (ranks.empty()) return {};
  Runs runs = plain_runs(mask, ranks, cut_by_count(ranks, borders_of(mask), budget));
  auto means = bound.run_means(head, runs);
  return centroid_list(std::move(runs), ranks, std::move(means));
}

RankedList make_calibrated_centroids(const BoundProblem& bound, int64_t head, const NodeMask& mask,
                                     int64_t budget, const SampledQueries& queries,
                                     const ColumnMasses& masses) {
  std::vector<int32_t> ranks(static_cast<size_t>(mask.keys.count));
  std::iota(ranks.begin(), ranks.end(), 0);
  Runs runs = plain_runs(mask, ranks, cut_by_mass(masses.mass, borders_of(mask), budget));
  std::vector<double> run_mass;
  for (int64_t run = 0; run < runs.count(); ++run) run_mass.push_back(mass_of_run(runs, masses.mass, run));
  share_by_mass(masses.mass, run_mass, runs);
  auto means = bound.run_means(head, runs);
  calibrate(queries, masses, run_mass, *means, runs);
  return centroid_list(std::move(runs), ranks, std::move(means));
}

}  // namespace hyperattn
