// hyperattn_bench: the headline ratios (--headline [NAME ...]), or the Google Benchmark cases.
#include <benchmark/benchmark.h>

#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "core/error.h"
#include "experiments/benchmarks/headline.h"
#include "experiments/messages/log.h"

namespace hyperattn {
void register_backend_benchmarks();
void register_row_visit_benchmarks();
void register_tree_benchmarks();
}  // namespace hyperattn

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--headline") == 0) {
    hyperattn::start_log();
    try {
      hyperattn::run_headline(std::cout, std::vector<std::string>(argv + 2, argv + argc));
      return 0;
    } catch (const hyperattn::Error& error) {
      std::cerr << "hyperattn_bench: " << error.what() << '\n';
      return error.exit_code();
    }
  }
  hyperattn::register_backend_benchmarks();
  hyperattn::register_row_visit_benchmarks();
  hyperattn::register_tree_benchmarks();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
