// What every reader promises about bad input.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

#include "core/error.h"

namespace hyperattn::fuzz {

/// Ends the process, so that libFuzzer and the test program take notice, unless `kept`.
inline void promise(bool kept, const std::string& what) {
  if (kept) return;
  std::fprintf(stderr, "broken promise: %s\n", what.c_str());
  std::abort();
}

/// Runs a reader. An Error with something to say is a good answer; any other exception ends the process.
/// Returns whether there was none.
template <class Read>
bool reads_or_refuses(const Read& read) {
  try {
    read();
    return true;
  } catch (const Error& error) {
    promise(error.what()[0] != '\0', "a refusal must say what is wrong");
    return false;
  }
}

}  // namespace hyperattn::fuzz
