#include "config_fakes.h"

#include "algorithms/backend.h"
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

class FakeBackend final : public Backend {
 public:
  FakeBackend(std::string name, std::vector<ParameterSpec> parameters, Capabilities able)
      : name_(std::move(name)), parameters_(std::move(parameters)), able_(able) {}

  const std::string& name() const override { return name_; }
  const std::string& meaning() const override { return name_; }
  const std::vector<ParameterSpec>& parameters() const override { return parameters_; }
  Capabilities capabilities() const override { return able_; }
  std::string check(const TensorShape&, const TensorShape& key, const TensorShape&, bool,
                    const Parameters& p) const override {
    if (!p.has("sample_size") || p.integer("sample_size") <= key.rows) return {};
    return "sample_size is " + std::to_string(p.integer("sample_size")) + ", but there are " +
           std::to_string(key.rows) + " keys";
  }
  double estimated_entries(const TensorShape&, const TensorShape&, bool, const Parameters&) const override {
    return 0;
  }
  double estimated_bytes(const TensorShape&, const TensorShape&, const TensorShape&,
                         const Parameters&) const override {
    return 0;
  }
  ForwardState forward(const AttentionProblem&, const CallContext&) const override { return {}; }

 private:
  std::string name_;
  std::vector<ParameterSpec> parameters_;
  Capabilities able_;
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
  Capabilities all;
  all.causal = all.backward = all.unequal_lengths = true;
  static const FakeBackend exact("exact", {}, all);
  static const FakeBackend lsh(
      "lsh", {power_of_two("bucket_count", 64), integer("block_size", int64_t{256}, 1)}, all);
  static const FakeBackend hyper("hyper",
                                 {power_of_two("bucket_count", 64), integer("block_size", int64_t{256}, 1),
                                  integer("sample_size", int64_t{16}, 0), kappa(), epsilon(), estimator()},
                                 all);
  static const FakeBackend plain("plain", {}, {});
  static const FakeMeasure timing("timing", {});
  static const FakeMeasure spectral("spectral_error", {});
  static const FakeMeasure alpha("alpha", {integer("skip_columns", int64_t{0}, 0)});
  static const Registry all_fakes{
      {&gaussian, &file, &odd}, {&exact, &lsh, &hyper, &plain}, {&timing, &spectral, &alpha}};
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
