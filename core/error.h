// Errors carry whose fault they are, because blame decides the exit code and the wording; a broken invariant
// of our own is an assertion, and a numerical outcome (an iteration that did not converge) is a status.
#pragma once

#include <stdexcept>
#include <string>

namespace hyperattn {

enum class Blame {
  environment = 1,  ///< disk full, not writable, no memory
  usage = 2,        ///< the call or the configuration is wrong or missing
  input = 3,        ///< an input file is missing, unreadable, misshapen or non-finite
};

/// One clear sentence that names the thing, its place, its value and what is allowed; printable, whatever it
/// quotes.
class Error : public std::runtime_error {
 public:
  Error(Blame blame, const std::string& message);

  [[nodiscard]] Blame blame() const { return blame_; }
  /// The process exit code that goes with the blame (see the README's table of exit codes).
  [[nodiscard]] int exit_code() const { return static_cast<int>(blame_); }

 private:
  Blame blame_;
};

[[noreturn]] void fail_environment(const std::string& message);
[[noreturn]] void fail_usage(const std::string& message);
[[noreturn]] void fail_input(const std::string& message);

}  // namespace hyperattn
