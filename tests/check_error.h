// Asserting that a call is refused, by whose fault and in which words.
#pragma once

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "core/error.h"

namespace hyperattn::testing {

/// The Error that `call` throws; fails the test if it throws none.
template <class Call>
Error error_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  FAIL("an Error was expected, but nothing was thrown");
  throw;
}

/// Asserts that `call` fails with this blame and a message that names each of `parts`.
template <class Call>
void check_error(Blame blame, const std::vector<std::string>& parts, const Call& call) {
  const Error error = error_of(call);
  INFO("message: " << error.what());
  CHECK(static_cast<int>(error.blame()) == static_cast<int>(blame));
  for (const std::string& part : parts) CHECK_THAT(error.what(), Catch::Contains(part));
}

}  // namespace hyperattn::testing
