// Thinning against kernel halving and Compress as they are written, in plain double precision and top down,
// with the same random numbers.
#include "algorithms/primitives/thinning.h"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "algorithms/engines/reference/reference_plan.h"
#include "core/error.h"
#include "tests/algorithms/plan_checks.h"

namespace hyperattn::testing {
namespace {

using Keys = std::vector<ThinnedKey>;

bool same_keys(const Keys& a, const Keys& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const ThinnedKey& x, const ThinnedKey& y) {
    return x.row == y.row && x.halvings == y.halvings;
  });
}

ThinningKernel kernel_of(const AttentionProblem& p) {
  return {p.key.matrix(0), p.value.matrix(0), p.scale};
}

Keys run_of(int64_t begin, int64_t end) {
  Keys keys;
  for (int64_t row = begin; row < end; ++row) keys.push_back({static_cast<int32_t>(row), 0});
  return keys;
}

double dot(const float* a, const float* b, int64_t size) {
  double sum = 0;
  for (int64_t c = 0; c < size; ++c) sum += static_cast<double>(a[c]) * static_cast<double>(b[c]);
  return sum;
}

/// κ of the points, from the formula.
RowMajorMatrix<double> plain_kernel(const ThinningKernel& kernel, const Keys& points) {
  const auto count = static_cast<int64_t>(points.size());
  double b = 0;
  for (const ThinnedKey& point : points)
    for (int64_t c = 0; c < kernel.values.cols; ++c)
      b = std::max(b, std::abs(static_cast<double>(kernel.values.row(point.row)[c])));
  if (b == 0) b = 1;
  RowMajorMatrix<double> kappa(count, count);
  for (int64_t i = 0; i < count; ++i)
    for (int64_t j = 0; j < count; ++j) {
      const int64_t row = points[static_cast<size_t>(i)].row;
      const int64_t other = points[static_cast<size_t>(j)].row;
      kappa(i, j) = std::exp(std::abs(kernel.scale) *
                             dot(kernel.keys.row(row), kernel.keys.row(other), kernel.keys.cols)) *
                    (dot(kernel.values.row(row), kernel.values.row(other), kernel.values.cols) + b * b);
    }
  return kappa;
}

/// All pairs of the points; counts where the walk was outside its threshold.
Keys plain_halve(const ThinningKernel& kernel, const Keys& points, double pairs_of_all, double delta,
                 const RandomStream& stream, uint64_t number, int64_t* outside = nullptr) {
  const auto pairs = static_cast<int64_t>(points.size() / 2);
  const RowMajorMatrix<double> kappa = plain_kernel(kernel, {points.begin(), points.begin() + 2 * pairs});
  const double level = 0.5 + std::log(2 * pairs_of_all / delta);
  const auto weight = [&](int64_t i) { return std::exp2(points[static_cast<size_t>(i)].halvings); };
  const auto product = [&](int64_t i, int64_t j) {  // D_ij
    double sum = 0;
    for (const int64_t a : {0, 1})
      for (const int64_t b : {0, 1})
        sum += (a == b ? 1 : -1) * weight(2 * i + a) * weight(2 * j + b) * kappa(2 * i + a, 2 * j + b);
    return sum;
  };
  std::vector<int> sign;
  double largest = 0;
  for (int64_t i = 0; i < pairs; ++i) {
    double along = 0;
    for (int64_t j = 0; j < i; ++j) along += sign[static_cast<size_t>(j)] * product(j, i);
    const double own = std::sqrt(std::max(product(i, i), 0.0));
    largest = std::max(largest, own);
    const double limit = level * own * largest;
    const double chance = limit > 0 ? (1 - along / limit) / 2 : 0.5;
    if (outside != nullptr && std::abs(along) > limit) ++*outside;
    sign.push_back(stream.uniform(number + static_cast<uint64_t>(i)) < chance ? 1 : -1);
  }
  const int kept_sign = stream.uniform(number + kChoiceOfHalf) < 0.5 ? -1 : 1;
  Keys kept;
  for (int64_t i = 0; i < pairs; ++i) {
    const int64_t place = 2 * i + (sign[static_cast<size_t>(i)] == kept_sign ? 1 : 0);
    kept.push_back(points[static_cast<size_t>(place)]);
    ++kept.back().halvings;
  }
  if (points.size() % 2 == 1) kept.push_back(points.back());
  return kept;
}

