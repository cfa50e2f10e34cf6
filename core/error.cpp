#include "core/error.h"

#include "core/utf8.h"

namespace hyperattn {

Error::Error(Blame blame, const std::string& message)
    : std::runtime_error(printable(message)), blame_(blame) {}

void fail_environment(const std::string& message) {
  throw Error(Blame::environment, message);
}

void fail_usage(const std::string& message) {
  throw Error(Blame::usage, message);
}

void fail_input(const std::string& message) {
  throw Error(Blame::input, message);
}

}  // namespace hyperattn
