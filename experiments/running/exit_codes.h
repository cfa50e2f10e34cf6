// What the program returns, in one place; the README has the table for people.
#pragma once

#include "core/error.h"

namespace hyperattn::exit_code {

constexpr int kDone = 0;
constexpr int kEnvironment = static_cast<int>(Blame::environment);
constexpr int kUsage = static_cast<int>(Blame::usage);
constexpr int kInput = static_cast<int>(Blame::input);
/// Trials failed, or are missing after a merge: they are named, the others are kept.
constexpr int kSomeFailed = 4;
/// By SIGINT or SIGTERM; can be resumed.
constexpr int kInterrupted = 130;

}  // namespace hyperattn::exit_code