/// Compress of rows [begin, end), 4^k of them, to 2^g·2^k: four quarters, each compressed, joined and halved.
Keys plain_compress(const ThinningKernel& kernel, int64_t begin, int64_t end, int64_t leaf,
                    double pairs_of_all, double delta, const RandomStream& stream) {
  if (end - begin == leaf) return run_of(begin, end);
  const int64_t quarter = (end - begin) / 4;
  Keys joined;
  for (int64_t i = 0; i < 4; ++i)
    for (const ThinnedKey& key : plain_compress(kernel, begin + i * quarter, begin + (i + 1) * quarter, leaf,
                                                pairs_of_all, delta, stream))
      joined.push_back(key);
  uint64_t round = 0;
  for (int64_t size = 4 * leaf; size < end - begin; size *= 4) ++round;
  return plain_halve(kernel, joined, pairs_of_all, delta, stream,
                     round * kNumbersOfRound + static_cast<uint64_t>(begin));
}

TEST_CASE(
    "a halving is the randomised sign walk of its formula, also with unequal weights and an odd point") {
  for (const int64_t count : {1, 2, 3, 24, 25, 97, 300})
    for (const double spread : {1.0, 3.0}) {
      RandomProblem p({1, 300, 7, 5}, 3);
      for (int64_t i = 0; i < p.key.shape().size(); ++i) p.key.data()[i] *= static_cast<float>(spread);
      Keys points = run_of(0, count);
      for (size_t i = 0; i < points.size(); ++i) points[i].halvings = i % 5 == 0 ? 2 : 1;
      const RandomStream stream(9, Purpose::thinning);
      const Keys seen = halve(kernel_of(p.problem), points, count / 2, {0.5, 400}, stream, 7);
      const Keys expected = plain_halve(kernel_of(p.problem), points, 400, 0.5, stream, 7);
      CAPTURE(count, spread, seen.size(), expected.size());
      CHECK(same_keys(seen, expected));
    }
}

TEST_CASE("two equal pairs, by hand: the second walks back with probability ½(1 + 1/L)") {
  RandomProblem p({1, 4, 3, 2}, 1);
  for (int64_t i = 0; i < 2; ++i) {
    std::copy_n(p.key.matrix(0).row(i), 3, p.key.matrix(0).row(i + 2));
    std::copy_n(p.value.matrix(0).row(i), 2, p.value.matrix(0).row(i + 2));
  }
  const double delta = 0.9;
  const double level = 0.5 + std::log(2 * 2 / delta);
  int back = 0;
  int first_kept = 0;
  const int draws = 20000;
  for (int i = 0; i < draws; ++i) {
    const Keys kept = halve(kernel_of(p.problem), run_of(0, 4), 2, {delta, 2},
                            RandomStream(static_cast<uint64_t>(i), Purpose::thinning), 0);
    back += kept[0].row % 2 != kept[1].row % 2 ? 1 : 0;
    first_kept += kept[0].row == 0 ? 1 : 0;
  }
  const double expected = 0.5 * (1 + 1 / level);
  CAPTURE(level, back, first_kept);
  CHECK(std::abs(back - draws * expected) < 4 * std::sqrt(draws * expected * (1 - expected)));
  CHECK(std::abs(first_kept - draws * 0.5) < 4 * std::sqrt(draws * 0.25));
}

TEST_CASE("thinning a power of four is Compress with equal weights") {
  const RandomProblem p({1, 1024, 6, 4}, 5);
  for (const auto& [count, g] :
       {std::pair<int64_t, int64_t>{16, 0}, {256, 0}, {256, 1}, {1024, 1}, {1024, 2}}) {
    const auto keep = static_cast<int64_t>(std::exp2(g) * std::sqrt(static_cast<double>(count)));
    const auto leaf = static_cast<int64_t>(std::pow(4, g));
    const auto pairs = static_cast<double>(count - keep);
    const RandomStream stream(4, Purpose::thinning);
    const Keys seen = thin_rows(kernel_of(p.problem), 0, count, keep, {0.25, pairs}, stream);
    const Keys expected = plain_compress(kernel_of(p.problem), 0, count, leaf, pairs, 0.25, stream);
    CAPTURE(count, g, seen.size(), expected.size());
    CHECK(same_keys(seen, expected));
    CHECK(std::all_of(seen.begin(), seen.end(), [&, n = count](const ThinnedKey& key) {
      return std::exp2(key.halvings) == static_cast<double>(n / keep);
    }));
  }
}

