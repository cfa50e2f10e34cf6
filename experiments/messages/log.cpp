// The one source that pays for spdlog's templates: three seconds of compilation in each that includes it.
#include "experiments/messages/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace hyperattn {

void start_log() {
  if (!spdlog::get("hyperattn")) spdlog::set_default_logger(spdlog::stderr_color_st("hyperattn"));
  spdlog::set_pattern("%H:%M:%S %^%l%$ %v");
}

void log_info(std::string_view message) {
  spdlog::info(message);
}

void log_warning(std::string_view message) {
  spdlog::warn(message);
}

}  // namespace hyperattn
