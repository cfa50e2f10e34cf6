// A layer trained through HyperAttention's own gradient ends where one trained through exact attention does.
#include "experiments/training/retrieval.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "core/error.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

std::vector<double> losses_of(const char* name) {
  const Backend& backend = *find_backend(name);
  Parameters parameters = default_parameters(backend.parameters());
  for (const auto& [key, value] : {std::pair{"block_size", 64}, {"sample_size", 64}, {"bucket_count", 16}})
    if (parameters.has(key)) parameters.set(key, int64_t{value});
  return train_retrieval(backend, parameters, {}, {});
}

TEST_CASE("training through hyper ends near training through exact") {
  const std::vector<double> exact = losses_of("exact");
  const std::vector<double> hyper = losses_of("hyper");
  INFO("mean squared error, exact: " << exact.front() << " to " << exact.back()
                                     << ", hyper: " << hyper.front() << " to " << hyper.back());
  // Class values have variance 1, so a layer that knows nothing has a loss near 1; a trained one has 1e-4.
  CHECK(exact.front() > 0.5);
  CHECK(exact.back() < 1e-3);
  CHECK(std::abs(hyper.back() - exact.back()) < 1e-3);
}

TEST_CASE("training gives the same bits for any number of threads") {
  const int before = thread_count();
  const auto train = [](int threads) {
    set_thread_count(threads);
    const Backend& hyper = *find_backend("hyper");
    Parameters parameters = default_parameters(hyper.parameters());
    parameters.set("sample_size", int64_t{32});
    return train_retrieval(hyper, parameters, {200, 8, 5, 0.1, 3}, {5, 0.02});
  };
  const std::vector<double> one = train(1);
  const std::vector<double> three = train(3);
  set_thread_count(before);
  CHECK(one == three);
}

TEST_CASE("training a backend without gradient is refused") {
  CHECK_THROWS_AS(train_retrieval(*find_backend("dense"), {}, {16, 4, 2, 0.1, 1}, {1, 0.1}), Error);
}

}  // namespace
}  // namespace hyperattn
