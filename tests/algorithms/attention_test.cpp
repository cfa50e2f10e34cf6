// The front door: what a caller with three arrays gets, and how mistakes are refused.
#include "algorithms/attention.h"

#include <catch2/catch.hpp>

#include "core/error.h"
#include "tests/algorithms/random_problem.h"

namespace hyperattn {
namespace {

using Catch::Matchers::Contains;

}  // namespace

TEST_CASE("the engine is chosen by option or by setting, and the two must agree", "[attention]") {
  const Attention by_option("hyper", {}, {.engine = "reference"});
  const Attention by_setting("hyper", {{"engine", std::string("reference")}});
  CHECK(&by_option.backend() == &by_setting.backend());
  CHECK(by_option.parameters() == by_setting.parameters());
  CHECK(by_option.backend().engine().name() == "reference");
  CHECK(Attention("exact", {}, {.engine = "dense"}).backend().name() == "dense");
  CHECK(Attention("reference").backend().engine().name() == "reference");
  CHECK_THROWS_WITH(Attention("hyper", {{"engine", std::string("cpu")}}, {.engine = "reference"}),
                    Contains("'reference'") && Contains("'cpu'"));
}

TEST_CASE("a misspelt method, setting or engine is refused with the nearest name", "[attention]") {
  CHECK_THROWS_WITH(Attention("hiper"), Contains("no method 'hiper'") && Contains("did you mean 'hyper'"));
  CHECK_THROWS_WITH(Attention("hyper", {{"sample_sise", int64_t{4}}}),
                    Contains("no setting 'sample_sise'") && Contains("did you mean 'sample_size'"));
  CHECK_THROWS_WITH(Attention("hyper", {{"sample_size", int64_t{-4}}}), Contains("sample_size must be"));
  CHECK_THROWS_WITH(Attention("hyper", {}, {.engine = "cpus"}), Contains("did you mean 'cpu'"));
  CHECK_THROWS_WITH(Attention("hyper", {}, {.engine = "dense"}), Contains("cannot run on engine 'dense'"));
}

}  // namespace hyperattn
