// What the program says while it works: one line each, with the time, on standard error.
#pragma once

#include <string_view>

namespace hyperattn {

/// Sends the lines to standard error; called once, before the first of them.
void start_log();

/// Something that the reader of the results should know.
void log_info(std::string_view message);

/// Something that may make the results other than the reader expects.
void log_warning(std::string_view message);

}  // namespace hyperattn