TEST_CASE("any number of keys is thinned to just as many as wanted, in order and without loss in the mean") {
  const RandomProblem p({1, 400, 3, 2}, 2);
  for (const int64_t count : {1, 2, 3, 5, 16, 37, 63, 64, 65, 255, 400})
    for (const int64_t keep : {1, 2, 9, 20, 64, 399, 1000}) {
      const Keys kept =
          thin_rows(kernel_of(p.problem), 0, count, keep, {0.5, 400}, RandomStream(1, Purpose::thinning));
      CAPTURE(count, keep);
      CHECK(static_cast<int64_t>(kept.size()) == std::min(count, keep));
      for (size_t i = 1; i < kept.size(); ++i) CHECK(kept[i - 1].row < kept[i].row);
    }
  // Every key's mean weight is 1, so that all weighted sums are unbiased.
  for (const auto& [begin, end, keep] : {std::array<int64_t, 3>{0, 37, 9}, {11, 76, 12}, {0, 64, 5}}) {
    const int draws = 4000;
    std::vector<double> sum(400, 0);
    std::vector<double> square(400, 0);
    for (int i = 0; i < draws; ++i)
      for (const ThinnedKey& key : thin_rows(kernel_of(p.problem), begin, end, keep, {0.5, 60},
                                             RandomStream(static_cast<uint64_t>(i), Purpose::thinning))) {
        const double weight = std::exp2(key.halvings);
        sum[static_cast<size_t>(key.row)] += weight;
        square[static_cast<size_t>(key.row)] += weight * weight;
      }
    double worst = 0;
    for (int64_t row = begin; row < end; ++row) {
      const double mean = sum[static_cast<size_t>(row)] / draws;
      const double variance = square[static_cast<size_t>(row)] / draws - mean * mean;
      worst = std::max(worst, std::abs(mean - 1) / std::sqrt(variance / draws));
    }
    CAPTURE(begin, end, keep, worst);
    CHECK(worst < 4.5);  // of at most 65 standard normals
  }
}

TEST_CASE("walks leave their thresholds at most as often as promised") {
  const RandomProblem p({1, 64, 4, 3}, 2, 1);
  const double delta = 0.3;
  int failed = 0;
  const int draws = 400;
  for (int i = 0; i < draws; ++i) {
    int64_t outside = 0;
    plain_halve(kernel_of(p.problem), run_of(0, 64), 32, delta,
                RandomStream(static_cast<uint64_t>(i), Purpose::thinning), 0, &outside);
    failed += outside > 0 ? 1 : 0;
  }
  CAPTURE(failed);
  CHECK(failed <= draws * delta);
}

/// Root mean squares of the errors of the denominators' logarithms, over several seeds.
double denominator_error(const std::string& backend, const AttentionProblem& p, const Settings& settings,
                         const DoubleResult& exact) {
  double sum = 0;
  for (uint64_t seed = 0; seed < 16; ++seed) {
    const ForwardState state = run_backend(backend, p, settings, seed);
    for (int64_t i = 0; i < p.query_count(); ++i)
      sum += std::pow(static_cast<double>(state.result.lse.data()[i]) - exact.lse.data()[i], 2);
  }
  return std::sqrt(sum / static_cast<double>(16 * p.query_count()));
}

// Keys of one length, so that the largest D_ii, which the thresholds go by, is of the size of the others. (Of
// Gaussian keys it is a hundred times their median, and the walk is hardly held.)
TEST_CASE("denominators of thinned keys come nearer with more keys, and sooner than those of drawn ones") {
  RandomProblem random({200, 4096, 2, 2}, 6, 0.7);
  for (int64_t l = 0; l < 4096; ++l) {
    float* key = random.key.matrix(0).row(l);
    const float norm = std::hypot(key[0], key[1]);
    for (int64_t c = 0; c < 2; ++c) {
      key[c] /= norm;
      random.value.matrix(0).row(l)[c] = key[c];
    }
  }
  const DoubleResult exact = attention_in_double(random.problem);
  double last = INFINITY;
  for (const int64_t g : {0, 2, 4}) {
    const double thinned = denominator_error("thinned", random.problem, {{"compress_g", g}}, exact);
    const double drawn = denominator_error("hyper", random.problem,
                                           {{"mask", std::string("none")}, {"sample_size", 64 << g}}, exact);
    CAPTURE(g, thinned, drawn, last);
    CHECK(thinned < 0.5 * last);
    CHECK(thinned < 0.7 * drawn);
    last = thinned;
  }
}

