// Primitives of planning on the card, with the bits of the host: what reads the tensors runs here, and what
// is made of it and is small stays the host's.
#include <algorithm>
#include <bit>
#include <cmath>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "algorithms/engines/cuda/device_problem.h"
#include "algorithms/engines/cuda/planning.h"
#include "algorithms/kernels/instruction_set.h"
#include "algorithms/primitives/beam.h"
#include "algorithms/primitives/column_masses.h"
#include "algorithms/primitives/covariance.h"
#include "algorithms/primitives/key_tree.h"
#include "algorithms/primitives/run_means.h"

namespace hyperattn::cuda {
namespace {

constexpr int64_t kMostGates = int64_t{1} << 26;  // at once

/// Lanes of the host's vectors where it fuses and folds as planning.h does; 0: the host has to plan.
int host_lanes() {
  const std::string& name = instruction_set();
  if (name == "avx2") return 8;
  return name.rfind("avx512", 0) == 0 || name == "amx" ? 16 : 0;
}

/// While it lives, this thread has the card.
class Turn {
 public:
  explicit Turn(void* stream) : scope_(stream), lock_(one_call()), device_(Device::current()) {}
  [[nodiscard]] void* stream() const { return device_.stream(); }

 private:
  StreamScope scope_;
  std::lock_guard<std::mutex> lock_;
  Device& device_;
};

PlanningRows rows_from(const DeviceInput& input, int64_t width, int64_t first) {
  const int64_t stride = padded_width(width);
  return {input.wide() + first * stride, stride, width};
}

template <class T>
std::vector<T> downloaded(const DeviceArray<T>& array) {
  std::vector<T> host(static_cast<size_t>(array.size()));
  array.download(host.data());
  return host;
}

/// Runs of rows on the card.
struct DeviceRuns {
  explicit DeviceRuns(const KeyRuns& runs)
      : count(runs.count()),
        members(runs.members, "members of runs"),
        begins(runs.begins, "members of runs"),
        shares(runs.shares, "members of runs") {}

  [[nodiscard]] RunArguments arguments(const PlanningRows& rows, float* target) const {
    RunArguments arguments;
    arguments.rows = rows;
    arguments.members = members.data();
    arguments.begins = begins.data();
    arguments.shares = shares.data();
    arguments.runs = count;
    arguments.target = target;
    return arguments;
  }
  [[nodiscard]] Tensor<float> means(const PlanningRows& rows, void* stream) const {
    const DeviceArray<float> target(count * rows.depth, "means of runs");
    check(launch_run_means(arguments(rows, target.data()), stream), "means of runs");
    Tensor<float> result({1, 1, count, rows.depth});
    target.download(result.data());
    return result;
  }

  int64_t count;
  DeviceArray<int32_t> members;
  DeviceArray<int64_t> begins;
  DeviceArray<float> shares;
};

/// Sums over a node's keys where they lie.
class DeviceKeySums final : public KeySums {
 public:
  DeviceKeySums(const KeyParts& parts, const PlanningRows& keys, const PlanningRows& values, void* stream)
      : parts_(parts), keys_(keys), values_(values), stream_(stream) {}

  [[nodiscard]] std::vector<float> mean(bool of_values) const override {
    PartSumArguments arguments;
    arguments.rows = of_values ? values_ : keys_;
    arguments.begin = parts_.begin;
    arguments.end = parts_.end;
    arguments.part = parts_.size;
    arguments.parts = parts_.count();
    const DeviceArray<double> sums(arguments.parts * arguments.rows.depth, "sums of keys");
    arguments.sums = sums.data();
    check(launch_part_sums(arguments, stream_), "sums of keys");
    return mean_of_parts(parts_, downloaded(sums));
  }

  [[nodiscard]] std::vector<float> squares(const std::vector<float>& centre) const override {
    const DeviceArray<float> about(centre, "sums of keys");
    const DeviceArray<float> sums(keys_.depth, "sums of keys");
    check(launch_column_squares(
              {keys_, parts_.begin, parts_.end, KeyParts::kVarianceStep, about.data(), sums.data()}, stream_),
          "variances of keys");
    return downloaded(sums);
  }

