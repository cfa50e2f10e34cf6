// The kernels that the tree plans with, on every instruction set, beside plain loops.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "algorithms/kernels/instruction_set.h"
#include "algorithms/kernels/routing.h"
#include "core/random.h"

namespace hyperattn::testing {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Runs body() on every usable instruction set.
template <class Body>
void on_every_instruction_set(const Body& body) {
  for (const std::string& name : usable_instruction_sets()) {
    force_instruction_set(name);
    INFO("instruction set " << name);
    body();
  }
  force_instruction_set("");
}

std::vector<float> draw(int64_t count, uint32_t seed) {
  const RandomStream stream(seed, Purpose::other);
  std::vector<float> x(static_cast<size_t>(count));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(stream.below(i, 20001)) / 10000.0F - 1.0F;
  return x;
}

std::vector<int32_t> largest_by_sorting(const std::vector<float>& x, int64_t keep) {
  std::vector<int32_t> places;
  for (size_t i = 0; i < x.size(); ++i)
    if (x[i] > -kInfinity) places.push_back(static_cast<int32_t>(i));
  std::stable_sort(places.begin(), places.end(), [&](int32_t a, int32_t b) {
    return x[static_cast<size_t>(a)] > x[static_cast<size_t>(b)];
  });
  if (static_cast<int64_t>(places.size()) > keep) places.resize(static_cast<size_t>(keep));
  std::sort(places.begin(), places.end());
  for (int32_t& place : places) place = 1000 + 3 * place;
  return places;
}

}  // namespace

TEST_CASE("the largest gates are those of a stable sort, ties and missing segments too", "[routing]") {
  on_every_instruction_set([] {
    for (const int64_t count : {1, 7, 16, 17, 64, 128, 200})
      for (const int64_t keep : {1, 2, 8, 16, 150, 999})
        for (int kind = 0; kind < 5; ++kind) {
          std::vector<float> x = draw(count, static_cast<uint32_t>(count + kind));
          for (size_t i = 0; i < x.size(); ++i) {
            if (kind == 1) x[i] = std::floor(4 * x[i]);           // ties
            if (kind == 2) x[i] = 5;                              // all equal
            if (kind == 3) x[i] = i == 0 ? 1e30F : 1e-3F * x[i];  // far apart: bisection alone parts nothing
            if (kind == 4 && i % 3 == 1) x[i] = -kInfinity;       // missing
          }
          const std::vector<int32_t> expected = largest_by_sorting(x, keep);
          const auto whole = static_cast<size_t>((count + kGateStep - 1) / kGateStep * kGateStep);
          x.resize(whole, -kInfinity);
          std::vector<int32_t> names(whole);
          for (size_t i = 0; i < whole; ++i) names[i] = static_cast<int32_t>(1000 + 3 * i);
          std::vector<int32_t> seen(whole + static_cast<size_t>(kGateStep));
          seen.resize(static_cast<size_t>(routing_kernels().largest(
              x.data(), names.data(), static_cast<int64_t>(whole), keep, seen.data())));
          INFO(keep << " of " << count << ", kind " << kind);
          CHECK(seen == expected);
        }
  });
}

TEST_CASE("gates of families are scale·q·k + h(root·r), and −∞ for no segment", "[routing]") {
  // Rows that share tiles by many, by few and not at all.
  on_every_instruction_set([] {
    for (const int64_t depth : {1, 3, 64, 65})
      for (const int64_t count : {1, 4, 8, 9, 19, 60})
        for (const int64_t used : {1, 3, 23}) {
          const int64_t tiles = 23;
          const int64_t stride = depth + 2;
          std::vector<float> data = draw(tiles * family_floats(depth), 9);
          std::vector<int32_t> first(static_cast<size_t>(tiles));
          for (int64_t t = 0; t < tiles; ++t) {
            first[static_cast<size_t>(t)] = static_cast<int32_t>(100 * t);
            float* roots = data.data() + t * family_floats(depth) + depth * kFamilyColumns;
            for (int64_t i = 0; i < kFamilyColumns; ++i) {
              roots[i] = std::abs(roots[i]);
              roots[kFamilyColumns + i] = i >= 6 && t % 2 == 0 ? -kInfinity : 0.0F;
            }
          }
          std::vector<GatePair> pairs(static_cast<size_t>(count));
          for (size_t i = 0; i < pairs.size(); ++i)
            pairs[i] = {static_cast<int32_t>(7 * i % static_cast<size_t>(used)), static_cast<int32_t>(i % 5),
                        static_cast<int32_t>(pairs.size() - 1 - i)};
          std::sort(pairs.begin(), pairs.end(),
                    [](const GatePair& a, const GatePair& b) { return a.tile < b.tile; });
          const std::vector<float> queries = draw(5 * stride, 4);
          const std::vector<float> row_roots = {3.0F, 0.0F, 0.5F, 7.0F, 1.0F};
          std::vector<float> gates(static_cast<size_t>(count * kFamilyColumns));
          std::vector<int32_t> segments(gates.size());
          FamilyArguments a;
          a.queries = queries.data();
          a.stride = stride;
          a.depth = depth;
          a.tiles = data.data();
          a.first_segment = first.data();
          a.pairs = pairs.data();
          a.count = count;
          a.terms = {0.7F, 0.0F, 1.1F};
          a.roots = row_roots.data();
          a.gates = gates.data();
          a.segments = segments.data();
          routing_kernels().gate_families(a);
          for (const GatePair& pair : pairs)
            for (int64_t column = 0; column < kFamilyColumns; ++column) {
              const float* numbers = data.data() + pair.tile * family_floats(depth);
              double product = 0;
              for (int64_t k = 0; k < depth; ++k)
                product += static_cast<double>(queries[static_cast<size_t>(pair.row * stride + k)]) *
                           static_cast<double>(numbers[k * kFamilyColumns + column]);
              const double sigma = static_cast<double>(row_roots[static_cast<size_t>(pair.row)]) *
                                   static_cast<double>(numbers[depth * kFamilyColumns + column]);
              const double tangent = std::min(sigma, static_cast<double>(1.1F));
              const double expected = static_cast<double>(0.7F) * product + tangent * (sigma - tangent / 2);
              const auto place = static_cast<size_t>(pair.place * kFamilyColumns + column);
              INFO("depth " << depth << ", " << count << " pairs, tile " << pair.tile << ", row "
                            << pair.row);
              CHECK(segments[place] == first[static_cast<size_t>(pair.tile)] + column);
              if (column >= 6 && pair.tile % 2 == 0)
                CHECK(gates[place] == -kInfinity);
              else
                CHECK(static_cast<double>(gates[place]) == Approx(expected).margin(1e-5));
            }
        }
  });
}

