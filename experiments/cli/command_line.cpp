#include "experiments/cli/command_line.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <new>

#include "algorithms/registry.h"
#include "core/cancel.h"
#include "core/error.h"
#include "core/machine.h"
#include "core/parallel.h"
#include "core/text.h"
#include "core/utf8.h"
#include "experiments/attend/attend.h"
#include "experiments/cli/commands.h"
#include "experiments/cli/interrupt.h"
#include "experiments/cli/threads.h"
#include "experiments/config/problems.h"
#include "experiments/lm/capture.h"
#include "experiments/lm/experiment.h"
#include "experiments/lm/logits.h"
#include "experiments/messages/log.h"
#include "experiments/running/exit_codes.h"
#include "experiments/sweep/sweep.h"
#include "experiments/training/train.h"

namespace hyperattn {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kMaxDevice = 1023;

/// All options of all subcommands; the one that was named is run.
struct Arguments {
  RunOptions run;
  std::string shard = "0/1";
  AttendOptions attend;
  TrainOptions train;
  int threads = 0;
  int device = 0;
  std::vector<std::string> model_arguments;
  std::string capture;
  std::string logits;
  std::string positions;
  std::string list_what;
  bool schema = false;
  std::vector<std::string> files;
  bool compare = false;
  bool show_all = false;
  std::string merged;
  bool force_merge = false;
};

void add_machine(CLI::App& command, Arguments& arguments) {
  command
      .add_option("--threads", arguments.threads,
                  "Threads to use (default: one for each processor that this process may use)")
      ->check(CLI::Range(1, kMaxThreads));
  command
      .add_option("--device", arguments.device,
                  "Of several GPUs the one that engines compute on, counted from 0 (default: 0)")
      ->check(CLI::Range(0, kMaxDevice));
}

/// CLI11's own check takes NaN, and prints the largest double as a limit.
CLI::Validator positive_seconds() {
  const auto problem_of = [](const std::string& text) {
    double seconds = 0;
    const bool good = CLI::detail::lexical_cast(text, seconds) && seconds > 0 && std::isfinite(seconds);
    return good ? std::string() : fmt::format("must be a positive number of seconds, but is '{}'", text);
  };
  return {problem_of, "SECONDS > 0"};
}

CLI::Option* add_group(CLI::App& command, RunOptions& run) {
  return command.add_option(
      "--group", run.group,
      "Apply this one of the configuration's groups (default: base, where there is one)");
}

CLI::Option* add_force(CLI::App& command, RunOptions& run) {
  return command.add_flag("--force", run.force, "Replace an existing output");
}

/// What every command that fills a results file takes, but for --group and --force. Returns all of them.
std::vector<CLI::Option*> add_running(CLI::App& command, Arguments& arguments, CLI::Option* force) {
  RunOptions& run = arguments.run;
  CLI::Option* resume = command.add_flag("--resume", run.resume, "Run what is missing in the results file");
  return {
      command.add_option("-o,--output", run.output, "Results file (default: the configuration's `output`)"),
      resume->excludes(force),
      command.add_flag("--dry-run", run.dry_run, "Show what would run and what it would cost, and stop"),
      command.add_option("--shard", arguments.shard,
                         "I/N: run only the input points I, I+N, I+2N, ...; `merge` joins the results"),
      command.add_flag("--pin", run.pin, "Bind each thread to a core of its own"),
      command
          .add_option(
              "--case-timeout", run.case_timeout,
              "Seconds for one trial of one case (calls and measures), after which it counts as failed")
          ->check(positive_seconds()),
      command.add_flag("--fail-fast", run.fail_fast, "Stop at the first failed case"),
  };
}

void add_run(CLI::App& program, Arguments& arguments) {
  CLI::App& command = *program.add_subcommand("run", "Run a sweep from its YAML file");
  RunOptions& run = arguments.run;
  command.add_option("CONFIG", run.config, "The sweep's YAML file")->required();
  command.add_option(
      "KEY=VALUE", run.overrides,
      "Changes to it, by the YAML's own paths: sweep.seq_len=[4096,8192] inputs.heads=4 trials=1");
  add_group(command, run);
  add_running(command, arguments, add_force(command, run));
  add_machine(command, arguments);
}

void add_attend(CLI::App& program, Arguments& arguments) {
  CLI::App& command = *program.add_subcommand("attend", "Compute attention on the tensors of an HDF5 file");
  AttendOptions& attend = arguments.attend;
  command.add_option("IN.h5", attend.input, "Has /inputs/q, k and v, each (batch, heads, rows, dim)")
      ->required();
  command.add_option("KEY=VALUE", attend.arguments,
                     "backend=NAME (required), its parameters, causal, scale, seed, trial");
  command.add_option("-o,--output", attend.output, "Receives /out and /lse")->required();
  command.add_flag("--backward", attend.backward, "Also write /dq, /dk and /dv, from /inputs/dout");
  command.add_flag("--replay", attend.replay, "Take hash directions and samples from the input's /replay");
  command.add_flag(
      "--keep-type", attend.keep_type,
      "Write /out and the gradients in the types of /inputs/v, q and k, such as bfloat16, not as float32");
  command.add_flag("--force", attend.force, "Replace an existing output");
  add_machine(command, arguments);
}

void add_train(CLI::App& program, Arguments& arguments) {
  CLI::App& command = *program.add_subcommand(
      "train", "Train a small layer through a backend's gradient, and through exact attention's");
  TrainOptions& train = arguments.train;
  std::string names;
  for (const ParameterSpec& spec : training_parameters())
    names += fmt::format(", {} ({})", spec.name, to_string(*spec.default_value));
  command.add_option("KEY=VALUE", train.arguments,
                     "backend=NAME (required), its parameters, seed (0)" + names);
  command.add_option("-o,--output", train.output, "Also write the loss of every step to this CSV file");
  command.add_flag("--force", train.force, "Replace an existing output");
  add_machine(command, arguments);
}

void add_language_model(CLI::App& program, Arguments& arguments) {
  CLI::App& command =
      *program.add_subcommand("lm", "Evaluate a language model with some layers' attention replaced");
  RunOptions& run = arguments.run;
  command.add_option("CONFIG", arguments.model_arguments,
                     "The experiment's YAML file (default: the shipped model with hyper), then KEY=VALUE "
                     "changes to it: inputs.seq_len=8192 inputs.windows=2 inputs.replace=first");
  CLI::Option* group = add_group(command, run);
  const std::vector<CLI::Option*> running = add_running(command, arguments, add_force(command, run));
  CLI::Option* capture = command.add_option(
      "--capture", arguments.capture,
      "Write Q, K and V of heads to this HDF5 file instead; the KEY=VALUE are those of the "
      "source language_model: layers=[0,5] heads=[0,3] seq_len=4096");
  CLI::Option* logits = command.add_option(
      "--logits", arguments.logits,
      "Write the model's logits on the first window to this HDF5 file instead: seq_len=64, and with "
      "backends=NAME replaced=[2] those with layers replaced");
  command
      .add_option("--positions", arguments.positions,
                  "Only the logits of these tokens, from 0: 0,10,20:30 (default: all)")
      ->needs(logits);
  // Each is one computation of the model, with a file of its own.
  for (CLI::Option* alone : {capture, logits})
    for (CLI::Option* other : running) alone->excludes(other);
  capture->excludes(group)->excludes(logits);
  add_machine(command, arguments);
}

void add_information_commands(CLI::App& program, Arguments& arguments) {
  CLI::App& list = *program.add_subcommand("list", "Print what a configuration can name");
  list.add_option("WHAT", arguments.list_what,
                  "backends, inputs or measures (default: all three), lm: what `hyperattn lm` takes, or "
                  "columns: those of "
                  "/trials in a results file")
      ->check(CLI::IsMember({"backends", "inputs", "measures", "columns", "lm"}));
  list.add_flag("--schema", arguments.schema,
                "Print the configuration's JSON Schema instead (list lm --schema: of hyperattn lm)");
  CLI::App& describe = *program.add_subcommand("describe", "Print machine, build and instruction-set levels");
  add_machine(describe, arguments);
}

int run_language_model_command(Arguments& arguments) {
  const InterruptHandler interrupts;
  RunOptions& run = arguments.run;
  if (!arguments.capture.empty()) {
    capture_heads(arguments.model_arguments, arguments.capture, run.force);
    return 0;
  }
  for (const std::string& argument : arguments.model_arguments) {
    const bool is_change = argument.find('=') != std::string::npos;
    if (is_change)
      run.overrides.push_back(argument);
    else if (run.config.empty())
      run.config = argument;
    else
      fail_usage(
          fmt::format("lm takes one configuration, but '{}' and '{}' are given", run.config, argument));
  }
  if (arguments.logits.empty()) {
    run.shard = parse_shard(arguments.shard);
    return run_language_model(run);
  }
  run.output = arguments.logits;
  write_logits(run, arguments.positions);
  return 0;
}

void add_results_commands(CLI::App& program, Arguments& arguments) {
  CLI::App& show = *program.add_subcommand("show", "Print what results files hold");
  show.add_option("RESULTS.h5", arguments.files, "One or more results files")->required();
  CLI::Option* all =
      show.add_flag("--all", arguments.show_all, "Every figure, not only the ones that most readers want");
  show.add_flag("--compare", arguments.compare,
                "Print what changed in error and speed from the first of two files to the second")
      ->excludes(all);
  CLI::App& merge = *program.add_subcommand("merge", "Join the results of shards");
  merge.add_option("OUT.h5", arguments.merged, "Receives the union")->required();
  merge.add_option("IN.h5", arguments.files, "Results files of one configuration")->required();
  merge.add_flag("--force", arguments.force_merge, "Replace an existing output");
}

bool computes(const std::string& command) {
  return command != "show" && command != "merge" && command != "list";
}

int run_named_command(const CLI::App& program, Arguments& arguments) {
  const std::string name = program.get_subcommands().front()->get_name();
  if (computes(name)) {
    set_up_threads(arguments.threads);
    for (const Engine* engine : all_engines()) engine->choose_device(arguments.device);
  }
  if (name == "run") {
    const InterruptHandler interrupts;
    arguments.run.shard = parse_shard(arguments.shard);
    return run_sweep(arguments.run);
  }
  if (name == "attend") {
    const InterruptHandler interrupts;
    attend(arguments.attend);
    return 0;
  }
  if (name == "train") {
    const InterruptHandler interrupts;
    train(arguments.train);
    return 0;
  }
  if (name == "lm") return run_language_model_command(arguments);
  if (name == "show") return show_command(arguments.files, arguments.compare, arguments.show_all);
  if (name == "merge") return merge_command(arguments.merged, arguments.files, arguments.force_merge);
  if (name == "list") return list_command(arguments.list_what, arguments.schema);
  return describe_command(thread_count());
}

int report(const std::string& message, int exit_code) {
  std::cout.flush();
  std::cerr << "hyperattn: " << printable(message) << "\n";
  return exit_code;
}

/// CLI11 takes an unknown command for an argument and asks for a command.
std::string unknown_command(const CLI::App& program) {
  const std::vector<std::string> rest = program.remaining();
  if (!program.get_subcommands().empty() || rest.empty() || rest.front().starts_with("-")) return {};
  std::vector<std::string> names;
  for (const CLI::App* command : program.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(command->get_name());
  const std::string near = nearest_name(rest.front(), names);
  return fmt::format("there is no command '{}'{} Allowed: {}", rest.front(),
                     near.empty() ? "." : fmt::format("; did you mean '{}'?", near), join(names));
}

/// CLI11's own message, and where help is. `--help` and `--version` come this way, too.
int report_parse_result(const CLI::App& program, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) return program.exit(error);
  std::string name = "hyperattn";
  for (const CLI::App* command : program.get_subcommands()) name += " " + command->get_name();
  const std::string unknown = unknown_command(program);
  return report(fmt::format("{}\nTry '{} --help'.", unknown.empty() ? error.what() : unknown, name),
                exit_code::kUsage);
}

/// An answer that did not reach its file (a full disk, say) is a failure, whatever the command did.
int with_answer_written(int exit_code) {
  const bool written = !std::cout.flush().fail() && std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  if (written || exit_code != 0) return exit_code;
  return report("the answer could not be written to standard output (is the disk full?)",
                exit_code::kEnvironment);
}

}  // namespace