  [[nodiscard]] std::vector<float> covariance(bool with_values, const std::vector<float>& mean_key,
                                              const std::vector<float>& other_mean) const override {
    const DeviceArray<float> mean_a(mean_key, "sums of keys");
    const DeviceArray<float> mean_b(other_mean, "sums of keys");
    CovarianceArguments arguments;
    arguments.a = keys_;
    arguments.b = with_values ? values_ : keys_;
    arguments.mean_a = mean_a.data();
    arguments.mean_b = mean_b.data();
    arguments.begin = parts_.begin;
    arguments.end = parts_.end;
    arguments.part = parts_.size;
    arguments.parts = parts_.count();
    arguments.chunk = KeyParts::kChunk;
    const DeviceArray<double> sums(arguments.parts * arguments.a.depth * arguments.b.depth, "covariances");
    arguments.sums = sums.data();
    check(launch_covariance(arguments, stream_), "covariances of keys");
    return mean_of_parts(parts_, downloaded(sums));
  }

 private:
  KeyParts parts_;
  PlanningRows keys_;
  PlanningRows values_;
  void* stream_;
};

/// The levels of a tree on the card, for rows that walk through it.
class DeviceBeam {
 public:
  explicit DeviceBeam(const BeamRequest& request)
      : request_(request),
        first_(first_level_of_choice(request)),
        scaled_(scaled_variances(request)),
        scaled_on_card_(scaled_.values, "variances of keys") {
    for (size_t t = 0; t < request.tree->levels.size(); ++t) levels_.emplace_back(request, t);
  }

  /// Sets the choice of rows [begin, end) of the request.
  void walk(const PlanningRows& queries, int64_t begin, int64_t end, void* stream, BeamChoice& choice) const {
    BeamArguments arguments;
    arguments.queries = queries;
    arguments.queries.data = queries.row(begin);
    arguments.rows = end - begin;
    arguments.scale = request_.scale;
    const DeviceArray<float> variance(scaled_.rows * arguments.rows, "variances of scores");
    find_variances(arguments, variance, stream, begin, choice);
    DeviceArray<int32_t> above;
    for (size_t t = first_; t < levels_.size(); ++t) {
      const int64_t width = choice.width[t];
      DeviceArray<int32_t> opened(arguments.rows * width, "opened segments");
      levels_[t].fill(arguments);
      if (request_.spread) arguments.variance = variance.data() + static_cast<int64_t>(t) * arguments.rows;
      arguments.above = above.data();
      arguments.above_width = t > first_ ? choice.width[t - 1] : 0;
      arguments.first_child = t > first_ ? levels_[t - 1].first_child() : nullptr;
      arguments.children = t > first_ ? levels_[t - 1].children() : 0;
      arguments.candidates = candidates(t, choice);
      arguments.keep = request_.beams[t];
      arguments.budget = t + 1 == levels_.size() ? request_.key_budget : 0;
      arguments.opened = opened.data();
      arguments.width = width;
      const DeviceArray<float> gates(arguments.rows * arguments.candidates, "gates of segments");
      arguments.gates = gates.data();
      check(launch_beam(arguments, stream), "choosing segments");
      opened.download(choice.opened[t].data() + begin * width);
      above = std::move(opened);
    }
  }

  /// Gates of a row at a level, at most.
  [[nodiscard]] int64_t most_candidates(const BeamChoice& choice) const {
    int64_t most = 1;
    for (size_t t = first_; t < levels_.size(); ++t) most = std::max(most, candidates(t, choice));
    return most;
  }

 private:
  class Level {
   public:
    Level(const BeamRequest& request, size_t t)
        : means_(transposed((*request.means)[t].means->key.matrix(0)), "means of segments"),
          roots_(roots_of((*request.means)[t].spread), "means of segments"),
          begins_(request.tree->levels[t].begins, "segments"),
          first_child_(request.tree->levels[t].first_child, "segments"),
          limit_(gate_limit(request.tree->levels[t])) {
      const std::vector<int64_t>& children = request.tree->levels[t].first_child;
      for (size_t s = 0; s + 1 < children.size(); ++s)
        children_ = std::max(children_, children[s + 1] - children[s]);
    }

    void fill(BeamArguments& arguments) const {
      arguments.means = means_.data();
      arguments.roots = roots_.data();
      arguments.count = count();
      arguments.limit = limit_;
      arguments.begins = begins_.data();
    }
    [[nodiscard]] int64_t count() const { return begins_.size() - 1; }
    [[nodiscard]] const int64_t* first_child() const { return first_child_.data(); }
    [[nodiscard]] int64_t children() const { return children_; }

