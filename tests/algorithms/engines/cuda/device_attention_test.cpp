// The front door for tensors on the card against the one for the host's: the same results, although phases of
// a causal plan are begun while the rest is planned; and what is drawn there.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <iostream>
#include <limits>

#include "algorithms/engines/cuda/device.h"
#include "algorithms/engines/cuda/device_attention.h"
#include "algorithms/engines/cuda/flat_plan.h"
#include "algorithms/engines/cuda/sort.h"
#include "algorithms/primitives/sort_lsh.h"
#include "tests/algorithms/engines/precision_checks.h"
#include "tests/algorithms/plan_checks.h"

namespace hyperattn::testing {
namespace {

/// A tensor on the card in fp32.
struct OnCard {
  explicit OnCard(TensorView<const float> source)
      : data(source.data, source.shape.size(), "test tensors"), shape(source.shape) {}
  explicit OnCard(const TensorShape& of) : data(of.size(), "test tensors"), shape(of) {}

  [[nodiscard]] DeviceTensor tensor() const { return {data.data(), cuda::Precision::fp32, shape}; }
  [[nodiscard]] Tensor<float> on_host() const {
    Tensor<float> copy(shape);
    data.download(copy.data());
    return copy;
  }

  cuda::DeviceArray<float> data;
  TensorShape shape;
};

/// What a call on the card gave.
struct Seen {
  Tensor<float> out;
  Tensor<float> lse;
  AttentionGradients gradients;
};

Seen run_on_card(const Attention& attention, const RandomProblem& p, const AttentionResult& like,
                 bool backward) {
  const OnCard query(p.problem.query);
  const OnCard key(p.problem.key);
  const OnCard value(p.problem.value);
  const OnCard dout(p.dout.view());
  const OnCard out(like.out.shape());
  const OnCard lse(like.lse.shape());
  const OnCard dquery(query.shape);
  const OnCard dkey(key.shape);
  const OnCard dvalue(value.shape);
  void* stream = cuda::Device::current().stream();
  DeviceAttention call(attention, p.problem, {query.tensor(), key.tensor(), value.tensor(), 0, stream});
  call.forward(out.tensor(), lse.tensor(), backward);
  if (backward) call.backward(out.tensor(), dout.tensor(), {dquery.tensor(), dkey.tensor(), dvalue.tensor()});
  return {out.on_host(), lse.on_host(), {dquery.on_host(), dkey.on_host(), dvalue.on_host(), {}}};
}

void compare(const char* what, const Tensor<float>& seen, const Tensor<float>& expected, double share) {
  const double allowed = share > 0 ? share * (1 + std::min(largest_entry(expected), 100.0)) : 0;
  INFO(what << " differs by " << largest_difference(seen, expected) << ", allowed " << allowed);
  CHECK(largest_difference(seen, expected) <= allowed);
}

TEST_CASE("cuda: tensors on the card give what those of the host give, forward and backward", "[cuda]") {
  const Engine& engine = *find_engine("cuda");
  if (const std::string reason = engine.available(); !reason.empty()) {
    std::cout << "SKIPPED: engine cuda " << reason << "\n";
    return;
  }
  for (const std::string precision : {"bf16", "fp32"})
    for (const ProblemSize& size :
         {ProblemSize{400, 400, 64, 64, 1, 2, true}, ProblemSize{300, 511, 80, 48, 2, 2, true, 1},
          ProblemSize{331, 200, 64, 64, 1, 2, true}, ProblemSize{257, 257, 64, 64, 1, 2}}) {
      const RoundedProblem p(size, precision);
      for (const Variant& variant : variants(kVariantSizes)) {
        if (backend_named(variant.backend).method().name() != variant.backend) continue;  // on its own engine
        hyperattn::Settings settings;
        for (const auto& [name, value] : variant.settings) settings[name] = value;
        settings["precision"] = precision;
        AttentionOptions options;
        options.engine = "cuda";
        const Attention attention(variant.backend, settings, options);
        if (!attention.backend().check(p.problem, attention.parameters()).empty()) continue;
        INFO(precision << ", " << to_string(variant) << ", " << to_string(size));
        const ForwardState state = attention.forward(p.problem);
        if (state.planned.denominators) continue;
        const bool backward = attention.backend().no_gradient(attention.parameters()).empty();
        const Seen seen = run_on_card(attention, p, state.result, backward);
        // Leaves that are begun before the rest is known may be computed by tiles of more rows.
        const bool same_tiles = !size.causal || cuda::is_plain(*state.planned.plan);
        const double share = same_tiles ? 0 : 16 * epsilon_of(precision);
        compare("out", seen.out, state.result.out, share);
        compare("lse", seen.lse, state.result.lse, share);
        if (!backward) continue;
        const Seen alone = run_on_card(attention, p, state.result, false);
        compare("out without a gradient", alone.out, seen.out, 0);
        compare("lse without a gradient", alone.lse, seen.lse, 0);
        const AttentionGradients expected = attention.backward(p.problem, state, p.dout.view());
        // A sum of one part that is written where it is finished is not added to another one.
        const double share_of_sums = std::max(share, 4 * epsilon_of("fp32"));
        compare("dq", seen.gradients.dquery, expected.dquery, share_of_sums);
        compare("dk", seen.gradients.dkey, expected.dkey, share_of_sums);
        compare("dv", seen.gradients.dvalue, expected.dvalue, share_of_sums);
      }
    }
}

TEST_CASE("cuda: a plan that was given back has no gradient", "[cuda]") {
  if (!find_engine("cuda")->available().empty()) return;
  AttentionOptions options;
  options.engine = "cuda";
  const Attention attention("exact", {{"precision", std::string("bf16")}}, options);
  const RandomProblem p({33, 33, 64, 64});
  const OnCard query(p.problem.query);
  const OnCard key(p.problem.key);
  const OnCard value(p.problem.value);
  const OnCard out(query.shape);
  const OnCard lse({1, 1, 33, 1});
  void* stream = cuda::Device::current().stream();
  DeviceAttention call(attention, p.problem, {query.tensor(), key.tensor(), value.tensor(), 0, stream});
  call.forward(out.tensor(), lse.tensor(), false);
  const DeviceGradients gradients{query.tensor(), key.tensor(), value.tensor()};
  const auto refuses = [&] {
    CHECK_THROWS_WITH(call.backward(out.tensor(), out.tensor(), gradients),
                      Catch::Contains("a forward call before it which was told that one follows"));
  };
  refuses();
  CHECK(call.diagnostics().entries == 33 * 33);
  call.plan_ahead();  // a plan is no forward call
  refuses();
  CHECK_THROWS_WITH(call.diagnostics(), Catch::Contains("a call that has not ended"));
}

TEST_CASE("cuda: calls that are begun before others have ended give the same, and tell of a NaN in the end",
          "[cuda]") {
  if (!find_engine("cuda")->available().empty()) return;
  AttentionOptions options;
  options.engine = "cuda";
  const Attention attention(
      "hyper",
      {{"precision", std::string("bf16")}, {"block_size", int64_t{64}}, {"sample_size", int64_t{32}}},
      options);
  const TensorShape shape{1, 2, 700, 64};
  const RandomProblem p({700, 700, 64, 64, 1, 2});
  const OnCard query(p.problem.query);
  const OnCard key(p.problem.key);
  const OnCard value(p.problem.value);
  Tensor<float> broken(shape);
  std::copy_n(p.problem.value.data, shape.size(), broken.data());
  broken.data()[64 * 33] = std::numeric_limits<float>::quiet_NaN();
  const OnCard broken_value(broken.view());
  const DeviceInputs given{query.tensor(), key.tensor(), value.tensor(), 0, cuda::Device::current().stream()};
  DeviceInputs given_a_nan = given;
  given_a_nan.value = broken_value.tensor();
  const std::array<OnCard, 3> outs = {OnCard(shape), OnCard(shape), OnCard(shape)};
  const OnCard lse({1, 2, 700, 1});
  DeviceAttention one(attention, p.problem, given);
  DeviceAttention other(attention, p.problem, given_a_nan);
  one.begin_forward(outs[0].tensor(), lse.tensor(), false);
  other.begin_forward(outs[1].tensor(), lse.tensor(), false);
  CHECK_THROWS_WITH(other.end_forward(), Catch::Contains("the result holds a NaN or infinity in "));
  CHECK_NOTHROW(one.end_forward());
  CHECK_NOTHROW(one.end_forward());  // there is nothing left to wait for
  CHECK(one.diagnostics().entries == other.diagnostics().entries);
  {
    DeviceAttention forgotten(attention, p.problem, given);
    forgotten.begin_forward(outs[2].tensor(), lse.tensor());
  }
  compare("out of a call that nobody waited for", outs[2].on_host(), outs[0].on_host(), 0);
  DeviceAttention alone(attention, p.problem, given);
  alone.forward(outs[1].tensor(), lse.tensor());
  compare("out of a call that ended before the next began", outs[1].on_host(), outs[0].on_host(), 0);
  alone.plan_ahead();
  alone.plan_ahead();
  alone.forward(outs[2].tensor(), lse.tensor());
  alone.forward(outs[1].tensor(), lse.tensor());  // which plans for itself again
  for (const size_t i : {1, 2})
    compare("out of a call planned ahead", outs[i].on_host(), outs[0].on_host(), 0);
}

TEST_CASE("cuda: blocks of fewer and of more rows than a narrow tile give what the CPU gives", "[cuda]") {
  if (!find_engine("cuda")->available().empty()) return;
  for (const int64_t block_size : {1, 63, 64, 65, 127, 128, 129, 200, 256, 257, 600})
    for (const bool causal : {false, true}) {
      const RoundedProblem p({1531, causal ? 1531 : 1300, 64, 64, 1, 2, causal}, "bf16");
      for (const int64_t sample_size : {0, 70}) {
        hyperattn::Settings settings = {{"block_size", block_size}, {"sample_size", sample_size}};
        if (causal) settings["min_seq_len"] = int64_t{300};
        const AttentionResult expected = Attention("hyper", settings).forward(p.problem).result;
        settings["precision"] = std::string("bf16");
        AttentionOptions options;
        options.engine = "cuda";
        const Seen seen = run_on_card(Attention("hyper", settings, options), p, expected, false);
        INFO("block_size " << block_size << ", sample_size " << sample_size << (causal ? ", causal" : ""));
        compare("out", seen.out, expected.out, 16 * epsilon_of("bf16"));
        compare("lse", seen.lse, expected.lse, 16 * epsilon_of("bf16"));
      }
    }
}

TEST_CASE("cuda: hash functions that are drawn on the card have the bits of the host's", "[cuda]") {
  if (!find_engine("cuda")->available().empty()) return;
  void* stream = cuda::Device::current().stream();
  for (const int bits : {1, 7, 8, 9, 20})
    for (const int64_t width : {1, 5, 64, 256}) {
      std::vector<HashDirections> functions;
      for (uint32_t head = 0; head < 40; ++head)
        functions.emplace_back(RandomStream(1234567890123 + head, Purpose::hash, 3, head), width, bits,
                               head % 3);
      std::vector<StreamPlace> sources;
      for (const HashDirections& function : functions) sources.push_back(*function.source());
      const cuda::DeviceArray<StreamPlace> on_card(sources, "test functions");
      const int64_t size = functions.front().packed_size();
      const cuda::DeviceArray<float> seen(size * std::ssize(functions), "test directions");
      cuda::check(cuda::launch_draw(
                      {on_card.data(), std::ssize(functions), bits, static_cast<int32_t>(width), seen.data()},
                      stream),
                  "drawing");
      std::vector<float> drawn(static_cast<size_t>(seen.size()));
      seen.download(drawn.data());
      int64_t different = 0;
      for (size_t f = 0; f < functions.size(); ++f) {
        const Buffer<float>& expected = functions[f].packed();
        REQUIRE(expected.size() == size);
        for (int64_t i = 0; i < size; ++i)
          different += expected[i] != drawn[f * static_cast<size_t>(size) + static_cast<size_t>(i)] ? 1 : 0;
      }
      INFO(bits << " bits, " << width << " columns");
      CHECK(different == 0);
    }
}

}  // namespace
}  // namespace hyperattn::testing