int run_command_line(int argc, char** argv) {
  // A limit on the size of files (ulimit -f) then fails the write, which has its message, instead of killing
  // us.
  std::signal(SIGXFSZ, SIG_IGN);
  start_log();
  Arguments arguments;
  arguments.run.call.assign(argv, argv + argc);
  if (argc > 0) arguments.run.call[0] = "hyperattn";
  CLI::App program("Approximate attention: how close to exact, at what cost?", "hyperattn");
  program.require_subcommand(1);
  program.set_version_flag("--version",
                           fmt::format("hyperattn {} ({})", build_info().version, build_info().commit));
  add_run(program, arguments);
  add_attend(program, arguments);
  add_train(program, arguments);
  add_language_model(program, arguments);
  add_results_commands(program, arguments);
  add_information_commands(program, arguments);
  try {
    program.parse(argc, argv);
    return with_answer_written(run_named_command(program, arguments));
  } catch (const CLI::ParseError& error) {
    return report_parse_result(program, error);
  } catch (const Error& error) {
    return report(error.what(), error.exit_code());
  } catch (const Cancelled&) {
    return report("interrupted", exit_code::kInterrupted);
  } catch (const std::bad_alloc&) {
    return report("not enough memory", exit_code::kEnvironment);
  } catch (const std::exception& error) {
    return report(std::string("internal error: ") + error.what(), exit_code::kEnvironment);
  }
}

}  // namespace hyperattn
