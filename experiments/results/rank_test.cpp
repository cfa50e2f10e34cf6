#include "experiments/results/rank_test.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

namespace hyperattn {
namespace {

constexpr size_t kExactUpTo = 40;

struct Ranks {
  std::vector<long> doubled;  ///< twice the midrank of each value, in increasing order of value
  long doubled_sum_a = 0;     ///< over the first sample
  double tie_term = 0;        ///< Σ t³ − t over groups of t equal values
};

Ranks rank(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<std::pair<double, bool>> pooled;  // value, whether it is of the first sample
  for (double value : a) pooled.emplace_back(value, true);
  for (double value : b) pooled.emplace_back(value, false);
  std::sort(pooled.begin(), pooled.end());
  Ranks ranks;
  for (size_t begin = 0; begin < pooled.size();) {
    size_t end = begin;
    while (end < pooled.size() && pooled[end].first == pooled[begin].first) ++end;
    const long doubled = static_cast<long>(begin + 1 + end);  // ranks begin+1 … end
    for (size_t i = begin; i < end; ++i) {
      ranks.doubled.push_back(doubled);
      if (pooled[i].second) ranks.doubled_sum_a += doubled;
    }
    const auto t = static_cast<double>(end - begin);
    ranks.tie_term += t * t * t - t;
    begin = end;
  }
  return ranks;
}

/// Of all choices of `count` ranks, the share whose sum lies at least as far from its mean as the observed.
double exact_p_value(const Ranks& ranks, size_t count) {
  long total = 0;
  for (long r : ranks.doubled) total += r;
  const auto sums = static_cast<size_t>(total) + 1;
  // ways[k][s]: choices of k ranks with doubled sum s.
  std::vector<std::vector<double>> ways(count + 1, std::vector<double>(sums, 0.0));
  ways[0][0] = 1;
  for (long r : ranks.doubled)
    for (size_t k = count; k >= 1; --k)
      for (size_t s = sums; s-- > static_cast<size_t>(r);)
        ways[k][s] += ways[k - 1][s - static_cast<size_t>(r)];

  const auto n = static_cast<long>(ranks.doubled.size());
  const auto distance = [&](long doubled_sum) {  // from the mean, times n, so that it stays an integer
    return std::labs(doubled_sum * n - total * static_cast<long>(count));
  };
  const long observed = distance(ranks.doubled_sum_a);
  double extreme = 0;
  double all = 0;
  for (size_t s = 0; s < sums; ++s) {
    all += ways[count][s];
    if (distance(static_cast<long>(s)) >= observed) extreme += ways[count][s];
  }
  return std::min(1.0, extreme / all);
}

double normal_p_value(const Ranks& ranks, double a, double b) {
  const double n = a + b;
  const double variance = a * b / 12 * (n + 1 - ranks.tie_term / (n * (n - 1)));
  if (variance <= 0) return 1;
  const double u = static_cast<double>(ranks.doubled_sum_a) / 2 - a * (a + 1) / 2;
  const double z = std::max(0.0, std::abs(u - a * b / 2) - 0.5) / std::sqrt(variance);
  return std::erfc(z / std::sqrt(2.0));
}

}  // namespace

double rank_test(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.empty() || b.empty()) return 1;
  const Ranks ranks = rank(a, b);
  if (a.size() + b.size() <= kExactUpTo) return exact_p_value(ranks, a.size());
  return normal_p_value(ranks, static_cast<double>(a.size()), static_cast<double>(b.size()));
}

double smallest_p_value(size_t a, size_t b) {
  double choices = 1;
  for (size_t i = 1; i <= std::min(a, b); ++i)
    choices *= static_cast<double>(std::max(a, b) + i) / static_cast<double>(i);
  return std::min(1.0, 2 / choices);
}

}  // namespace hyperattn
