// Attention of a program's own arrays by the installed library; the function below is the one that the README
// shows. Prints how far the first row of a causal problem, which sees the first key alone, lies from the
// first value.
#include <algorithms/attention.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

std::vector<float> tree_attention(const float* q, const float* k, const float* v,
                                  hyperattn::TensorShape shape) {
  const auto problem = hyperattn::attention_problem({q, shape}, {k, shape}, {v, shape}, /*causal=*/true);
  const auto state = hyperattn::Attention("tree", {{"tail", "plain"}}).forward(problem);
  return {state.result.out.data(), state.result.out.data() + shape.size()};
}

int main() {
  const hyperattn::TensorShape shape{/*batch=*/1, /*heads=*/2, /*rows=*/3000, /*dim=*/64};
  std::vector<float> q;
  std::vector<float> k;
  std::vector<float> v;
  for (int64_t i = 0; i < shape.size(); ++i) {
    const auto x = static_cast<float>(i);
    q.push_back(std::sin(x));
    k.push_back(std::cos(2 * x));
    v.push_back(std::sin(3 * x));
  }
  const std::vector<float> out = tree_attention(q.data(), k.data(), v.data(), shape);
  float largest = 0;
  for (int64_t head = 0; head < shape.heads; ++head) {
    const int64_t row = head * shape.rows * shape.dim;
    for (int64_t i = row; i < row + shape.dim; ++i) largest = std::max(largest, std::abs(out[i] - v[i]));
  }
  std::printf("%zu numbers; first rows differ from the first values by at most %.2g\n", out.size(),
              static_cast<double>(largest));
}