   private:
    static std::vector<float> transposed(MatrixView<const float> rows) {
      std::vector<float> result(static_cast<size_t>(rows.rows * rows.cols));
      for (int64_t i = 0; i < rows.rows; ++i)
        for (int64_t c = 0; c < rows.cols; ++c)
          result[static_cast<size_t>(c * rows.rows + i)] = rows.row(i)[c];
      return result;
    }
    static std::vector<float> roots_of(const std::vector<float>& spread) {
      std::vector<float> roots(spread.size());
      std::transform(spread.begin(), spread.end(), roots.begin(), [](float r) { return std::sqrt(r); });
      return roots;
    }

    DeviceArray<float> means_;
    DeviceArray<float> roots_;
    DeviceArray<int64_t> begins_;
    DeviceArray<int64_t> first_child_;
    float limit_;
    int64_t children_ = 0;
  };

  [[nodiscard]] int64_t candidates(size_t t, const BeamChoice& choice) const {
    return t == first_ ? levels_[t].count() : choice.width[t - 1] * levels_[t - 1].children();
  }

  void find_variances(const BeamArguments& rows, const DeviceArray<float>& variance, void* stream,
                      int64_t begin, BeamChoice& choice) const {
    check(launch_variances({rows.queries, rows.rows, scaled_on_card_.data(), scaled_.rows, variance.data()},
                           stream),
          "variances of scores");
    for (size_t t = 0; t < choice.variance.size(); ++t)
      variance.download_part(choice.variance[t].data() + begin, static_cast<int64_t>(t) * rows.rows,
                             rows.rows);
  }