TEST_CASE("thinned is exact where all keys are kept, equal ones or one, and sane at zero and huge values") {
  const RandomProblem few({30, 15, 4, 3});
  CHECK(largest_difference(run_backend("thinned", few.problem).result.out,
                           attention_in_double(few.problem).out) < 1e-6);
  RandomProblem equal({30, 256, 4, 3});
  for (int64_t l = 1; l < 256; ++l) {
    std::copy_n(equal.key.matrix(0).row(0), 4, equal.key.matrix(0).row(l));
    std::copy_n(equal.value.matrix(0).row(0), 3, equal.value.matrix(0).row(l));
  }
  const ForwardState state = run_backend("thinned", equal.problem, {{"compress_g", int64_t{0}}});
  CHECK(largest_difference(state.result.out, attention_in_double(equal.problem).out) < 1e-6);
  CHECK(largest_difference(state.result.lse, attention_in_double(equal.problem).lse) < 1e-5);
  RandomProblem zero({30, 256, 4, 3});
  std::fill_n(zero.value.data(), zero.value.shape().size(), 0.0F);
  CHECK(largest_entry(run_backend("thinned", zero.problem).result.out) == 0);
  for (const auto& [dim, size] :
       {std::pair<int64_t, double>{64, 9.0}, {64, 1000.0}, {1, 1000.0}, {256, 600.0}})
    for (const bool streaming : {false, true}) {
      RandomProblem huge({150, 150, dim, 7, 1, 1, streaming}, 3, size);
      for (int64_t i = 0; i < huge.key.shape().size(); ++i) huge.key.data()[i] *= static_cast<float>(size);
      for (int64_t i = 0; i < huge.value.shape().size(); ++i) huge.value.data()[i] *= 1e30F;
      const ForwardState seen = run_backend("thinned", huge.problem,
                                            {{"compress_g", int64_t{1}},
                                             {"streaming", streaming},
                                             {"stream_block", int64_t{16}},
                                             {"cache_size", int64_t{20}}});
      CAPTURE(dim, size, streaming);
      CHECK_NOTHROW(check_result(seen.result));
      CHECK(largest_entry(seen.result.out) <= 1.0001 * largest_entry(huge.value));
    }
}

/// Thins as the header says, for few enough rows that there is one bucket or none.
Keys plain_cache(const ThinningKernel& kernel, int64_t until, int64_t block, int64_t capacity, double delta,
                 const RandomStream& stream) {
  Keys cache;
  int64_t factor = 1;
  uint64_t thinnings = 0;
  for (int64_t end = block; end <= until; end += block) {
    const double share = static_cast<double>(end) * static_cast<double>(end + 1);
    const RandomStream own(stream.bits(thinnings++), Purpose::thinning);
    for (const ThinnedKey& key :
         thin_rows(kernel, end - block, end, std::max<int64_t>(block / factor, 1), {delta, share}, own))
      cache.push_back(key);
    while (static_cast<int64_t>(cache.size()) > capacity) {
      const RandomStream again(stream.bits(thinnings++), Purpose::thinning);
      cache = plain_halve(kernel, cache, share, delta, again, 0);
      factor *= 2;
    }
  }
  return cache;
}

TEST_CASE("streaming: a block sees itself and the cache of the rows before it, which stays within its size") {
  const RandomProblem p({300, 300, 5, 4, 1, 1, true}, 3);
  const Settings settings = {{"streaming", true}, {"stream_block", int64_t{16}}, {"cache_size", int64_t{40}}};
  const PlannedCall call = planned("thinned", p.problem, settings, 5);
  REQUIRE(call.plan->phases.size() == 2);
  const Pass& pass = call.plan->phases[1].passes.at(0);
  REQUIRE(pass.groups.size() == 18);
  for (size_t t = 1; t <= pass.groups.size(); ++t) {
    const int64_t begin = 16 * static_cast<int64_t>(t);
    const KeyList& list = pass.lists.at(t - 1);
    CAPTURE(t);
    CHECK(pass.groups[t - 1].begin == begin);
    CHECK(list.order.count <= 40);
    const Keys expected =
        plain_cache(kernel_of(p.problem), begin, 16, 40, 0.5, RandomStream(5, Purpose::thinning, 0, 0));
    REQUIRE(list.order.count == static_cast<int64_t>(expected.size()));
    for (int64_t i = 0; i < list.order.count; ++i) {
      CHECK(list.order[i] == expected[static_cast<size_t>(i)].row);
      CHECK(list.log_weight_of(i) == Approx(expected[static_cast<size_t>(i)].halvings * std::log(2.0)));
    }
    if (begin <= 40) CHECK(list.order.count == begin);  // all of them
  }
}

