#include "experiments/training/train.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <sstream>

#include "algorithms/registry.h"
#include "core/error.h"
#include "experiments/config/attend_arguments.h"
#include "experiments/files/output_file.h"
#include "experiments/training/retrieval.h"

namespace hyperattn {
namespace {

constexpr int64_t kPrintedSteps = 10;

ParameterSpec count(const char* name, int64_t by_default, double most, const char* meaning) {
  return integer_parameter(name, meaning).between(1, most).by_default(by_default);
}

/// All but masks of files: the layer's problems are made here, and no file has masks of them.
const Registry& training_registry() {
  static const Registry registry = [] {
    Registry made;
    made.backends = all_backends();
    made.refuse_mask_files("a trained layer has no mask file");
    return made;
  }();
  return registry;
}

RetrievalTask read_task(const BackendArguments& arguments) {
  RetrievalTask task;
  task.length = arguments.of_call.integer("seq_len");
  task.dim = arguments.of_call.integer("head_dim");
  task.classes = arguments.of_call.integer("classes");
  task.noise = arguments.of_call.number("noise");
  task.seed = arguments.seed;
  return task;
}

void check_task(const BackendArguments& arguments, const RetrievalTask& task) {
  const std::string backend = fmt::format("train: backend '{}' ", arguments.backend->name());
  const std::string no_gradient = arguments.backend->no_gradient(arguments.parameters);
  if (!no_gradient.empty()) fail_usage(backend + no_gradient);
  if (task.classes > task.length)
    fail_usage(
        fmt::format("train: classes must be at most seq_len ({}), but is {}", task.length, task.classes));
  AttentionProblem problem;
  problem.query.shape = problem.key.shape = problem.value.shape = {1, 1, task.length, task.dim};
  const std::string wrong = arguments.backend->check(problem, arguments.parameters);
  if (!wrong.empty()) fail_usage(backend + wrong);
}

std::string to_csv(const std::string& name, const std::vector<double>& exact,
                   const std::vector<double>& other) {
  std::ostringstream text;
  text.precision(17);
  text << "step," << exact_backend().name() << ',' << name << "\n";
  for (size_t step = 0; step < exact.size(); ++step)
    text << step << ',' << exact[step] << ',' << other[step] << '\n';
  return text.str();
}

void print_losses(const std::string& name, const std::vector<double>& exact,
                  const std::vector<double>& other) {
  std::printf("mean squared error of what the layer retrieves (a layer that knows nothing: about 1)\n\n");
  std::printf("%8s  %12s  %12s\n", "step", exact_backend().name().c_str(), name.c_str());
  const auto steps = static_cast<int64_t>(exact.size()) - 1;
  const int64_t stride = std::max<int64_t>(1, (steps + kPrintedSteps - 1) / kPrintedSteps);
  for (int64_t step = 0; step <= steps; step = step == steps ? steps + 1 : std::min(step + stride, steps))
    std::printf("%8ld  %12.4g  %12.4g\n", static_cast<long>(step), exact[static_cast<size_t>(step)],
                other[static_cast<size_t>(step)]);
}

}  // namespace

const std::vector<ParameterSpec>& training_parameters() {
  static const std::vector<ParameterSpec> specs = [] {
    const RetrievalTask task;
    const TrainingOptions training;
    return std::vector<ParameterSpec>{
        count("seq_len", task.length, 1 << 20, "tokens"),
        count("head_dim", task.dim, 256, "width of queries, keys and values"),
        count("classes", task.classes, 1 << 20, "centres whose value is to be retrieved"),
        number_parameter("noise", "standard deviation of what is added to a centre")
            .at_least(0)
            .by_default(task.noise),
        count("steps", training.steps, 1e6, "steps of Adam"),
        number_parameter("learning_rate", "of Adam").at_least(0).by_default(training.learning_rate)};
  }();
  return specs;
}

void train(const TrainOptions& options) {
  const BackendArguments arguments =
      read_backend_arguments("train", options.arguments, training_parameters(), training_registry());
  const RetrievalTask task = read_task(arguments);
  check_task(arguments, task);
  TrainingOptions training;
  training.steps = arguments.of_call.integer("steps");
  training.learning_rate = arguments.of_call.number("learning_rate");
  std::optional<OutputFile> file;
  if (!options.output.empty()) {
    refuse_existing(options.output, options.force, "give --force to replace it");
    file.emplace(options.output);
  }
  const Backend& exact = exact_backend();
  const std::vector<double> exact_losses =
      train_retrieval(exact, default_parameters(exact.parameters()), task, training);
  const std::vector<double> losses =
      train_retrieval(*arguments.backend, arguments.parameters, task, training);
  if (file) {
    file->write(to_csv(arguments.backend->name(), exact_losses, losses));
    file->commit();
  }
  print_losses(arguments.backend->name(), exact_losses, losses);
}

}  // namespace hyperattn
