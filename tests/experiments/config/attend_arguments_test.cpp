// KEY=VALUE arguments of `hyperattn attend`.
#include <catch2/catch.hpp>

#include "algorithms/backend.h"
#include "core/error.h"
#include "experiments/config/attend_arguments.h"
#include "tests/experiments/config/fakes.h"

using namespace hyperattn;
using Catch::Contains;

namespace {

std::string refusal(const std::vector<std::string>& arguments) {
  try {
    (void)read_attend_arguments(arguments, fakes::registry());
  } catch (const Error& error) {
    return error.exit_code() == 2 ? error.what() : "wrong exit code";
  }
  return "";
}

}  // namespace

TEST_CASE("attend takes the backend's parameters and those of the call", "[config]") {
  const AttendArguments arguments = read_attend_arguments(
      {"backend=hyper", "sample_size=8", "causal=true", "scale=0.5", "seed=18446744073709551615", "trial=2"},
      fakes::registry());
  CHECK(arguments.backend->name() == "hyper");
  CHECK(arguments.parameters.integer("sample_size") == 8);
  CHECK(arguments.parameters.integer("block_size") == 256);
  CHECK_FALSE(arguments.parameters.has("causal"));
  CHECK(arguments.causal);
  CHECK(arguments.scale == 0.5);
  CHECK(arguments.seed == 18446744073709551615U);
  CHECK(arguments.trial == 2);
  CHECK_FALSE(read_attend_arguments({"backend=exact"}, fakes::registry()).scale.has_value());
}

TEST_CASE("attend refuses all wrong arguments at once", "[config]") {
  CHECK_THAT(refusal({}), Contains("backend=NAME is missing. Allowed: exact, lsh, hyper, plain"));
  CHECK_THAT(refusal({"backend=hypr"}), Contains("unknown backend 'hypr'; did you mean 'hyper'?"));
  CHECK_THAT(refusal({"backend=[a]"}), Contains("unknown backend"));
  const std::string all = refusal({"backend=hyper", "blocksize=3", "sample_size=-1", "seed=x", "nonsense",
                                   "causal=1", "trial=-1", "causal=true"});
  CAPTURE(all);
  CHECK_THAT(
      all, Contains("argument 'blocksize=3': unknown key 'blocksize' in hyper; did you mean 'block_size'?"));
  CHECK_THAT(all, Contains("argument 'sample_size=-1': sample_size must be between 0 and"));
  CHECK_THAT(all, Contains("argument 'seed=x': seed must be a whole number"));
  CHECK_THAT(all, Contains("argument 'nonsense': is not of the form KEY=VALUE"));
  CHECK_THAT(all, Contains("argument 'trial=-1': trial must be between 0 and"));
  CHECK_THAT(all, Contains("argument 'causal=true': sets 'causal' a second time"));
}
