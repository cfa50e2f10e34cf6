// What a case may do wrong while it runs becomes a message, so that the run goes on.
#pragma once

#include <functional>
#include <string>

namespace hyperattn {

/// Runs `work` within `limit` seconds, of which `spent` are gone. Returns why it failed (too long, an Error,
/// no memory), or nothing. Throws Cancelled(interrupt) where the process was asked to stop.
[[nodiscard]] std::string why_failed(double limit, double spent, const std::function<void()>& work);

}  // namespace hyperattn
