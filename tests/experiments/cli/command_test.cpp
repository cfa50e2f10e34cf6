// What a call of the program decides before its command runs: how it is printed again, and with how many
// threads.
#include <sys/wait.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <fstream>

#include "core/parallel.h"
#include "experiments/cli/threads.h"
#include "experiments/running/shell_command.h"
#include "tests/scratch_folder.h"

namespace hyperattn {
namespace {

/// The words that a shell makes of `command`, by printing each with a zero byte behind it.
std::vector<std::string> words_by_shell(const std::string& shell, const std::string& command) {
  const testing::ScratchFolder folder;
  std::ofstream(folder / "script") << "set -- " << command << "\nprintf '%s\\0' \"$@\"\n";
  FILE* pipe = popen((shell + " " + folder / "script").c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::vector<std::string> words;
  std::string word;
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) {
    if (c != 0) {
      word += static_cast<char>(c);
      continue;
    }
    words.push_back(word);
    word.clear();
  }
  REQUIRE(WEXITSTATUS(pclose(pipe)) == 0);
  return words;
}

}  // namespace

TEST_CASE("a printed command gives a shell the same words again", "[shell_command]") {
  const std::vector<std::string> printable = {
      "run", "it's",  "a b",    "",   "$HOME", "`id`", "\"twice\"", "\\", "x;y|z&",      "#3",
      "~",   "{a,b}", "[0-9]*", "!!", "=cmd",  "-o",   "é 文",      "'",  "where=a < 3", "''''"};
  CHECK(words_by_shell("/bin/sh", shell_command(printable)) == printable);
  std::vector<std::string> all = printable;
  for (const char* word : {"two\nlines", "\033[31m",
                           "bad\xff"
                           "7",
                           "tab\there's", "\177"})
    all.emplace_back(word);
  const std::string command = shell_command(all);
  CAPTURE(command);
  CHECK(command.find_first_of("\n\033\t\177\xff") == std::string::npos);
  CHECK(words_by_shell("/bin/bash", command) == all);
  CHECK(shell_quoted("configs/a_b-1.yaml") == "configs/a_b-1.yaml");
}

TEST_CASE("the call that resumes has --resume and no --force, whatever else it says", "[shell_command]") {
  using Words = std::vector<std::string>;
  CHECK(resumed_call({"hyperattn", "run", "a.yaml", "--force"}) ==
        Words{"hyperattn", "run", "--resume", "a.yaml"});
  CHECK(resumed_call({"hyperattn", "lm", "--resume=true", "x=1"}) ==
        Words{"hyperattn", "lm", "--resume", "x=1"});
  // Behind "--" everything is an argument, and a file may be called so.
  CHECK(resumed_call({"hyperattn", "run", "-o", "x --force.h5", "--", "--force"}) ==
        Words{"hyperattn", "run", "--resume", "-o", "x --force.h5", "--", "--force"});
}

TEST_CASE("the default number of threads keeps within the processor time that is granted", "[threads]") {
  MachineInfo machine;
  CHECK(default_threads(machine, 8) == 8);
  for (const auto& [quota, threads] :
       {std::pair{0.5, 1}, {1.0, 1}, {1.5, 1}, {2.0, 2}, {7.99, 7}, {64.0, 8}, {1e18, 8}}) {
    machine.core_quota = quota;
    CAPTURE(quota);
    CHECK(default_threads(machine, 8) == threads);
  }
}

TEST_CASE("threads that are set are threads that start", "[threads]") {
  const int before = thread_count();
  omp_set_dynamic(1);  // OpenMP may then take fewer than are asked for
  set_thread_count(3);
  CHECK(started_threads() == 3);
  CHECK(thread_count() == 3);
  omp_set_max_active_levels(0);
  CHECK(started_threads() == 1);
  omp_set_max_active_levels(1);
  set_thread_count(before);
}

}  // namespace hyperattn
