#include "experiments/attend/attend.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "algorithms/backend.h"
#include "algorithms/masks/mask.h"
#include "core/error.h"
#include "core/memory.h"
#include "experiments/attend/replay_file.h"
#include "experiments/config/attend_arguments.h"
#include "experiments/files/hdf5_file.h"
#include "experiments/files/output_file.h"
#include "experiments/files/read_log.h"
#include "experiments/inputs/mask_file.h"

namespace hyperattn {
namespace {

std::string key_of(const std::string& argument) {
  return argument.substr(0, argument.find('='));
}

bool takes(const Backend& backend, const std::string& key) {
  const auto& specs = backend.parameters();
  return key == "causal" || key == "scale" ||
         std::any_of(specs.begin(), specs.end(), [&](const ParameterSpec& spec) { return spec.name == key; });
}

/// The backend that the arguments name, or null; `read_attend_arguments` says what is wrong then.
const Backend* named_backend(const std::vector<std::string>& arguments) {
  for (const std::string& argument : arguments)
    if (key_of(argument) == "backend" && argument.size() > 8) return find_backend(argument.substr(8));
  return nullptr;
}

bool same_value(const AttendArguments& resolved, const std::string& key, const ParameterValue& prescribed) {
  if (key == "causal") return ParameterValue(resolved.causal) == prescribed;
  if (key == "scale")  // the engine's precision
    return static_cast<float>(*resolved.scale) == static_cast<float>(std::get<double>(prescribed));
  return resolved.parameters.all().at(key) == prescribed;
}

/// The arguments, completed by what the file prescribes.
AttendArguments replayed_arguments(const Hdf5File& file, const std::vector<std::string>& arguments) {
  const Backend* backend = named_backend(arguments);
  if (backend == nullptr) return read_attend_arguments(arguments);
  if (backend->method().capabilities().replay && !file.exists("/replay"))
    fail_input(fmt::format("'{}' has no /replay, which --replay needs", file.path()));
  const auto prescribed = replay_parameters(file);
  const auto is_given = [&](const std::string& key) {
    return std::any_of(arguments.begin(), arguments.end(),
                       [&](const std::string& argument) { return key_of(argument) == key; });
  };
  std::vector<std::string> completing;
  for (const auto& [key, value] : prescribed)
    if (takes(*backend, key) && !is_given(key)) completing.push_back(key + "=" + to_string(value));
  AttendArguments resolved = read_attend_arguments(arguments, default_registry(), completing);
  for (const auto& [key, value] : prescribed)
    if (takes(*backend, key) && is_given(key) && !same_value(resolved, key, value))
      fail_usage(
          fmt::format("an argument sets {} to another value than '{}', whose random choices --replay uses "
                      "and which prescribes {}={}",
                      key, file.path(), key, to_string(value)));
  return resolved;
}

Tensor<float> read_finite(const Hdf5File& file, const std::string& dataset) {
  Tensor<float> tensor = file.read_tensor(dataset);
  check_finite(tensor.view(), fmt::format("{} of '{}'", dataset, file.path()));
  return tensor;
}

/// Everything that can be refused before values are read.
AttentionProblem check_shapes(const Hdf5File& file, const AttendArguments& arguments, bool backward) {
  AttentionProblem problem;
  problem.query.shape = file.read_shape4("/inputs/q");
  problem.key.shape = file.read_shape4("/inputs/k");
  problem.value.shape = file.read_shape4("/inputs/v");
  const TensorShape& q = problem.query.shape;
  const TensorShape& v = problem.value.shape;
  problem.scale = arguments.scale ? static_cast<float>(*arguments.scale) : default_scale(q.dim);
  problem.causal = arguments.causal;
  try {
    check_problem(problem);
  } catch (const Error& error) {
    fail_input(fmt::format("'{}': {}", file.path(), error.what()));
  }
  const TensorShape out{q.batch, q.heads, q.rows, v.dim};
  if (backward && file.read_shape4("/inputs/dout") != out)
    fail_input(fmt::format("/inputs/dout of '{}' must have the shape of the output, {}, but has {}",
                           file.path(), to_string(out), to_string(file.read_shape4("/inputs/dout"))));
  const Backend& backend = *arguments.backend;
  const std::string refused = fmt::format("backend '{}' ", backend.name());
  const std::string no_gradient = backend.no_gradient(arguments.parameters);
  if (backward && !no_gradient.empty()) fail_usage(refused + no_gradient);
  const std::string wrong = backend.check(problem, arguments.parameters);
  if (!wrong.empty()) fail_usage(fmt::format("{}cannot run on '{}': {}", refused, file.path(), wrong));
  return problem;
}

void require_memory_for(const AttentionProblem& problem, const AttendArguments& arguments, bool backward) {
  const auto inputs =
      static_cast<double>(problem.query.shape.size() + problem.key.shape.size() + problem.value.shape.size());
  const TensorShape& q = problem.query.shape;
  const auto rows = static_cast<double>(q.matrices() * q.rows);
  const double outputs = rows * static_cast<double>(problem.value_dim() + 1);
  const double tensors = (inputs + outputs) * (backward ? 2 : 1);
  require_memory(tensors * sizeof(float) + arguments.backend->estimated_bytes(problem, arguments.parameters),
                 "the call");
}

/// The types that the tensors of the output are written in: float32, or those of q, k and v.
struct OutputTypes {
  DatasetInfo query;
  DatasetInfo key;
  DatasetInfo value;
};

OutputTypes output_types(const Hdf5File& file, bool keep_type) {
  if (!keep_type) return {};
  const OutputTypes types{file.info("/inputs/q"), file.info("/inputs/k"), file.info("/inputs/v")};
  for (const auto& [name, info] :
       {std::pair{"/inputs/q", &types.query}, {"/inputs/k", &types.key}, {"/inputs/v", &types.value}})
    if (info->element != ElementClass::real)
      fail_usage(fmt::format("--keep-type needs floating-point inputs, but {} of '{}' holds {}", name,
                             file.path(), info->element_name));
  return types;
}

void write_output(const std::string& path, const AttentionResult& result,
                  const std::optional<AttentionGradients>& gradients, const OutputTypes& types) {
  Hdf5File file = Hdf5File::create(path);
  const TensorShape& lse = result.lse.shape();
  file.write_tensor_like("/out", result.out.view(), types.value);
  file.write_floats("/lse", {lse.batch, lse.heads, lse.rows}, result.lse.data());
  if (gradients) {
    file.write_tensor_like("/dq", gradients->dquery.view(), types.query);
    file.write_tensor_like("/dk", gradients->dkey.view(), types.key);
    file.write_tensor_like("/dv", gradients->dvalue.view(), types.value);
  }
  file.close();
}

}  // namespace

void attend(const AttendOptions& options) {
  if (!options.replay) static_cast<void>(read_attend_arguments(options.arguments));  // wrong before missing
  refuse_existing(options.output, options.force, "give --force to replace it");
  const ReadLog log;
  const Hdf5File file = Hdf5File::open(options.input);
  const AttendArguments arguments =
      options.replay ? replayed_arguments(file, options.arguments) : read_attend_arguments(options.arguments);
  AttentionProblem problem = check_shapes(file, arguments, options.backward);
  const OutputTypes types = output_types(file, options.keep_type);
  require_memory_for(problem, arguments, options.backward);

  Call context;
  context.parameters = arguments.parameters;
  context.seed = arguments.seed;
  context.trial = arguments.trial;
  Replay replay;
  if (options.replay && arguments.backend->method().capabilities().replay) {
    replay = read_replay(file, problem.query.shape, problem.key.shape, problem.causal, arguments.parameters);
    context.replay = &replay;
  }
  std::optional<HeavyMask> mask;
  if (arguments.backend->method().wants_callers_mask(arguments.parameters)) {
    mask = read_mask_file(arguments.parameters.text(kMaskPath), problem.query.shape.batch,
                          problem.query.shape.heads, problem.query_count(), problem.key_count());
    context.mask = &*mask;
  }
  const Tensor<float> query = read_finite(file, "/inputs/q");
  const Tensor<float> key = read_finite(file, "/inputs/k");
  const Tensor<float> value = read_finite(file, "/inputs/v");
  Tensor<float> output_gradient;
  if (options.backward) output_gradient = read_finite(file, "/inputs/dout");
  problem.query = query.view();
  problem.key = key.view();
  problem.value = value.view();

  log.refuse_output(options.output);
  OutputFile output(options.output);
  const ForwardState state = arguments.backend->forward(problem, context);
  check_result(state.result);
  std::optional<AttentionGradients> gradients;
  if (options.backward) {
    gradients = arguments.backend->backward(problem, context, state, output_gradient.view());
    check_gradients(*gradients);
  }
  write_output(output.temporary_path(), state.result, gradients, types);
  output.commit();
}

}  // namespace hyperattn