  const BeamRequest& request_;
  size_t first_;  // level of a choice
  DenseMatrix<float> scaled_;
  DeviceArray<float> scaled_on_card_;
  std::vector<Level> levels_;
};

}  // namespace

/// Calls body(input, first row) for the tensor that a view is of; false if it is of none.
template <class Body>
bool DeviceProblem::of_view(MatrixView<const float> rows, const Body& body) const {
  const std::pair<TensorView<const float>, const DeviceInput*> inputs[] = {
      {shapes().key, &key_}, {shapes().value, &value_}, {shapes().query, &query_}};
  for (const auto& [tensor, input] : inputs)
    if (const int64_t first = row_in(tensor, rows); first >= 0 && rows.rows > 0) {
      body(*input, first);
      return true;
    }
  return false;
}

std::vector<double> DeviceProblem::squared_row_norms(MatrixView<const float> rows) const {
  std::vector<double> norms;
  const bool found = of_view(rows, [&](const DeviceInput& input, int64_t first) {
    const Turn turn(stream_);
    const DeviceArray<double> own(rows.rows, "norms of rows");
    check(launch_norms({rows_from(input, rows.cols, first), rows.rows, own.data()}, turn.stream()),
          "norms of rows");
    norms = downloaded(own);
  });
  return found ? norms : BoundProblem::squared_row_norms(rows);
}

DenseMatrix<float> DeviceProblem::gathered_rows(MatrixView<const float> rows,
                                                const std::vector<int32_t>& names) const {
  DenseMatrix<float> copies(static_cast<int64_t>(names.size()), rows.cols);
  const bool found = of_view(rows, [&](const DeviceInput& input, int64_t first) {
    const Turn turn(stream_);
    const DeviceArray<int32_t> own(names, "some rows");
    const DeviceArray<float> gathered(copies.rows * copies.cols, "some rows");
    check(launch_gather({rows_from(input, rows.cols, first), own.data(), own.size(), gathered.data()},
                        turn.stream()),
          "copying some rows");
    gathered.download(copies.values.data());
  });
  return found ? copies : BoundProblem::gathered_rows(rows, names);
}

std::vector<uint32_t> DeviceProblem::best_centres(MatrixView<const float> rows,
                                                  MatrixView<const float> centres, float factor,
                                                  const std::vector<float>& bias) const {
  std::vector<uint32_t> best;
  const bool found = host_lanes() > 0 && of_view(rows, [&](const DeviceInput& input, int64_t first) {
                       const Turn turn(stream_);
                       std::vector<float> scaled;
                       for (int64_t i = 0; i < centres.rows; ++i)
                         for (int64_t c = 0; c < centres.cols; ++c)
                           scaled.push_back(centres.row(i)[c] * factor);
                       const DeviceArray<float> columns(scaled, "centres");
                       const DeviceArray<float> biases(bias, "centres");
                       const DeviceArray<uint32_t> own(rows.rows, "nearest centres");
                       check(launch_best_centres({rows_from(input, rows.cols, first), rows.rows,
                                                  columns.data(), biases.data(), centres.rows, own.data()},
                                                 turn.stream()),
                             "nearest centres");
                       best = downloaded(own);
                     });
  return found ? best : BoundProblem::best_centres(rows, centres, factor, bias);
}

PlanningRows DeviceProblem::keys_on_card(int64_t head) const {
  return rows_from(key_, shapes().head_dim(), shapes().key_head(head) * shapes().key_count());
}
PlanningRows DeviceProblem::values_on_card(int64_t head) const {
  return rows_from(value_, shapes().value_dim(), shapes().key_head(head) * shapes().key_count());
}

std::shared_ptr<SyntheticKeys> DeviceProblem::run_means(int64_t head, const KeyRuns& runs) const {
  if (host_lanes() == 0) return BoundProblem::run_means(head, runs);
  const Turn turn(stream_);
  const DeviceRuns own(runs);
  auto means = std::make_shared<SyntheticKeys>();
  means->key = own.means(keys_on_card(head), turn.stream());
  means->value = own.means(values_on_card(head), turn.stream());
  return means;
}

ColumnMasses DeviceProblem::column_masses(int64_t head, const AttentionNode& node,
                                          const std::vector<int32_t>& key_ranks,
                                          const SampledQueries& queries) const {
  if (host_lanes() == 0 || queries.count() == 0)
    return BoundProblem::column_masses(head, node, key_ranks, queries);
  const Turn turn(stream_);
  MassArguments arguments;
  arguments.keys = keys_on_card(head);
  arguments.keys.data = arguments.keys.row(node.key_begin);
  arguments.count = node.key_count();
  arguments.queries = queries.count();
  arguments.chunk = kMassChunk;
  arguments.chunks = (arguments.count + kMassChunk - 1) / kMassChunk;
  const DeviceArray<float> factors(queries.factors().values, "sampled queries");
  const DeviceArray<float> weights(arguments.count * arguments.queries, "masses of keys");
  const DeviceArray<float> maximum(arguments.chunks * arguments.queries, "masses of keys");
  const DeviceArray<float> sum(maximum.size(), "masses of keys");
  arguments.factors = factors.data();
  arguments.weights = weights.data();
  arguments.maximum = maximum.data();
  arguments.sum = sum.data();
  check(launch_mass_weights(host_lanes(), arguments, turn.stream()), "masses of keys");
  const MassChunks chunks{arguments.queries, arguments.queries, downloaded(maximum), downloaded(sum)};
  ColumnMasses result;
  result.log2_sums = chunks.log2_sums();
  const DeviceArray<float> scales(chunks.factors(result.log2_sums), "masses of keys");
  const DeviceArray<float> mass(arguments.count, "masses of keys");
  arguments.scales = scales.data();
  arguments.mass = mass.data();
  check(launch_masses(arguments, turn.stream()), "masses of keys");
  const std::vector<float> by_key = downloaded(mass);
  if (key_ranks.empty()) {
    result.mass = by_key;
    return result;
  }
  result.mass.resize(by_key.size());
  for (size_t key = 0; key < by_key.size(); ++key)
    result.mass[static_cast<size_t>(key_ranks[key])] = by_key[key];
  return result;
}

KeyMoments DeviceProblem::key_moments(int64_t head, const AttentionNode& node) const {
  if (host_lanes() == 0) return BoundProblem::key_moments(head, node);
  const Turn turn(stream_);
  return hyperattn::key_moments(
      DeviceKeySums(KeyParts(node), keys_on_card(head), values_on_card(head), turn.stream()));
}

LinearValues DeviceProblem::missed_covariance(int64_t head, const AttentionNode& node,
                                              const SyntheticKeys& runs) const {
  if (host_lanes() == 0) return BoundProblem::missed_covariance(head, node, runs);
  const Turn turn(stream_);
  return hyperattn::missed_covariance(
      DeviceKeySums(KeyParts(node), keys_on_card(head), values_on_card(head), turn.stream()), node, runs);
}

KeyTree DeviceProblem::balanced_key_tree(MatrixView<const float> keys, const AttentionNode& node,
                                         const std::vector<int64_t>& sizes) const {
  const int64_t first = row_in(shapes().key, keys);
  const int64_t scratch = direction_scratch(keys.cols) * static_cast<int64_t>(sizeof(float));
  if (host_lanes() == 0 || first < 0 || scratch > Device::current().shared_bytes_per_block())
    return BoundProblem::balanced_key_tree(keys, node, sizes);
  KeyTree tree = positional_key_tree(node, sizes);
  const std::vector<HalvingRound> rounds = halving_rounds(node.key_count(), sizes);
  if (rounds.empty()) return tree;
  const Turn turn(stream_);
  HalvingArguments arguments;
  arguments.keys = rows_from(key_, keys.cols, first);
  arguments.count = node.key_count();
  DeviceArray<int32_t> order(tree.order, "order of keys");
  DeviceArray<int32_t> sorted(arguments.count, "order of keys");
  const DeviceArray<uint64_t> places(2 * arguments.count, "places of keys");
  arguments.places = places.data();
  size_t bytes = 0;
  const auto sort = [&](void* room, size_t segments) {
    check(sort_places(room, bytes, places.data(), places.data() + arguments.count, order.data(),
                      sorted.data(), arguments.count, 32 + std::bit_width(segments), turn.stream()),
          "sorting keys");
  };
  size_t most_bytes = 0;
  for (const HalvingRound& round : rounds) {
    sort(nullptr, round.sorted.size());
    most_bytes = std::max(most_bytes, bytes);
  }
  bytes = most_bytes;
  const DeviceArray<unsigned char> room(static_cast<int64_t>(bytes), "room to sort in");
  for (const HalvingRound& round : rounds) {
    const DeviceArray<int64_t> begins(round.begins, "segments of keys");
    const DeviceArray<uint8_t> is_sorted(round.sorted, "segments of keys");
    const DeviceArray<float> directions(is_sorted.size() * keys.cols, "directions of keys");
    arguments.order = order.data();
    arguments.begins = begins.data();
    arguments.sorted = is_sorted.data();
    arguments.segments = is_sorted.size();
    arguments.directions = directions.data();
    check(launch_halving(host_lanes(), arguments, turn.stream()), "halving segments of keys");
    sort(room.data(), round.sorted.size());
    std::swap(order, sorted);
  }
  order.download(tree.order.data());
  return tree;
}

std::vector<SegmentMeans> DeviceProblem::segment_means(int64_t head, const KeyTree& tree,
                                                       bool spreads) const {
  if (host_lanes() == 0) return BoundProblem::segment_means(head, tree, spreads);
  KeyRuns runs = last_level_runs(tree);
  auto means = std::make_shared<SyntheticKeys>();
  std::vector<float> squares;
  const int64_t d = shapes().head_dim();
  {
    const Turn turn(stream_);
    const DeviceRuns own(runs);
    const PlanningRows keys = keys_on_card(head);
    means->key = own.means(keys, turn.stream());
    means->value = own.means(values_on_card(head), turn.stream());
    if (spreads) {
      const DeviceArray<float> centre(means->key.data(), own.count * d, "means of segments");
      const DeviceArray<float> target(own.count * d, "deviations of keys");
      RunArguments arguments = own.arguments(keys, target.data());
      arguments.centre = centre.data();
      check(launch_run_squares(arguments, turn.stream()), "deviations of keys");
      squares = downloaded(target);
    }
  }
  if (!spreads) return segment_means_of(tree, std::move(runs), std::move(means), {});
  return segment_means_of(tree, std::move(runs), std::move(means), [&](int64_t segment, float* sums) {
    std::copy_n(squares.data() + segment * d, d, sums);
  });
}

BeamChoice DeviceProblem::choose_segments(const BeamRequest& request) const {
  const int64_t first = row_in(shapes().query, request.queries);
  if (host_lanes() == 0 || first < 0) return BoundProblem::choose_segments(request);
  BeamChoice choice = room_for_choice(request);
  const Turn turn(stream_);
  const DeviceBeam beam(request);
  const PlanningRows queries = rows_from(query_, request.queries.cols, first);
  const int64_t step = std::max<int64_t>(1, kMostGates / beam.most_candidates(choice));
  for (int64_t begin = 0; begin < request.queries.rows; begin += step)
    beam.walk(queries, begin, std::min(request.queries.rows, begin + step), turn.stream(), choice);
  return choice;
}

}  // namespace hyperattn::cuda
