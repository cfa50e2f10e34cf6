#include "run.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "core/error.h"
#include "core/memory.h"
#include "declarations.h"
#include "experiments/measures/context.h"
#include "experiments/measures/measure.h"
#include "interrupt.h"

namespace py = pybind11;

namespace hyperattn::python {
namespace {

/// Axes that the array lacks in front have the length 1.
TensorView<const float> view_of(const Array& array) {
  const py::ssize_t missing = 4 - array.ndim();
  if (missing < 0 || missing > 2)
    fail_input("an array must have 2, 3 or 4 axes, but has " + std::to_string(array.ndim()));
  const auto length = [&](py::ssize_t axis) { return axis < missing ? 1 : array.shape(axis - missing); };
  return {array.data(), {length(0), length(1), length(2), length(3)}};
}

/// The last axes of (batch, heads, rows, dim).
std::vector<int64_t> shape_of(const TensorShape& shape, py::ssize_t axes) {
  const std::array<int64_t, 4> all = {shape.batch, shape.heads, shape.rows, shape.dim};
  return {all.end() - axes, all.end()};
}

/// An array that owns the tensor.
py::array array_of(Tensor<float> tensor, py::ssize_t axes) {
  auto owned = std::make_unique<Tensor<float>>(std::move(tensor));
  float* data = owned->data();
  const std::vector<int64_t> shape = shape_of(owned->shape(), axes);
  const py::capsule owner(owned.release(), [](void* held) { delete static_cast<Tensor<float>*>(held); });
  return py::array_t<float>(shape, data, owner);
}

/// As on the command line, where a setting that changes nothing is a mistake.
void refuse_ineffective(const std::string& method, const py::dict& settings, bool causal,
                        const Attention& attention) {
  const std::vector<ParameterSpec>& specs = attention.backend().parameters();
  Parameters values = attention.parameters();
  values.set("causal", causal);
  for (const auto& [name, value] : settings) {
    const ParameterSpec& spec = *find_spec(specs, name.cast<std::string>());
    const std::string why = why_no_effect(spec, specs, values);
    if (!why.empty()) fail_usage("method '" + method + "': " + spec.name + " " + why);
  }
}

AttentionOptions options_of(const std::string& engine, uint64_t seed, uint32_t trial) {
  AttentionOptions options;
  options.engine = engine;
  options.seed = seed;
  options.trial = trial;
  return options;
}

/// Small calls are not worth asking the operating system for.
void require_memory_for(const Attention& attention, const AttentionProblem& problem) {
  constexpr double kSmall = 64 << 20;
  const double bytes = attention.backend().estimated_bytes(problem, attention.parameters());
  if (bytes > kSmall) require_memory(bytes, "the call");
}

/// What is to be measured, and with what.
struct Measuring {
  const Measure* measure;
  Parameters parameters;
  std::vector<std::string> figures;
};

const Measure& measure_of(const std::string& wanted) {
  std::vector<std::string> names;
  for (const Measure* measure : all_measures()) {
    names.push_back(measure->name());
    for (const FigureSpec& figure : measure->figures()) {
      if (wanted == figure.name || wanted == measure->name()) {
        if (measure->is_of_times())
          fail_usage("'" + wanted + "' is measured by sweeps only (hyperattn.sweep)");
        return *measure;
      }
      names.push_back(figure.name);
    }
  }
  const std::string nearest = nearest_name(wanted, names);
  fail_usage("there is no figure '" + wanted + "'" +
             (nearest.empty() ? "; hyperattn.figures() lists them" : "; did you mean '" + nearest + "'?"));
}

Measuring& find_or_add(std::vector<Measuring>& measurings, const Measure& measure) {
  for (Measuring& measuring : measurings)
    if (measuring.measure == &measure) return measuring;
  return measurings.emplace_back(Measuring{&measure, default_parameters(measure.parameters()), {}});
}

std::vector<Measuring> plan_measuring(const std::vector<std::string>& wanted, const py::dict& settings) {
  std::vector<Measuring> measurings;
  for (const std::string& name : wanted) {
    const Measure& measure = measure_of(name);
    Measuring& measuring = find_or_add(measurings, measure);
    if (name != measure.name())
      measuring.figures.push_back(name);
    else
      for (const FigureSpec& figure : measure.figures()) measuring.figures.push_back(figure.name);
  }
  for (const auto& [name, values] : settings) {
    const auto text = name.cast<std::string>();
    const auto found = std::find_if(measurings.begin(), measurings.end(), [&](const Measuring& measuring) {
      return measuring.measure->name() == text;
    });
    if (found == measurings.end())
      fail_usage("measure_settings names '" + text + "', which is no measure of the figures asked for");
    found->parameters = resolve_settings("measure '" + text + "'", found->measure->parameters(),
                                         settings_from(values.cast<py::dict>()));
  }
  return measurings;
}

py::dict& row_of(std::vector<std::pair<std::string, py::dict>>& rows, const FigureRow& figures) {
  std::string of = "all";
  if (figures.head >= 0) of = "head " + std::to_string(figures.head);
  if (figures.level >= 0) of = "level " + std::to_string(figures.level);
  for (auto& [name, row] : rows)
    if (name == of) return row;
  py::dict row;
  row["of"] = of;
  return rows.emplace_back(of, row).second;
}

bool is_wanted(const Measuring& measuring, const std::string& figure) {
  return figure == "norm_status" ||
         std::find(measuring.figures.begin(), measuring.figures.end(), figure) != measuring.figures.end();
}

}  // namespace

Request::Request(const std::string& method, const std::string& engine, const py::dict& settings, bool causal,
                 int64_t window, std::optional<double> scale, uint64_t seed, uint32_t trial)
    : attention_(method, settings_from(settings), options_of(engine, seed, trial)),
      causal_(causal),
      window_(window),
      scale_(scale) {
  refuse_ineffective(method, settings, causal, attention_);
}

AttentionProblem Request::problem(TensorView<const float> query, TensorView<const float> key,
                                  TensorView<const float> value) const {
  AttentionProblem problem = attention_problem(query, key, value, causal_);
  if (scale_) problem.scale = static_cast<float>(*scale_);
  problem.window = window_;
  return problem;
}

std::string Request::no_gradient() const {
  const std::string why = attention_.backend().no_gradient(attention_.parameters());
  return why.empty() ? why : "method '" + attention_.backend().name() + "' " + why;
}

Run::Run(std::shared_ptr<const Request> request, Array query, Array key, Array value)
    : query_(std::move(query)),
      key_(std::move(key)),
      value_(std::move(value)),
      request_(std::move(request)),
      problem_(request_->problem(view_of(query_), view_of(key_), view_of(value_))) {}

void Run::forward() {
  const Attention& attention = request_->attention();
  compute([&] {
    attention.check(problem_);
    require_memory_for(attention, problem_);
    state_ = attention.forward(*attention.backend().bind(problem_, attention.parameters()));
  });
}

py::array Run::out(const py::object& self) {
  const Run& run = self.cast<const Run&>();
  const Tensor<float>& out = run.state_.result.out;
  return py::array_t<float>(shape_of(out.shape(), run.query_.ndim()), out.data(), self);
}

py::array Run::lse(const py::object& self) {
  const Run& run = self.cast<const Run&>();
  const Tensor<float>& lse = run.state_.result.lse;
  std::vector<int64_t> shape = shape_of(lse.shape(), run.query_.ndim());
  shape.pop_back();
  return py::array_t<float>(shape, lse.data(), self);
}

py::dict Run::diagnostics() const {
  return dict_of(state_.result.diagnostics);
}

py::dict dict_of(const Diagnostics& said) {
  py::dict all;
  all["entries"] = said.entries;
  all["collisions"] = said.collisions;
  all["guarded_rows"] = said.guarded_rows;
  all["clipped_share"] = said.clipped_share;
  all["floored_share"] = said.floored_share;
  all["stage_seconds"] = said.stage_seconds;
  return all;
}

py::tuple Run::backward(const Array& dout) const {
  const TensorView<const float> gradient = view_of(dout);
  if (gradient.shape != state_.result.out.shape())
    fail_input("dout must have the shape of out, " + to_string(state_.result.out.shape()) + ", but has " +
               to_string(gradient.shape));
  AttentionGradients gradients;
  compute([&] { gradients = request_->attention().backward(problem_, state_, gradient); });
  const py::ssize_t axes = query_.ndim();
  return py::make_tuple(array_of(std::move(gradients.dquery), axes),
                        array_of(std::move(gradients.dkey), axes),
                        array_of(std::move(gradients.dvalue), axes));
}

py::list Run::measure(const std::vector<std::string>& wanted, const py::dict& settings) {
  const std::vector<Measuring> measurings = plan_measuring(wanted, settings);
  forward();
  const Backend& backend = request_->attention().backend();
  const Call& call = request_->attention().call();
  std::vector<std::vector<FigureRow>> answers;
  compute([&] {
    answers.clear();
    ExactQuantities exact(problem_, backend.engine(), call.seed, call.trial);
    MeasureContext context(backend, call, state_, exact);
    for (const Measuring& measuring : measurings)
      answers.push_back(measuring.measure->compute(context, measuring.parameters));
  });
  std::vector<std::pair<std::string, py::dict>> rows;
  for (size_t i = 0; i < answers.size(); ++i)
    for (const FigureRow& figures : answers[i]) {
      py::dict& row = row_of(rows, figures);
      for (const auto& [name, value] : figures.figures)
        if (is_wanted(measurings[i], name)) row[name.c_str()] = value;
      for (const auto& [name, word] : figures.texts)
        if (is_wanted(measurings[i], name)) row[name.c_str()] = word;
    }
  py::list list;
  for (const auto& [name, row] : rows) list.append(row);
  return list;
}

}  // namespace hyperattn::python