TEST_CASE("projections, sums of rows and ranks are those of plain loops", "[routing]") {
  on_every_instruction_set([] {
    for (const int64_t depth : {1, 5, 16, 64, 67})
      for (const int64_t count : {1, 3, 33, 64}) {
        const std::vector<float> rows = draw(count * depth, 1);
        const std::vector<float> direction = draw(depth, 2);
        const std::vector<float> factors = draw(count, 3);
        std::vector<int32_t> names(static_cast<size_t>(count));
        for (int64_t i = 0; i < count; ++i)
          names[static_cast<size_t>(i)] = static_cast<int32_t>(count - 1 - i);
        std::vector<float> products(static_cast<size_t>(count));
        std::vector<float> named(static_cast<size_t>(count));
        std::vector<float> sums(static_cast<size_t>(depth));
        ProjectArguments p{{rows.data(), depth, nullptr, count, depth}, direction.data(), products.data()};
        routing_kernels().project(p);
        p.rows = names.data();
        p.products = named.data();
        routing_kernels().project(p);
        std::reverse(named.begin(), named.end());
        CombineArguments combined{
            {rows.data(), depth, names.data(), count, depth}, factors.data(), sums.data()};
        routing_kernels().combine(combined);
        std::vector<float> deviations(rows.size());
        DeviationArguments less{{rows.data(), depth, names.data(), count, depth}, deviations.data()};
        routing_kernels().deviations(less);
        INFO(count << " rows of " << depth);
        CHECK(named == products);  // a product's bits depend on its row alone
        for (int64_t i = 0; i < count; ++i) {
          double product = 0;
          for (int64_t c = 0; c < depth; ++c)
            product += static_cast<double>(rows[static_cast<size_t>(i * depth + c)]) *
                       static_cast<double>(direction[static_cast<size_t>(c)]);
          CHECK(static_cast<double>(products[static_cast<size_t>(i)]) == Approx(product).margin(1e-5));
        }
        for (int64_t c = 0; c < depth; ++c) {
          double sum = 0;
          double mean = 0;
          const auto named_row = [&](int64_t i) {
            return static_cast<double>(rows[static_cast<size_t>((count - 1 - i) * depth + c)]);
          };
          for (int64_t i = 0; i < count; ++i) {
            sum += static_cast<double>(factors[static_cast<size_t>(i)]) * named_row(i);
            mean += named_row(i) / static_cast<double>(count);
          }
          CHECK(static_cast<double>(sums[static_cast<size_t>(c)]) == Approx(sum).margin(1e-5));
          for (int64_t i = 0; i < count; ++i)
            CHECK(static_cast<double>(deviations[static_cast<size_t>(i * depth + c)]) ==
                  Approx(named_row(i) - mean).margin(1e-5));
        }
      }
    for (const int64_t count : {1, 2, 15, 16, 17, 100, 128}) {
      std::vector<int32_t> numbers(static_cast<size_t>(kMostRanked));
      const std::vector<float> drawn = draw(count, 6);
      for (int64_t i = 0; i < count; ++i)  // few values, the ends of the range among them
        numbers[static_cast<size_t>(i)] = drawn[static_cast<size_t>(i)] > 0.8F
                                              ? std::numeric_limits<int32_t>::max()
                                          : drawn[static_cast<size_t>(i)] < -0.8F
                                              ? std::numeric_limits<int32_t>::min()
                                              : static_cast<int32_t>(10 * drawn[static_cast<size_t>(i)]);
      std::vector<int32_t> ranks(static_cast<size_t>(kMostRanked));
      routing_kernels().ranks(numbers.data(), count, ranks.data());
      std::vector<int32_t> order(static_cast<size_t>(count));
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        return numbers[static_cast<size_t>(a)] < numbers[static_cast<size_t>(b)];
      });
      INFO(count << " numbers");
      for (int64_t r = 0; r < count; ++r)
        CHECK(ranks[static_cast<size_t>(order[static_cast<size_t>(r)])] == static_cast<int32_t>(r));
    }
  });
}

}  // namespace hyperattn::testing