TEST_CASE("streaming without a mask: every row sees the cache of all keys") {
  const RandomProblem p({20, 100, 5, 4}, 3);
  const Settings settings = {{"streaming", true}, {"stream_block", int64_t{20}}, {"cache_size", int64_t{40}}};
  const KeyList list = planned("thinned", p.problem, settings, 5).plan->phases.at(0).passes.at(0).lists.at(0);
  const Keys expected =
      plain_cache(kernel_of(p.problem), 100, 20, 40, 0.5, RandomStream(5, Purpose::thinning, 0, 0));
  REQUIRE(list.order.count == static_cast<int64_t>(expected.size()));
  for (int64_t i = 0; i < list.order.count; ++i) CHECK(list.order[i] == expected[static_cast<size_t>(i)].row);
  Settings all = settings;
  all.emplace_back("cache_size", int64_t{100});
  CHECK(largest_difference(run_backend("thinned", p.problem, all).result.out,
                           attention_in_double(p.problem).out) < 1e-6);
}

TEST_CASE("streaming: sinks are in front of every cache and never in it") {
  const RandomProblem p({100, 100, 5, 4, 1, 1, true}, 3);
  const PlannedCall call = planned("thinned", p.problem,
                                   {{"streaming", true},
                                    {"stream_block", int64_t{16}},
                                    {"cache_size", int64_t{12}},
                                    {"sink_keys", int64_t{20}}});
  const Pass& pass = call.plan->phases.at(1).passes.at(0);
  REQUIRE(pass.groups.size() == 6);
  for (size_t t = 0; t < 6; ++t) {
    const KeyList& list = pass.lists.at(t);
    const int64_t before = 16 * (static_cast<int64_t>(t) + 1);
    double weight = 0;
    for (int64_t i = 0; i < list.order.count; ++i) {
      weight += std::exp(static_cast<double>(list.log_weight_of(i)));
      if (i < std::min<int64_t>(20, before))
        CHECK((list.order[i] == i && list.log_weight_of(i) == 0));
      else
        CHECK((list.order[i] >= 20 && list.order[i] < before));
    }
    CAPTURE(t, list.order.count, weight);
    CHECK(list.order.count <= 32);
    CHECK(std::abs(weight - static_cast<double>(before)) <=
          16);  // blocks of odd size are thinned to whole keys
  }
}

TEST_CASE("streaming: the mean weight of every key in the cache is 1") {
  const RandomProblem p({1, 97, 4, 3}, 2);
  std::vector<double> sum(96, 0);
  std::vector<double> square(96, 0);
  const int draws = 3000;
  for (int i = 0; i < draws; ++i) {
    const auto caches = streamed_caches(kernel_of(p.problem), 0, 96, 8, 12, 0.5,
                                        RandomStream(static_cast<uint64_t>(i), Purpose::thinning));
    for (const ThinnedKey& key : caches.back()) {
      const double weight = std::exp2(key.halvings);
      sum[static_cast<size_t>(key.row)] += weight;
      square[static_cast<size_t>(key.row)] += weight * weight;
    }
  }
  double worst = 0;
  for (size_t row = 0; row < sum.size(); ++row) {
    const double mean = sum[row] / draws;
    worst = std::max(worst, std::abs(mean - 1) / std::sqrt((square[row] / draws - mean * mean) / draws));
  }
  CAPTURE(worst);
  CHECK(worst < 4.5);
}

