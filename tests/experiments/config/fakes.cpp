#include "tests/experiments/config/fakes.h"

#include "algorithms/backend.h"
#include "algorithms/registry.h"
#include "core/error.h"
#include "experiments/inputs/input_source.h"
#include "experiments/measures/measure.h"

namespace hyperattn::fakes {
namespace {

ParameterSpec integer(const std::string& name, std::optional<ParameterValue> default_value, double minimum,
                      bool optional = false) {
  ParameterSpec spec;
  spec.name = name;
  spec.type = ParameterType::integer;
  spec.default_value = std::move(default_value);
  spec.meaning = "the " + name;
  spec.minimum = minimum;
  spec.maximum = 1 << 20;
  spec.optional = optional;
  return spec;
}

ParameterSpec of_type(const std::string& name, ParameterType type, bool optional) {
  ParameterSpec spec;
  spec.name = name;
  spec.type = type;
  spec.meaning = "the " + name;
  spec.optional = optional;
  return spec;
}

ParameterSpec power_of_two(const std::string& name, int64_t default_value) {
  ParameterSpec spec = integer(name, default_value, 1);
  spec.power_of_two = true;
  return spec;
}

ParameterSpec kappa() {
  ParameterSpec spec = of_type("approx_kappa", ParameterType::number, false);
  spec.default_value = std::string("auto");
  spec.choices = {"auto"};
  spec.minimum = 1;
  spec.allow_infinity = true;
  return spec;
}

ParameterSpec estimator() {
  ParameterSpec spec = of_type("estimator", ParameterType::choice, false);
  spec.default_value = std::string("residual");
  spec.choices = {"residual", "theory"};
  return spec;
}

ParameterSpec epsilon() {
  ParameterSpec spec = of_type("approx_epsilon", ParameterType::number, false);
  spec.default_value = 0.5;
  spec.minimum = 0;
  spec.maximum = 1;
  return spec;
}

class FakeSource final : public InputSource {
 public:
  FakeSource(std::string name, std::vector<ParameterSpec> parameters)
      : name_(std::move(name)), parameters_(std::move(parameters)) {}

  const std::string& name() const override { return name_; }
  const std::string& meaning() const override { return name_; }
  const std::vector<ParameterSpec>& parameters() const override { return parameters_; }

  InputShapes shapes(const Parameters& p) const override {
    if (p.has("path") && p.text("path") == "missing.h5") fail_input("'missing.h5' does not exist");
    const int64_t rows = p.has("seq_len") ? p.integer("seq_len") : 100;
    const int64_t keys = p.has("key_len") ? p.integer("key_len") : rows;
    const int64_t dim = p.has("head_dim") ? p.integer("head_dim") : 64;
    const int64_t heads = p.has("heads") ? p.integer("heads") : 1;
    return {{1, heads, rows, dim}, {1, heads, keys, dim}, {1, heads, keys, dim}};
  }
  AttentionInputs make(const Parameters&, uint64_t, uint32_t) const override { return {}; }

 private:
  std::string name_;
  std::vector<ParameterSpec> parameters_;
};

/// Refuses more samples than there are keys, and where it is `narrow` causal problems, unequal lengths and
/// gradients.
class FakeMethod final : public DescribedMethod {
 public:
  FakeMethod(const std::string& name, std::vector<ParameterSpec> parameters, bool narrow = false)
      : DescribedMethod({name, name, {}, std::move(parameters)}), narrow_(narrow) {}

