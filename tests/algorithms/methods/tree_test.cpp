// The routing tree: its order of keys by hand, every key counted once, the formula in double precision and
// plain loops, and that a row depends on nothing after it.
#include <catch2/catch.hpp>
#include <numeric>
#include <set>

#include "algorithms/nodes/node_work.h"
#include "algorithms/primitives/key_tree.h"
#include "core/error.h"
#include "tests/algorithms/plan_checks.h"

namespace hyperattn::testing {
namespace {

using Catch::Matchers::Contains;

const IntegerList kSizes = {32, 8, 4};
const IntegerList kBeams = {2, 3, 4};

Settings small_tree(const Settings& more = {}) {
  Settings settings = {{"levels", kSizes}, {"beams", kBeams}, {"min_seq_len", int64_t{16}}};
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

Settings with(const std::string& name, const std::string& value) {
  return small_tree({{name, value}});
}

using Numbers = std::vector<double>;

/// A segment of the keys of a node as the page of formulas has it, in double precision.
struct Segment {
  std::vector<int32_t> rows;
  Numbers mean_key, mean_value;
  double trace = 0;   // mean squared distance of the keys from their mean
  double spread = 0;  // that over its mean over all keys
};

struct Level {
  int64_t size = 0;
  std::vector<Segment> segments;
  Numbers variance;  // of the coordinates within segments
};

double dot(const float* a, const Numbers& b) {
  double sum = 0;
  for (size_t c = 0; c < b.size(); ++c) sum += static_cast<double>(a[c]) * b[c];
  return sum;
}

/// The statistics of every level, from the order of keys alone.
std::vector<Level> levels_of(const AttentionProblem& problem, int64_t head, const KeyTree& tree) {
  const auto d = static_cast<size_t>(problem.head_dim());
  const auto d_v = static_cast<size_t>(problem.value_dim());
  std::vector<Level> levels;
  for (const TreeLevel& own : tree.levels) {
    Level level;
    level.size = own.size;
    level.variance.assign(d, 0.0);
    double total = 0;
    for (int64_t s = 0; s < own.count(); ++s) {
      Segment segment;
      segment.rows.assign(tree.order.begin() + own.begins[static_cast<size_t>(s)],
                          tree.order.begin() + own.begins[static_cast<size_t>(s) + 1]);
      const auto count = static_cast<double>(segment.rows.size());
      segment.mean_key.assign(d, 0.0);
      segment.mean_value.assign(d_v, 0.0);
      for (const int32_t row : segment.rows) {
        for (size_t c = 0; c < d; ++c)
          segment.mean_key[c] += static_cast<double>(problem.keys_of(head).row(row)[c]) / count;
        for (size_t c = 0; c < d_v; ++c)
          segment.mean_value[c] += static_cast<double>(problem.values_of(head).row(row)[c]) / count;
      }
      for (const int32_t row : segment.rows)
        for (size_t c = 0; c < d; ++c) {
          const double deviation =
              static_cast<double>(problem.keys_of(head).row(row)[c]) - segment.mean_key[c];
          segment.trace += deviation * deviation / count;
          level.variance[c] += deviation * deviation / static_cast<double>(tree.order.size());
          total += deviation * deviation / static_cast<double>(tree.order.size());
        }
      level.segments.push_back(std::move(segment));
    }
    for (Segment& segment : level.segments) segment.spread = total > 0 ? segment.trace / total : 0;
    levels.push_back(std::move(level));
  }
  return levels;
}

double variance_of(const Level& level, const float* query, double scale) {
  double sum = 0;
  for (size_t c = 0; c < level.variance.size(); ++c)
    sum += static_cast<double>(query[c]) * static_cast<double>(query[c]) * level.variance[c];
  return scale * scale * sum;
}

double gate_of(const Level& level, const Segment& segment, const float* query, double scale, bool spread) {
  const double mean = scale * dot(query, segment.mean_key);
  if (!spread) return mean;
  const double sigma = std::sqrt(variance_of(level, query, scale) * segment.spread);
  const double tangent = std::min(sigma, std::sqrt(2 * std::log(static_cast<double>(level.size))));
  return mean + tangent * (sigma - tangent / 2);
}

struct Walk {
  std::vector<size_t> runs;                           // opened segments of the last level
  std::vector<std::pair<size_t, size_t>> left_aside;  // (level, segment)
};

/// The beam of one row. `budget`: keys of the last level's segments, or 0 where the last beam counts
/// segments.
Walk walk(const std::vector<Level>& levels, const IntegerList& beams, const float* query, double scale,
          bool spread, int64_t budget) {
  Walk result;
  std::vector<size_t> active(levels[0].segments.size());
  std::iota(active.begin(), active.end(), size_t{0});
  for (size_t t = 0; t < levels.size(); ++t) {
    std::vector<size_t> best = active;
    std::stable_sort(best.begin(), best.end(), [&](size_t a, size_t b) {
      return gate_of(levels[t], levels[t].segments[a], query, scale, spread) >
             gate_of(levels[t], levels[t].segments[b], query, scale, spread);
    });
    const bool last = t + 1 == levels.size();
    std::set<size_t> opened;
    int64_t keys = 0;
    for (const size_t s : best) {
      keys += static_cast<int64_t>(levels[t].segments[s].rows.size());
      if (last && budget > 0 ? !opened.empty() && keys > budget
                             : static_cast<int64_t>(opened.size()) >= beams[t])
        break;
      opened.insert(s);
    }
    for (const size_t s : active)
      if (opened.count(s) == 0) result.left_aside.emplace_back(t, s);
    if (last) {
      result.runs.assign(opened.begin(), opened.end());
      break;
    }
    const auto each = static_cast<size_t>(levels[t].size / levels[t + 1].size);
    active.clear();
    for (const size_t s : opened)
      for (size_t child = s * each; child < std::min((s + 1) * each, levels[t + 1].segments.size()); ++child)
        active.push_back(child);
  }
  return result;
}

/// Mean over all keys of (k − k̄)ᵀ(v − v̄) within the last level's segments.
std::vector<Numbers> covariance_of(const AttentionProblem& problem, int64_t head, const Level& level) {
  const auto d = static_cast<size_t>(problem.head_dim());
  const auto d_v = static_cast<size_t>(problem.value_dim());
  std::vector<Numbers> c(d, Numbers(d_v, 0.0));
  double count = 0;
  for (const Segment& segment : level.segments) count += static_cast<double>(segment.rows.size());
  for (const Segment& segment : level.segments)
    for (const int32_t row : segment.rows)
      for (size_t a = 0; a < d; ++a)
        for (size_t b = 0; b < d_v; ++b)
          c[a][b] += (static_cast<double>(problem.keys_of(head).row(row)[a]) - segment.mean_key[a]) *
                     (static_cast<double>(problem.values_of(head).row(row)[b]) - segment.mean_value[b]) /
                     count;
  return c;
}

struct Sums {
  double maximum = -INFINITY;
  double denominator = 0;
  Numbers numerator;

  void add(double log_weight, const Numbers& value, double factor = 1) {
    const double larger = std::max(maximum, log_weight);
    const double old = std::exp(maximum - larger);
    const double own = factor * std::exp(log_weight - larger);
    maximum = larger;
    denominator = denominator * old + own;
    for (size_t c = 0; c < numerator.size(); ++c) numerator[c] = numerator[c] * old + own * value[c];
  }
};

/// The method's output for one node, without any code of it but the order of keys.
struct Reference {
  Tensor<double> out, lse;

  Reference(const AttentionProblem& problem, const IntegerList& beams, const std::string& tail, bool spread,
            int64_t budget, const KeyTree& tree)
      : out({1, 1, problem.query_count(), problem.value_dim()}), lse({1, 1, problem.query_count(), 1}) {
    const std::vector<Level> levels = levels_of(problem, 0, tree);
    const std::vector<Numbers> c = covariance_of(problem, 0, levels.back());
    const IntegerList own(beams.end() - static_cast<std::ptrdiff_t>(levels.size()), beams.end());
    const auto scale = static_cast<double>(problem.scale);
    for (int64_t i = 0; i < problem.query_count(); ++i) {
      const float* query = problem.query.matrix(0).row(i);
      const Walk row = walk(levels, own, query, scale, spread, budget);
      Sums sums;
      sums.numerator.assign(static_cast<size_t>(problem.value_dim()), 0.0);
      for (const size_t run : row.runs)
        for (const int32_t key : levels.back().segments[run].rows) {
          const float* k = problem.keys_of(0).row(key);
          const float* v = problem.values_of(0).row(key);
          sums.add(scale * dot(query, Numbers(k, k + problem.head_dim())),
                   Numbers(v, v + problem.value_dim()));
        }
      Numbers moved(static_cast<size_t>(problem.value_dim()), 0.0);
      if (tail == "corrected")
        for (size_t a = 0; a < c.size(); ++a)
          for (size_t b = 0; b < moved.size(); ++b)
            moved[b] += scale * static_cast<double>(query[a]) * c[a][b];
      for (const auto& [t, s] : row.left_aside) {
        if (tail == "none") break;
        const Segment& segment = levels[t].segments[s];
        const double v = variance_of(levels[t], query, scale) * segment.spread;
        Numbers value = segment.mean_value;
        for (size_t b = 0; b < moved.size(); ++b) value[b] += moved[b];
        sums.add(std::log(static_cast<double>(segment.rows.size())) + scale * dot(query, segment.mean_key),
                 value, tail == "corrected" ? 1 + v / 2 : 1);
      }
      for (int64_t b = 0; b < problem.value_dim(); ++b)
        out.matrix(0).row(i)[b] = sums.numerator[static_cast<size_t>(b)] / sums.denominator;
      lse.data()[i] = sums.maximum + std::log(sums.denominator);
    }
  }
};

KeyTree tree_of(const AttentionProblem& problem, const std::string& order, const IntegerList& sizes) {
  const AttentionNode node = whole_problem(problem.query_count(), problem.key_count());
  if (order == "position") return positional_key_tree(node, sizes);
  if (order == "kmeans")
    return clustered_key_tree(*bound_of(problem), problem.keys_of(0), node, sizes.back(),
                              node_stream(call_for("tree", {}), Purpose::centroid, {0, node}));
  return balanced_key_tree(problem.keys_of(0), node, sizes);
}

}  // namespace

TEST_CASE("the tree's order by hand: keys on a line, halved at multiples of the level sizes", "[tree]") {
  // Ten keys on a line. The direction is ±1; cuts of 10 with sizes (4, 2): 4·⌈⌈10/4⌉/2⌉ = 8, then 4, then 2.
  Tensor<float> key({1, 1, 10, 1});
  const float places[] = {5, 1, 9, 3, 7, 0, 8, 2, 6, 4};
  std::copy(places, places + 10, key.data());
  const KeyTree tree = balanced_key_tree(key.matrix(0), whole_problem(1, 10), {4, 2});
  REQUIRE(tree.levels.size() == 2);
  CHECK(tree.levels[0].begins == std::vector<int64_t>{0, 4, 8, 10});
  CHECK(tree.levels[1].begins == std::vector<int64_t>{0, 2, 4, 6, 8, 10});
  CHECK(tree.levels[0].first_child == std::vector<int64_t>{0, 2, 4, 5});
  // Every segment is an interval of the line.
  for (const TreeLevel& level : tree.levels)
    for (int64_t s = 0; s < level.count(); ++s) {
      std::set<float> own;
      for (int64_t rank = level.begins[static_cast<size_t>(s)];
           rank < level.begins[static_cast<size_t>(s) + 1]; ++rank)
        own.insert(places[tree.order[static_cast<size_t>(rank)]]);
      INFO("level of " << level.size << ", segment " << s);
      CHECK(*own.rbegin() - *own.begin() == static_cast<float>(own.size() - 1));
    }
}

TEST_CASE("any order of keys is a permutation, whatever the keys", "[tree]") {
  for (const int64_t n : {1, 3, 4, 5, 31, 32, 33, 97, 256, 1000})
    for (const double factor : {0.0, 1.0, 1e6}) {
      RandomProblem p({1, n, 3, 2}, 5);
      for (int64_t i = 0; i < p.key.shape().size(); ++i) p.key.data()[i] *= static_cast<float>(factor);
      for (const std::string order : {"tree", "position", "kmeans"}) {
        const KeyTree tree = tree_of(p.problem, order, order == "kmeans" ? IntegerList{8} : kSizes);
        std::vector<int32_t> sorted = tree.order;
        std::sort(sorted.begin(), sorted.end());
        std::vector<int32_t> all(static_cast<size_t>(n));
        std::iota(all.begin(), all.end(), 0);
        INFO(order << ", " << n << " keys times " << factor);
        CHECK(sorted == all);
        CHECK(tree.levels.back().begins.back() == n);
      }
    }
}

TEST_CASE("each row counts every key once", "[tree]") {
  for (const bool causal : {false, true})
    for (const std::string order : {"tree", "position", "kmeans"})
      for (const int64_t n : {1, 5, 33, 100, 200}) {
        RandomProblem p({n, n, 6, 4, 1, 2, causal}, 3, 1.5);
        Settings settings = with("order", order);
        if (order == "kmeans")
          settings = small_tree({{"order", order}, {"levels", IntegerList{8}}, {"beams", IntegerList{2}}});
        settings.emplace_back("tail", std::string("plain"));
        const PlannedCall call = planned("tree", p.problem, settings);
        std::vector<std::multiset<int64_t>> keys(static_cast<size_t>(2 * n));
        for_each_entry(*call.plan, [&](const Pass& pass, const QueryGroup&, const PlanEntry& entry) {
          auto& own = keys[static_cast<size_t>(pass.head * n + pass.queries[entry.position])];
          if (!entry.list->synthetic) {
            own.insert(entry.key_row());
            return;
          }
          const SyntheticKeys& means = *entry.list->synthetic;
          const auto s = static_cast<size_t>(entry.key_row());
          for (int64_t m = means.member_begin[s]; m < means.member_begin[s + 1]; ++m)
            own.insert(means.member_order[m]);
          CHECK(std::exp(entry.log_weight()) ==
                Approx(static_cast<double>(means.member_begin[s + 1] - means.member_begin[s])));
        });
        for (size_t row = 0; row < keys.size(); ++row) {
          const int64_t seen = causal ? static_cast<int64_t>(row) % n + 1 : n;
          std::multiset<int64_t> all;
          for (int64_t key = 0; key < seen; ++key) all.insert(key);
          INFO(order << (causal ? ", causal, " : ", ") << n << " keys, row " << row);
          CHECK(keys[row] == all);
        }
      }
}

TEST_CASE("the tree's output is the formula's, in double precision and plain loops", "[tree]") {
  struct Size {
    int64_t queries, keys, head_dim, value_dim;
  };
  for (const Size& s :
       {Size{40, 200, 8, 5}, {7, 33, 1, 1}, {20, 97, 64, 64}, {5, 3, 4, 4}, {9, 128, 256, 3}, {3, 1, 2, 2}})
    for (const std::string tail : {"none", "plain", "corrected"})
      for (const std::string gate : {"mean", "mean_spread"})
        for (const std::string order : {"tree", "position", "kmeans"}) {
          RandomProblem p({s.queries, s.keys, s.head_dim, s.value_dim}, 17, 2);
          const bool clusters = order == "kmeans";
          const IntegerList sizes = clusters ? IntegerList{8} : kSizes;
          const IntegerList beams = clusters ? IntegerList{3} : kBeams;
          const Settings settings = {
              {"levels", sizes}, {"beams", beams}, {"tail", tail}, {"gate", gate}, {"order", order}};
          const KeyTree tree = tree_of(p.problem, order, sizes);
          const Reference expected(p.problem, beams, tail, gate == "mean_spread", clusters ? 24 : 0, tree);
          for (const std::string engine : {"cpu", "reference"}) {
            Settings own = settings;
            own.emplace_back("engine", engine);
            const ChosenBackend chosen =
                on_chosen_engine(backend_named("tree"), call_for("tree", own).parameters);
            Call call = call_for("tree", own);
            const ForwardState seen = chosen.backend->forward(p.problem, call);
            INFO(engine << ", tail " << tail << ", gate " << gate << ", order " << order << ", " << s.queries
                        << " × " << s.keys << ", d " << s.head_dim << ", d_v " << s.value_dim);
            CHECK(largest_difference(seen.result.out, expected.out) <
                  2e-5 * (1 + largest_entry(expected.out)));
            CHECK(largest_difference(seen.result.lse, expected.lse) < 2e-5);
          }
        }
}

TEST_CASE("with beams that open everything the tree is exact attention", "[tree]") {
  for (const bool causal : {false, true})
    for (const std::string tail : {"none", "plain", "corrected"}) {
      RandomProblem p({150, 150, 8, 8, 1, 2, causal}, 4);
      const ForwardState exact = run_backend("exact", p.problem);
      const ForwardState seen =
          run_backend("tree", p.problem, small_tree({{"beams", IntegerList{99, 99, 99}}, {"tail", tail}}));
      CHECK(largest_difference(seen.result.out, exact.result.out) < 5e-6);
      CHECK(largest_difference(seen.result.lse, exact.result.lse) < 5e-6);
      const ForwardState few =
          run_backend("tree", p.problem,
                      {{"levels", IntegerList{1024, 256}}, {"beams", IntegerList{1, 1}}, {"tail", tail}});
      CHECK(largest_difference(few.result.out, exact.result.out) < 5e-6);
    }
}

TEST_CASE("the gradient of tail: plain is that of differences with the choices held fixed", "[tree]") {
  const int64_t n = 40;
  RandomProblem p({n, n, 3, 2, 1, 1, true}, 6);
  const Settings settings = with("tail", "plain");
  const PlannedCall fixed = planned("tree", p.problem, settings);
  // Means move with their keys, so the plan is made again, with the old tree: differences through the method
  // itself would also move choices. Small steps leave all choices as they are, which is checked.
  const ForwardState state = run_backend("tree", p.problem, settings);
  const AttentionGradients seen =
      backend_named("tree").backward(p.problem, call_for("tree", settings), state, p.dout.view());
  const auto loss = [&] {
    const PlannedCall now = planned("tree", p.problem, settings);
    REQUIRE(count_entries(*now.plan) == count_entries(*fixed.plan));
    const DoubleResult result = run_plan_in_double(p.problem, *now.plan);
    double sum = 0;
    for (int64_t i = 0; i < result.out.shape().size(); ++i)
      sum += result.out.data()[i] * static_cast<double>(p.dout.data()[i]);
    return sum;
  };
  const double step = 2e-3;
  const auto check = [&](Tensor<float>& tensor, const Tensor<float>& gradient, const char* name) {
    for (int64_t i = 0; i < tensor.shape().size(); i += 7) {
      const float before = tensor.data()[i];
      tensor.data()[i] = before + static_cast<float>(step);
      const double above = loss();
      tensor.data()[i] = before - static_cast<float>(step);
      const double below = loss();
      tensor.data()[i] = before;
      INFO("d" << name << "[" << i << "]");
      CHECK((above - below) / (2 * step) == Approx(static_cast<double>(gradient.data()[i])).margin(2e-3));
    }
  };
  check(p.query, seen.dquery, "query");
  check(p.key, seen.dkey, "key");
  check(p.value, seen.dvalue, "value");
}

TEST_CASE("default levels have larger ones in front where a node has more than 64 of the first", "[tree]") {
  const Settings wide = {{"levels", IntegerList{8192, 1024, 128, 16}}, {"beams", IntegerList{8, 8, 16, 16}}};
  // A first level that no node fills is left out, and the levels are not the default ones.
  const Settings flat = {{"levels", IntegerList{1048576, 1024, 128, 16}},
                         {"beams", IntegerList{1, 8, 16, 16}}};
  for (const int64_t keys : {65535, 65536, 65537}) {
    RandomProblem p({3, keys, 2, 2}, 12);
    const ForwardState seen = run_backend("tree", p.problem);
    const auto difference = [&](const Settings& settings) {
      return largest_difference(seen.result.out, run_backend("tree", p.problem, settings).result.out);
    };
    INFO(keys << " keys");
    CHECK((difference(flat) == 0) == (keys <= 65536));
    CHECK(difference(wide) == 0);  // up to 65536 keys because its beam opens all of the level in front
    // The runs' list, and one of each level's means.
    const PlannedCall call = planned("tree", p.problem, {});
    CHECK(call.plan->phases.at(0).passes.at(0).lists.size() == (keys <= 65536 ? 4 : 5));
  }
}

TEST_CASE("the tree's entries a row grow by less than 1.4 times from 2048 to 131072 keys", "[tree]") {
  const int64_t rows = 5;
  const auto entries_of = [&](int64_t keys, const Settings& settings) {
    RandomProblem p({rows, keys, 2, 2}, 12);
    const Backend& backend = backend_named("tree");
    const auto entries = static_cast<double>(count_entries(*planned("tree", p.problem, settings).plan));
    // The method does not estimate what values linear in the query cost.
    const double linear = settings.empty() ? static_cast<double>(rows) : 0;
    CHECK(backend.estimated_entries(p.problem, call_for("tree", settings).parameters) ==
          Approx(entries - linear));
    return entries / static_cast<double>(rows);
  };
  for (const Settings& settings : {Settings{}, Settings{{"tail", std::string("plain")}}}) {
    // 256 keys and, of the levels from the smallest up, what is active less what is opened of it.
    const double linear = settings.empty() ? 1 : 0;  // half of d
    const double few = entries_of(2048, settings);
    const double many = entries_of(131072, settings);
    CHECK(few == Approx(linear + 256 + (128 - 16)));
    CHECK(many == Approx(linear + 256 + (128 - 16) + (64 - 16) + (64 - 8) + (16 - 8)));
    CHECK(many / few < 1.4);
  }
}

TEST_CASE("a row of the tree depends on nothing after it", "[tree]") {
  const int64_t n = 300;
  const int64_t changed = 170;
  RandomProblem p({n, n, 8, 6, 1, 2, true}, 8);
  RandomProblem other({n, n, 8, 6, 1, 2, true}, 9);
  for (const std::string tail : {"none", "plain", "corrected"})
    for (const std::string order : {"tree", "position"}) {
      const Settings settings = small_tree({{"tail", tail}, {"order", order}});
      const ForwardState before = run_backend("tree", p.problem, settings);
      RandomProblem later({n, n, 8, 6, 1, 2, true}, 8);
      for (int64_t head = 0; head < 2; ++head)
        for (auto* pair : {&later.query, &later.key, &later.value}) {
          const Tensor<float>& from = pair == &later.query ? other.query
                                      : pair == &later.key ? other.key
                                                           : other.value;
          for (int64_t row = changed; row < n; ++row)
            std::copy_n(from.matrix(head).row(row), pair->shape().dim, pair->matrix(head).row(row));
        }
      const ForwardState after = run_backend("tree", later.problem, settings);
      double difference = 0;
      for (int64_t head = 0; head < 2; ++head)
        for (int64_t row = 0; row < changed; ++row)
          for (int64_t c = 0; c < 6; ++c)
            difference = std::max(difference,
                                  std::abs(static_cast<double>(before.result.out.matrix(head).row(row)[c]) -
                                           static_cast<double>(after.result.out.matrix(head).row(row)[c])));
      INFO("tail " << tail << ", order " << order);
      CHECK(difference == 0);
    }
}

TEST_CASE("the tree's bits are those of any number of threads", "[tree]") {
  RandomProblem p({500, 500, 16, 8, 1, 2, true}, 2);
  for (const std::string tail : {"plain", "corrected"})
    check_bits_for_any_threads("tree", p.problem, with("tail", tail));
  RandomProblem whole({300, 3000, 16, 8}, 2);
  for (const std::string order : {"tree", "position"})
    check_bits_for_any_threads("tree", whole.problem, {{"order", order}});
}

TEST_CASE("the tree with equal keys, huge scores and one key", "[tree]") {
  for (const double factor : {0.0, 80.0, 1e6}) {
    RandomProblem p({64, 64, 8, 4}, 3, factor);
    if (factor == 0)
      for (int64_t i = 8; i < p.key.shape().size(); ++i) p.key.data()[i] = p.key.data()[i % 8];
    const ForwardState exact = run_backend("exact", p.problem);
    for (const std::string tail : {"none", "plain", "corrected"}) {
      const ForwardState seen = run_backend("tree", p.problem, with("tail", tail));
      CHECK_NOTHROW(check_result(seen.result));
      // Equal scores: the tail has the whole truth.
      if (factor == 0 && tail == "plain") CHECK(largest_difference(seen.result.out, exact.result.out) < 1e-5);
    }
  }
  RandomProblem one({5, 1, 8, 4});
  CHECK(largest_difference(run_backend("tree", one.problem).result.out,
                           run_backend("exact", one.problem).result.out) < 1e-6);
}

TEST_CASE("the tree's masks are the runs of each row, and what is left", "[tree]") {
  RandomProblem p({50, 120, 6, 4, 1, 2});
  const PlannedCall call = planned("tree", p.problem, with("tail", "plain"));
  REQUIRE(call.masks != nullptr);
  const Plan masked = call.masks->masked(p.problem);
  const Plan rest = call.masks->unmasked(p.problem);
  for (int64_t head = 0; head < 2; ++head) {
    const RowMajorMatrix<double> inside = dense_weights(masked, head, 50, 120);
    const RowMajorMatrix<double> outside = dense_weights(rest, head, 50, 120);
    CHECK((inside + outside - RowMajorMatrix<double>::Ones(50, 120)).cwiseAbs().maxCoeff() < 1e-12);
    CHECK(inside.rowwise().sum().minCoeff() == 16);  // four runs of four keys
    CHECK(inside.rowwise().sum().maxCoeff() == 16);
  }
}

TEST_CASE("what the tree refuses", "[tree]") {
  RandomProblem p({8, 8, 4, 4});
  const auto wrong = [&](const Settings& settings) {
    return backend_named("tree").check(p.problem, call_for("tree", settings).parameters);
  };
  CHECK(wrong({}).empty());
  CHECK_THAT(wrong({{"levels", IntegerList{16, 16, 8}}}),
             Contains("levels must fall") && Contains("[16, 16, 8]"));
  CHECK_THAT(wrong({{"levels", IntegerList{100, 30, 10}}}), Contains("divide"));
  CHECK_THAT(wrong({{"levels", IntegerList{16}}}),
             Contains("beams must have one number for each of levels [16]"));
  CHECK_THAT(wrong({{"levels", IntegerList{}}, {"beams", IntegerList{}}}), Contains("levels must name"));
  CHECK_THAT(wrong({{"order", std::string("kmeans")}}), Contains("order: kmeans has one level"));
  CHECK_THROWS_WITH(call_for("tree", {{"beams", IntegerList{8, 0, 16}}}), Contains("beams"));
  CHECK_THAT(
      backend_named("tree").no_gradient(call_for("tree", {{"tail", std::string("corrected")}}).parameters),
      Contains("tail: plain"));
  CHECK(backend_named("tree")
            .no_gradient(call_for("tree", {{"tail", std::string("plain")}}).parameters)
            .empty());
}

}  // namespace hyperattn::testing