TEST_CASE("thinned: later rows leave the bits of earlier ones; streaming, so does a longer sequence") {
  const int64_t n = 230;
  for (const std::string kind : {"recursion", "streaming", "residual", "residual with a window"}) {
    Settings settings = {{"min_seq_len", int64_t{32}}};
    const bool is_residual = kind.rfind("residual", 0) == 0;
    const std::string backend = is_residual ? "hyper" : "thinned";
    if (kind == "residual with a window") settings.emplace_back("window", int64_t{5});
    if (is_residual)
      settings.insert(settings.end(), {{"residual", std::string("thinned")},
                                       {"sample_size", int64_t{8}},
                                       {"block_size", int64_t{16}},
                                       {"bucket_count", int64_t{4}},
                                       {"query_blocks", std::string("by_bucket")}});
    else
      settings.insert(settings.end(), {{"compress_g", int64_t{0}},
                                       {"streaming", kind == "streaming"},
                                       {"stream_block", int64_t{16}},
                                       {"cache_size", int64_t{24}}});
    RandomProblem p({n, n, 6, 5, 1, 1, true}, 8);
    const ForwardState before = run_backend(backend, p.problem, settings);
    for (const int64_t from : {229, 150, 64, 10}) {
      RandomProblem other({n, n, 6, 5, 1, 1, true}, 8);
      const RandomProblem noise({n, n, 6, 5, 1, 1, true}, 9, 3);
      take_later_rows(other, noise, from);
      const ForwardState after = run_backend(backend, other.problem, settings);
      CAPTURE(kind, from);
      CHECK(std::equal(before.result.out.data(), before.result.out.matrix(0).row(from),
                       after.result.out.data()));
    }
    if (kind != "streaming") continue;
    const RandomProblem shorter({100, 100, 6, 5, 1, 1, true}, 8);  // the first rows of the same
    const DoubleResult part =
        run_plan_in_double(shorter.problem, *planned(backend, shorter.problem, settings).plan);
    const DoubleResult whole = run_plan_in_double(p.problem, *before.planned.plan);
    CHECK(std::equal(part.out.data(), part.out.data() + 100 * 5, whole.out.data()));
  }
}

TEST_CASE("thinned: the same bits for any number of threads") {
  const RandomProblem p({130, 900, 8, 5, 1, 3});
  check_bits_for_any_threads("thinned", p.problem, {{"compress_g", int64_t{1}}});
  const RandomProblem causal({300, 300, 8, 5, 1, 3, true});
  check_bits_for_any_threads(
      "thinned", causal.problem,
      {{"streaming", true}, {"stream_block", int64_t{32}}, {"cache_size", int64_t{64}}});
}

TEST_CASE("residual thinned: all keys with m = n, and in the mean those outside the mask") {
  const RandomProblem p({40, 60, 5, 4}, 2);
  const auto settings = [](int64_t size) {
    return Settings{{"residual", std::string("thinned")},
                    {"sample_size", size},
                    {"block_size", int64_t{16}},
                    {"bucket_count", int64_t{8}}};
  };
  CHECK(largest_difference(run_backend("hyper", p.problem, settings(60)).result.out,
                           attention_in_double(p.problem).out) < 1e-6);
  // Blocks are of the seed's hash, so that the mean over seeds of every entry's weight is 1, in or out of
  // them.
  const int draws = 2000;
  RowMajorMatrix<double> sum = RowMajorMatrix<double>::Zero(40, 60);
  RowMajorMatrix<double> square = sum;
  for (int i = 0; i < draws; ++i) {
    const PlannedCall call = planned("hyper", p.problem, settings(10), static_cast<uint64_t>(i));
    const RowMajorMatrix<double> weights = dense_weights(*call.plan, 0, 40, 60);
    sum += weights;
    square += weights.cwiseAbs2();
  }
  const RowMajorMatrix<double> mean = sum / draws;
  const RowMajorMatrix<double> variance = square / draws - mean.cwiseAbs2();
  const double worst = ((mean.array() - 1).abs() / (variance.array().max(1e-12) / draws).sqrt()).maxCoeff();
  CAPTURE(worst);
  CHECK(worst < 5);  // of 2400 nearly standard normals
}

TEST_CASE("thinned: what cannot be is refused") {
  for (const double delta : {0.0, -0.5, 1.5, std::nan("")}) {
    CAPTURE(delta);
    CHECK_THROWS_AS(call_for("thinned", {{"thinning_delta", delta}}), Error);
  }
  CHECK_THROWS_AS(call_for("thinned", {{"compress_g", int64_t{-1}}}), Error);
  CHECK_THROWS_AS(call_for("thinned", {{"cache_size", int64_t{0}}}), Error);
}

}  // namespace
}  // namespace hyperattn::testing