  std::string check(const AttentionProblem& shapes, const Parameters& p) const override {
    if (narrow_ && shapes.causal) return "has no causal form";
    if (narrow_ && shapes.query_count() != shapes.key_count())
      return "needs as many queries as keys, but there are " + std::to_string(shapes.query_count()) +
             " queries and " + std::to_string(shapes.key_count()) + " keys";
    if (!p.has("sample_size") || p.integer("sample_size") <= shapes.key_count()) return {};
    return "sample_size is " + std::to_string(p.integer("sample_size")) + ", but there are " +
           std::to_string(shapes.key_count()) + " keys";
  }
  std::string no_gradient(const Parameters&) const override { return narrow_ ? "has no backward pass" : ""; }
  double estimated_entries(const AttentionProblem&, const Parameters&) const override { return 0; }
  double estimated_bytes(const AttentionProblem&, const Parameters&) const override { return 0; }
  PlannedCall plan(const BoundProblem&, const Call&) const override { return {}; }

 private:
  bool narrow_;
};

/// A fake method as a backend.
struct FakeBackend {
  FakeMethod method;
  Backend backend;

  FakeBackend(const std::string& name, const std::vector<ParameterSpec>& parameters, bool narrow = false)
      : method(name, parameters, narrow), backend(name, name, method, default_engine()) {}
};

class FakeMeasure final : public Measure {
 public:
  FakeMeasure(std::string name, std::vector<ParameterSpec> parameters)
      : name_(std::move(name)), parameters_(std::move(parameters)) {}

  const std::string& name() const override { return name_; }
  const std::string& meaning() const override { return name_; }
  const std::vector<ParameterSpec>& parameters() const override { return parameters_; }
  const std::vector<FigureSpec>& figures() const override { return figures_; }
  std::vector<FigureRow> compute(MeasureContext&, const Parameters&) const override { return {}; }

 private:
  std::string name_;
  std::vector<ParameterSpec> parameters_;
  std::vector<FigureSpec> figures_;
};

}  // namespace

const Registry& registry() {
  static const FakeSource gaussian("gaussian",
                                   {integer("seq_len", {}, 1), integer("key_len", {}, 1, true),
                                    integer("head_dim", int64_t{64}, 1), integer("heads", int64_t{1}, 1)});
  static const FakeSource file("file",
                               {of_type("path", ParameterType::text, false), integer("seq_len", {}, 1, true),
                                of_type("query_rows", ParameterType::integer_list, true)});
  static const FakeSource odd("odd", {integer("seq_len", {}, 1), integer("block_size", int64_t{8}, 1)});
  static const FakeBackend exact("exact", {});
  static const FakeBackend lsh("lsh",
                               {power_of_two("bucket_count", 64), integer("block_size", int64_t{256}, 1)});
  static const FakeBackend hyper("hyper",
                                 {power_of_two("bucket_count", 64), integer("block_size", int64_t{256}, 1),
                                  integer("sample_size", int64_t{16}, 0), kappa(), epsilon(), estimator()});
  static const FakeBackend plain("plain", {}, true);
  static const FakeMeasure timing("timing", {});
  static const FakeMeasure spectral("spectral_error", {});
  static const FakeMeasure alpha("alpha", {integer("skip_columns", int64_t{0}, 0)});
  static const Registry all_fakes{{&gaussian, &file, &odd},
                                  {&exact.backend, &lsh.backend, &hyper.backend, &plain.backend},
                                  {&timing, &spectral, &alpha}};
  return all_fakes;
}

std::string problems_of(const std::string& text, const std::vector<std::string>& overrides,
                        const std::string& group) {
  try {
    (void)read(text, overrides, group);
  } catch (const Error& error) {
    return error.blame() == Blame::usage ? error.what()
                                         : "not an error of usage: " + std::string(error.what());
  }
  return {};
}

ExperimentConfig read(const std::string& text, const std::vector<std::string>& overrides,
                      const std::string& group) {
  return read_config_text(text, "test.yaml", overrides, group, registry());
}

std::vector<std::string> case_lines(const ExperimentConfig& config) {
  const Grid grid = expand_grid(config);
  std::vector<std::string> lines;
  for (const Case& grid_case : grid.cases)
    lines.push_back(describe_case(grid.inputs[grid_case.input], grid_case));
  return lines;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace hyperattn::fakes
