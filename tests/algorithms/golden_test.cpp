// The authors' PyTorch implementation, replayed: same inputs, hash directions and samples must give the same
// output, log-sum-exp and gradients to rounding (see tests/golden/README.md for the two corrections made).
#include <catch2/catch.hpp>
#include <string>

#include "algorithms/engines/reference/reference_plan.h"
#include "core/error.h"
#include "experiments/files/hdf5_file.h"
#include "tests/algorithms/plan_checks.h"
#include "tests/paths.h"

namespace hyperattn::testing {
namespace {

struct GoldenCase {
  Tensor<float> query, key, value, dout;
  AttentionProblem problem;
  Replay replay;
  Call call;

  explicit GoldenCase(const Hdf5File& file)
      : query(file.read_tensor("/inputs/q")),
        key(file.read_tensor("/inputs/k")),
        value(file.read_tensor("/inputs/v")),
        dout(file.read_tensor("/inputs/dout")) {
    problem = {query.view(), key.view(), value.view(),
               static_cast<float>(file.number_attribute("/", "scale")),
               file.boolean_attribute("/", "causal")};
    read_replay(file);
    const int64_t bits = file.integer_attribute("/", "num_projections");
    call = call_for("hyper", {{"bucket_count", int64_t{1} << bits},
                              {"block_size", file.integer_attribute("/", "block_size")},
                              {"sample_size", file.integer_attribute("/", "sample_size")},
                              {"min_seq_len", file.integer_attribute("/", "min_seq_len")},
                              {"bucket_order", file.text_attribute("/", "bucket_order")}});
    call.replay = &replay;
  }
  GoldenCase(const GoldenCase&) = delete;
  GoldenCase& operator=(const GoldenCase&) = delete;

 private:
  void read_replay(const Hdf5File& file) {
    const DoubleArray directions = file.read_doubles("/replay/projections");
    replay.projections = DenseMatrix<double>(directions.shape[0], directions.shape[1]);
    std::copy(directions.values.begin(), directions.values.end(), replay.projections.values.begin());
    const std::string prefix = "samples_rows_";
    for (const std::string& name : file.children("/replay")) {
      if (name.rfind(prefix, 0) != 0) continue;
      const IntegerArray samples = file.read_integers("/replay/" + name);
      Replay::Samples& target = replay.samples[std::stoll(name.substr(prefix.size()))];
      target.nodes = samples.shape[2];
      target.count = samples.shape[3];
      target.rows.assign(samples.values.begin(), samples.values.end());
    }
  }
};

Hdf5File open_golden(const std::string& name) {
  return Hdf5File::open(testing::source_dir() + "/tests/golden/" + name + ".h5");
}

const char* const kCases[] = {"gaussian_full", "clustered_full", "gaussian_blocks_only", "two_sequences_full",
                              "clustered_causal"};

TEST_CASE("golden cases: output and log-sum-exp to 2e-5") {
  for (const char* name : kCases) {
    INFO(name);
    const Hdf5File file = open_golden(name);
    const GoldenCase golden(file);
    const ForwardState state = backend_named("hyper").forward(golden.problem, golden.call);
    CHECK(largest_difference(state.result.out, file.read_tensor("/expected/out")) < 2e-5);
    CHECK(largest_difference(state.result.lse, file.read_tensor("/expected/lse")) < 2e-5);
  }
}

TEST_CASE("golden cases: exact attention to 2e-5") {
  for (const char* name : kCases)
    for (const char* backend : {"exact", "dense", "reference"}) {
      INFO(name << ", " << backend);
      const Hdf5File file = open_golden(name);
      const GoldenCase golden(file);
      const ForwardState state = backend_named(backend).forward(golden.problem, {});
      CHECK(largest_difference(state.result.out, file.read_tensor("/expected/exact_out")) < 2e-5);
      CHECK(largest_difference(state.result.lse, file.read_tensor("/expected/exact_lse")) < 2e-5);
    }
}

// Within 1e-4 of the largest entry.
template <class T>
void check_gradient(const Tensor<T>& seen, const Tensor<float>& expected, const char* which) {
  INFO(which << ", largest entry " << largest_entry(expected));
  CHECK(largest_difference(seen, expected) < 1e-4 * largest_entry(expected));
}

TEST_CASE("golden cases: the plan's gradient is the authors' automatic differentiation") {
  for (const char* name : kCases) {
    INFO(name);
    const Hdf5File file = open_golden(name);
    const GoldenCase golden(file);
    const ForwardState state = backend_named("hyper").forward(golden.problem, golden.call);
    const DoubleResult forward = run_plan_in_double(golden.problem, *state.planned.plan);
    const auto gradients =
        run_plan_backward_in_double(golden.problem, *state.planned.plan, forward, golden.dout.view());
    check_gradient(gradients.dquery, file.read_tensor("/expected/dq"), "dq");
    check_gradient(gradients.dkey, file.read_tensor("/expected/dk"), "dk");
    check_gradient(gradients.dvalue, file.read_tensor("/expected/dv"), "dv");
    const AttentionGradients fast =
        backend_named("hyper").backward(golden.problem, golden.call, state, golden.dout.view());
    check_gradient(fast.dquery, file.read_tensor("/expected/dq"), "dq of the backend");
    check_gradient(fast.dkey, file.read_tensor("/expected/dk"), "dk of the backend");
    check_gradient(fast.dvalue, file.read_tensor("/expected/dv"), "dv of the backend");
  }
}

TEST_CASE("backends without a gradient say so") {
  const Hdf5File file = open_golden("gaussian_full");
  const GoldenCase golden(file);
  for (const char* name : {"dense"}) {
    const Backend& backend = backend_named(name);
    const ForwardState state = backend.forward(golden.problem, {});
    CHECK_THROWS_WITH(backend.backward(golden.problem, {}, state, golden.dout.view()),
                      Catch::Contains("has no backward pass"));
  }
}

TEST_CASE("a replay that does not fit is refused") {
  const Hdf5File file = open_golden("gaussian_full");
  GoldenCase golden(file);
  const Backend& hyper = backend_named("hyper");
  golden.call.parameters.set("bucket_count", int64_t{128});
  CHECK_THROWS_WITH(hyper.forward(golden.problem, golden.call), Catch::Contains("2^6"));
  golden.call.parameters.set("bucket_count", int64_t{64});
  golden.call.parameters.set("sample_size", int64_t{63});
  CHECK_THROWS_WITH(hyper.forward(golden.problem, golden.call), Catch::Contains("63"));
  golden.call.parameters.set("sample_size", int64_t{64});
  golden.replay.samples[1024].rows[5] = 1024;
  CHECK_THROWS_WITH(hyper.forward(golden.problem, golden.call), Catch::Contains("1024"));
  golden.replay.samples.clear();
  CHECK_THROWS_WITH(hyper.forward(golden.problem, golden.call), Catch::Contains("missing"));
  GoldenCase other(file);
  other.replay.projections = DenseMatrix<double>(31, 6);
  CHECK_THROWS_WITH(hyper.forward(other.problem, other.call), Catch::Contains("31"));
}

}  // namespace
}  // namespace hyperattn::testing
